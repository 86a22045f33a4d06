// A volume on a small disk that fills up: the caller is told, what was answered is safe, and it
// works again when space is freed. Crashes while it is full included.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "crash_test.h"
#include "operation.h"

namespace graftfs::crash {
namespace {

constexpr uint64_t kFileSize = 1 << 20;
constexpr uint64_t kPiece = 64 << 10;

class FullDiskTest : public CrashTest {
 protected:
  void start(BackingKind backing, bool power) {
    machine_ = std::make_unique<Machine>(
        MachineOptions{.backing = backing,
                       .power = power,
                       .megabytes = backing == BackingKind::xfs ? 300u : 200u});
  }
  std::string at(const std::string& name) const { return machine_->dir() + "/" + name; }

  // Writes files until there is no space; data_ says how much of each was answered.
  void fill_with_data() {
    for (int err = 0; err == 0;) {
      ASSERT_LT(data_.size(), 2000u) << "the disk never gets full";
      uint64_t number = next_++;
      std::string path = at(fmt::format("data-{}", number));
      uint64_t done = 0;
      err = write_at(path, O_CREAT | O_EXCL, 0, "");
      if (err == 0) data_[number] = 0;
      while (err == 0 && done < kFileSize) {
        err = write_at(path, 0, done, bytes_for(number, done, kPiece));
        if (err == 0) data_[number] = done += kPiece;
      }
      if (err) {
        ASSERT_EQ(err, ENOSPC) << path << ": " << std::strerror(err);
      }
    }
  }

  void fill_with_names() {
    std::string directory = at("names");
    ASSERT_EQ(::mkdir(directory.c_str(), 0755) == 0 || errno == EEXIST, true) << errno;
    const std::string long_part(200, 'n');
    for (;;) {
      ASSERT_LT(names_, 400'000u) << "the disk never gets full";
      std::string path = fmt::format("{}/{}-{}", directory, long_part, names_);
      if (::mknod(path.c_str(), S_IFREG | 0644, 0) != 0) {
        ASSERT_EQ(errno, ENOSPC) << std::strerror(errno);
        return;
      }
      ++names_;
    }
  }

  void check_data() {
    for (const auto& [number, size] : data_) {
      std::string bytes;
      ASSERT_EQ(read_all(at(fmt::format("data-{}", number)), bytes), 0) << number;
      // The part of a write that did not fit may stand behind what was answered.
      ASSERT_GE(bytes.size(), size) << number;
      ASSERT_EQ(checksum(bytes_for(number, 0, bytes.size())), checksum(bytes)) << number;
    }
  }

  void check_names() {
    const std::string long_part(200, 'n');
    struct stat st;
    for (size_t i = 0; i < names_; ++i)
      ASSERT_EQ(::stat(at(fmt::format("names/{}-{}", long_part, i)).c_str(), &st), 0)
          << i << ": " << std::strerror(errno);
  }

  void remove_data(size_t files) {
    for (; files > 0 && !data_.empty(); --files) {
      auto first = data_.begin();
      ASSERT_EQ(::unlink(at(fmt::format("data-{}", first->first)).c_str()), 0)
          << "of a full disk: " << std::strerror(errno);
      data_.erase(first);
    }
  }

  // Space that was freed is there again soon (removed files are purged in the background).
  void works_again() {
    int err = ENOSPC;
    uint64_t number = next_++;
    std::string path = at(fmt::format("data-{}", number));
    for (int i = 0; i < 200 && err == ENOSPC; ++i) {
      err = write_at(path, O_CREAT, 0, bytes_for(number, 0, kFileSize));
      if (err == ENOSPC) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ASSERT_EQ(err, 0) << "space was freed 10 s ago: " << std::strerror(err);
    data_[number] = kFileSize;
    ASSERT_EQ(sync_path(path), 0);
    ASSERT_EQ(::mkdir(at(fmt::format("directory-{}", number)).c_str(), 0755), 0);
  }

  void remount() {
    unmount(*machine_);
    machine_->daemon().start();
  }

  // What is full is emptied a little, filled again, crashed while it is full.
  void crash_while_full() {
    fill_with_data();
    if (HasFatalFailure()) return;
    // Promised after a power cut is what was synced; a full disk does not excuse from it.
    int synced = machine_->is_power() ? sync_path(machine_->dir()) : 0;
    ASSERT_EQ(synced, 0) << std::strerror(synced);
    machine_->crash();
    recover(*machine_, 1);
    check_data();
    if (HasFatalFailure()) return;
    remove_data(8);
    works_again();
  }

  std::unique_ptr<Machine> machine_;
  std::map<uint64_t, uint64_t> data_;
  uint64_t next_ = 0;
  size_t names_ = 0;
};

TEST_F(FullDiskTest, FilledWithData) {
  start(BackingKind::ext4, false);
  fill_with_data();
  check_data();
  if (HasFatalFailure()) return;
  remove_data(8);
  works_again();
  if (HasFatalFailure()) return;
  fill_with_data();
  remount();
  check_data();
  if (HasFatalFailure()) return;
  remove_data(8);
  works_again();
  remount();
  check_data();
  unmount(*machine_);
}

TEST_F(FullDiskTest, FilledWithNames) {
  start(BackingKind::ext4, false);
  fill_with_data();
  remove_data(12);
  works_again();
  if (HasFatalFailure()) return;
  fill_with_names();
  if (HasFatalFailure()) return;
  EXPECT_GT(names_, 1000u);
  check_names();
  check_data();
  if (HasFatalFailure()) return;
  // The names have used space that is kept from file data.
  remove_data(40);
  works_again();
  remount();
  check_names();
  check_data();
  unmount(*machine_);
  std::printf("%zu names\n", names_);
}

TEST_F(FullDiskTest, KilledWhileFull) {
  start(BackingKind::ext4, false);
  for (int i = 0; i < 3 && !HasFatalFailure(); ++i) crash_while_full();
}

TEST_F(FullDiskTest, PowerCutWhileFullOnExt4) {
  start(BackingKind::ext4, true);
  for (int i = 0; i < 2 && !HasFatalFailure(); ++i) crash_while_full();
}

TEST_F(FullDiskTest, PowerCutWhileFullOnXfs) {
  start(BackingKind::xfs, true);
  for (int i = 0; i < 2 && !HasFatalFailure(); ++i) crash_while_full();
}

}  // namespace
}  // namespace graftfs::crash
