#pragma once

#include "base/bytes.h"
#include "events/rank_state.h"

namespace graftfs {

// InoAlloc: the inos [from, end) were taken from the store and are this rank's to hand out.
void encode_ino_alloc(ByteWriter& w, uint64_t from, uint64_t end);

}  // namespace graftfs
