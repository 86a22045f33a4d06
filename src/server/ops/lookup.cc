#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome lookup(OpContext& cx, const LookupArgs& args) {
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  GET(NamedTarget named, cx.lookup_any(*dir, args.name));
  if (named.remote) return reply_elsewhere(cx, named.entry->ino, named.entry->type, named.home);
  return reply_stat(cx, named.target.inode());
}

Outcome lookup_parent(OpContext& cx, const LookupParentArgs& args) {
  GET(Dir * dir, cx.dir(args.dir));
  if (int err = may(cx, dir->inode(), kMayExec)) return stop(err);
  if (dir->inode().nlink == 0) return stop(ENOENT);
  Ino parent = dir->header.at.parent;
  auto found = cx.dir(parent ? parent : args.dir);
  if (!found && found.error().ask) return reply_elsewhere(cx, parent, S_IFDIR, *found.error().ask);
  GET(Dir * above, std::move(found));
  cx.shows(*above);
  return reply_stat(cx, above->inode());
}

}  // namespace graftfs::ops
