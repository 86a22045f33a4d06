#include "types/locks.h"

#include <gtest/gtest.h>

namespace graftfs {
namespace {

constexpr SessionId kOne{1}, kTwo{2};
constexpr Ino kFile{100};

LockRange range(uint64_t start, uint64_t end, bool exclusive, uint64_t owner = 1) {
  return {.ino = kFile, .owner = owner, .start = start, .end = end, .exclusive = exclusive};
}

TEST(Locks, SharedOnesGoTogetherAndAnExclusiveOneAlone) {
  LockTable table;
  table.set(kOne, range(0, 9, false));
  EXPECT_EQ(table.conflict(kTwo, range(0, 9, false)), nullptr);
  ASSERT_NE(table.conflict(kTwo, range(9, 20, true)), nullptr);
  EXPECT_EQ(table.conflict(kTwo, range(10, 20, true)), nullptr);
  EXPECT_EQ(table.conflict(kOne, range(0, 9, true)), nullptr) << "its own";
  ASSERT_NE(table.conflict(kOne, range(0, 9, true, 2)), nullptr) << "another owner there";
  LockRange whole{.ino = kFile, .owner = 1, .exclusive = true, .kind = LockKind::flock};
  EXPECT_EQ(table.conflict(kTwo, whole), nullptr) << "flock and fcntl do not know of each other";
}

TEST(Locks, ARangeIsCutOutAndPutTogether) {
  LockTable table;
  table.set(kOne, range(0, 99, true));
  table.unset(kOne, range(40, 49, false));
  EXPECT_EQ(table.conflict(kTwo, range(40, 49, true)), nullptr);
  ASSERT_NE(table.conflict(kTwo, range(39, 39, false)), nullptr);
  ASSERT_NE(table.conflict(kTwo, range(50, 50, false)), nullptr);
  table.set(kOne, range(40, 49, true));
  ASSERT_EQ(table.of(kOne).size(), 1u);
  EXPECT_EQ(table.of(kOne)[0], range(0, 99, true));
  table.set(kOne, range(10, 19, false));  // weaker in the middle
  EXPECT_EQ(table.of(kOne).size(), 3u);
  EXPECT_EQ(table.conflict(kTwo, range(10, 19, false)), nullptr);
  table.set(kOne, range(0, UINT64_MAX, true));
  EXPECT_EQ(table.of(kOne).size(), 1u);
  table.unset(kOne, range(0, UINT64_MAX, true));
  EXPECT_TRUE(table.empty());
}

TEST(Locks, WhatASessionHadGoesWithIt) {
  LockTable table;
  table.set(kOne, range(0, 9, false));
  table.set(kTwo, range(0, 9, false));
  EXPECT_EQ(table.drop(kOne), std::vector<Ino>{kFile});
  EXPECT_FALSE(table.has(kOne, kFile, 1, LockKind::posix));
  EXPECT_TRUE(table.has(kTwo, kFile, 1, LockKind::posix));
  EXPECT_EQ(table.drop(kOne), std::vector<Ino>{});
}

}  // namespace
}  // namespace graftfs
