#pragma once
// Starting and telling `store_owner` (owner_main.cc).

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace graftfs {

// Owned by a test. Destroying it kills the process, also one that is stopped.
class OtherProcess {
 public:
  // `kill_point`: GRAFTFS_KILL of the process; "" for none.
  explicit OtherProcess(const std::string& volume, const std::string& kill_point = "") {
    int in[2], out[2];
    EXPECT_EQ(::pipe2(in, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
    auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "store_owner";
    // For tests elsewhere in the build tree.
    const char* build = std::getenv("GRAFTFS_BUILD");
    if (!std::filesystem::exists(here) && build)
      here = std::filesystem::path(build) / "src/store/store_owner";
    std::string program = here.string();
    pid_ = ::fork();
    if (pid_ == 0) {
      if (!kill_point.empty()) ::setenv("GRAFTFS_KILL", kill_point.c_str(), 1);
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::execl(program.c_str(), program.c_str(), volume.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    to_ = in[1];
    from_ = out[0];
  }
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;
  ~OtherProcess() { kill(); }

  void tell(const std::string& line) {
    std::string text = line + "\n";
    EXPECT_EQ(::write(to_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // One line; empty where the process has ended.
  std::string hear() {
    std::string line;
    char c;
    while (::read(from_, &c, 1) == 1 && c != '\n') line += c;
    return line;
  }
  std::string ask(const std::string& line) {
    tell(line);
    return hear();
  }
  void stop() {
    ::kill(pid_, SIGSTOP);
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status));
  }
  void wake() { ::kill(pid_, SIGCONT); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::close(to_);
    ::close(from_);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  int to_ = -1, from_ = -1;
};

}  // namespace graftfs
