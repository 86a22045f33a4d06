// Greetings from strangers, to either side, and sealed records. The first byte says to whom; then
// frames, each with its length in a byte.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "net/handshake.h"
#include "net/keys.h"
#include "net/socket/seal.h"

namespace {

using namespace graftfs;
using namespace graftfs::net;

template <class Side>
void talk(Side& side, std::string_view bytes, bool sealed) {
  while (!bytes.empty()) {
    size_t length = std::min<size_t>(static_cast<uint8_t>(bytes[0]), bytes.size() - 1);
    HandshakeStep step = side.receive(bytes.substr(1, length));
    bytes.remove_prefix(1 + length);
    // Nobody comes in over tcp who has not proved the key.
    CHECK(!step.done || !sealed);
    if (step.failed) {
      CHECK(step.failed->code > 0 && !step.done);
      return;
    }
    if (step.done) return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool sealed = data[0] & 1;
  switch (data[0] >> 1 & 3) {
    case 0: {
      Doorman doorman;
      doorman.volume = 77;
      doorman.node = 1;
      doorman.secret.assign(kSecretSize, 's');
      ServerHandshake server(doorman, 16, sealed);
      talk(server, bytes, sealed);
      break;
    }
    case 1: {
      ClientHandshake client({Role::client, 77, 9, {}, std::string(kSecretSize, 's')}, sealed);
      talk(client, bytes, sealed);
      break;
    }
    case 2: {
      Opener opener(std::string(32, 'k'));
      std::string plain;
      auto taken = opener.open(bytes, plain);
      CHECK(!taken || *taken <= bytes.size());
      break;
    }
    default:
      (void)parse_address(bytes);
      (void)parse_key(bytes);
      if (auto limits = limits_of(bytes)) CHECK(limits->path.starts_with('/'));
  }
  return 0;
}
