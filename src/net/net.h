#pragma once
// The contract of connections (docs/protocols/net.md). Implementations: local/ (between threads of
// one process), socket/ (unix and tcp); the simulator has its own.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/ids.h"
#include "base/result.h"
#include "types/wire.h"

namespace graftfs::net {

enum class Role : uint8_t { client, node, control };

// What a key allows its holder. The volume's own key allows everything.
struct KeyLimits {
  bool read_only = false;
  bool squash_root = false;
  std::string path = "/";  // nothing outside of it
  std::string label;       // for people
  friend bool operator==(const KeyLimits&, const KeyLimits&) = default;
};

// Who is at the other end, as the handshake has shown.
struct Peer {
  Role role = Role::client;
  uint64_t id = 0;   // a client's session; a node's id
  KeyLimits limits;  // of a client's key
  std::string name;  // where it is, for messages: "unix:/run/x", "tcp:10.0.0.1:4000"
  // Of a node that was connected to:
  uint32_t lease_ms = 0;
  uint32_t in_flight = 0;  // requests that may be under way
  // Of a client: its key; "": the volume's, or none.
  std::string key_id;
};

struct Limits {
  size_t send_high = 1 << 20;    // above it writable() is false
  size_t send_limit = 64 << 20;  // above it the connection is closed
  uint32_t in_flight = 4096;
  Nanos handshake = 5 * kSecond;
  int handshakes = 64;  // under way at one listener
};

struct ConnectionEvents {
  virtual ~ConnectionEvents() = default;
  virtual void received(Message message) = 0;
  // The last call: it is broken, or was closed by the other side.
  virtual void disconnected(const Error& why) = 0;
  // What was unsent has gone below half of send_high, after writable() was false.
  virtual void writable_again() {}
};

// One end. Owned by whoever it was handed to, used on one executor's thread, which outlives it;
// destroying it closes it. Messages arrive whole, at most once, in the order in which they were
// sent, until the connection breaks; what was sent and had not arrived by then is lost. Messages of
// one turn of the executor leave together. After an error, as after a crash of the other side:
// disconnected(), once, behind everything that arrived.
class Connection {
 public:
  virtual ~Connection() = default;
  // Never blocks, never fails: on a broken connection it does nothing.
  virtual void send(Message message) = 0;
  virtual bool writable() const = 0;
  // Stops reading, so that the other side has to wait; and goes on.
  virtual void set_reading(bool on) = 0;
  // After what was sent has left, as far as it goes without waiting. No events follow.
  virtual void close() = 0;
  virtual const Peer& peer() const = 0;
  // To be set where the connection is handed over; `events` outlives it or is replaced. Null:
  // nobody listens, and what arrives is dropped. Called from the executor, never inside send().
  virtual void set_events(ConnectionEvents* events) = 0;
};

// "unix:PATH", "tcp:ADDRESS:PORT" ([ADDRESS] for IPv6), "local:NAME". EINVAL with a sentence.
struct Address {
  enum Kind : uint8_t { local, unix_socket, tcp } kind = local;
  std::string text;  // path or name, or the tcp address
  uint16_t port = 0;
};
Result<Address> parse_address(std::string_view text);
std::string show(const Address& address);

// What one who connects says of itself.
struct Identity {
  Role role = Role::client;
  uint64_t volume = 0;
  uint64_t id = 0;
  std::string key_id;  // "": the volume's key
  std::string secret;  // 32 bytes, for tcp
};

// What one who listens is, and whom it lets in.
struct Doorman {
  uint64_t volume = 0;
  uint64_t node = 0;
  uint32_t lease_ms = 2000;
  // The volume's key; empty: no tcp.
  std::string secret;
  // Whether a client's key was taken back.
  std::function<bool(std::string_view key_id)> revoked;
  // For the operator, one line each.
  std::function<void(const std::string&)> log;
};

using ConnectFn = std::move_only_function<void(Result<std::unique_ptr<Connection>>)>;
using AcceptFn = std::function<void(std::unique_ptr<Connection>)>;

// Destroying it ends listening; connections that were accepted live on.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual Address address() const = 0;  // with the port that was chosen, for port 0
};

// Bound to one executor, like everything it hands out; outlives that.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual Result<std::unique_ptr<Listener>> listen(const Address& address, Doorman doorman,
                                                   AcceptFn accept) = 0;
  // `done` is called once, later, from the executor, unless the transport is destroyed first.
  // Errors: ECONNREFUSED, EACCES (the keys differ), ESTALE (another volume), EPROTONOSUPPORT,
  // ETIMEDOUT, and the system's; each with a sentence.
  virtual void connect(const Address& address, Identity identity, ConnectFn done) = 0;
};

// Who says what on a connection to a peer of that role.
constexpr Sender sender_of(Role accepted) {
  return accepted == Role::client ? Sender::client
         : accepted == Role::node ? Sender::node_to_node
                                  : Sender::control;
}
constexpr Sender answer_of(Role connecting) {
  return connecting == Role::client ? Sender::node_to_client
         : connecting == Role::node ? Sender::node_to_node
                                    : Sender::node_to_control;
}

}  // namespace graftfs::net
