#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"
#include "server/ops/with_others.h"

namespace graftfs::ops {
namespace {

// The inode lives at another rank.
Outcome unlink_remote(OpContext& cx, const UnlinkArgs& args, Dir& dir, const NamedTarget& named) {
  if (int err = may_take_remote(cx, dir, named, false)) return stop(err);
  const Ino ino = named.entry->ino;
  const uint32_t type = named.entry->type;
  std::vector<Asked> asked = {mark_name(cx, dir, args.name), ask_drop_link(named)};
  GET(const Prepared* others, cx.others(std::move(asked)));
  const Stat& was = others->values[1].stat;
  if (int err = may_remove_stat(cx, dir, was, false)) return stop(err);

  Change change(cx, EventType::unlink);
  change.touch(dir);
  change.remove(dir, args.name);
  cx.reply().orphaned = was.nlink == 1;
  if (auto done = change.commit(ino); !done) return done;
  return reply_elsewhere(cx, ino, type, named.home);
}

}  // namespace

Outcome unlink(OpContext& cx, const UnlinkArgs& args) {
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  if (cx.read_only()) return stop(EROFS);
  GET(NamedTarget named, cx.lookup_any(*dir, args.name));
  if (named.remote) return unlink_remote(cx, args, *dir, named);
  if (int err = may_remove(cx, *dir, named.target.inode(), false)) return stop(err);
  GET(Dir * orphans, cx.orphans_dir());
  const Ino ino = named.target.ino();

  Change change(cx, EventType::unlink);
  change.touch(*dir);
  change.drop_link(named, *orphans);
  change.remove(*dir, args.name);
  if (auto done = change.commit(ino); !done) return done;
  return reply_stat(cx, ino);
}

}  // namespace graftfs::ops
