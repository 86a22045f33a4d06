#pragma once
// What a rank knows besides directories. It is checkpointed at the start of every major segment
// and kept nowhere else, so nothing can disagree with it.

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "events/event.h"

namespace graftfs {

// A subtree this rank is the authority for.
struct Import {
  Ino root;
  std::string path;         // where it hangs; "" where it is not known
  std::vector<Ino> bounds;  // nested subtrees of other ranks
};

struct InoRange {
  uint64_t next = 0;  // first unused
  uint64_t end = 0;
};

// What a resent request is answered.
struct CompletedRequest {
  uint64_t seq = 0;
  Ino result;
  uint8_t flags = 0;
};

struct SessionState {
  uint64_t oldest = 0;
  std::deque<CompletedRequest> completed;  // in seq order, none below oldest
  const CompletedRequest* find(uint64_t seq) const;
};

struct RankState {
  std::map<Ino, Import> imports;
  std::vector<InoRange> inos;
  std::map<SessionId, SessionState> sessions;

  // The session's request was carried out.
  void note_request(const TreeEvent& event);
  // The ino is in use: it is not handed out again.
  void note_ino(Ino ino);
  bool is_root(Ino ino) const { return imports.contains(ino); }
};

void encode_state(ByteWriter& w, const RankState& state);
bool decode_state(ByteReader& r, RankState& state);

}  // namespace graftfs
