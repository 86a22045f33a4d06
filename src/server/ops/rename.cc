#include <linux/fs.h>

#include <optional>

#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"
#include "server/rank.h"
#include "server/two_party.h"

namespace graftfs::ops {
namespace {

// Both names and what they lead to.
struct Names {
  Dir* dir;
  Dir* new_dir;
  NamedTarget moved;
  std::optional<NamedTarget> there;  // at the new name
  bool exchange;

  bool changes_parent() const { return dir != new_dir; }
  bool moves_dir() const { return moved.target.is_dir(); }
  bool meets_dir() const { return there && there->target.is_dir(); }
};

Found<Names> resolve(OpContext& cx, const RenameArgs& args) {
  if (args.flags & ~uint32_t{RENAME_NOREPLACE | RENAME_EXCHANGE}) return stop(EINVAL);
  Names n{};
  n.exchange = args.flags & RENAME_EXCHANGE;
  if (n.exchange && (args.flags & RENAME_NOREPLACE)) return stop(EINVAL);
  GET(n.dir, resolve_parent(cx, args.dir, args.name));
  GET(n.new_dir, resolve_parent(cx, args.new_dir, args.new_name));
  if (cx.read_only()) return stop(EROFS);
  GET(n.moved, cx.lookup(*n.dir, args.name));
  GET(Dentry * there, cx.entry(*n.new_dir, args.new_name));
  if (there && (args.flags & RENAME_NOREPLACE)) return stop(EEXIST);
  if (!there && n.exchange) return stop(ENOENT);
  if (there) {
    GET(n.there, cx.lookup(*n.new_dir, args.new_name));
  }
  return n;
}

// A directory goes from one subtree to another: for that there is a lock.
bool leaves_import(OpContext& cx, const Names& n) {
  const RankState& state = cx.rank().state();
  const bool goes = n.moves_dir() || (n.exchange && n.meets_dir());
  return goes && import_of(state, *n.dir) != import_of(state, *n.new_dir);
}

// Another rank is moving a directory above one of the two, and has looked for loops.
std::optional<Need> busy_above(OpContext& cx, const Names& n) {
  for (const Dir* below : {n.dir, n.new_dir})
    for (const Dir* d = below->parent; d; d = d->parent)
      if (auto need = cx.rank().two_party().busy(d->ino(), {}, 0)) return need;
  return std::nullopt;
}

// A directory can neither go below itself nor be replaced by what it holds.
int check_loop(const Names& n) {
  if (n.moves_dir() && Cache::is_below(n.new_dir, n.moved.target.dir)) return EINVAL;
  if (n.meets_dir() && Cache::is_below(n.dir, n.there->target.dir))
    return n.exchange ? EINVAL : ENOTEMPTY;
  return 0;
}

int check_permission(const OpContext& cx, const Names& n) {
  if (int err = may_remove(cx, *n.dir, n.moved.target.inode(), n.moves_dir())) return err;
  if (!n.there) {
    if (int err = may_add(cx, *n.new_dir)) return err;
  } else {
    bool as_dir = n.exchange ? n.meets_dir() : n.moves_dir();
    if (int err = may_remove(cx, *n.new_dir, n.there->target.inode(), as_dir)) return err;
  }
  // A directory under another parent changes its "..".
  if (n.changes_parent() && n.moves_dir())
    if (int err = may(cx, n.moved.target.inode(), kMayWrite)) return err;
  if (n.changes_parent() && n.exchange && n.meets_dir())
    if (int err = may(cx, n.there->target.inode(), kMayWrite)) return err;
  return 0;
}

int check_links(OpContext& cx, const Names& n) {
  if (n.changes_parent()) {
    if (n.moves_dir() && !n.meets_dir() && cx.has_all_links(*n.new_dir)) return EMLINK;
    if (n.exchange && !n.moves_dir() && n.meets_dir() && cx.has_all_links(*n.dir)) return EMLINK;
  }
  if (!n.exchange && n.meets_dir() && n.there->target.inode().size > 0) return ENOTEMPTY;
  return 0;
}

// What stands at the name that the target gets: it was renamed, so its ctime moves. A file's
// inode comes along where it is embedded.
EntryValue moved_value(Change& change, const NamedTarget& named, const Dir& to,
                       std::string_view name) {
  EntryValue value{.kind = named.entry->kind, .ino = named.entry->ino, .type = named.entry->type};
  switch (value.kind) {
    case EntryKind::primary:
      value.inode = named.target.inode();
      value.inode.ctime = change.now();
      break;
    case EntryKind::dir_link:
      change.edit_dir(*named.target.dir).at = {to.ino(), std::string(name)};
      break;
    default:
      change.edit(named.target).ctime = change.now();
  }
  return value;
}

// Every subdirectory is a link of its parent: "..".
void move_parent_links(Change& change, const Names& n) {
  DirHeader& from = change.touch(*n.dir);
  DirHeader& to = change.touch(*n.new_dir);
  if (n.moves_dir()) {
    from.inode.nlink--;
    to.inode.nlink++;
  }
  if (n.meets_dir()) {
    to.inode.nlink--;
    if (n.exchange) from.inode.nlink++;
  }
}

}  // namespace

Outcome rename(OpContext& cx, const RenameArgs& args) {
  auto names = resolve(cx, args);
  if (!names && (names.error().ask || names.error().err == EXDEV)) return rename_between(cx, args);
  GET(Names n, std::move(names));
  if (n.changes_parent() && (n.moves_dir() || n.meets_dir()) && !cx.is_alone()) {
    if (leaves_import(cx, n)) return rename_between(cx, args);
    if (auto need = busy_above(cx, n)) return std::unexpected(Stop{0, std::move(*need), {}, {}});
  }
  if (int err = check_loop(n)) return stop(err);
  const Ino moved = n.moved.target.ino();
  if (n.there && n.there->target.ino() == moved) return reply_stat(cx, moved);
  if (int err = check_permission(cx, n)) return stop(err);
  if (int err = check_links(cx, n)) return stop(err);
  GET(Dir * orphans, cx.orphans_dir());
  const Ino there = n.there ? n.there->target.ino() : Ino{};

  Change change(cx, EventType::rename);
  move_parent_links(change, n);
  EntryValue value = moved_value(change, n.moved, *n.new_dir, args.new_name);
  if (n.exchange) {
    change.put(*n.dir, args.name, moved_value(change, *n.there, *n.dir, args.name));
  } else {
    if (n.there) change.drop_link(*n.there, *orphans);
    change.remove(*n.dir, args.name);
  }
  change.put(*n.new_dir, args.new_name, std::move(value));
  if (auto done = change.commit(moved); !done) return done;
  return reply_stat(cx, cx.reply().orphaned ? there : moved);
}

}  // namespace graftfs::ops
