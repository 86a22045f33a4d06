#pragma once
// ImportPart, ImportEnd, ExportEnd: the journal's part of a migration, beside Import and Export
// (docs/protocols/migration.md).

#include "base/bytes.h"
#include "events/rank_state.h"
#include "events/registry.h"

namespace graftfs {

// Dirty items of a subtree that is being imported. `items`: traces and a tree event, as of the
// event type `inode`.
void encode_import_part(ByteWriter& w, const ProtocolId& id, std::string_view items);
// The import is over: settled, it is this rank's for good; else it is not, and its parts are void.
void encode_import_end(ByteWriter& w, const ProtocolId& id, bool settled);
// Everybody knows where the exported subtree is now.
void encode_export_end(ByteWriter& w, const ProtocolId& id);

// The last word about a directory that left the subtree while it was copied, and was sent: it hangs
// nowhere, and nothing is linked to it.
inline bool is_tombstone(const DirHeader& header) {
  return header.inode.nlink == 0 && !header.at.parent;
}
}  // namespace graftfs
