// Directory objects: keys, entry values and headers as a store gives them back.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/check.h"
#include "types/entry.h"

namespace {

using namespace graftfs;

// Past the checksum, as the journal's items are: what decodes must survive a round trip.
void bodies(std::string_view bytes) {
  ByteReader r(bytes);
  EntryValue value;
  decode_entry_body(r, value);
  if (r.done() && value.kind != EntryKind::null) {
    std::string key = entry_key("name");
    std::string sealed = encode_entry_value(Ino{7}, key, value);
    auto again = decode_entry_value(Ino{7}, key, sealed);
    CHECK(again, "{}", again ? "" : again.error().message);
    CHECK(again->ino == value.ino && again->inode == value.inode);
  }
  ByteReader h(bytes);
  DirHeader header;
  decode_header_body(h, header);
  if (h.done()) {
    std::string sealed = encode_dir_header(header.inode.ino, header);
    auto again = decode_dir_header(header.inode.ino, sealed);
    CHECK(again && again->inode == header.inode && again->at == header.at);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  bodies(bytes);
  (void)split_entry_key(bytes);
  (void)check_name(bytes);
  (void)decode_dir_header(Ino{1}, bytes);
  size_t key_size = size ? data[0] % (size + 1) : 0;
  (void)decode_entry_value(Ino{1}, bytes.substr(0, key_size), bytes.substr(key_size));
  return 0;
}
