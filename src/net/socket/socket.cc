#include "net/socket/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/check.h"
#include "base/fault.h"
#include "net/handshake.h"
#include "net/keys.h"
#include "net/socket/stream.h"

namespace graftfs::net {
namespace {

constexpr int kBacklog = 128;
constexpr int kAcceptsAtOnce = 16;
constexpr Nanos kPauseWithoutDescriptors = 100 * kMillisecond;
// A wrong key is not told apart from a slow server at once.
constexpr Nanos kWrongKeyDelay = 100 * kMillisecond;

std::unexpected<Error> os_error(const char* verb, const Address& address) {
  int code = errno;
  return fail(code, fmt::format("cannot {} {}: {}", verb, show(address), std::strerror(code)));
}

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Result<SocketAddress> resolve(const Address& address) {
  SocketAddress out;
  if (address.kind == Address::unix_socket) {
    auto* un = reinterpret_cast<sockaddr_un*>(&out.storage);
    if (address.text.size() >= sizeof un->sun_path)
      return fail(ENAMETOOLONG, show(address) + ": a socket's path has at most 107 bytes");
    un->sun_family = AF_UNIX;
    std::memcpy(un->sun_path, address.text.data(), address.text.size());
    out.size = sizeof *un;
    return out;
  }
  std::string host = address.text == "localhost" ? "127.0.0.1" : address.text;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(address.port);
    out.size = sizeof *v4;
    return out;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(address.port);
    out.size = sizeof *v6;
    return out;
  }
  return fail(EINVAL, fmt::format("{}: names are not looked up; give the address in numbers",
                                  show(address)));
}

Result<int> open_socket(const Address& address) {
  if (address.kind == Address::local)
    return fail(EINVAL, show(address) + " is an address inside a process, not a socket");
  TRY_ASSIGN(SocketAddress to, resolve(address));
  int fd = ::socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return os_error("make a socket for", address);
  if (address.kind == Address::tcp) {
    int one = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  return fd;
}

void send_step(Stream& stream, const HandshakeStep& step) {
  for (const std::string& frame : step.plain) stream.send([&](std::string& out) { out += frame; });
  if (step.keys) stream.seal(*step.keys);
  for (const std::string& frame : step.sealed) stream.send([&](std::string& out) { out += frame; });
}

class SocketConnection final : public Connection, private Stream::Events {
 public:
  SocketConnection(std::unique_ptr<Stream> stream, Peer peer, Sender theirs)
      : stream_(std::move(stream)), peer_(std::move(peer)), theirs_(theirs) {
    stream_->set_max_frame(kMaxMessage);
    stream_->set_events(*this);
  }
  ~SocketConnection() override { close(); }

  void send(Message message) override {
    stream_->send([&](std::string& out) { encode_message(message, out); });
  }
  bool writable() const override { return stream_->writable(); }
  void set_reading(bool on) override { stream_->set_reading(on); }
  void close() override {
    events_ = nullptr;
    stream_->close();
  }
  const Peer& peer() const override { return peer_; }
  void set_events(ConnectionEvents* events) override { events_ = events; }

 private:
  void frame(std::string_view bytes) override {
    auto message = decode_message(bytes, theirs_);
    if (!message) {
      MARK("net.socket.bad_message");
      Error why{EBADMSG, fmt::format("{} sent {}", peer_.name, message.error().message)};
      stream_->close();
      return ended(why);
    }
    if (events_) events_->received(std::move(*message));
  }
  void ended(const Error& why) override {
    if (auto* events = std::exchange(events_, nullptr)) events->disconnected(why);
  }
  void writable_again() override {
    if (events_) events_->writable_again();
  }

  std::unique_ptr<Stream> stream_;
  Peer peer_;
  Sender theirs_;
  ConnectionEvents* events_ = nullptr;
};

// -- listening ------------------------------------------------------------------------------------

class SocketListener final : public Listener {
 public:
  SocketListener(EventLoop& loop, Limits limits, int fd, Address address, Doorman doorman,
                 AcceptFn accept)
      : loop_(loop),
        limits_(limits),
        fd_(fd),
        address_(std::move(address)),
        doorman_(std::move(doorman)),
        accept_(std::move(accept)) {
    loop_.watch(fd_, [this] { take(); });
    if (address_.kind == Address::unix_socket && ::lstat(address_.text.c_str(), &file_) != 0)
      file_.st_ino = 0;
  }
  ~SocketListener() override {
    *alive_ = false;
    guests_.clear();
    leaving_.clear();
    loop_.unwatch(fd_);
    ::close(fd_);
    struct stat now = {};
    if (address_.kind == Address::unix_socket && file_.st_ino &&
        ::lstat(address_.text.c_str(), &now) == 0 && now.st_ino == file_.st_ino &&
        now.st_dev == file_.st_dev)
      ::unlink(address_.text.c_str());
  }
  Address address() const override { return address_; }

 private:
  // Somebody at the door.
  struct Guest final : Stream::Events {
    Guest(SocketListener& l, int fd, std::string n)
        : listener(l),
          name(std::move(n)),
          handshake(l.doorman_, l.limits_.in_flight, l.address_.kind == Address::tcp),
          stream(std::make_unique<Stream>(l.loop_, fd, *this, l.limits_)) {
      stream->set_max_frame(kMaxHandshakeFrame);
    }
    void frame(std::string_view bytes) override { listener.heard(*this, bytes); }
    void ended(const Error&) override { listener.drop(*this); }

    SocketListener& listener;
    std::string name;
    ServerHandshake handshake;
    std::unique_ptr<Stream> stream;
    uint64_t number = 0;
  };

  void log(const std::string& line) const {
    if (doorman_.log) doorman_.log(line);
  }

  void take() {
    for (int i = 0; i < kAcceptsAtOnce; ++i) {
      if (guests_.size() >= static_cast<size_t>(limits_.handshakes)) {
        MARK("net.listener.crowded");
        return pause();
      }
      SocketAddress from;
      from.size = sizeof from.storage;
      int fd = ::accept4(fd_, from.get(), &from.size, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) pause();
        return;
      }
      greet(fd, from);
    }
  }

  void pause() {
    loop_.pause(fd_, true);
    loop_.post_after(kPauseWithoutDescriptors, [this, alive = alive_] {
      if (*alive) loop_.pause(fd_, false);
    });
  }

  std::string name_of(const SocketAddress& from) const {
    char text[INET6_ADDRSTRLEN] = {};
    Address address{Address::tcp, {}, 0};
    if (from.storage.ss_family == AF_INET) {
      auto* v4 = reinterpret_cast<const sockaddr_in*>(&from.storage);
      ::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
      address.port = ntohs(v4->sin_port);
    } else if (from.storage.ss_family == AF_INET6) {
      auto* v6 = reinterpret_cast<const sockaddr_in6*>(&from.storage);
      ::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
      address.port = ntohs(v6->sin6_port);
    } else {
      return show(address_);
    }
    address.text = text;
    return show(address);
  }

  void greet(int fd, const SocketAddress& from) {
    if (address_.kind == Address::tcp) {
      int one = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    auto guest = std::make_unique<Guest>(*this, fd, name_of(from));
    guest->number = ++last_guest_;
    uint64_t number = guest->number;
    guests_.push_back(std::move(guest));
    loop_.post_after(limits_.handshake, [this, alive = alive_, number] {
      if (!*alive) return;
      for (auto& waiting : guests_) {
        if (waiting->number != number) continue;
        MARK("net.listener.handshake_timeout");
        log(fmt::format("{} did not finish its greeting in time", waiting->name));
        return drop(*waiting);
      }
    });
  }

  void heard(Guest& guest, std::string_view bytes) {
    HandshakeStep step = guest.handshake.receive(bytes);
    send_step(*guest.stream, step);
    if (step.failed) {
      log(fmt::format("{} was refused: {}", guest.name, step.failed->message));
      guest.stream->set_reading(false);
      bool wrong_key = step.plain.empty() && step.sealed.empty();
      if (!wrong_key) return drop(guest);
      uint64_t number = guest.number;
      loop_.post_after(kWrongKeyDelay, [this, alive = alive_, number] {
        if (!*alive) return;
        for (auto& waiting : guests_)
          if (waiting->number == number) return drop(*waiting);
      });
      return;
    }
    if (!step.done) return;
    Peer peer = guest.handshake.peer();
    peer.name = guest.name;
    peer.in_flight = limits_.in_flight;
    Sender theirs = sender_of(peer.role);
    auto connection =
        std::make_unique<SocketConnection>(std::move(guest.stream), std::move(peer), theirs);
    // This runs inside the stream, which now belongs to the connection.
    forget(guest);
    accept_(std::move(connection));
  }

  void drop(Guest& guest) {
    guest.stream->close();
    forget(guest);
  }

  // Its stream may be calling it just now.
  void forget(Guest& guest) {
    for (auto it = guests_.begin(); it != guests_.end(); ++it) {
      if (it->get() != &guest) continue;
      leaving_.push_back(std::move(*it));
      guests_.erase(it);
      break;
    }
    loop_.post([this, alive = alive_] {
      if (*alive) leaving_.clear();
    });
  }

  EventLoop& loop_;
  Limits limits_;
  int fd_;
  Address address_;
  Doorman doorman_;
  AcceptFn accept_;
  struct stat file_ = {};
  std::list<std::unique_ptr<Guest>> guests_, leaving_;
  uint64_t last_guest_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// A socket's file that nobody listens at is left over from a process that died.
Result<void> make_way(const Address& address, SocketAddress& at) {
  struct stat st;
  if (::lstat(address.text.c_str(), &st) != 0) return {};
  if (!S_ISSOCK(st.st_mode))
    return fail(EEXIST, address.text + " exists and is no socket; choose another path");
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  bool dead = fd >= 0 && ::connect(fd, at.get(), at.size) != 0 && errno == ECONNREFUSED;
  if (fd >= 0) ::close(fd);
  if (!dead) return fail(EADDRINUSE, "another process listens at " + show(address));
  MARK("net.listener.stale_socket");
  ::unlink(address.text.c_str());
  return {};
}

}  // namespace

Result<std::unique_ptr<Listener>> SocketTransport::listen(const Address& address, Doorman doorman,
                                                          AcceptFn accept) {
  if (address.kind == Address::tcp && doorman.secret.size() != kSecretSize)
    return fail(EACCES,
                "listening on tcp needs the volume's key; 'graftfs key show' says where "
                "it is");
  TRY_ASSIGN(int fd, open_socket(address));
  auto close_on_error = [&](auto error) {
    ::close(fd);
    return error;
  };
  TRY_ASSIGN(SocketAddress at, resolve(address));
  if (address.kind == Address::unix_socket) {
    auto way = make_way(address, at);
    if (!way) return close_on_error(std::unexpected(way.error()));
    // Its owner's only, from the first moment.
    ::fchmod(fd, 0600);
  } else {
    int one = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  }
  if (::bind(fd, at.get(), at.size) != 0 || ::listen(fd, kBacklog) != 0)
    return close_on_error(os_error("listen at", address));
  Address bound = address;
  if (address.kind == Address::tcp) {
    at.size = sizeof at.storage;
    CHECK(::getsockname(fd, at.get(), &at.size) == 0, "errno {}", errno);
    bound.port = ntohs(at.storage.ss_family == AF_INET6
                           ? reinterpret_cast<sockaddr_in6*>(&at.storage)->sin6_port
                           : reinterpret_cast<sockaddr_in*>(&at.storage)->sin_port);
  }
  return std::make_unique<SocketListener>(loop_, limits_, fd, std::move(bound), std::move(doorman),
                                          std::move(accept));
}

// -- connecting -----------------------------------------------------------------------------------

class SocketTransport::Connecting final : public Stream::Events {
 public:
  Connecting(SocketTransport& transport, Address address, Identity identity, ConnectFn done)
      : transport_(transport),
        address_(std::move(address)),
        role_(identity.role),
        handshake_(std::move(identity), address_.kind == Address::tcp),
        done_(std::move(done)) {}
  ~Connecting() override { *alive_ = false; }

  void start() {
    auto fd = open_socket(address_);
    if (!fd) return finish_later(fd.error());
    auto to = resolve(address_);
    CHECK(to);
    int e = ::connect(*fd, to->get(), to->size) == 0 ? 0 : errno;
    if (e && e != EINPROGRESS) {
      ::close(*fd);
      return finish_later(cannot(e));
    }
    fd_ = *fd;
    transport_.loop_.post_after(transport_.limits_.handshake, [this, alive = alive_] {
      if (!*alive || !done_) return;
      finish(fail(ETIMEDOUT, show(address_) + " does not answer"));
    });
    stream_ = std::make_unique<Stream>(transport_.loop_, *fd, *this, transport_.limits_);
    stream_->set_max_frame(kMaxHandshakeFrame);
    // Sent as soon as the connection is there; until then send() says EAGAIN.
    stream_->send([&](std::string& out) { out += handshake_.hello(); });
  }

 private:
  Error cannot(int code) const {
    if (code == ENOENT || code == ECONNREFUSED)
      return {ECONNREFUSED, "nobody listens at " + show(address_)};
    return {code, fmt::format("cannot connect to {}: {}", show(address_), std::strerror(code))};
  }

  void frame(std::string_view bytes) override {
    HandshakeStep step = handshake_.receive(bytes);
    send_step(*stream_, step);
    if (step.failed)
      return finish(fail(step.failed->code, fmt::format("{} cannot be used: {}", show(address_),
                                                        step.failed->message)));
    if (!step.done) return;
    Peer peer = handshake_.peer();
    peer.name = show(address_);
    Result<std::unique_ptr<Connection>> connection =
        std::make_unique<SocketConnection>(std::move(stream_), std::move(peer), answer_of(role_));
    finish(std::move(connection));
  }

  void ended(const Error& why) override {
    finish(fail(why.code, fmt::format("cannot connect to {}: {}", show(address_),
                                      why.code == ECONNRESET ? "it closed the connection; a wrong "
                                                               "key, or no GraftFS there"
                                                             : why.message)));
  }

  void finish_later(Error error) {
    transport_.loop_.post([this, alive = alive_, error = std::move(error)] {
      if (*alive) finish(std::unexpected(error));
    });
  }

  void finish(Result<std::unique_ptr<Connection>> result) {
    ConnectFn done = std::exchange(done_, nullptr);
    if (!done) return;
    if (stream_) stream_->close();
    // This may be called from inside the stream.
    transport_.loop_.post([this, alive = alive_] {
      if (*alive) transport_.connecting_.remove_if([&](auto& c) { return c.get() == this; });
    });
    done(std::move(result));
  }

  SocketTransport& transport_;
  Address address_;
  Role role_;
  ClientHandshake handshake_;
  ConnectFn done_;
  int fd_ = -1;
  std::unique_ptr<Stream> stream_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

SocketTransport::SocketTransport(EventLoop& loop, Limits limits) : loop_(loop), limits_(limits) {}

SocketTransport::~SocketTransport() { *alive_ = false; }

void SocketTransport::connect(const Address& address, Identity identity, ConnectFn done) {
  auto connecting =
      std::make_unique<Connecting>(*this, address, std::move(identity), std::move(done));
  Connecting* raw = connecting.get();
  connecting_.push_back(std::move(connecting));
  raw->start();
}

}  // namespace graftfs::net
