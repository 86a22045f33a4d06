// File data at rest in a local volume: sealed in the background, checked when it is read.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "store/tests/other_process.h"
#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
constexpr Ino kIno{700};  // the one that the other process fills
constexpr size_t kSize = 100'000;

class LocalSeal : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(LocalStore::format(dir_.path));
    open();
    if (!has_attributes()) GTEST_SKIP() << "the file system of /tmp has no extended attributes";
  }
  void open() {
    store_.reset();
    LocalOptions options;
    options.journal.segment_capacity = 64 << 10;
    options.dirs_map_size = 1 << 26;
    options.data.seal_after = 100 * kMillisecond;
    store_ = *LocalStore::open(loop_, pool_, dir_.path, options);
  }
  bool has_attributes() {
    const std::string path = dir_.path + "/attribute";
    fs::create_directory(path);
    return ::setxattr(path.c_str(), "user.test", "x", 1, 0) == 0;
  }
  template <class T>
  T run(Task<T> task) {
    return graftfs::run(loop_, std::move(task));
  }
  DataStore& data() { return store_->data(); }
  std::string path(Ino ino = kIno) {
    return fmt::format("{}/data/{:02x}/{:016x}", dir_.path, ino.v / 1024 % 256, ino.v);
  }
  bool is_sealed(Ino ino = kIno) {
    return ::getxattr(path(ino).c_str(), "user.graftfs", nullptr, 0) > 0;
  }
  void write(const std::string& bytes, uint64_t offset = 0, uint64_t valid = 0, Ino ino = kIno) {
    ASSERT_OK(run(data().write(ino, offset, bytes, valid)));
  }
  bool seals_within(Nanos longest, Ino ino = kIno) {
    for (Nanos end = loop_.now() + longest; loop_.now() < end && !is_sealed(ino);) wait(50);
    return is_sealed(ino);
  }
  void wait(int ms) { run(sleep(ms)); }
  Task<Result<void>> sleep(int ms) {
    co_await sleep_for(loop_, ms * kMillisecond);
    co_return Result<void>{};
  }
  Result<std::string> read(uint64_t offset, size_t n, Ino ino = kIno) {
    std::string bytes(n, '?');
    TRY(run(data().read(ino, offset, bytes.data(), n)));
    return bytes;
  }
  // The disk has another opinion of one byte.
  void spoil(uint64_t offset, Ino ino = kIno) {
    int fd = ::open(path(ino).c_str(), O_RDWR);
    char c = 0;
    ASSERT_EQ(::pread(fd, &c, 1, offset), 1);
    c ^= 4;
    ASSERT_EQ(::pwrite(fd, &c, 1, offset), 1);
    ::close(fd);
  }

  TempDir dir_;
  EventLoop loop_;
  BlockingPool pool_{"test", 2};
  std::unique_ptr<LocalStore> store_;
  const std::string bytes_ = pattern_bytes(kSize, 5);
};

TEST_F(LocalSeal, WhatRestsIsSealedAndDamageIsNotServed) {
  ASSERT_OK(run(data().sync_all()));
  write(bytes_);
  EXPECT_FALSE(is_sealed());
  ASSERT_TRUE(seals_within(10 * kSecond));
  EXPECT_FALSE(data().has_unsynced()) << "what is sealed is durable";
  spoil(50'000);
  open();
  EXPECT_EQ(read(0, 100).value_or("damage"), bytes_.substr(0, 100));
  auto bad = read(50'000, 1);
  EXPECT_CODE(bad, EUCLEAN);
  EXPECT_THAT(bad.error().message, HasSubstr(path()));
  EXPECT_CODE(read(0, kSize), EUCLEAN);
  EXPECT_CODE(run(data().copy(kIno, 0, Ino{701}, 0, kSize, 0)), EUCLEAN);
  EXPECT_CODE(run(data().write(kIno, 50'010, "x", kSize)), EUCLEAN);  // would be sealed anew
  EXPECT_OK(run(data().believe(kIno)));
  EXPECT_NE(read(0, kSize).value_or("damage"), bytes_);
}

TEST_F(LocalSeal, WhatIsWrittenAnewIsGoodAgain) {
  write(bytes_);
  ASSERT_TRUE(seals_within(10 * kSecond));
  spoil(50'000);
  open();
  const std::string other = pattern_bytes(kSize, 6);
  write(other, 0, kSize);
  EXPECT_EQ(read(0, kSize).value_or("damage"), other);
  ASSERT_TRUE(seals_within(10 * kSecond));
  open();
  EXPECT_EQ(read(0, kSize).value_or("damage"), other);
}

TEST_F(LocalSeal, ABlockThatBecameAHoleIsDamageAlsoToWhoLooksForHoles) {
  write(bytes_);
  ASSERT_TRUE(seals_within(10 * kSecond));
  int fd = ::open(path().c_str(), O_RDWR);
  ASSERT_EQ(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536), 0);
  ::close(fd);
  open();
  EXPECT_CODE(run(data().seek(kIno, 0, true, kSize)), EUCLEAN);
}

TEST_F(LocalSeal, ChangesOfEachKindLeaveWhatWasWritten) {
  std::string want = bytes_;
  auto settle = [&] {
    ASSERT_TRUE(seals_within(10 * kSecond));
    open();
    ASSERT_EQ(read(0, want.size()).value_or("damage"), want);
  };
  write(bytes_);
  settle();
  write("inside", 30'000, want.size());
  want.replace(30'000, 6, "inside");
  settle();
  write("behind", want.size(), want.size());
  want += "behind";
  settle();
  ASSERT_OK(run(data().allocate(kIno, AllocateMode::punch_hole, 10'000, 20'000, want.size())));
  want.replace(10'000, 20'000, std::string(20'000, '\0'));
  settle();
  ASSERT_OK(run(data().truncate(kIno, 70'001)));
  want.resize(70'001);
  settle();
  ASSERT_OK(run(data().copy(kIno, 0, kIno, 65'000, 3'000, want.size())));
  want.replace(65'000, 3'000, want.substr(0, 3'000));
  settle();
  ASSERT_OK(run(data().truncate(kIno, 0)));
  EXPECT_FALSE(is_sealed());
}

TEST_F(LocalSeal, WhatACrashLeftUnsealedIsFoundAtTheNextStart) {
  write(bytes_);
  open();
  wait(300);
  EXPECT_FALSE(is_sealed()) << "nobody has asked for it";
  ASSERT_OK(run(store_->own_journal(RankId{0})));
  ASSERT_OK(run(data().sync_all()));
  EXPECT_TRUE(seals_within(10 * kSecond));
}

TEST_F(LocalSeal, DamageFoundWhileItIsSealedIsTold) {
  write("short");
  ASSERT_TRUE(seals_within(10 * kSecond));
  spoil(0);
  std::string told;
  data().on_damage([&](const Error& e) { told = e.message; });
  write("er", 5, 5);
  for (int i = 0; i < 100 && told.empty(); ++i) wait(50);
  EXPECT_THAT(told, HasSubstr(path()));
  open();
  EXPECT_CODE(read(0, 7), EUCLEAN);
}

// Who may be writing keeps others from sealing what he writes, until he ends.
TEST_F(LocalSeal, AnotherProcessThatWritesIsWaitedFor) {
  write(std::string(3, 'x'));
  {
    OtherProcess other(dir_.path);
    ASSERT_EQ(other.ask("fill 700"), "ok");
    EXPECT_FALSE(seals_within(3 * kSecond));
  }
  EXPECT_TRUE(seals_within(10 * kSecond));
  EXPECT_EQ(read(0, 5).value_or("damage"), "bytes");
}

TEST_F(LocalSeal, WhatAnotherProcessHasChangedSinceIsNoDamage) {
  write(bytes_);
  ASSERT_TRUE(seals_within(10 * kSecond));
  open();
  EXPECT_EQ(read(0, 1).value_or("damage"), bytes_.substr(0, 1));  // and knows the seal from now on
  data().forget(kIno);
  EXPECT_EQ(read(kSize - 1, 1).value_or("damage"), bytes_.substr(kSize - 1));
  OtherProcess other(dir_.path);
  ASSERT_EQ(other.ask("fill 700"), "ok");
  EXPECT_EQ(read(0, 5).value_or("damage"), "bytes");
}

// No forget() between: the size and the seal that were known are looked at again.
TEST_F(LocalSeal, WhatAnotherProcessAppendsIsSeen) {
  write("ab");
  EXPECT_EQ(read(0, 2).value_or(""), "ab");
  OtherProcess other(dir_.path);
  ASSERT_EQ(other.ask("fill 700"), "ok");
  EXPECT_EQ(read(0, 5).value_or(""), "bytes");
}

}  // namespace
}  // namespace graftfs
