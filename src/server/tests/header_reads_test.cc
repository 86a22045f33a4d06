// Which headers are old by the time they are here.
#include "server/header_reads.h"

#include <gtest/gtest.h>

#include <optional>

namespace graftfs {
namespace {

using Reader = HeaderReads::Reader;
constexpr Ino kA{1}, kB{2};

TEST(HeaderReadsTest, WhatWasCommittedBehindTheReadIsOld) {
  HeaderReads reads;
  reads.committed(kA);
  Reader reader(reads);
  const uint64_t read_at = reader.now();
  EXPECT_FALSE(reader.is_old(kA, read_at));
  reads.committed(kA);
  EXPECT_TRUE(reader.is_old(kA, read_at));
  EXPECT_FALSE(reader.is_old(kB, read_at));
  EXPECT_FALSE(reader.is_old(kA, reader.now())) << "it was read again";
}

TEST(HeaderReadsTest, IsRememberedForTheFirstReaderAlsoWhenTheLastOneHasGone) {
  HeaderReads reads;
  Reader first(reads);
  const uint64_t read_at = first.now();
  reads.committed(kA);
  {
    Reader last(reads);
    reads.committed(kB);
  }
  EXPECT_TRUE(first.is_old(kA, read_at));
  EXPECT_TRUE(first.is_old(kB, read_at));
}

TEST(HeaderReadsTest, IsForgottenWithTheLastWhoAsks) {
  HeaderReads reads;
  auto first = std::make_optional<Reader>(reads);
  reads.committed(kA);
  reads.committed(kA);
  Reader second(reads);
  reads.committed(kB);
  first.reset();
  EXPECT_FALSE(second.is_old(kA, 0)) << "nobody can have read it before";
  EXPECT_TRUE(second.is_old(kB, 0));
}

}  // namespace
}  // namespace graftfs
