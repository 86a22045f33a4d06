// A disk that does not keep what was written: what is at rest on it is checked when it is read. And
// the other side of it: nothing that a crash leaves looks like damage.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "crash_test.h"
#include "operation.h"

namespace graftfs::crash {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kBlock = 4096;

class RotTest : public CrashTest {
 protected:
  static std::vector<std::string> data_files(Machine& machine) {
    std::vector<std::string> out;
    for (const auto& e : fs::recursive_directory_iterator(machine.daemon().volume() + "/data"))
      if (e.is_regular_file()) out.push_back(e.path());
    return out;
  }
  static bool is_sealed(const std::string& file) {
    return ::getxattr(file.c_str(), "user.graftfs", nullptr, 0) > 0;
  }
  // All of them, some seconds after the last write.
  static bool sealed_in_time(Machine& machine) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
      bool all = true;
      for (const std::string& file : data_files(machine)) all = all && is_sealed(file);
      if (all || std::chrono::steady_clock::now() > end) return all;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  void spoil(const std::string& file) {
    int fd = ::open(file.c_str(), O_RDWR);
    ASSERT_GE(fd, 0) << file;
    const off_t at = static_cast<off_t>(below(fs::file_size(file)));
    char byte = 0;
    ASSERT_EQ(::pread(fd, &byte, 1, at), 1);
    byte ^= static_cast<char>(1u << below(8));
    ASSERT_EQ(::pwrite(fd, &byte, 1, at), 1);
    ::close(fd);
  }
  static int read_block(const std::string& path, uint64_t offset, std::string& bytes) {
    int fd = ::open(path.c_str(), O_RDONLY);
    if (fd < 0) return errno;
    bytes.assign(kBlock, '\0');
    ssize_t n = ::pread(fd, bytes.data(), kBlock, static_cast<off_t>(offset));
    const int err = n < 0 ? errno : 0;
    ::close(fd);
    bytes.resize(n < 0 ? 0 : static_cast<size_t>(n));
    return err;
  }
  static int fsck(Machine& machine, const std::vector<std::string>& flags, std::string& out) {
    std::vector<std::string> argv{graftfs_program(), "fsck", machine.daemon().volume()};
    argv.insert(argv.end(), flags.begin(), flags.end());
    return run_program(argv, out);
  }
};

TEST_F(RotTest, WhatTheDiskSpoilsIsNotServed) {
  Machine machine(MachineOptions{});
  const std::vector<uint64_t> sizes{1, 100, 5000, 49'152, 300'000, 3'000'000};
  for (uint64_t size : sizes)
    ASSERT_EQ(
        write_at(machine.dir() + fmt::format("/f-{}", size), O_CREAT, 0, bytes_for(size, 0, size)),
        0);
  ASSERT_TRUE(sealed_in_time(machine));
  unmount(machine);
  const std::vector<std::string> files = data_files(machine);
  ASSERT_EQ(files.size(), sizes.size());
  for (const std::string& file : files) spoil(file);
  machine.daemon().start();
  for (uint64_t size : sizes) {
    const std::string path = machine.dir() + fmt::format("/f-{}", size),
                      want = bytes_for(size, 0, size);
    int refused = 0;
    for (uint64_t at = 0; at < size; at += kBlock) {
      std::string bytes;
      const int err = read_block(path, at, bytes);
      if (err == 0) {
        EXPECT_EQ(bytes, want.substr(at, kBlock)) << path << " at " << at;
      } else {
        EXPECT_EQ(err, EIO) << path << " at " << at;
        ++refused;
      }
    }
    EXPECT_GE(refused, 1) << path;
    EXPECT_LE(refused, 16) << path << ": the rest is to be served";
  }
  for (const std::string& file : files)
    EXPECT_NE(machine.daemon().log_end().find(file), std::string::npos) << file;
  unmount(machine);
  std::string out;
  EXPECT_EQ(fsck(machine, {}, out), 0) << out;
  EXPECT_EQ(fsck(machine, {"--data"}, out), 4) << out;
  for (uint64_t size : sizes)
    EXPECT_NE(out.find(fmt::format("/f-{}: ", size)), std::string::npos) << out;
  EXPECT_EQ(fsck(machine, {"--data", "--repair"}, out), 1) << out;
  EXPECT_EQ(fsck(machine, {"--data"}, out), 0) << out;
  machine.daemon().start();
  for (uint64_t size : sizes) {
    std::string bytes;
    EXPECT_EQ(read_all(machine.dir() + fmt::format("/f-{}", size), bytes), 0);
    EXPECT_EQ(bytes.size(), size);
  }
  unmount(machine);
}

// Sealed files are changed in every way when the power goes: each block is as it was or as it was
// to be, and is served.
class RotPowerTest : public RotTest, public ::testing::WithParamInterface<BackingKind> {};

TEST_P(RotPowerTest, WhatACrashLeavesIsServed) {
  constexpr uint64_t kFiles = 40, kRounds = 4;
  MachineOptions options;
  options.backing = GetParam();
  options.power = true;
  Machine machine(options);
  struct File {
    std::string path, before, after;
  };
  std::vector<File> files;
  for (uint64_t i = 0; i < kFiles; ++i) {
    File f{fmt::format("/f-{}", i), bytes_for(i, 0, 1 + below(i % 4 ? 30'000 : 400'000)), {}};
    ASSERT_EQ(write_at(machine.dir() + f.path, O_CREAT, 0, f.before), 0);
    files.push_back(std::move(f));
  }
  for (uint64_t round = 0; round < kRounds; ++round) {
    ASSERT_TRUE(sealed_in_time(machine));
    ASSERT_EQ(sync_path(machine.dir()), 0);
    for (File& f : files) {
      f.after = f.before;
      if (below(4) == 0) continue;
      const uint64_t at = below(f.before.size() + 5000);
      const std::string bytes = bytes_for(random_(), 0, 1 + below(9000));
      if (below(5) == 0) {
        f.after.resize(std::min<size_t>(at, f.after.size()));
        ASSERT_EQ(::truncate((machine.dir() + f.path).c_str(), static_cast<off_t>(f.after.size())),
                  0);
        continue;
      }
      f.after.resize(std::max<size_t>(f.after.size(), at + bytes.size()));
      f.after.replace(at, bytes.size(), bytes);
      ASSERT_EQ(write_at(machine.dir() + f.path, 0, at, bytes), 0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(below(3) * 40));
    machine.crash();
    recover(machine);
    for (File& f : files) {
      std::string bytes;
      EXPECT_EQ(read_all(machine.dir() + f.path, bytes), 0) << f.path << " round " << round;
      for (size_t i = 0; i < bytes.size(); ++i) {
        const char before = i < f.before.size() ? f.before[i] : '\0';
        const char after = i < f.after.size() ? f.after[i] : '\0';
        ASSERT_TRUE(bytes[i] == before || bytes[i] == after) << f.path << " byte " << i;
      }
      f.before = bytes;
    }
  }
  unmount(machine);
}

INSTANTIATE_TEST_SUITE_P(Disks, RotPowerTest,
                         ::testing::Values(BackingKind::ext4, BackingKind::xfs),
                         [](const auto& info) {
                           return info.param == BackingKind::xfs ? "Xfs" : "Ext4";
                         });

}  // namespace
}  // namespace graftfs::crash
