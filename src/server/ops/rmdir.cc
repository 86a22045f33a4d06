#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"
#include "server/ops/with_others.h"

namespace graftfs::ops {
namespace {

// The directory is another rank's, which knows whether it is empty.
Outcome rmdir_remote(OpContext& cx, const RmdirArgs& args, Dir& dir, const NamedTarget& named) {
  if (int err = may_take_remote(cx, dir, named, true)) return stop(err);
  const Ino ino = named.entry->ino;
  std::vector<Asked> asked = {mark_name(cx, dir, args.name), ask_drop_dir(named)};
  GET(const Prepared* others, cx.others(std::move(asked)));
  if (int err = may_remove_stat(cx, dir, others->values[1].stat, true)) return stop(err);

  Change change(cx, EventType::unlink);
  change.touch(dir).inode.nlink--;
  change.remove(dir, args.name);
  drop_bound(cx, change, dir, ino);
  cx.reply().orphaned = true;
  if (auto done = change.commit(ino); !done) return done;
  return reply_elsewhere(cx, ino, S_IFDIR, named.home);
}

}  // namespace

Outcome rmdir(OpContext& cx, const RmdirArgs& args) {
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  if (cx.read_only()) return stop(EROFS);
  GET(NamedTarget named, cx.lookup_any(*dir, args.name));
  if (named.remote) return rmdir_remote(cx, args, *dir, named);
  if (int err = may_remove(cx, *dir, named.target.inode(), true)) return stop(err);
  if (named.target.inode().size > 0) return stop(ENOTEMPTY);
  GET(Dir * orphans, cx.orphans_dir());
  const Ino ino = named.target.ino();

  Change change(cx, EventType::unlink);
  change.touch(*dir).inode.nlink--;
  change.drop_link(named, *orphans);
  change.remove(*dir, args.name);
  if (auto done = change.commit(ino); !done) return done;
  return reply_stat(cx, ino);
}

}  // namespace graftfs::ops
