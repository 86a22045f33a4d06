#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome lookup(OpContext& cx, const LookupArgs& args) {
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  GET(NamedTarget named, cx.lookup(*dir, args.name));
  return reply_stat(cx, named.target.inode());
}

Outcome lookup_parent(OpContext& cx, const LookupParentArgs& args) {
  GET(Dir * dir, cx.dir(args.dir));
  if (int err = may(cx, dir->inode(), kMayExec)) return stop(err);
  if (dir->inode().nlink == 0) return stop(ENOENT);
  Ino parent = dir->header.at.parent;
  GET(Dir * above, cx.dir(parent ? parent : args.dir));
  return reply_stat(cx, above->inode());
}

}  // namespace graftfs::ops
