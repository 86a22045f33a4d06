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

#include <asio/buffer.hpp>
#include <asio/write.hpp>
#include <cstring>

namespace graftfs::cli {
namespace {

constexpr int kAnswerTimeoutMs = 5000;
constexpr size_t kMaxStatusBytes = 1 << 20;

// A unix socket's name has at most 107 bytes; a volume's path may have more. So it is named
// through a descriptor of the directory.
struct ShortName {
  explicit ShortName(const std::string& volume)
      : dir(::open(volume.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
        path(fmt::format("/proc/self/fd/{}/{}", dir, kSocketName)) {}
  ShortName(const ShortName&) = delete;
  ShortName& operator=(const ShortName&) = delete;
  ~ShortName() {
    if (dir >= 0) ::close(dir);
  }
  int dir;
  std::string path;
};

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

Result<std::unique_ptr<StatusSocket>> StatusSocket::listen(EventLoop& loop,
                                                           const std::string& volume,
                                                           std::function<std::string()> status) {
  std::string path = volume + "/" + kSocketName;
  std::unique_ptr<StatusSocket> self(new StatusSocket(loop, path, std::move(status)));
  ShortName name(volume);
  ::unlink(path.c_str());
  asio::error_code error;
  self->acceptor_.open(Protocol(), error);
  mode_t mask = ::umask(0177);
  if (!error) self->acceptor_.bind(Protocol::endpoint(name.path), error);
  ::umask(mask);
  if (!error) self->acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error)
    return fail(error.value(), fmt::format("cannot make the socket {}: {}", path, error.message()));
  self->accept();
  return self;
}

StatusSocket::~StatusSocket() { ::unlink(path_.c_str()); }

void StatusSocket::accept() {
  acceptor_.async_accept([this](const asio::error_code& error, Protocol::socket peer) {
    if (error == asio::error::operation_aborted) return;
    if (!error) {
      auto socket = std::make_shared<Protocol::socket>(std::move(peer));
      auto text = std::make_shared<std::string>(status_());
      asio::async_write(*socket, asio::buffer(*text),
                        [socket, text](const asio::error_code&, size_t) {});
    }
    accept();
  });
}

std::optional<Served> ask_daemon(const std::string& volume) {
  ShortName name(volume);
  if (name.dir < 0) return std::nullopt;
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::nullopt;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.path.c_str(), name.path.size() + 1);
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
