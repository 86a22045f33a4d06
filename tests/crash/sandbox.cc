#include "sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace graftfs::crash {

namespace fs = std::filesystem;

void give_up(const std::string& what) {
  throw HarnessError(fmt::format("{}: {}", what, std::strerror(errno)));
}

void give_up_plain(const std::string& what) { throw HarnessError(what); }

std::string cannot_run() {
  if (::geteuid() != 0) return "mounting needs root";
  if (::access("/dev/fuse", R_OK | W_OK) != 0) return "there is no /dev/fuse";
  if (::access("/dev/loop-control", R_OK | W_OK) != 0)
    return "there are no loop devices (/dev/loop-control)";
  return "";
}

namespace {

std::string temporary_directory() {
  if (const char* tmp = std::getenv("TMPDIR"); tmp && *tmp) return tmp;
  constexpr uint64_t kEnough = 4ull << 30;
  struct statvfs memory;
  struct sysinfo machine;
  if (::statvfs("/dev/shm", &memory) == 0 && ::sysinfo(&machine) == 0 &&
      memory.f_bavail * memory.f_frsize >= kEnough && machine.freeram >= kEnough / machine.mem_unit)
    return "/dev/shm";
  return "/var/tmp";
}

}  // namespace

Sandbox& Sandbox::get() {
  static Sandbox sandbox;
  return sandbox;
}

Sandbox::Sandbox() {
  dir_ = temporary_directory() + "/graftfs-crash-XXXXXX";
  if (!::mkdtemp(dir_.data())) give_up("cannot make a directory like " + dir_);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) give_up("pipe");
  guardian_ = ::fork();
  if (guardian_ < 0) give_up("fork");
  if (guardian_ == 0) {
    // Outside the namespace nothing is mounted in the directory.
    ::setsid();
    for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
    ::close(ends[1]);
    char byte;
    while (::read(ends[0], &byte, 1) < 0 && errno == EINTR) {
    }
    std::error_code ignored;
    for (int i = 0; i < 50; ++i) {  // a daemon that is dying may still hold on to it
      if (fs::remove_all(dir_, ignored); !fs::exists(dir_)) break;
      ::usleep(100'000);
    }
    ::_exit(0);
  }
  ::close(ends[0]);
  alive_fd_ = ends[1];
  if (::unshare(CLONE_NEWNS) != 0) give_up("cannot make a mount namespace");
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    give_up("cannot make the mounts private");
}

Sandbox::~Sandbox() {
  ::close(alive_fd_);
  ::waitpid(guardian_, nullptr, 0);
}

std::string Sandbox::path(const std::string& name) {
  return fmt::format("{}/{}-{}", dir_, name, ++number_);
}

std::string graftfs_program() {
  if (const char* build = std::getenv("GRAFTFS_BUILD"))
    return std::string(build) + "/src/cli/graftfs";
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path().parent_path() /
         "src/cli/graftfs";
}

}  // namespace graftfs::crash
