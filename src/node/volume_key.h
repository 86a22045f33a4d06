#pragma once
// VOLUME/key: the secret that whoever may speak for the volume over tcp has to know.

#include <string>

#include "base/result.h"

namespace graftfs::node {

// 32 bytes. Made at first use, readable for the volume's owner only. EUCLEAN where it has another
// length. Blocks.
Result<std::string> volume_key(const std::string& volume);

}  // namespace graftfs::node
