#include "cli/status_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/crc32c.h"

namespace graftfs::cli {
namespace {

constexpr int kAnswerTimeoutMs = 5000;
constexpr size_t kMaxStatusBytes = 1 << 20;

// A unix socket's name has at most 107 bytes; a volume's path may have more. So it is named
// through a descriptor of the directory.
struct ShortName {
  ShortName(const std::string& volume, const std::string& name)
      : dir(::open(volume.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
        path(fmt::format("/proc/self/fd/{}/{}", dir, name)) {}
  ShortName(const ShortName&) = delete;
  ShortName& operator=(const ShortName&) = delete;
  ~ShortName() {
    if (dir >= 0) ::close(dir);
  }
  int dir;
  std::string path;
};

sockaddr_un address_of(const ShortName& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.path.c_str(), name.path.size() + 1);
  return address;
}

std::string read_until_end(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    pollfd ready{fd, POLLIN, 0};
    if (::poll(&ready, 1, kAnswerTimeoutMs) <= 0) return {};
    ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n == 0) return text;
    if (n < 0 || text.size() > kMaxStatusBytes) return {};
    text.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

std::string mount_socket(const std::string& mountpoint) {
  return fmt::format("{}/mount-{:08x}", kSocketsDir, crc32c(mountpoint));
}

Result<std::unique_ptr<StatusSocket>> StatusSocket::listen(EventLoop& loop,
                                                           const std::string& volume,
                                                           std::function<std::string()> status,
                                                           const std::string& socket_name) {
  std::string path = volume + "/" + socket_name;
  std::unique_ptr<StatusSocket> self(new StatusSocket(loop, path, std::move(status)));
  ShortName name(volume, socket_name);
  ::unlink(path.c_str());
  sockaddr_un address = address_of(name);
  self->socket_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  mode_t mask = ::umask(0177);
  bool bound = self->socket_ >= 0 &&
               ::bind(self->socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  int error = errno;
  ::umask(mask);
  if (bound && ::listen(self->socket_, SOMAXCONN) != 0) {
    bound = false;
    error = errno;
  }
  if (!bound)
    return fail(error, fmt::format("cannot make the socket {}: {}", path, std::strerror(error)));
  loop.watch(self->socket_, [s = self.get()] { s->accept(); });
  return self;
}

StatusSocket::~StatusSocket() {
  if (socket_ < 0) return;
  loop_.unwatch(socket_);
  ::close(socket_);
  ::unlink(path_.c_str());
}

// The object fits the socket's buffer; whoever does not read it gets what fits.
void StatusSocket::accept() {
  int peer = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (peer < 0) return;
  std::string text = status_();
  ::send(peer, text.data(), text.size(), MSG_NOSIGNAL);
  ::close(peer);
}

std::optional<Served> ask_daemon(const std::string& volume, const std::string& socket_name) {
  ShortName name(volume, socket_name);
  if (name.dir < 0) return std::nullopt;
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::nullopt;
  sockaddr_un address = address_of(name);
  std::optional<Served> served;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
      served = Served{peer.pid, read_until_end(fd)};
  }
  ::close(fd);
  return served;
}

bool wait_for_exit(pid_t pid, int timeout_ms) {
  int process = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (process < 0) return errno == ESRCH;
  pollfd ended{process, POLLIN, 0};
  bool gone = ::poll(&ended, 1, timeout_ms) == 1;
  ::close(process);
  return gone;
}

}  // namespace graftfs::cli
