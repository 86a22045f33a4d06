#include "net/keys.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "base/bytes.h"
#include "base/check.h"
#include "types/inode.h"

namespace graftfs::net {
namespace {

constexpr std::string_view kPurpose = "graftfs client key v1";
constexpr std::string_view kPrefix = "graftfs-key:";
enum Flags : uint8_t { kReadOnly = 1, kSquashRoot = 2 };

const unsigned char* bytes_of(std::string_view s) {
  return reinterpret_cast<const unsigned char*>(s.data());
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

bool unhex(std::string_view text, std::string& out) {
  auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (text.size() % 2) return false;
  for (size_t i = 0; i < text.size(); i += 2) {
    int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    out.push_back(static_cast<char>(high << 4 | low));
  }
  return true;
}

}  // namespace

std::string random_bytes(size_t n) {
  std::string out(n, '\0');
  CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(n)) == 1);
  return out;
}

std::string hmac(std::string_view key, std::string_view text) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  unsigned int size = 0;
  auto* done = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(text),
                    text.size(), reinterpret_cast<unsigned char*>(out.data()), &size);
  CHECK(done && size == out.size());
  return out;
}

std::string hash(std::string_view text) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  SHA256(bytes_of(text), text.size(), reinterpret_cast<unsigned char*>(out.data()));
  return out;
}

bool same(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string secret_of(std::string_view volume_secret, std::string_view key_id) {
  if (key_id.empty()) return std::string(volume_secret);
  std::string text(kPurpose);
  ByteWriter(text).string(key_id);
  return hmac(volume_secret, text);
}

ClientKey issue_key(std::string_view volume_secret, const KeyLimits& limits) {
  ClientKey key;
  ByteWriter w(key.id);
  w.raw(random_bytes(8));
  w.u8((limits.read_only ? kReadOnly : 0) | (limits.squash_root ? kSquashRoot : 0));
  w.string(limits.path);
  w.string(limits.label);
  key.secret = secret_of(volume_secret, key.id);
  return key;
}

Result<KeyLimits> limits_of(std::string_view key_id) {
  KeyLimits limits;
  if (key_id.empty()) return limits;
  ByteReader r(key_id);
  r.raw(8);
  uint8_t flags = r.u8();
  limits.read_only = flags & kReadOnly;
  limits.squash_root = flags & kSquashRoot;
  limits.path = r.string();
  limits.label = r.string();
  if (!r.done() || flags & ~(kReadOnly | kSquashRoot) || !limits.path.starts_with('/') ||
      limits.path.size() >= kPathMax || limits.label.size() > kNameMax ||
      limits.path.find('\0') != std::string::npos)
    return fail(EBADMSG, "the key's id makes no sense");
  return limits;
}

std::string name_of_key(std::string_view key_id) { return hex(hash(key_id).substr(0, 8)); }

std::string show_key(const ClientKey& key) {
  return fmt::format("{}{}:{}", kPrefix, hex(key.id), hex(key.secret));
}

Result<ClientKey> parse_key(std::string_view text) {
  auto bad = [] {
    return fail(EINVAL, "this is no key of GraftFS; 'graftfs key issue' makes one, in one line");
  };
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  if (!text.starts_with(kPrefix)) return bad();
  text.remove_prefix(kPrefix.size());
  size_t colon = text.find(':');
  ClientKey key;
  if (colon == text.npos || !unhex(text.substr(0, colon), key.id) ||
      !unhex(text.substr(colon + 1), key.secret) || key.secret.size() != kSecretSize ||
      !limits_of(key.id))
    return bad();
  return key;
}

}  // namespace graftfs::net
