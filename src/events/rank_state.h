#pragma once
// What a rank knows besides directories. It is checkpointed at the start of every major segment
// and kept nowhere else, so nothing can disagree with it.

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "cache/cache.h"
#include "events/event.h"
#include "types/wire.h"

namespace graftfs {

// Where a subtree of another rank begins inside of ours.
struct Bound {
  Ino parent;          // a directory of this import
  RankId rank;         // a hint, right as of `moves`
  uint32_t moves = 0;  // how often the subtree had changed hands
  friend bool operator==(const Bound&, const Bound&) = default;
};

// A subtree this rank is the authority for (docs/protocols/subtrees.md).
struct Import {
  Ino root;
  std::string path;             // where it hangs, for people; "" where it is not known
  Ino parent;                   // the directory where the root hangs; 0: nowhere
  uint32_t moves = 0;           // how often it has changed hands
  std::map<Ino, Bound> bounds;  // where it ends
  ProtocolId from;              // the migration that brought it
  bool settled = true;          // false: its exporter may not have finished
  std::vector<Ino> above;       // the inos above the root, up to /
  friend bool operator==(const Import&, const Import&) = default;
};

// A subtree that went to another rank, while not everybody knows.
struct Forward {
  RankId to;
  uint32_t moves = 0;
  ProtocolId id;  // of the migration
  friend bool operator==(const Forward&, const Forward&) = default;
};

// What this rank has promised to do for an operation of another rank (docs/protocols/two_party.md).
struct PreparedOp {
  SessionId session;
  Timespec now;  // of the operation: the times that it sets
  std::vector<msg::Intent> intents;
  friend bool operator==(const PreparedOp&, const PreparedOp&) = default;
};

// An operation that this rank has committed, while not all of the others have.
struct CommittedOp {
  std::map<RankId, std::vector<msg::Intent>> participants;
  friend bool operator==(const CommittedOp&, const CommittedOp&) = default;
};

// A subtree that is on its way here. Nobody sees what of it has come, until ImportEnd puts it into
// the cache in one go.
struct Staged {
  Lsn first, last;  // of its ImportParts, which are nowhere else; 0: there are none
  std::shared_ptr<Cache> cache = std::make_shared<Cache>();
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
  std::map<Ino, Forward> forwards;  // by root
  std::map<ProtocolId, PreparedOp> prepared;
  std::map<ProtocolId, CommittedOp> committed;
  // Not in the checkpoint: the events stay in the journal until the migration has ended.
  std::map<ProtocolId, Staged> staged;

  // The session's request was carried out.
  void note_request(const TreeEvent& event);
  // The ino is in use: it is not handed out again.
  void note_ino(Ino ino);
  bool is_root(Ino ino) const { return imports.contains(ino); }
  // Whether nothing of the tree is anybody else's, as far as this rank knows.
  bool has_bounds() const;
  // The bound at this directory and the import that ends there; null: it is none.
  const Bound* find_bound(Ino ino, Ino* import = nullptr) const;
  // The import becomes a part of the one that it hangs in, where that is this rank's, too.
  void dissolve(Ino root);
};

void encode_id(ByteWriter& w, const ProtocolId& id);
ProtocolId decode_id(ByteReader& r);
void encode_intents(ByteWriter& w, const std::vector<msg::Intent>& intents);
bool decode_intents(ByteReader& r, std::vector<msg::Intent>& intents);
// What an import has beyond root, path and the inos of its bounds, which stand before it.
void encode_import_rest(ByteWriter& w, const Import& import);
bool decode_import_rest(ByteReader& r, Import& import);
bool has_rest(const Import& import);

void encode_state(ByteWriter& w, const RankState& state);
bool decode_state(ByteReader& r, RankState& state);

}  // namespace graftfs
