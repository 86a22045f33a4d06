// Seals by themselves, on files in memory: what they notice, and what they ask for.

#include "store/seal.h"

#include <gmock/gmock.h>

#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

using ::testing::HasSubstr;
constexpr Ino kIno{77};

// Keeps blocks that were written; everything else is a hole.
struct FakeFile final : SealedFile {
  std::map<uint64_t, std::string> blocks;
  std::string seal;
  int writes = 0, durable_writes = 0;
  mutable uint64_t bytes_read = 0;
  static constexpr uint64_t kBlock = 4096;

  void put(uint64_t offset, std::string_view bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      std::string& block = blocks[(offset + i) / kBlock];
      block.resize(kBlock);
      block[(offset + i) % kBlock] = bytes[i];
    }
  }
  Result<void> read(uint64_t offset, char* out, size_t length) const override {
    bytes_read += length;
    for (size_t i = 0; i < length; ++i) {
      auto it = blocks.find((offset + i) / kBlock);
      out[i] = it == blocks.end() ? '\0' : it->second[(offset + i) % kBlock];
    }
    return {};
  }
  uint64_t next_data(uint64_t offset) const override {
    auto it = blocks.lower_bound(offset / kBlock);
    return it == blocks.end() ? UINT64_MAX : std::max(offset, it->first * kBlock);
  }
  Result<void> write_seal(std::string_view bytes, bool durable) override {
    seal = bytes;
    ++writes;
    durable_writes += durable;
    return {};
  }
  std::string name() const override { return "the file"; }
};

Seal made(FakeFile& file, const Seal& old, uint64_t size) {
  Resealing work(old, size);
  while (!work.done()) EXPECT_OK(work.step(file));
  EXPECT_TRUE(work.seal().is_whole(size));
  file.seal = work.seal().encode();
  return work.seal();
}

// As the next process finds it.
Seal found(const FakeFile& file) {
  Seal seal(kIno);
  EXPECT_OK(seal.load(file.seal, "the file"));
  return seal;
}

FakeFile file_of(uint64_t size, uint64_t seed = 1) {
  FakeFile file;
  file.put(0, pattern_bytes(size, seed));
  made(file, Seal(kIno), size);
  return file;
}

TEST(Seals, NoticeEachBitOfTheDataAndOfThemselves) {
  for (uint64_t size : {1ul, 4096ul, 5000ul, 49152ul, 49153ul, 200'000ul}) {
    FakeFile file = file_of(size);
    EXPECT_OK(found(file).check(file, 0, size));
    for (uint64_t byte : {uint64_t{0}, size / 2, size - 1}) {
      FakeFile bad = file;
      bad.blocks[byte / 4096][byte % 4096] ^= 0x10;
      EXPECT_CODE(found(bad).check(bad, byte, 1), EUCLEAN);
      EXPECT_CODE(found(bad).check(bad, 0, UINT64_MAX), EUCLEAN);
    }
  }
  FakeFile file = file_of(9000);
  for (size_t bit = 0; bit < 8 * file.seal.size(); ++bit) {
    std::string bad = file.seal;
    bad[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_CODE(Seal(kIno).load(bad, "the file"), EUCLEAN);
  }
  for (size_t n = 1; n < file.seal.size(); ++n)
    EXPECT_CODE(Seal(kIno).load(std::string_view(file.seal).substr(0, n), "the file"), EUCLEAN);
  EXPECT_CODE(Seal(Ino{78}).load(file.seal, "another's"), EUCLEAN);
}

TEST(Seals, NoticeABlockThatIsGoneOrInAnothersPlace) {
  FakeFile file = file_of(64 << 10);
  FakeFile gone = file;
  gone.blocks.erase(3);
  EXPECT_CODE(found(gone).check(gone, 0, 64 << 10), EUCLEAN);
  FakeFile moved = file;
  std::swap(moved.blocks[2], moved.blocks[5]);
  EXPECT_CODE(found(moved).check(moved, 0, 64 << 10), EUCLEAN);
  auto wrong = found(gone).check(gone, 12288, 1);
  EXPECT_THAT(wrong.error().message, HasSubstr("the file: the data at offset"));
  // Zeros are worth a hole.
  FakeFile zeros = file_of(64 << 10);
  zeros.put(4096, std::string(4096, '\0'));
  made(zeros, Seal(kIno), 64 << 10);
  zeros.blocks.erase(1);
  EXPECT_OK(found(zeros).check(zeros, 0, 64 << 10));
}

TEST(Seals, AppendingBreaksNothingAndIsSealedWithoutReadingAllAgain) {
  FakeFile file = file_of(100'000);
  Seal seal = found(file);
  file.writes = 0;
  file.put(100'000, pattern_bytes(5000, 2));
  EXPECT_OK(seal.before_change(file, 100'000, 5000));
  EXPECT_EQ(file.writes, 0);
  EXPECT_FALSE(seal.is_whole(105'000));
  EXPECT_OK(found(file).check(file, 0, 105'000));
  file.bytes_read = 0;
  made(file, found(file), 105'000);
  EXPECT_LE(file.bytes_read, 16384u);
  EXPECT_OK(found(file).check(file, 0, 105'000));
  // What was sealed of the last chunk is damaged by then: no new seal for it.
  FakeFile bad = file_of(1000);
  bad.put(1000, "more");
  bad.blocks[0][999] ^= 1;
  Resealing work(found(bad), 1004);
  EXPECT_CODE(work.step(bad), EUCLEAN);
}

TEST(Seals, AChangeBreaksThemDurablyAndOnlyWhereItIs) {
  FakeFile file = file_of(40'000);
  Seal seal = found(file);
  file.writes = file.durable_writes = 0;
  EXPECT_OK(seal.before_change(file, 8192, 4096));
  EXPECT_EQ(file.durable_writes, 1);
  EXPECT_FALSE(found(file).covers(8192, 4096));
  EXPECT_TRUE(found(file).covers(8191, 1) && found(file).covers(12288, 1));
  file.put(8192, pattern_bytes(4096, 9));
  EXPECT_OK(found(file).check(file, 0, 40'000));
  EXPECT_OK(seal.before_change(file, 8192, 100));  // again
  EXPECT_EQ(file.durable_writes, 1);
  made(file, found(file), 40'000);
  EXPECT_OK(found(file).check(file, 0, 40'000));
  EXPECT_FALSE(found(file).needs_check(40'000, 10));
}

TEST(Seals, DamageGetsNoNewSealByAChangeBesideIt) {
  FakeFile file = file_of(40'000);
  file.blocks[2][5] ^= 1;
  Seal seal = found(file);
  EXPECT_CODE(seal.before_change(file, 8192 + 100, 10), EUCLEAN);
  EXPECT_TRUE(found(file).covers(8192, 1)) << "an error leaves it as it was";
  EXPECT_CODE(seal.before_cut(file, 8192 + 100), EUCLEAN);
  EXPECT_OK(seal.before_change(file, 8192, 4096));  // all of it is replaced
  FakeFile grown = file_of(50'000);  // beyond the chunks of 4 KiB: all is summed anew
  grown.blocks[0][5] ^= 1;
  Resealing work(found(grown), 400'000);
  EXPECT_CODE(work.step(grown), EUCLEAN);
}

TEST(Seals, ACutKeepsWhatIsBeforeIt) {
  for (uint64_t size : {1ul, 4096ul, 5000ul, 39'999ul}) {
    FakeFile file = file_of(40'000);
    Seal seal = found(file);
    file.durable_writes = 0;
    EXPECT_OK(seal.before_cut(file, size));
    EXPECT_EQ(file.durable_writes, 1);
    for (auto it = file.blocks.upper_bound(size / 4096); it != file.blocks.end();)
      it = file.blocks.erase(it);
    std::fill(file.blocks[size / 4096].begin() + size % 4096, file.blocks[size / 4096].end(), '\0');
    EXPECT_OK(found(file).check(file, 0, 40'000));
    EXPECT_TRUE(found(file).is_whole(size));
    file.blocks[0][0] ^= 1;
    EXPECT_CODE(found(file).check(file, 0, 1), EUCLEAN);
  }
  FakeFile file = file_of(40'000);
  Seal seal = found(file);
  EXPECT_OK(seal.before_cut(file, 0));
  EXPECT_EQ(file.seal, "");
}

TEST(Seals, AFileThatIsChangedEverywhereIsBrokenInLargerParts) {
  constexpr uint64_t kSize = 50 << 20;
  FakeFile file;
  for (uint64_t at = 0; at < kSize; at += 4096) file.put(at, "data");
  made(file, Seal(kIno), kSize);
  Seal seal = found(file);
  file.durable_writes = 0;
  for (uint64_t at = 0; at < kSize; at += 4096) EXPECT_OK(seal.before_change(file, at, 4));
  EXPECT_LE(file.durable_writes, 60);
  EXPECT_EQ(file.seal, "");
}

TEST(Seals, OfAHugeFileWithHolesReadOnlyWhatIsThere) {
  constexpr uint64_t kFar = uint64_t{1} << 50;
  FakeFile file;
  file.put(0, "begin");
  file.put(kFar, "end");
  made(file, Seal(kIno), kFar + 3);
  EXPECT_LE(file.seal.size(), 4000u);
  EXPECT_LE(file.bytes_read, 4u << 20);
  Seal seal = found(file);
  EXPECT_OK(seal.check(file, kFar, 3));
  file.put(kFar / 2, "x");
  EXPECT_CODE(found(file).check(file, kFar / 2, 1), EUCLEAN);
}

// A crash leaves any of the seals that were written since the last durable one, and any of the
// data: never one that does not fit.
TEST(Seals, WhatACrashLeavesFits) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    TestRandom random(seed);
    uint64_t size = 1 + random.below(70'000);
    FakeFile file = file_of(size, seed);
    std::vector<std::string> seals{file.seal};
    Seal seal = found(file);
    for (int step = 0; step < 12; ++step) {
      const FakeFile before = file;
      const int durable = file.durable_writes, writes = file.writes;
      const uint64_t at = random.below(size + 3000);
      switch (random.below(3)) {
        case 0: {
          const std::string bytes = pattern_bytes(1 + random.below(9000), random.next());
          ASSERT_OK(seal.before_change(file, at, bytes.size()));
          file.put(at, bytes);
          size = std::max(size, at + bytes.size());
          break;
        }
        case 1:
          if (at == 0 || at >= size) break;
          ASSERT_OK(seal.before_cut(file, at));
          for (uint64_t i = at; i < size; ++i)
            if (file.blocks.contains(i / 4096)) file.blocks[i / 4096][i % 4096] = '\0';
          size = at;
          break;
        default:  // synced, and sealed
          seal = made(file, seal, size);
          ++file.writes;
          seals.push_back(file.seal);
      }
      if (file.durable_writes > durable)
        seals = {file.seal};
      else if (file.writes > writes)
        seals.push_back(file.seal);
      // Each block as before the step or after it, where a seal made after it does not say that it
      // was durable by then.
      FakeFile left = file;
      if (seals.back() != file.seal || random.below(2) == 0)
        for (auto& [block, bytes] : left.blocks)
          if (auto it = before.blocks.find(block);
              it != before.blocks.end() && seal.size() <= block * 4096 && random.below(2) == 0)
            bytes = it->second;
      for (const std::string& one : seals) {
        left.seal = one;
        SCOPED_TRACE(fmt::format("seed {} step {}", seed, step));
        ASSERT_OK(found(left).check(left, 0, UINT64_MAX));
      }
    }
  }
}

}  // namespace
}  // namespace graftfs
