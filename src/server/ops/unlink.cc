#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome unlink(OpContext& cx, const UnlinkArgs& args) {
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  if (cx.read_only()) return stop(EROFS);
  GET(NamedTarget named, cx.lookup(*dir, args.name));
  if (int err = may_remove(cx, *dir, named.target.inode(), false)) return stop(err);
  GET(Dir * orphans, cx.orphans_dir());
  GET(Dir * linked, cx.linked_dir());
  const Ino ino = named.target.ino();

  Change change(cx, EventType::unlink);
  change.touch(*dir);
  change.drop_link(named, *orphans, *linked);
  change.remove(*dir, args.name);
  if (auto done = change.commit(ino); !done) return done;
  return reply_stat(cx, ino);
}

}  // namespace graftfs::ops
