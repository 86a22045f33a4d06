#pragma once
// Import, ImportPath, Export: the authority over subtrees.

#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "events/rank_state.h"

namespace graftfs {

// `dirs`: headers of the root (and what else replay needs named), as trace.
void encode_import(ByteWriter& w, const Import& import, const std::vector<DirHeader>& dirs);
void encode_import_path(ByteWriter& w, Ino root, std::string_view path);

// The authority over the subtree at `root` has gone to another rank.
struct Export {
  Ino root;
  std::vector<Ino> dirs;  // of the subtree, that have state in the journal; replay drops them
  ProtocolId id;
  RankId to;
  uint32_t moves = 0;       // as it is now
  Ino within;               // the import that it was cut out of; 0: it was one itself
  Ino parent;               // in `within`
  std::vector<Ino> bounds;  // of `within` that went along
};
void encode_export(ByteWriter& w, const Export& exported);

}  // namespace graftfs
