#include "net/handshake.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/fault.h"
#include "net/keys.h"

namespace graftfs::net {
namespace {

constexpr std::string_view kMagic = "graftfs\n";
constexpr size_t kNonceSize = 32;
constexpr size_t kPublicSize = 32;

enum Type : uint8_t { kHello = 1, kWelcome = 2, kProof = 3, kReady = 4, kRefused = 5 };

struct PkeyFree {
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(EVP_PKEY_CTX* p) const { EVP_PKEY_CTX_free(p); }
};
using Pkey = std::unique_ptr<EVP_PKEY, PkeyFree>;
using PkeyCtx = std::unique_ptr<EVP_PKEY_CTX, PkeyFree>;

const unsigned char* in(std::string_view s) {
  return reinterpret_cast<const unsigned char*>(s.data());
}
unsigned char* out(std::string& s) { return reinterpret_cast<unsigned char*>(s.data()); }

void wipe(std::string& secret) {
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

Pkey private_of(std::string_view bytes) {
  return Pkey(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, in(bytes), bytes.size()));
}

std::string public_of(std::string_view private_key) {
  Pkey key = private_of(private_key);
  std::string bytes(kPublicSize, '\0');
  size_t size = bytes.size();
  CHECK(key && EVP_PKEY_get_raw_public_key(key.get(), out(bytes), &size) == 1);
  return bytes;
}

// Empty: the other side's is no good key (a point of small order).
std::string shared_secret(std::string_view private_key, std::string_view public_key) {
  Pkey mine = private_of(private_key);
  Pkey theirs(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, in(public_key), public_key.size()));
  if (!mine || !theirs) return {};
  PkeyCtx context(EVP_PKEY_CTX_new(mine.get(), nullptr));
  std::string secret(32, '\0');
  size_t size = secret.size();
  if (!context || EVP_PKEY_derive_init(context.get()) != 1 ||
      EVP_PKEY_derive_set_peer(context.get(), theirs.get()) != 1 ||
      EVP_PKEY_derive(context.get(), out(secret), &size) != 1)
    return {};
  return secret;
}

// HKDF with SHA-256 (RFC 5869), a block for each purpose.
std::string expand(std::string_view extracted, std::string_view purpose) {
  std::string info(purpose);
  info.push_back('\1');
  return hmac(extracted, info);
}

struct Secrets {
  std::string server_proof, client_proof;
  std::string to_server, to_client;
};

Secrets derive(std::string_view secret, std::string shared, std::string_view transcript) {
  Secrets s;
  s.server_proof = hmac(secret, fmt::format("server{}", transcript));
  s.client_proof = hmac(secret, fmt::format("client{}{}", transcript, s.server_proof));
  std::string material = shared + std::string(secret);
  std::string extracted = hmac(transcript, material);
  s.to_server = expand(extracted, "graftfs to server");
  s.to_client = expand(extracted, "graftfs to client");
  wipe(material);
  wipe(shared);
  return s;
}

std::string refusal(const Error& error) {
  std::string bytes;
  ByteWriter w(bytes);
  w.u8(kRefused);
  w.varint(static_cast<uint32_t>(error.code));
  w.string(error.message);
  return bytes;
}

HandshakeStep failed(int code, std::string message) {
  HandshakeStep step;
  step.failed = Error{code, std::move(message)};
  return step;
}

HandshakeStep refuse(int code, std::string message) {
  HandshakeStep step = failed(code, std::move(message));
  step.plain.push_back(refusal(*step.failed));
  return step;
}

// The part of Welcome in front of its proof; both sides hash it.
struct Welcome {
  uint32_t version = 0;
  uint64_t volume = 0, node = 0;
  uint32_t lease_ms = 0, in_flight = 0;
  std::string nonce, public_key, proof;
};

std::string encode(const Welcome& m) {
  std::string bytes;
  ByteWriter w(bytes);
  w.u8(kWelcome);
  w.varint(m.version);
  w.u64(m.volume);
  w.u64(m.node);
  w.varint(m.lease_ms);
  w.varint(m.in_flight);
  w.string(m.nonce);
  w.string(m.public_key);
  return bytes;
}

struct Hello {
  uint32_t oldest = 0, newest = 0;
  Role role = Role::client;
  uint64_t volume = 0, id = 0;
  std::string key_id, nonce, public_key;
};

std::string encode(const Hello& m) {
  std::string bytes;
  ByteWriter w(bytes);
  w.u8(kHello);
  w.raw(kMagic);
  w.varint(m.oldest);
  w.varint(m.newest);
  w.u8(static_cast<uint8_t>(m.role));
  w.u64(m.volume);
  w.u64(m.id);
  w.string(m.key_id);
  w.string(m.nonce);
  w.string(m.public_key);
  return bytes;
}

// Only magic and versions are read where the versions have nothing in common.
enum class Read { good, malformed, other_version, stranger };
Read decode(std::string_view frame, Hello& m) {
  ByteReader r(frame);
  if (r.u8() != kHello || r.raw(kMagic.size()) != kMagic) return Read::stranger;
  uint64_t oldest = r.varint(), newest = r.varint();
  if (!r.ok() || oldest > newest) return Read::malformed;
  if (oldest > kNewestVersion || newest < kOldestVersion) return Read::other_version;
  m.oldest = static_cast<uint32_t>(oldest);
  m.newest = static_cast<uint32_t>(std::min<uint64_t>(newest, kNewestVersion));
  uint8_t role = r.u8();
  if (role > static_cast<uint8_t>(Role::control)) return Read::malformed;
  m.role = static_cast<Role>(role);
  m.volume = r.u64();
  m.id = r.u64();
  m.key_id = r.string();
  m.nonce = r.string();
  m.public_key = r.string();
  if (!r.done() || m.key_id.size() > kMaxKeyId || m.nonce.size() != kNonceSize ||
      (!m.public_key.empty() && m.public_key.size() != kPublicSize))
    return Read::malformed;
  return Read::good;
}

}  // namespace

// -- who connects -------------------------------------------------------------------------------

ClientHandshake::ClientHandshake(Identity identity, bool sealed)
    : identity_(std::move(identity)), sealed_(sealed) {
  Hello m{kOldestVersion, kNewestVersion,   identity_.role,           identity_.volume,
          identity_.id,   identity_.key_id, random_bytes(kNonceSize), {}};
  if (sealed_) {
    private_key_ = random_bytes(32);
    m.public_key = public_of(private_key_);
  }
  hello_ = encode(m);
}

ClientHandshake::~ClientHandshake() {
  wipe(private_key_);
  wipe(identity_.secret);
}

HandshakeStep ClientHandshake::receive(std::string_view frame) {
  if (!frame.empty() && frame[0] == kRefused) {
    ByteReader r(frame.substr(1));
    uint64_t code = r.varint();
    std::string message(r.string());
    if (r.done() && code > 0 && code < 4096) return failed(static_cast<int>(code), message);
  }
  return welcomed_ ? ready(frame) : welcome(frame);
}

HandshakeStep ClientHandshake::welcome(std::string_view frame) {
  ByteReader r(frame);
  Welcome m;
  uint8_t type = r.u8();
  uint64_t version = r.varint();
  m.volume = r.u64();
  m.node = r.u64();
  uint64_t lease = r.varint(), in_flight = r.varint();
  m.nonce = r.string();
  m.public_key = r.string();
  size_t hashed = frame.size() - r.remaining();
  m.proof = r.string();
  if (!r.done() || type != kWelcome || m.nonce.size() != kNonceSize || lease > UINT32_MAX ||
      in_flight > UINT32_MAX || m.public_key.size() != (sealed_ ? kPublicSize : 0))
    return failed(EPROTO, "what answers there is not GraftFS");
  if (version < kOldestVersion || version > kNewestVersion)
    return failed(EPROTONOSUPPORT, "the server speaks a version that this program does not");
  if (m.volume != identity_.volume) return failed(ESTALE, "the server serves another volume");
  peer_.role = Role::node;
  peer_.id = m.node;
  peer_.lease_ms = static_cast<uint32_t>(lease);
  peer_.in_flight = static_cast<uint32_t>(in_flight);
  welcomed_ = true;
  HandshakeStep step;
  std::string proof(1, static_cast<char>(kProof));
  if (sealed_) {
    std::string shared = shared_secret(private_key_, m.public_key);
    if (shared.empty()) return failed(EPROTO, "the server's public key is no good");
    std::string transcript = hash(hello_ + std::string(frame.substr(0, hashed)));
    Secrets s = derive(identity_.secret, std::move(shared), transcript);
    if (!same(s.server_proof, m.proof))
      return failed(EACCES, "the server does not know this key; was it issued for this volume?");
    ByteWriter(proof).string(s.client_proof);
    step.keys = SealKeys{std::move(s.to_server), std::move(s.to_client)};
  } else {
    ByteWriter(proof).string({});
  }
  step.plain.push_back(std::move(proof));
  return step;
}

HandshakeStep ClientHandshake::ready(std::string_view frame) {
  HandshakeStep step;
  if (frame.size() != 1 || frame[0] != kReady)
    return failed(EPROTO, "what answers there is not GraftFS");
  step.done = true;
  return step;
}

// -- who listens --------------------------------------------------------------------------------

ServerHandshake::ServerHandshake(const Doorman& doorman, uint32_t in_flight, bool sealed)
    : doorman_(doorman), in_flight_(in_flight), sealed_(sealed) {}

ServerHandshake::~ServerHandshake() {
  if (keys_) {
    wipe(keys_->send);
    wipe(keys_->receive);
  }
}

HandshakeStep ServerHandshake::receive(std::string_view frame) {
  return greeted_ ? proof(frame) : hello(frame);
}

HandshakeStep ServerHandshake::hello(std::string_view frame) {
  Hello m;
  switch (decode(frame, m)) {
    case Read::good:
      break;
    case Read::stranger:
      return failed(EPROTO, "a stranger who does not speak the protocol");
    case Read::malformed:
      return refuse(EPROTO, "the greeting is malformed");
    case Read::other_version:
      MARK("net.handshake.other_version");
      return refuse(EPROTONOSUPPORT,
                    fmt::format("this server speaks the protocol's versions {} to {} only; use a "
                                "program of the same version",
                                kOldestVersion, kNewestVersion));
  }
  if (m.volume != doorman_.volume) return refuse(ESTALE, "this server serves another volume");
  if (m.id == 0) return refuse(EPROTO, "the greeting names nobody");
  if (sealed_ != !m.public_key.empty()) return refuse(EPROTO, "the greeting is malformed");
  // Without a secret a key's limits are nobody's promise.
  if (!sealed_ && !m.key_id.empty())
    return refuse(EACCES, "keys are for tcp; a unix socket asks for the file's permission only");
  auto limits = limits_of(m.key_id);
  if (!limits) return refuse(EPROTO, limits.error().message);
  peer_.role = m.role;
  peer_.id = m.id;
  peer_.limits = std::move(*limits);
  peer_.key_id = m.key_id;
  greeted_ = true;
  Welcome w{m.newest,
            doorman_.volume,
            doorman_.node,
            doorman_.lease_ms,
            in_flight_,
            random_bytes(kNonceSize),
            {},
            {}};
  std::string private_key;
  if (sealed_) {
    private_key = random_bytes(32);
    w.public_key = public_of(private_key);
  }
  std::string welcome = encode(w);
  if (sealed_) {
    std::string shared = shared_secret(private_key, m.public_key);
    wipe(private_key);
    if (shared.empty()) return refuse(EPROTO, "the public key is no good");
    std::string secret = secret_of(doorman_.secret, m.key_id);
    Secrets s = derive(secret, std::move(shared), hash(std::string(frame) + welcome));
    wipe(secret);
    ByteWriter(welcome).string(s.server_proof);
    expected_ = s.client_proof;
    keys_ = SealKeys{std::move(s.to_client), std::move(s.to_server)};
    // Whoever may not come in learns it when it has shown that it knows the key.
    if (!m.key_id.empty() && m.role != Role::client)
      peer_.role = Role::client, role_refused_ = true;
    key_revoked_ = doorman_.revoked && !m.key_id.empty() && doorman_.revoked(m.key_id);
  } else {
    ByteWriter(welcome).string({});
  }
  HandshakeStep step;
  step.plain.push_back(std::move(welcome));
  return step;
}

HandshakeStep ServerHandshake::proof(std::string_view frame) {
  ByteReader r(frame);
  uint8_t type = r.u8();
  std::string_view proof = r.string();
  if (!r.done() || type != kProof) return failed(EPROTO, "the proof is malformed");
  if (sealed_ && !same(proof, expected_)) {
    MARK("net.handshake.wrong_key");
    return failed(EACCES, "a wrong key");
  }
  HandshakeStep step;
  step.keys = keys_;
  if (key_revoked_ || role_refused_) {
    step.failed = Error{EACCES, key_revoked_ ? "this key was revoked; ask for a new one"
                                             : "a client's key does not allow this"};
    step.sealed.push_back(refusal(*step.failed));
    return step;
  }
  step.sealed.emplace_back(1, static_cast<char>(kReady));
  step.done = true;
  return step;
}

}  // namespace graftfs::net
