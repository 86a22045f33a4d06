#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"
#include "server/ops/with_others.h"

namespace graftfs::ops {
namespace {

// The inode is another rank's, and gets a name here.
Outcome link_remote(OpContext& cx, const LinkArgs& args, RankId home) {
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  GET(Dentry * there, cx.entry(*dir, args.name));
  if (there) return stop(EEXIST);
  if (int err = may_add(cx, *dir)) return stop(err);
  if (cx.out_of_space()) return stop(ENOSPC);
  Asked add{.at = home};
  add.intent.kind = msg::IntentKind::add_link;
  add.intent.ino = args.ino;
  std::vector<Asked> asked = {mark_name(cx, *dir, args.name), std::move(add)};
  GET(const Prepared* others, cx.others(std::move(asked)));
  const uint32_t type = others->values[1].stat.mode & S_IFMT;

  Change change(cx, EventType::link);
  change.touch(*dir);
  change.put(*dir, args.name, {.kind = EntryKind::remote_link, .ino = args.ino, .type = type});
  if (auto done = change.commit(args.ino); !done) return done;
  return reply_elsewhere(cx, args.ino, type, home);
}

}  // namespace

Outcome link(OpContext& cx, const LinkArgs& args) {
  auto found = cx.inode(args.ino);
  if (!found && found.error().ask) return link_remote(cx, args, *found.error().ask);
  GET(Target target, std::move(found));
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  GET(Dentry * there, cx.entry(*dir, args.name));
  if (there) return stop(EEXIST);
  if (int err = may_add(cx, *dir)) return stop(err);
  if (target.is_dir()) return stop(EPERM);
  if (target.inode().nlink == 0) return stop(ENOENT);
  if (target.inode().nlink >= kMaxLink) return stop(EMLINK);
  if (cx.out_of_space()) return stop(ENOSPC);
  GET(Dir * linked, cx.linked_dir());

  Change change(cx, EventType::link);
  const EntryValue name{
      .kind = EntryKind::remote_link, .ino = args.ino, .type = target.inode().mode & S_IFMT};
  change.touch(*dir);
  Dentry& home = *target.dentry;
  if (is_hidden_dir(home.dir->ino())) {
    Inode& inode = change.edit(target);
    inode.nlink++;
    inode.ctime = change.now();
  } else {
    // The second name: from now on the inode lives behind both.
    EntryValue value{.kind = EntryKind::primary, .ino = args.ino, .type = name.type};
    value.inode = target.inode();
    value.inode.nlink++;
    value.inode.ctime = change.now();
    change.put(*linked, hidden_name(args.ino), std::move(value));
    change.put(*home.dir, home.name, name);
  }
  change.put(*dir, args.name, name);
  if (auto done = change.commit(args.ino); !done) return done;
  return reply_stat(cx, args.ino);
}

}  // namespace graftfs::ops
