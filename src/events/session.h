#pragma once

#include "base/bytes.h"
#include "events/rank_state.h"

namespace graftfs {

// Session: a client came (open) or went.
void encode_session(ByteWriter& w, SessionId session, bool open);

}  // namespace graftfs
