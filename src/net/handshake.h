#pragma once
// The handshake of a connection (docs/protocols/net.md): who is there, which version is spoken,
// and, where the connection is to be sealed, the proof that both sides know the key.
//
// Pure: bytes in, bytes out. Frames are given and returned without their lengths.

#include <optional>
#include <string>
#include <vector>

#include "net/net.h"

namespace graftfs::net {

inline constexpr uint32_t kOldestVersion = 1;
inline constexpr uint32_t kNewestVersion = 1;
inline constexpr size_t kMaxHandshakeFrame = 8192;

// One for each direction: what this side seals with, and what the other one does.
struct SealKeys {
  std::string send, receive;
};

struct HandshakeStep {
  std::vector<std::string> plain;   // to be sent now, as they are
  std::optional<SealKeys> keys;     // from here on everything is sealed, what follows included
  std::vector<std::string> sealed;  // to be sent then (where there are no keys: as it is)
  bool done = false;
  std::optional<Error> failed;  // after sending; the connection ends
};

class ClientHandshake {
 public:
  // `sealed`: over tcp.
  ClientHandshake(Identity identity, bool sealed);
  ~ClientHandshake();
  std::string hello() const { return hello_; }
  HandshakeStep receive(std::string_view frame);
  const Peer& peer() const { return peer_; }

 private:
  HandshakeStep welcome(std::string_view frame);
  HandshakeStep ready(std::string_view frame);

  Identity identity_;
  bool sealed_;
  std::string hello_;
  std::string private_key_;
  bool welcomed_ = false;
  Peer peer_;
};

class ServerHandshake {
 public:
  ServerHandshake(const Doorman& doorman, uint32_t in_flight, bool sealed);
  ~ServerHandshake();
  HandshakeStep receive(std::string_view frame);
  const Peer& peer() const { return peer_; }

 private:
  HandshakeStep hello(std::string_view frame);
  HandshakeStep proof(std::string_view frame);

  const Doorman& doorman_;
  uint32_t in_flight_;
  bool sealed_;
  bool greeted_ = false;
  std::string expected_;  // the client's proof
  bool key_revoked_ = false;
  bool role_refused_ = false;
  std::optional<SealKeys> keys_;
  Peer peer_;
};

}  // namespace graftfs::net
