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
// `dirs`: every directory of the subtree that has state in the journal; replay drops them.
void encode_export(ByteWriter& w, Ino root, const std::vector<Ino>& dirs);

}  // namespace graftfs
