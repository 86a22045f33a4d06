#include "fuse/cookies.h"

#include <algorithm>

namespace graftfs::fuse {

uint32_t entries_for(size_t bytes, bool plus) {
  // struct fuse_dirent and fuse_direntplus with a short name.
  const size_t each = plus ? 128 + 24 + 8 : 24 + 8;
  return static_cast<uint32_t>(std::clamp<size_t>(bytes / each, 8, 2048));
}

}  // namespace graftfs::fuse
