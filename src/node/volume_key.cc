#include "node/volume_key.h"

#include <fmt/format.h>

#include "net/keys.h"

namespace graftfs::node {

Result<std::string> volume_key(Volume& volume) {
  TRY_ASSIGN(std::string key, volume.secret([] { return net::random_bytes(net::kSecretSize); }));
  if (key.size() != net::kSecretSize)
    return damaged(
        fmt::format("{}/key has {} bytes and should have {}; restore it from a backup, or "
                    "remove it to have a new one made (all clients' keys end with it)",
                    volume.name(), key.size(), net::kSecretSize));
  return key;
}

}  // namespace graftfs::node
