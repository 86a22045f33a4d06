#pragma once
// CRC32C (Castagnoli), from ISA-L.

#include <cstdint>
#include <string_view>

namespace graftfs {

// crc32c("123456789") == 0xe3069283. `seed` is an earlier result, to go on from there.
uint32_t crc32c(std::string_view bytes, uint32_t seed = 0);

}  // namespace graftfs
