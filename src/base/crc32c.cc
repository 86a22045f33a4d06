#include "base/crc32c.h"

#include <isa-l/crc.h>

namespace graftfs {

uint32_t crc32c(std::string_view bytes, uint32_t seed) {
  auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~seed);
}

}  // namespace graftfs
