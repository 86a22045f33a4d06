#pragma once
// The secret that whoever may speak for a volume over tcp has to know.

#include <string>

#include "base/result.h"
#include "store/volume.h"

namespace graftfs::node {

// 32 bytes, made at first use (VOLUME/key, or the object `key`). EUCLEAN where it has another
// length. Blocks.
Result<std::string> volume_key(Volume& volume);

}  // namespace graftfs::node
