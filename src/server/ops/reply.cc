#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome note_access(OpContext& cx, const Target& target) {
  if (cx.read_only() || cx.out_of_space() || !is_relatime_due(target.inode(), cx.now())) return {};
  Change change(cx, EventType::inode);
  change.edit(target).atime = change.now();
  return change.commit(target.ino());
}

}  // namespace graftfs::ops
