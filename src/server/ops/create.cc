#include <fcntl.h>

#include "server/ops/new_inode.h"
#include "server/ops/open.h"
#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome create(OpContext& cx, const CreateArgs& args) {
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  GET(Dentry * there, cx.entry(*dir, args.name));
  if (there) {
    if (args.exclusive) return stop(EEXIST);
    GET(NamedTarget named, cx.lookup_any(*dir, args.name));
    // To be opened where it lives.
    if (named.remote) return reply_elsewhere(cx, there->ino, there->type, named.home);
    return open_target(cx, named.target, args.flags | O_CREAT);
  }
  if (int err = may_add(cx, *dir)) return stop(err);
  if (cx.out_of_space()) return stop(ENOSPC);
  GET(Ino ino, cx.new_ino());

  Change change(cx, EventType::link);
  EntryValue value{.kind = EntryKind::primary, .ino = ino, .type = S_IFREG};
  value.inode = new_inode(cx, *dir, ino, S_IFREG | (args.mode & 07777), args.umask, change.now());
  change.touch(*dir);
  change.put(*dir, args.name, std::move(value));
  cx.reply().created = true;
  if (auto done = change.commit(ino); !done) return done;
  cx.hold(ino, 1);
  if ((args.flags & O_ACCMODE) != O_RDONLY) cx.grant_write(ino);
  return reply_stat(cx, ino);
}

}  // namespace graftfs::ops
