// Two mounts of one volume, in processes of their own, served by a third: what is done through one
// is what the other sees.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>
#include <vector>

namespace graftfs {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string program() { return std::string(std::getenv("GRAFTFS_BUILD")) + "/src/cli/graftfs"; }

// A `graftfs ... --foreground`, which is killed at the end.
class Process {
 public:
  Process(const std::string& arguments, const std::string& log) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(out, 1);
    ::dup2(out, 2);
    std::string line = fmt::format("exec {} {} --foreground", program(), arguments);
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    signal(SIGKILL);
    wait();
  }
  void signal(int number) {
    if (pid_ > 0) ::kill(pid_, number);
  }
  // The exit code, or 128 + the signal.
  int wait() {
    if (pid_ <= 0) return -1;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
};

template <class F>
bool until(F condition, int seconds = 40) {
  for (int i = 0; i < seconds * 20; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

int run(const std::string& arguments) {
  int status = std::system(fmt::format("{} {} >/dev/null", program(), arguments).c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string output(const std::string& arguments) {
  FILE* pipe = ::popen((program() + " " + arguments + " 2>&1").c_str(), "r");
  std::string out;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
  ::pclose(pipe);
  return out;
}

bool is_mount(const std::string& dir) {
  struct stat here, above;
  return ::stat(dir.c_str(), &here) == 0 && ::stat((dir + "/..").c_str(), &above) == 0 &&
         here.st_dev != above.st_dev;
}

struct stat stat_of(const std::string& path) {
  struct stat st{};
  EXPECT_EQ(::stat(path.c_str(), &st), 0) << path << ": " << std::strerror(errno);
  return st;
}
bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::string read_all(int fd) {
  std::string out(1 << 16, 0);
  ssize_t n = ::pread(fd, out.data(), out.size(), 0);
  out.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return n < 0 ? std::strerror(errno) : out;
}
std::string read_file(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY);
  if (fd < 0) return std::strerror(errno);
  std::string out = read_all(fd);
  ::close(fd);
  return out;
}
bool write_file(const std::string& path, const std::string& bytes, int flags = O_TRUNC) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | flags, 0644);
  if (fd < 0) return false;
  bool ok = ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  return ::close(fd) == 0 && ok;
}

class Shared : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "there is no FUSE here";
    std::string pattern = (fs::temp_directory_path() / "graftfs-shared-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
    a = dir_ + "/a";
    b = dir_ + "/b";
    fs::create_directory(a);
    fs::create_directory(b);
    ASSERT_EQ(run(fmt::format("format {}/v", dir_)), 0);
    server_ = std::make_unique<Process>(fmt::format("serve {}/v --lease 1s", dir_), log("serve"));
    // Before that a mount would host the rank itself.
    ASSERT_TRUE(until([&] {
      std::string list = output(fmt::format("rank list {}/v --json", dir_));
      std::erase_if(list, [](char c) { return std::isspace(static_cast<unsigned char>(c)); });
      const size_t ranks = list.find("\"ranks\":");
      return ranks != std::string::npos && list.find("\"alive\":true", ranks) != std::string::npos;
    })) << text_of("serve");
    first_ = mount(a, "mount-a");
    second_ = mount(b, "mount-b");
  }
  void TearDown() override {
    for (const std::string& point : {a, b})
      if (!point.empty()) ::umount2(point.c_str(), MNT_DETACH);
    first_.reset();
    second_.reset();
    server_.reset();
    if (HasFailure()) {
      for (const char* name : {"serve", "mount-a", "mount-b"})
        std::fprintf(stderr, "--- %s\n%s", name, text_of(name).c_str());
    }
    if (!dir_.empty()) fs::remove_all(dir_);
  }
  std::unique_ptr<Process> mount(const std::string& point, const std::string& name) {
    auto process = std::make_unique<Process>(fmt::format("mount {}/v {}", dir_, point), log(name));
    EXPECT_TRUE(until([&] { return is_mount(point); })) << text_of(name);
    return process;
  }
  std::string log(const std::string& name) const { return dir_ + "/" + name + ".log"; }
  std::string text_of(const std::string& name) const {
    std::ifstream in(log(name));
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }

  std::string dir_, a, b;
  std::unique_ptr<Process> server_, first_, second_;
};

TEST_F(Shared, NamesAndAttributesAreTheSameAtOnce) {
  EXPECT_FALSE(exists(b + "/d"));
  ASSERT_EQ(::mkdir((a + "/d").c_str(), 0755), 0);
  EXPECT_TRUE(exists(b + "/d")) << "it was known not to exist";
  for (int i = 0; i < 20; ++i) {
    const std::string name = fmt::format("/d/file-{}", i);
    EXPECT_FALSE(exists(b + name));
    ASSERT_TRUE(write_file(a + name, "x"));
    EXPECT_EQ(stat_of(b + name).st_size, 1);
    ASSERT_EQ(::chmod((b + name).c_str(), 0600 + static_cast<mode_t>(i % 8)), 0);
    EXPECT_EQ(stat_of(a + name).st_mode & 07777, 0600u + static_cast<mode_t>(i % 8));
    const std::string linked = fmt::format("/d/link-{}", i);
    ASSERT_EQ(::link((a + name).c_str(), (a + linked).c_str()), 0);
    EXPECT_EQ(stat_of(b + name).st_nlink, 2u);
    EXPECT_EQ(stat_of(b + linked).st_nlink, 2u);
    const std::string moved = fmt::format("/d/moved-{}", i);
    ASSERT_EQ(::rename((b + name).c_str(), (b + moved).c_str()), 0);
    EXPECT_FALSE(exists(a + name));
    EXPECT_EQ(stat_of(a + moved).st_ino, stat_of(b + linked).st_ino);
    ASSERT_EQ(::unlink((a + linked).c_str()), 0);
    EXPECT_FALSE(exists(b + linked));
    EXPECT_EQ(stat_of(b + moved).st_nlink, 1u);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(b + "/d"), {}), 20);
  ASSERT_EQ(::unlink((a + "/d/moved-7").c_str()), 0);
  EXPECT_EQ(std::distance(fs::directory_iterator(b + "/d"), {}), 19);
  ASSERT_EQ(::rename((a + "/d").c_str(), (a + "/e").c_str()), 0);
  EXPECT_FALSE(exists(b + "/d"));
  EXPECT_TRUE(exists(b + "/e/moved-8"));
}

TEST_F(Shared, WhatWasWrittenIsReadAndWhatIsOpenStays) {
  ASSERT_TRUE(write_file(a + "/file", "one"));
  int fd = ::open((b + "/file").c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(read_all(fd), "one");
  int writer = ::open((a + "/file").c_str(), O_WRONLY);
  for (const std::string text : {"two", "three", "4", "fifth"}) {
    ASSERT_EQ(::ftruncate(writer, 0), 0);
    ASSERT_EQ(::pwrite(writer, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(read_all(fd), text) << "through a descriptor that was open before";
    EXPECT_EQ(read_file(b + "/file"), text);
  }
  ::close(writer);
  // It is removed through one mount, and open on the other, which has told nobody.
  ASSERT_EQ(::unlink((a + "/file").c_str()), 0);
  EXPECT_FALSE(exists(b + "/file"));
  ASSERT_TRUE(write_file(a + "/other", "other"));
  ASSERT_EQ(::fsync(fd), 0);
  std::this_thread::sleep_for(std::chrono::seconds(1));  // were it purged, it would be by now
  EXPECT_EQ(read_all(fd), "fifth");
  struct stat st;
  ASSERT_EQ(::fstat(fd, &st), 0);
  EXPECT_EQ(st.st_nlink, 0u);
  ::close(fd);
}

TEST_F(Shared, LocksHoldBetweenMounts) {
  ASSERT_TRUE(write_file(a + "/file", "0123456789"));
  int here = ::open((a + "/file").c_str(), O_RDWR), there = ::open((b + "/file").c_str(), O_RDWR);
  ASSERT_EQ(::flock(here, LOCK_EX), 0);
  EXPECT_EQ(::flock(there, LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  std::atomic<bool> granted = false;
  std::thread waiting([&] {
    EXPECT_EQ(::flock(there, LOCK_EX), 0);
    granted = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_FALSE(granted);
  ::close(here);  // the last one of its open file
  waiting.join();
  EXPECT_TRUE(granted);
  ASSERT_EQ(::flock(there, LOCK_UN), 0);

  here = ::open((a + "/file").c_str(), O_RDWR);
  struct flock part{.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 3, .l_pid = 0};
  ASSERT_EQ(::fcntl(here, F_SETLK, &part), 0);
  struct flock asked{.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0, .l_pid = 0};
  ASSERT_EQ(::fcntl(there, F_GETLK, &asked), 0);
  EXPECT_EQ(asked.l_type, F_WRLCK);
  EXPECT_EQ(asked.l_start, 2);
  EXPECT_EQ(asked.l_len, 3);
  // One that waits for ever can be interrupted.
  pid_t child = ::fork();
  if (child == 0) {
    struct sigaction action{};
    action.sa_handler = [](int) {};  // without SA_RESTART
    ::sigaction(SIGALRM, &action, nullptr);
    ::alarm(1);
    struct flock all{.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0, .l_pid = 0};
    const bool interrupted = ::fcntl(there, F_SETLKW, &all) == -1 && errno == EINTR;
    ::_exit(interrupted ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ::close(here);  // gives back what this process has locked in the file
  asked = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0, .l_pid = 0};
  EXPECT_EQ(::fcntl(there, F_SETLK, &asked), 0);
  ::close(there);
}

TEST_F(Shared, AppendsFromBothMountsDoNotTear) {
  constexpr int kLines = 150;
  ASSERT_TRUE(write_file(a + "/log", ""));
  auto write = [](const std::string& path, char who) {
    int fd = ::open(path.c_str(), O_WRONLY | O_APPEND);
    bool ok = fd >= 0;
    for (int i = 0; i < kLines && ok; ++i) {
      std::string line = std::string(10 + static_cast<size_t>(i % 50), who) + "\n";
      ok = ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size());
    }
    ::_exit(ok && ::close(fd) == 0 ? 0 : 1);
  };
  std::vector<pid_t> children;
  for (int i = 0; i < 2; ++i) {
    pid_t child = ::fork();
    if (child == 0) write((i ? b : a) + "/log", i ? 'b' : 'a');
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  const std::string text = read_file(a + "/log");
  EXPECT_EQ(read_file(b + "/log"), text);
  EXPECT_EQ(static_cast<size_t>(stat_of(b + "/log").st_size), text.size());
  std::map<char, int> lines;
  for (size_t at = 0, end; at < text.size(); at = end + 1) {
    end = text.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    ASSERT_GT(end, at);
    const std::string line = text.substr(at, end - at);
    const int number = lines[line[0]]++;
    EXPECT_EQ(line, std::string(10 + static_cast<size_t>(number % 50), line[0]));
  }
  EXPECT_EQ(lines, (std::map<char, int>{{'a', kLines}, {'b', kLines}}));
}

// A stopped mount holds up who changes what it knows, for its lease, and nobody else.
TEST_F(Shared, AStoppedMountIsEvictedAndComesBack) {
  ASSERT_TRUE(write_file(a + "/known", "old"));
  ASSERT_TRUE(write_file(a + "/unknown", "old"));
  // What was recalled from it a moment ago is not leased to it again for a second.
  const auto leased = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  EXPECT_TRUE(until([&] {
    EXPECT_EQ(stat_of(b + "/known").st_mode & 0777, 0644u);
    return std::chrono::steady_clock::now() > leased;
  }));
  second_->signal(SIGSTOP);
  const auto before = std::chrono::steady_clock::now();
  ASSERT_EQ(::chmod((a + "/known").c_str(), 0600), 0);
  const auto waited = std::chrono::steady_clock::now() - before;
  EXPECT_LT(waited, std::chrono::seconds(30)) << "much more than the lease of a second";
  EXPECT_EQ(stat_of(a + "/known").st_mode & 0777, 0600u);
  EXPECT_THAT(text_of("serve"), HasSubstr("was evicted: others wait for what it was leased"));
  second_->signal(SIGCONT);
  // What it asks on the connection that is gone fails; nothing of before is believed.
  struct stat st{};
  EXPECT_TRUE(until([&] { return ::stat((b + "/known").c_str(), &st) == 0; }));
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  EXPECT_TRUE(until([&] { return write_file(b + "/new", "new"); })) << "with a new session";
  EXPECT_EQ(read_file(a + "/new"), "new");
}

// Who asks for its lock again and again gets it; and what was open under the lost one is void.
TEST_F(Shared, AStoppedMountLosesItsLocksAndItsCallersAreTold) {
  ASSERT_TRUE(write_file(a + "/file", "old"));
  int there = ::open((b + "/file").c_str(), O_RDWR), other = ::open((b + "/file").c_str(), O_RDWR);
  ASSERT_EQ(::flock(there, LOCK_EX), 0);
  int here = ::open((a + "/file").c_str(), O_RDWR);
  second_->signal(SIGSTOP);
  EXPECT_TRUE(until([&] { return ::flock(here, LOCK_EX | LOCK_NB) == 0; }));
  EXPECT_THAT(text_of("serve"),
              HasSubstr("was evicted: others wait for a file that it has locked"));
  ASSERT_EQ(::pwrite(here, "new", 3, 0), 3);
  second_->signal(SIGCONT);
  for (int fd : {there, other}) {
    EXPECT_EQ(::pwrite(fd, "bad", 3, 0), -1);
    EXPECT_EQ(errno, EIO);
    EXPECT_EQ(read_all(fd), std::strerror(EIO));
    EXPECT_EQ(::flock(fd, LOCK_EX | LOCK_NB), -1);
    EXPECT_EQ(errno, EIO);
    ::close(fd);
  }
  EXPECT_THAT(text_of("mount-b"), HasSubstr("the locks on 1 files are lost"));
  int again = ::open((b + "/file").c_str(), O_RDWR);
  EXPECT_EQ(read_all(again), "new");
  EXPECT_EQ(::flock(again, LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  ::close(here);
  EXPECT_EQ(::flock(again, LOCK_EX), 0);
  ::close(again);
}

}  // namespace
}  // namespace graftfs
