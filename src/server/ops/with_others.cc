#include "server/ops/with_others.h"

#include "server/authority.h"
#include "server/ops/permission.h"
#include "server/rank.h"

namespace graftfs::ops {

Asked mark_name(OpContext& cx, const Dir& dir, std::string_view name) {
  Asked asked{.at = cx.rank().id()};
  asked.intent.kind = msg::IntentKind::take_name;
  asked.intent.dir = dir.ino();
  asked.intent.name = name;
  return asked;
}

Asked ask_drop_link(const NamedTarget& named) {
  Asked asked{.at = named.home};
  asked.intent.kind = msg::IntentKind::drop_link;
  asked.intent.ino = named.entry->ino;
  return asked;
}

Asked ask_drop_dir(const NamedTarget& named) {
  Asked asked = ask_drop_link(named);
  asked.intent.kind = msg::IntentKind::drop_dir;
  return asked;
}

int may_take_remote(OpContext& cx, const Dir& dir, const NamedTarget& named, bool as_dir) {
  if (int err = may(cx, dir.inode(), kMayWrite | kMayExec)) return err;
  const bool is_dir = named.entry->type == S_IFDIR;
  if (as_dir != is_dir) return as_dir ? ENOTDIR : EISDIR;
  return 0;
}

int may_remove_stat(OpContext& cx, const Dir& dir, const Stat& victim, bool as_dir) {
  Inode inode;
  static_cast<Stat&>(inode) = victim;
  return may_remove(cx, dir, inode, as_dir);
}

void drop_bound(OpContext& cx, Change& change, const Dir& dir, Ino ino) {
  change.map(
      {.kind = MapChange::bound_remove, .root = ino, .within = import_of(cx.rank().state(), dir)});
}

void add_bound(OpContext& cx, Change& change, const Dir& dir, Ino ino, RankId rank) {
  change.map({.kind = MapChange::bound_add,
              .root = ino,
              .within = import_of(cx.rank().state(), dir),
              .bound = {.parent = dir.ino(), .rank = rank}});
}

}  // namespace graftfs::ops
