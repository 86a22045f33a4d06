#include "server/ops/new_inode.h"
#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome mkdir(OpContext& cx, const MkdirArgs& args) {
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  GET(Dentry * there, cx.entry(*dir, args.name));
  if (there) return stop(EEXIST);
  if (int err = may_add(cx, *dir)) return stop(err);
  if (cx.has_all_links(*dir)) return stop(EMLINK);
  if (cx.out_of_space()) return stop(ENOSPC);
  GET(Ino ino, cx.new_ino());

  Change change(cx, EventType::link);
  DirHeader header;
  header.at = {dir->ino(), args.name};
  header.inode = new_inode(cx, *dir, ino, S_IFDIR | (args.mode & 01777), args.umask, change.now());
  change.touch(*dir).inode.nlink++;
  change.new_dir(std::move(header));
  change.put(*dir, args.name, EntryValue{.kind = EntryKind::dir_link, .ino = ino, .type = S_IFDIR});
  if (auto done = change.commit(ino); !done) return done;
  return reply_stat(cx, ino);
}

}  // namespace graftfs::ops
