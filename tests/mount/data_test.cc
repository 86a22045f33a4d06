// Bytes: reading, writing, holes, mappings, syncs, locks.

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "mounted.h"

namespace graftfs::mounttest {
namespace {

class Data : public MountTest {
 protected:
  int open_new(const std::string& name, int flags = 0) {
    int fd = ::open(path(name).c_str(), O_RDWR | O_CREAT | flags, 0644);
    EXPECT_GE(fd, 0) << strerror(errno);
    return fd;
  }
  static off_t size_of(int fd) {
    struct stat st{};
    EXPECT_EQ(fstat(fd, &st), 0);
    return st.st_size;
  }
  static std::string pread_all(int fd, off_t at, size_t n) {
    std::string out(n, '?');
    ssize_t r = pread(fd, out.data(), n, at);
    EXPECT_GE(r, 0) << strerror(errno);
    out.resize(std::max<ssize_t>(r, 0));
    return out;
  }
};

TEST_F(Data, WhatIsWrittenIsRead) {
  int fd = open_new("f");
  std::string big(3'000'001, '\0');
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 2654435761u >> 13);
  ASSERT_EQ(pwrite(fd, big.data(), big.size(), 12345), ssize_t(big.size()));
  EXPECT_EQ(size_of(fd), off_t(12345 + big.size()));
  EXPECT_EQ(pread_all(fd, 12345, big.size() + 100), big);
  EXPECT_EQ(pread_all(fd, 0, 12345), std::string(12345, '\0'));
  close(fd);
  if (is_graftfs()) Mounted::get().remount();
  fd = ::open(path("f").c_str(), O_RDONLY);
  EXPECT_EQ(pread_all(fd, 12345, big.size() + 100), big);
  close(fd);
}

TEST_F(Data, TruncateCutsAndGrows) {
  int fd = open_new("f");
  ASSERT_EQ(write(fd, "0123456789", 10), 10);
  ASSERT_EQ(ftruncate(fd, 4), 0);
  EXPECT_EQ(pread_all(fd, 0, 20), "0123");
  ASSERT_EQ(truncate(path("f").c_str(), 8), 0);
  EXPECT_EQ(pread_all(fd, 0, 20), std::string("0123\0\0\0\0", 8));
  EXPECT_EQ(err(ftruncate(fd, -1)), EINVAL);
  close(fd);
  fd = ::open(path("f").c_str(), O_RDWR | O_TRUNC);
  EXPECT_EQ(size_of(fd), 0);
  struct stat st;
  fstat(fd, &st);
  EXPECT_EQ(st.st_blocks, 0);
  close(fd);
}

TEST_F(Data, AppendsFromTwoDescriptors) {
  int a = open_new("f", O_APPEND), b = open_new("f", O_APPEND);
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(write(a, "aa", 2), 2);
    ASSERT_EQ(write(b, "bb", 2), 2);
  }
  EXPECT_EQ(read_file(path("f")).size(), 40u);
  EXPECT_EQ(read_file(path("f")).substr(0, 8), "aabbaabb");
  close(a);
  close(b);
}

TEST_F(Data, SyncsAndSynchronousWrites) {
  int fd = open_new("f", O_SYNC);
  ASSERT_EQ(write(fd, "x", 1), 1);
  EXPECT_EQ(fsync(fd), 0);
  EXPECT_EQ(fdatasync(fd), 0);
  EXPECT_EQ(syncfs(fd), 0);
  close(fd);
  fd = ::open(dir().c_str(), O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(fsync(fd), 0);
  close(fd);
}

TEST_F(Data, DirectReadsAndWrites) {
  int fd = open_new("f", O_DIRECT);
  void* mem = nullptr;
  ASSERT_EQ(posix_memalign(&mem, 4096, 1 << 20), 0);
  memset(mem, 'd', 1 << 20);
  ASSERT_EQ(pwrite(fd, mem, 1 << 20, 4096), 1 << 20);
  memset(mem, 0, 1 << 20);
  ASSERT_EQ(pread(fd, mem, 1 << 20, 4096), 1 << 20);
  EXPECT_EQ(static_cast<char*>(mem)[777], 'd');
  EXPECT_EQ(pread(fd, mem, 1 << 20, (1 << 20) + 4096), 0) << "at the end";
  EXPECT_EQ(pread(fd, mem, 8192, 1 << 20), 4096) << "over the end";
  free(mem);
  close(fd);
}

// In a process of its own: munmap(2) writes back with the address space locked, which the thread
// that serves the mount would wait for.
TEST_F(Data, SharedMappings) {
  auto map_and_store = [&] {
    int fd = open_new("f");
    if (ftruncate(fd, 10000) != 0) return 1;
    void* map = mmap(nullptr, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return 2;
    char* p = static_cast<char*>(map);
    memcpy(p + 5000, "mapped", 6);
    if (pread_all(fd, 5000, 6) != "mapped") return 3;
    if (msync(p, 10000, MS_SYNC) != 0) return 4;
    if (pwrite(fd, "written", 7, 100) != 7) return 5;
    if (memcmp(p + 100, "written", 7) != 0) return 6;
    memcpy(p + 9000, "late", 4);
    munmap(p, 10000);
    return close(fd);
  };
  ASSERT_EQ(as_user(0, 0, 0, map_and_store), 0);
  if (is_graftfs()) Mounted::get().remount();  // unmounting writes back what was not synced
  EXPECT_EQ(read_file(path("f")).substr(5000, 6), "mapped");
  EXPECT_EQ(read_file(path("f")).substr(9000, 4), "late");
  EXPECT_EQ(read_file(path("f")).size(), 10000u);
}

TEST_F(Data, Fallocate) {
  int fd = open_new("f");
  ASSERT_EQ(fallocate(fd, 0, 0, 100'000), 0) << strerror(errno);
  EXPECT_EQ(size_of(fd), 100'000);
  ASSERT_EQ(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 300'000), 0);
  EXPECT_EQ(size_of(fd), 100'000);
  struct stat st;
  fstat(fd, &st);
  EXPECT_GE(st.st_blocks * 512, 300'000);
  std::string bytes(100'000, 'b');
  ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), 0), ssize_t(bytes.size()));
  ASSERT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192), 0);
  EXPECT_EQ(pread_all(fd, 4095, 8194), "b" + std::string(8192, '\0') + "b");
  ASSERT_EQ(fallocate(fd, FALLOC_FL_ZERO_RANGE, 99'999, 10), 0);
  EXPECT_EQ(size_of(fd), 100'009);
  EXPECT_EQ(pread_all(fd, 99'998, 20), "b" + std::string(10, '\0'));
  if (is_graftfs()) {
    EXPECT_EQ(err(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096)), EOPNOTSUPP);
  }
  close(fd);
}

TEST_F(Data, HolesAreFound) {
  int fd = open_new("f");
  ASSERT_EQ(pwrite(fd, "x", 1, 1 << 20), 1);
  ASSERT_EQ(ftruncate(fd, 4 << 20), 0);
  off_t data = lseek(fd, 0, SEEK_DATA);
  EXPECT_GT(data, 0);
  EXPECT_LE(data, 1 << 20);
  EXPECT_EQ(lseek(fd, 0, SEEK_HOLE), 0);
  off_t hole = lseek(fd, 1 << 20, SEEK_HOLE);
  EXPECT_GT(hole, 1 << 20);
  EXPECT_LE(hole, 2 << 20);
  EXPECT_EQ(err(lseek(fd, 3 << 20, SEEK_DATA)), ENXIO);
  EXPECT_EQ(lseek(fd, 3 << 20, SEEK_HOLE), 3 << 20);
  EXPECT_EQ(err(lseek(fd, 4 << 20, SEEK_HOLE)), ENXIO);
  struct stat st;
  fstat(fd, &st);
  EXPECT_LT(st.st_blocks * 512, 1 << 20);
  close(fd);
}

TEST_F(Data, CopyFileRange) {
  int from = open_new("from"), to = open_new("to");
  std::string bytes(200'000, 'c');
  for (size_t i = 0; i < bytes.size(); i += 7) bytes[i] = static_cast<char>(i);
  ASSERT_EQ(pwrite(from, bytes.data(), bytes.size(), 0), ssize_t(bytes.size()));
  ASSERT_EQ(pwrite(to, std::string(500, 't').data(), 500, 0), 500);
  off64_t in = 1000, out = 100;
  ssize_t n = copy_file_range(from, &in, to, &out, 1 << 20, 0);
  EXPECT_EQ(n, ssize_t(bytes.size() - 1000)) << strerror(errno);
  EXPECT_EQ(pread_all(to, 0, 1 << 20), std::string(100, 't') + bytes.substr(1000));
  close(from);
  close(to);
}

TEST_F(Data, TimesOfWritesAndReads) {
  int fd = open_new("f");
  struct stat a, b;
  fstat(fd, &a);
  usleep(11000);
  ASSERT_EQ(write(fd, "x", 1), 1);
  fstat(fd, &b);
  EXPECT_GT(std::make_pair(b.st_mtim.tv_sec, b.st_mtim.tv_nsec),
            std::make_pair(a.st_mtim.tv_sec, a.st_mtim.tv_nsec));
  EXPECT_EQ(b.st_mtim.tv_nsec, b.st_ctim.tv_nsec);
  timespec times[] = {{1000, 123456789}, {-2000, 987654321}};
  ASSERT_EQ(futimens(fd, times), 0);
  fstat(fd, &b);
  EXPECT_EQ(b.st_atim.tv_sec, 1000);
  EXPECT_EQ(b.st_atim.tv_nsec, 123456789);
  EXPECT_EQ(b.st_mtim.tv_sec, -2000);
  EXPECT_EQ(b.st_mtim.tv_nsec, 987654321);
  timespec some[] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  ASSERT_EQ(futimens(fd, some), 0);
  fstat(fd, &b);
  EXPECT_EQ(b.st_atim.tv_sec, 1000);
  EXPECT_GT(b.st_mtim.tv_sec, 1'000'000'000);
  close(fd);
}

TEST_F(Data, AnOpenFileWithoutANameKeepsItsData) {
  int fd = open_new("f");
  ASSERT_EQ(unlink(path("f").c_str()), 0);
  std::string bytes(100'000, 'u');
  ASSERT_EQ(write(fd, bytes.data(), bytes.size()), ssize_t(bytes.size()));
  ASSERT_EQ(ftruncate(fd, 50'000), 0);
  EXPECT_EQ(pread_all(fd, 0, 1 << 20), bytes.substr(0, 50'000));
  EXPECT_EQ(fchmod(fd, 0600), 0);
  struct stat st;
  fstat(fd, &st);
  EXPECT_EQ(st.st_nlink, 0u);
  EXPECT_EQ(st.st_size, 50'000);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  close(fd);
}

// Bytes of file data in the volume.
uint64_t data_held() {
  uint64_t bytes = 0;
  std::error_code ignored;
  for (auto& e :
       std::filesystem::recursive_directory_iterator(Mounted::get().volume() + "/data", ignored))
    if (e.is_regular_file(ignored)) bytes += e.file_size(ignored);
  return bytes;
}

TEST_F(Data, TheSpaceOfAnUnlinkedFileComesBackAfterTheLastClose) {
  if (!is_graftfs()) GTEST_SKIP();
  int fd = open_new("f");
  std::string bytes(5 << 20, 'u');
  ASSERT_EQ(write(fd, bytes.data(), bytes.size()), ssize_t(bytes.size()));
  ASSERT_EQ(unlink(path("f").c_str()), 0);
  usleep(100'000);
  EXPECT_GE(data_held(), bytes.size()) << "while it is open";
  close(fd);
  for (int i = 0; i < 100 && data_held() >= bytes.size(); ++i) usleep(100'000);
  EXPECT_LT(data_held(), bytes.size());
}

TEST_F(Data, AfterTheShutdownIoctlEverythingFails) {
  if (!is_graftfs()) GTEST_SKIP();
  write_file(path("kept"), "kept");
  int fd = ::open(path("kept").c_str(), O_RDWR);
  ASSERT_EQ(fsync(fd), 0);
  uint32_t flags = 2;
  const unsigned long shutdown = _IOR('X', 125, uint32_t);
  EXPECT_EQ(as_user(1000, 1000, 0,
                    [&] {
                      int dir_fd = ::open(dir().c_str(), O_RDONLY | O_DIRECTORY);
                      return err(ioctl(dir_fd, shutdown, &flags));
                    }),
            EPERM);
  uint32_t wrong = 77;
  EXPECT_EQ(err(ioctl(fd, shutdown, &wrong)), EINVAL);
  ASSERT_EQ(ioctl(fd, shutdown, &flags), 0) << strerror(errno);
  EXPECT_EQ(err(write(fd, "x", 1)), EIO);
  EXPECT_EQ(err(fsync(fd)), EIO);
  EXPECT_EQ(err(mkdir(path("d").c_str(), 0755)), EIO);
  close(fd);
  Mounted::get().remount();
  EXPECT_EQ(read_file(path("kept")), "kept");
  EXPECT_EQ(err(mkdir(path("d").c_str(), 0755)), 0);
}

TEST_F(Data, ManyWritersAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      int fd = ::open(path("f").c_str(), O_RDWR | O_CREAT, 0644);
      std::string block(4096, static_cast<char>('a' + t));
      for (int i = 0; i < 50; ++i)
        EXPECT_EQ(pwrite(fd, block.data(), block.size(), (i * 4 + t) * 4096), 4096);
      close(fd);
    });
  for (auto& t : threads) t.join();
  std::string got = read_file(path("f"));
  ASSERT_EQ(got.size(), 200u * 4096);
  for (size_t i = 0; i < 200; ++i)
    EXPECT_EQ(got.substr(i * 4096, 4096), std::string(4096, static_cast<char>('a' + i % 4)));
}

TEST_F(Data, LocksExcludeAndWaitingIsInterrupted) {
  int fd = open_new("f");
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  int other = ::open(path("f").c_str(), O_RDWR);
  EXPECT_EQ(err(flock(other, LOCK_EX | LOCK_NB)), EWOULDBLOCK);
  ASSERT_EQ(flock(fd, LOCK_UN), 0);
  EXPECT_EQ(flock(other, LOCK_EX | LOCK_NB), 0);
  close(other);
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_start = 10;
  range.l_len = 10;
  ASSERT_EQ(fcntl(fd, F_SETLK, &range), 0);
  pid_t child = fork();
  if (child == 0) {
    int mine = ::open(path("f").c_str(), O_RDWR);
    struct flock r = range;
    if (fcntl(mine, F_SETLK, &r) == 0 || (errno != EAGAIN && errno != EACCES)) _exit(1);
    struct sigaction act{};
    act.sa_handler = [](int) {};
    sigaction(SIGALRM, &act, nullptr);
    ualarm(50'000, 0);
    r = range;
    if (fcntl(mine, F_SETLKW, &r) == 0 || errno != EINTR) _exit(2);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  close(fd);
}

TEST_F(Data, Statfs) {
  struct statvfs v{};
  ASSERT_EQ(statvfs(dir().c_str(), &v), 0);
  EXPECT_GT(v.f_blocks, 0u);
  EXPECT_GT(v.f_bavail, 0u);
  EXPECT_LE(v.f_bfree, v.f_blocks);
  EXPECT_EQ(v.f_namemax, 255u);
}

TEST_F(Data, WhatIsReadFromFrontToBackIsReadFarAhead) {
  if (!is_graftfs() || geteuid() != 0) GTEST_SKIP() << "only root may say how far";
  struct stat st{};
  ASSERT_EQ(stat(dir().c_str(), &st), 0);
  std::ifstream in("/sys/class/bdi/" + std::to_string(major(st.st_dev)) + ":" +
                   std::to_string(minor(st.st_dev)) + "/read_ahead_kb");
  size_t kib = 0;
  ASSERT_TRUE(in >> kib);
  EXPECT_EQ(kib, 1024u);
}

TEST_F(Data, ProgramsRunFromIt) {
  write_file(path("script"), "#!/bin/sh\nexit 7\n", 0755);
  int status = system(path("script").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

}  // namespace
}  // namespace graftfs::mounttest
