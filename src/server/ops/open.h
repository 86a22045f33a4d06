#pragma once
// What open and create have in common: opening a file that is there.

#include "server/op_context.h"

namespace graftfs::ops {

// Checks that the caller may open the inode so, truncates it where the flags say that, holds it
// and answers with its attributes.
Outcome open_target(OpContext& cx, const Target& target, uint32_t flags);

}  // namespace graftfs::ops
