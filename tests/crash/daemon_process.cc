#include "daemon_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <sstream>

#include "sandbox.h"

namespace graftfs::crash {
namespace {

constexpr auto kStartTimeout = std::chrono::seconds(60);
constexpr auto kEndTimeout = std::chrono::seconds(120);

int exit_status(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

pid_t spawn(const std::vector<std::string>& words, int out) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t parent = ::getpid();
  pid_t pid = ::fork();
  if (pid < 0) give_up("fork");
  if (pid > 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

bool is_graftfs_mount(const std::string& dir) {
  struct statfs st;
  return ::statfs(dir.c_str(), &st) == 0 && st.f_type == FUSE_SUPER_MAGIC;
}

}  // namespace

int run_program(const std::vector<std::string>& argv, std::string& output) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) give_up("pipe");
  pid_t pid = spawn(argv, ends[1]);
  ::close(ends[1]);
  output.clear();
  char buffer[4096];
  for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) != 0;) {
    if (n > 0) output.append(buffer, static_cast<size_t>(n));
    if (n < 0 && errno != EINTR) break;
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  return exit_status(status);
}

DaemonProcess::DaemonProcess(std::string volume, std::string mountpoint,
                             std::vector<std::string> flags)
    : volume_(std::move(volume)),
      dir_(std::move(mountpoint)),
      log_(dir_ + ".log"),
      flags_(std::move(flags)) {
  if (::mkdir(dir_.c_str(), 0755) != 0 && errno != EEXIST) give_up("cannot make " + dir_);
}

DaemonProcess::~DaemonProcess() { clean_up(); }

void DaemonProcess::format(const std::string& volume) {
  std::string output;
  if (run_program({graftfs_program(), "format", volume}, output) != 0)
    give_up_plain("graftfs format failed: " + output);
}

void DaemonProcess::begin_start() {
  int log = ::open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) give_up("cannot write " + log_);
  std::vector<std::string> argv{graftfs_program(), "mount", volume_, dir_, "--foreground"};
  argv.insert(argv.end(), flags_.begin(), flags_.end());
  pid_ = spawn(argv, log);
  ::close(log);
}

void DaemonProcess::start() {
  begin_start();
  auto began = std::chrono::steady_clock::now();
  while (!is_graftfs_mount(dir_)) {
    if (reap(false))
      give_up_plain(fmt::format("graftfs mount ended with status {}: {}", status_, log_end()));
    if (std::chrono::steady_clock::now() - began > kStartTimeout)
      give_up_plain("graftfs mount takes more than a minute: " + log_end());
    ::usleep(500);
  }
}

bool DaemonProcess::reap(bool wait) {
  if (pid_ <= 0) return true;
  int status = 0;
  pid_t got;
  while ((got = ::waitpid(pid_, &status, wait ? 0 : WNOHANG)) < 0 && errno == EINTR) {
  }
  if (got == 0) return false;
  status_ = exit_status(status);
  pid_ = -1;
  return true;
}

void DaemonProcess::kill_now() {
  if (pid_ > 0) ::kill(pid_, SIGKILL);
}

void DaemonProcess::clean_up() {
  kill_now();
  reap(true);
  // A mount may have been made twice, by a process that was killed while it started.
  while (::umount2(dir_.c_str(), MNT_DETACH) == 0) {
  }
}

bool DaemonProcess::unmount(std::string& why) {
  auto began = std::chrono::steady_clock::now();
  while (::umount2(dir_.c_str(), 0) != 0) {
    if (errno != EBUSY || std::chrono::steady_clock::now() - began > std::chrono::seconds(10))
      give_up("cannot unmount " + dir_);
    ::usleep(1000);
  }
  while (!reap(false)) {
    if (std::chrono::steady_clock::now() - began > kEndTimeout) {
      why = "graftfs does not end after umount: " + log_end();
      clean_up();
      return false;
    }
    ::usleep(1000);
  }
  if (status_ == 0) return true;
  why = fmt::format("graftfs ended with status {} after umount: {}", status_, log_end());
  return false;
}

std::string DaemonProcess::log_end() const {
  std::ifstream in(log_);
  std::ostringstream text;
  text << in.rdbuf();
  std::string all = text.str();
  return all.size() > 1500 ? all.substr(all.size() - 1500) : all;
}

bool DaemonProcess::has_fsck() {
  static const bool has = [] {
    std::string output;
    run_program({graftfs_program(), "--help"}, output);
    return output.find("\n  fsck ") != std::string::npos;
  }();
  return has;
}

bool DaemonProcess::fsck(std::string& report) const {
  return !has_fsck() || run_program({graftfs_program(), "fsck", volume_}, report) == 0;
}

}  // namespace graftfs::crash
