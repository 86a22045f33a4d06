#include <algorithm>

#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome wrote(OpContext& cx, const WroteArgs& args) {
  GET(Target target, cx.inode(args.ino));
  if (target.is_dir()) return stop(EISDIR);
  if (!target.inode().is_regular()) return stop(EINVAL);
  if (cx.read_only()) return stop(EROFS);
  if (args.end > uint64_t{kMaxFileSize}) return stop(EFBIG);

  Change change(cx, EventType::inode);
  Inode& inode = change.edit(target);
  inode.size = std::max(inode.size, args.end);
  inode.blocks = args.blocks;
  if (!args.only_blocks) inode.mtime = inode.ctime = change.now();
  if (args.kill_suidgid) clear_privileges_on_write(cx.cred(), true, inode);
  if (auto done = change.commit(args.ino); !done) return done;
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
