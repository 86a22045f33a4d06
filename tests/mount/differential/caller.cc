#include "differential/caller.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

namespace graftfs::mounttest {

namespace {
constexpr unsigned kPatienceSeconds = 120;  // for a whole sequence, on a loaded machine
constexpr int kThoroughEvery = 10;          // steps
}  // namespace

std::string outcome_value(long r) { return r < 0 ? strerrorname_np(errno) : std::to_string(r); }
std::string outcome(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }

std::string digest(const std::string& bytes) {
  uint64_t h = 1469598103934665603u;
  for (unsigned char c : bytes) h = (h ^ c) * 1099511628211u;
  return fmt::format("{}:{:08x}", bytes.size(), h & 0xffffffff);
}

void Caller::become(const Identity& id) {
  // The saved uid stays root's, for the way back; access(2) goes by the real one.
  if (setresuid(-1, 0, -1) != 0 || setgroups(id.groups.size(), id.groups.data()) != 0 ||
      setresgid(id.gid, id.gid, 0) != 0 || setresuid(id.uid, id.uid, 0) != 0)
    _exit(3);
  who = id;
}

void Caller::as_root(const std::function<void()>& fn) {
  const Identity old = who;
  become({});
  fn();
  become(old);
}

std::string Caller::put(int slot, int fd) {
  const std::string result = outcome(fd);
  if (fd < 0) return result;
  if (fds[slot] >= 0) close(fds[slot]);
  fds[slot] = fd;
  return result;
}

namespace {

void empty(const std::string& dir) {
  for (const auto& entry : std::filesystem::directory_iterator(dir))
    std::filesystem::remove_all(entry.path());
  for (const char* acl : {"system.posix_acl_access", "system.posix_acl_default"})
    removexattr(dir.c_str(), acl);
  for (const char* name : {"user.a", "user.b", "trusted.t", "security.s", "security.capability"})
    removexattr(dir.c_str(), name);
  if (chown(dir.c_str(), 0, 0) != 0 || chmod(dir.c_str(), 0777) != 0) _exit(4);
}

// In the child. Every text goes out at once, so that what killed it is known.
[[noreturn]] void make_calls(const std::string& dir, const std::vector<Step>& steps, int out) {
  Caller caller;
  caller.fds.fill(-1);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  alarm(kPatienceSeconds);
  umask(022);
  if (chdir(dir.c_str()) != 0 || chroot(".") != 0) _exit(2);
  caller.root = open("/", O_RDONLY | O_DIRECTORY);
  View view;
  view.changes(caller, false);
  for (size_t i = 0; i < steps.size(); ++i) {
    std::string text = steps[i].run(caller);
    const bool thorough = i % kThoroughEvery == 0 || i + 1 == steps.size();
    caller.as_root([&] { text += "\n" + view.changes(caller, thorough); });
    const uint32_t size = text.size();
    if (write(out, &size, sizeof size) != sizeof size || write(out, text.data(), size) != size)
      _exit(5);
  }
  _exit(0);
}

}  // namespace

void leave_parent(int keep) {
  if (keep > 3) close_range(3, keep - 1, 0);
  close_range(std::max(keep, 2) + 1, ~0u, 0);
}

std::vector<std::string> run_steps(const std::string& dir, const std::vector<Step>& steps) {
  empty(dir);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {"no pipe"};
  pid_t child = fork();
  if (child == 0) {
    leave_parent(ends[1]);
    make_calls(dir, steps, ends[1]);
  }
  close(ends[1]);
  std::vector<std::string> texts;
  auto read_all = [&](void* to, size_t n) {
    for (size_t got = 0; got < n;) {
      ssize_t r = read(ends[0], static_cast<char*>(to) + got, n - got);
      if (r <= 0) return false;
      got += r;
    }
    return true;
  };
  for (uint32_t size; read_all(&size, sizeof size);) {
    std::string text(size, '\0');
    if (!read_all(text.data(), size)) break;
    texts.push_back(std::move(text));
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0)
    texts.push_back(WIFSIGNALED(status)
                        ? fmt::format("the process was ended by signal {}", WTERMSIG(status))
                        : fmt::format("the process exited with {}", WEXITSTATUS(status)));
  return texts;
}

}  // namespace graftfs::mounttest
