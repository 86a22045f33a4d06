#pragma once
// The volume's key, and clients' keys, which follow from it (docs/protocols/net.md).

#include <string>
#include <string_view>

#include "net/net.h"

namespace graftfs::net {

inline constexpr size_t kSecretSize = 32;
inline constexpr size_t kMaxKeyId = 4096 + 512;

// A client's key: its id says what it allows, and its secret is a function of the volume's secret
// and the id. So nothing about it is stored, and nobody can make one up.
struct ClientKey {
  std::string id;
  std::string secret;
};

// Random bytes for keys, from the system.
std::string random_bytes(size_t n);

ClientKey issue_key(std::string_view volume_secret, const KeyLimits& limits);
// EBADMSG where the id makes no sense.
Result<KeyLimits> limits_of(std::string_view key_id);
std::string secret_of(std::string_view volume_secret, std::string_view key_id);
// A short name for a key, under which it is revoked: 16 hex digits.
std::string name_of_key(std::string_view key_id);

// One line of text, as a person keeps it: "graftfs-key:" and base 16. EINVAL with a sentence.
std::string show_key(const ClientKey& key);
Result<ClientKey> parse_key(std::string_view text);

std::string hmac(std::string_view key, std::string_view text);
std::string hash(std::string_view text);
// Takes as long whatever differs.
bool same(std::string_view a, std::string_view b);

}  // namespace graftfs::net
