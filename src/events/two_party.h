#pragma once
// Prepare, Commit, Abort, Close: operations on several authorities (docs/protocols/two_party.md).

#include <optional>

#include "base/bytes.h"
#include "events/rank_state.h"

namespace graftfs {

// What an operation does to the map of subtrees.
struct MapChange {
  enum Kind : uint8_t { import_add, import_remove, bound_add, bound_remove, path } kind;
  Ino root;
  Ino within;     // bound_*: the import that ends there
  Bound bound;    // bound_add
  Import import;  // import_add; path: its path, parent and above
};

struct Commit {
  ProtocolId op;
  // Of the coordinator: to whom the decision must be told. Empty: a participant's.
  std::map<RankId, std::vector<msg::Intent>> participants;
  std::vector<MapChange> map;
};

void encode_prepare(ByteWriter& w, const ProtocolId& op, const PreparedOp& prepared,
                    const std::vector<DirHeader>& traces);
// Behind it stand the traces and the tree event: `tree`.
void encode_commit(ByteWriter& w, const Commit& commit, std::string_view tree);
void encode_abort(ByteWriter& w, const ProtocolId& op);
void encode_close(ByteWriter& w, const ProtocolId& op);

// What a Commit does beside its tree event.
void apply_commit(RankState& state, const Commit& commit);

}  // namespace graftfs
