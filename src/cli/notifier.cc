#include "cli/notifier.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <utility>

#include "base/bytes.h"

namespace graftfs::cli {
namespace {

// A message on the pipe: its kind, its length (4 bytes), its text.
constexpr char kSay = 'S', kReady = 'R', kFailed = 'F';

bool read_all(int fd, char* out, size_t size) {
  while (size > 0) {
    ssize_t n = ::read(fd, out, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    out += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

bool receive(int fd, char& kind, std::string& text) {
  char head[5];
  if (!read_all(fd, head, sizeof head)) return false;
  kind = head[0];
  uint32_t size;
  std::memcpy(&size, head + 1, sizeof size);
  text.resize(size);
  return read_all(fd, text.data(), size);
}

std::string how_it_ended(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return "it is gone";
  if (WIFSIGNALED(status)) return fmt::format("signal {}", WTERMSIG(status));
  return fmt::format("exit code {}", WEXITSTATUS(status));
}

Result<int> wait_for_child(pid_t child, int fd) {
  char kind = 0;
  std::string text;
  while (receive(fd, kind, text)) {
    if (kind == kReady) return 0;
    if (kind == kFailed) {
      ::waitpid(child, nullptr, 0);  // so that its locks are gone
      return fail(EIO, std::move(text));
    }
    fmt::print(stderr, "graftfs: {}\n", text);
  }
  return fail(EIO, fmt::format("the daemon ended while it was starting ({}); its log may say why",
                               how_it_ended(child)));
}

void leave_the_terminal() {
  ::setsid();
  int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  for (int fd : {0, 1, 2}) ::dup2(null, fd);
  if (null > 2) ::close(null);
}

}  // namespace

Notifier::Notifier(Notifier&& o) noexcept
    : fd_(std::exchange(o.fd_, -1)), done_(std::exchange(o.done_, true)) {}

Notifier::~Notifier() {
  if (fd_ >= 0) ::close(fd_);
}

void Notifier::send(char kind, std::string_view text) {
  if (done_) return;
  std::string message(1, kind);
  ByteWriter w(message);
  w.u32(static_cast<uint32_t>(text.size()));
  w.raw(text);
  size_t at = 0;
  while (at < message.size()) {
    ssize_t n = ::write(fd_, message.data() + at, message.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // the parent was killed; the mount goes on without it
    at += static_cast<size_t>(n);
  }
}

void Notifier::say(std::string_view line) {
  if (foreground())
    fmt::print(stderr, "graftfs: {}\n", line);
  else
    send(kSay, line);
}

void Notifier::ready() {
  if (!foreground()) send(kReady, {});
  done_ = true;
}

void Notifier::failed(std::string_view message) {
  if (foreground())
    fmt::print(stderr, "graftfs: {}\n", message);
  else
    send(kFailed, message);
  done_ = true;
}

Result<int> daemonize(int (*daemon)(Notifier notifier, void* context), void* context) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0)
    return fail(errno, fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  std::fflush(nullptr);
  pid_t child = ::fork();
  if (child < 0)
    return fail(errno, fmt::format("cannot start the daemon: {}", std::strerror(errno)));
  if (child > 0) {
    ::close(fds[1]);
    Result<int> code = wait_for_child(child, fds[0]);
    ::close(fds[0]);
    return code;
  }
  ::close(fds[0]);
  leave_the_terminal();
  int code = daemon(Notifier(fds[1]), context);
  std::fflush(nullptr);
  ::_exit(code);
}

}  // namespace graftfs::cli
