// Messages as they come from strangers. The first byte says who sends.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "types/wire.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graftfs;
  if (size == 0) return 0;
  auto sender = static_cast<Sender>(data[0] % 5);
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  auto message = decode_message(bytes, sender);
  if (!message) {
    CHECK(message.error().code == EBADMSG && !message.error().message.empty());
    return 0;
  }
  // What was understood is said again in the same way.
  std::string once, twice;
  encode_message(*message, once);
  auto again = decode_message(once, sender);
  CHECK(again, "{}: {}", message_name(message->body), again ? "" : again.error().message);
  encode_message(*again, twice);
  CHECK(once == twice, "{}", message_name(message->body));
  return 0;
}
