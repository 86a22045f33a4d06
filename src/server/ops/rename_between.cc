// Rename where not everything is this rank's: it has the new name's directory, and the rest where
// it happens to be.
#include <linux/fs.h>

#include <optional>

#include "server/authority.h"
#include "server/intents.h"
#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"
#include "server/ops/with_others.h"
#include "server/rank.h"
#include "server/rank_core.h"
#include "server/two_party.h"

namespace graftfs::ops {
namespace {

using msg::IntentKind;
using msg::IntentValue;

// Both names, and what is known of what they lead to.
struct Between {
  Dir* dir = nullptr;  // null: `source` has it
  RankId source = kNobody;
  Dir* new_dir = nullptr;
  std::optional<NamedTarget> here;     // the old name, where it is ours
  const IntentValue* taken = nullptr;  // where it is not; null: not known yet
  std::optional<NamedTarget> there;    // at the new name

  bool exchange = false;
  // A file's inode, where both its name and itself are somewhere else: here, or at that rank.
  std::optional<Target> moved_here;
  std::optional<RankId> moved_home;

  bool known() const { return here || taken; }
  Ino ino() const { return here ? here->entry->ino : taken->value.ino; }
  uint32_t type() const { return here ? here->entry->type : taken->value.type; }
  bool moves_dir() const { return known() && type() == S_IFDIR; }
  bool meets_dir() const { return there && there->entry->type == S_IFDIR; }
};

// Whose the moved directory is; kNobody: it has to be found out.
RankId home_of_moved(OpContext& cx, const Between& b) {
  if (b.here) return b.here->remote ? b.here->home : cx.rank().id();
  if (cx.rank().state().is_root(b.ino())) return cx.rank().id();
  return b.taken->stat.ino == b.ino() ? b.source : kNobody;
}

// What another rank puts at the old name: the new one's. Nothing that it is not.
EntryValue exchanged_value(const Between& b) {
  EntryValue value{.kind = b.there->entry->kind, .ino = b.there->entry->ino};
  value.type = b.there->entry->type;
  if (value.kind == EntryKind::primary) value.kind = EntryKind::remote_link;
  return value;
}

bool leaves_import(OpContext& cx, const Between& b) {
  const RankState& state = cx.rank().state();
  return !b.dir || import_of(state, *b.dir) != import_of(state, *b.new_dir);
}

// What is renamed, or goes the other way, is another rank's.
Asked ask_hang(Ino ino, RankId home, Ino dir, std::string_view name) {
  Asked asked{.at = home};
  asked.intent.kind = IntentKind::hang;
  asked.intent.ino = ino;
  asked.intent.dir = dir;
  asked.intent.name = name;
  return asked;
}

// As long as the old name is not known it is taken for a file's: then this is all.
std::vector<Asked> what_to_ask(OpContext& cx, const RenameArgs& args, const Between& b) {
  std::vector<Asked> asked;
  if (!b.dir) {
    Asked take{.at = b.source};
    take.intent.kind = b.exchange ? IntentKind::swap_name : IntentKind::take_name;
    if (b.exchange) take.intent.value = exchanged_value(b);
    take.intent.dir = args.dir;
    take.intent.name = args.name;
    if (b.moves_dir() || b.moved_home) take.intent.ino = b.ino();
    take.intent.as_dir = b.moves_dir();
    asked.push_back(std::move(take));
  } else {
    asked.push_back(mark_name(cx, *b.dir, args.name));
  }
  asked.push_back(mark_name(cx, *b.new_dir, args.new_name));
  const bool meets_moving = b.exchange && b.known() && b.meets_dir();
  // Also where it is another rank's: that one says where it hangs to whoever looks for loops, and
  // hears of its new place only after the decision.
  const bool told_later = b.dir && b.dir != b.new_dir &&
                          ((b.moves_dir() && home_of_moved(cx, b) != cx.rank().id()) ||
                           (meets_moving && b.there->remote));
  if ((b.moves_dir() || meets_moving) && (told_later || leaves_import(cx, b)))
    asked.push_back({.intent = {.kind = IntentKind::token}});
  // A directory that moves, and a file whose inode lives at another rank than its name did.
  if (meets_moving || (b.exchange && b.known() && b.there->remote)) {
    const RankId home = b.there->remote ? b.there->home : cx.rank().id();
    asked.push_back(ask_hang(b.there->entry->ino, home, args.dir, args.name));
  }
  const Ino to = b.new_dir->ino();
  if (b.moves_dir())
    asked.push_back(ask_hang(b.ino(), home_of_moved(cx, b), to, args.new_name));
  else if (b.here && b.here->remote)
    asked.push_back(ask_hang(b.ino(), b.here->home, to, args.new_name));
  else if (b.moved_home)
    asked.push_back(ask_hang(b.ino(), *b.moved_home, to, args.new_name));
  if (!b.exchange && b.there && b.there->remote && b.meets_dir() == b.moves_dir())
    asked.push_back(b.meets_dir() ? ask_drop_dir(*b.there) : ask_drop_link(*b.there));
  return asked;
}

int check_old_name(OpContext& cx, const Between& b) {
  if (!b.dir) return 0;  // its rank has
  if (b.here->remote) return may_take_remote(cx, *b.dir, *b.here, b.moves_dir());
  const Inode& moved = b.here->target.inode();
  if (int err = may_remove(cx, *b.dir, moved, b.moves_dir())) return err;
  return b.moves_dir() && b.dir != b.new_dir ? may(cx, moved, kMayWrite) : 0;
}

int check_new_name(OpContext& cx, const Between& b) {
  if (b.exchange) {
    if (!b.there) return ENOENT;
    // Where its rank is a third one, nobody could say at the old name whose it is.
    if (b.there->remote && b.meets_dir() && !b.dir) return EXDEV;
    if (b.there->remote) {
      if (int err = may_take_remote(cx, *b.new_dir, *b.there, b.meets_dir())) return err;
    } else {
      const Inode& other = b.there->target.inode();
      if (int err = may_remove(cx, *b.new_dir, other, b.meets_dir())) return err;
      if (int err = b.meets_dir() && b.dir != b.new_dir ? may(cx, other, kMayWrite) : 0) return err;
    }
  } else if (!b.there) {
    if (int err = may_add(cx, *b.new_dir)) return err;
  } else if (b.there->remote) {
    if (int err = may_take_remote(cx, *b.new_dir, *b.there, b.moves_dir())) return err;
  } else {
    const Inode& victim = b.there->target.inode();
    if (int err = may_remove(cx, *b.new_dir, victim, b.moves_dir())) return err;
    if (b.meets_dir() && victim.size > 0) return ENOTEMPTY;
  }
  const bool one_more = b.moves_dir() && !b.meets_dir() && b.dir != b.new_dir;
  return one_more && cx.has_all_links(*b.new_dir) ? EMLINK : 0;
}

// Inodes of other ranks, now that their owners are known.
int check_sticky(OpContext& cx, const Between& b, const Prepared& others) {
  auto keeps = [&](const Stat& dir_stat, Ino ino) {
    Inode dir, victim;
    static_cast<Stat&>(dir) = dir_stat;
    for (size_t i = 0; i < others.asked.size(); ++i)
      if (others.asked[i].intent.ino == ino && others.values[i].stat.ino == ino)
        static_cast<Stat&>(victim) = others.values[i].stat;
    if (victim.ino != ino && b.moved_here) victim = b.moved_here->inode();
    return is_sticky(cx.cred(), dir, victim);
  };
  if (b.here && b.here->remote && keeps(b.dir->inode(), b.ino())) return EPERM;
  // At another rank: it has looked itself, or tells what its directory is like.
  const bool told = b.taken && b.taken->stat.ino && b.taken->stat.ino != b.ino();
  if (told && keeps(b.taken->stat, b.ino())) return EPERM;
  if (b.exchange && b.there->remote && keeps(b.new_dir->inode(), b.there->entry->ino)) return EPERM;
  return 0;
}

// What this rank knows without asking anybody; the rest is climbed for.
int check_loop(const Between& b) {
  if (b.exchange && b.meets_dir() && !b.there->remote && b.dir &&
      Cache::is_below(b.dir, b.there->target.dir))
    return EINVAL;
  if (!b.moves_dir() || !b.here || b.here->remote) return 0;
  return Cache::is_below(b.new_dir, b.here->target.dir) ? EINVAL : 0;
}

// Somebody else is moving a directory above the new name.
std::optional<Need> busy_above(OpContext& cx, const Dir& dir) {
  for (const Dir* d = dir.parent; d; d = d->parent)
    if (auto need = cx.rank().two_party().busy(d->ino(), {}, 0)) return need;
  return std::nullopt;
}

Found<Between> resolve(OpContext& cx, const RenameArgs& args) {
  Between b;
  b.exchange = args.flags & RENAME_EXCHANGE;
  auto from = resolve_parent(cx, args.dir, args.name);
  if (!from && !from.error().ask) return std::unexpected(from.error());
  GET(b.new_dir, resolve_parent(cx, args.new_dir, args.new_name));
  if (cx.read_only()) return stop(EROFS);
  if (from) {
    b.dir = *from;
    GET(b.here, cx.lookup_any(*b.dir, args.name));
  } else {
    b.source = *from.error().ask;
    const Prepared* known = cx.prepared();
    if (known && !known->asked.empty() && known->asked[0].at != cx.rank().id())
      b.taken = &known->values[0];
    if (b.taken && !b.moves_dir() && b.taken->stat.ino != b.ino()) {
      auto moved = cx.inode(b.ino());
      if (moved)
        b.moved_here = *moved;
      else if (moved.error().ask)
        b.moved_home = *moved.error().ask;
      else
        return std::unexpected(moved.error());
    }
  }
  GET(Dentry * there, cx.entry(*b.new_dir, args.new_name));
  if (there) {
    GET(b.there, cx.lookup_any(*b.new_dir, args.new_name));
  }
  return b;
}

// A name's new value. A file's inode comes along only where both directories are ours.
EntryValue value_of(Change& change, Ino ino, uint32_t type, const NamedTarget* here) {
  EntryValue value{.kind = EntryKind::remote_link, .ino = ino, .type = type};
  if (type == S_IFDIR) value.kind = EntryKind::dir_link;
  if (!here || here->remote || type == S_IFDIR) return value;
  if (here->entry->kind == EntryKind::primary) {
    value.kind = EntryKind::primary;
    value.inode = here->target.inode();
    value.inode.ctime = change.now();
  } else {
    change.edit(here->target).ctime = change.now();
  }
  return value;
}

// The moved directory, and the map of subtrees. `home`: whose it is.
void move_dir(OpContext& cx, Change& change, const Between& b, const RenameArgs& args,
              RankId home) {
  const RankState& state = cx.rank().state();
  const Ino to = import_of(state, *b.new_dir);
  if (home != cx.rank().id()) {
    if (b.dir) drop_bound(cx, change, *b.dir, b.ino());
    add_bound(cx, change, *b.new_dir, b.ino(), home);
    return;
  }
  Dir& moved = b.here ? *b.here->target.dir : *cx.rank().cache().find_dir(b.ino());
  change.edit_dir(moved).at = {b.new_dir->ino(), args.new_name};
  if (b.here) {
    const Ino from = import_of(state, *b.dir);
    if (from != to) intents::move_bounds(cx.rank(), change, moved, from, to);
    return;
  }
  // It hung in another rank's directory: now it is a part of what it hangs in.
  intents::move_bounds(cx.rank(), change, moved, b.ino(), to);
  change.map({.kind = MapChange::import_remove, .root = b.ino()});
}

// Exchange: what was at the new name goes to the old one.
Outcome move_back(OpContext& cx, Change& change, const Between& b, const RenameArgs& args,
                  Dir& linked) {
  const RankState& state = cx.rank().state();
  const NamedTarget& there = *b.there;
  const Ino ino = there.entry->ino;
  if (b.dir) {
    change.put(*b.dir, args.name, value_of(change, ino, there.entry->type, &there));
    if (!b.meets_dir()) return {};
    if (there.remote) {
      drop_bound(cx, change, *b.new_dir, ino);
      add_bound(cx, change, *b.dir, ino, there.home);
      return {};
    }
    change.edit_dir(*there.target.dir).at = {args.dir, args.name};
    const Ino from = import_of(state, *b.new_dir), to = import_of(state, *b.dir);
    if (from != to) intents::move_bounds(cx.rank(), change, *there.target.dir, from, to);
    return {};
  }
  if (b.meets_dir()) {
    intents::hang_elsewhere(cx.rank(), change, *there.target.dir, args.dir, args.name);
  } else if (there.entry->kind == EntryKind::primary) {
    EntryValue value{.kind = EntryKind::primary, .ino = ino};
    value.inode = there.target.inode();
    value.inode.ctime = change.now();
    change.put(linked, hidden_name(ino), std::move(value));
  } else if (!there.remote) {
    change.edit(there.target).ctime = change.now();
  }
  return {};
}

const msg::IntentValue* dropped(const Prepared& others) {
  if (auto* value = others.find(IntentKind::drop_link)) return value;
  return others.find(IntentKind::drop_dir);
}

Outcome carry_out(OpContext& cx, const RenameArgs& args, const Between& b, const Prepared& others) {
  GET(Dir * orphans, cx.orphans_dir());
  GET(Dir * linked, cx.linked_dir());
  RankId home = b.dir ? cx.rank().id() : b.source;
  if (b.moves_dir())
    for (const Asked& asked : others.asked)
      if (asked.intent.kind == IntentKind::hang && asked.intent.ino == b.ino()) home = asked.at;
  if (b.moves_dir() && !b.here && home == cx.rank().id()) {
    GET([[maybe_unused]] Target moved, cx.inode(b.ino()));
  }
  const Ino moved = b.ino();
  const uint32_t type = b.type();
  const Ino there = b.there ? b.there->entry->ino : Ino{};
  const uint32_t there_type = b.there ? b.there->entry->type : 0;
  const bool lives_here = b.here ? !b.here->remote : home == cx.rank().id() || b.moved_here;

  Change change(cx, EventType::rename);
  if (b.dir) {
    DirHeader& from = change.touch(*b.dir);
    if (b.moves_dir()) from.inode.nlink--;
    if (b.exchange && b.meets_dir()) from.inode.nlink++;
  }
  DirHeader& to = change.touch(*b.new_dir);
  if (b.moves_dir()) to.inode.nlink++;
  if (b.meets_dir()) to.inode.nlink--;
  EntryValue value = value_of(change, moved, type, b.here ? &*b.here : nullptr);
  if (b.moved_here) change.edit(*b.moved_here).ctime = change.now();
  if (b.moves_dir()) move_dir(cx, change, b, args, home);
  bool orphan_elsewhere = false;
  if (b.exchange) {
    if (auto done = move_back(cx, change, b, args, *linked); !done) return done;
  } else if (b.there && !b.there->remote) {
    change.drop_link(*b.there, *orphans);
  } else if (b.there) {
    if (b.meets_dir()) drop_bound(cx, change, *b.new_dir, there);
    orphan_elsewhere = b.meets_dir() || dropped(others)->stat.nlink == 1;
    cx.reply().orphaned = orphan_elsewhere;
  }
  if (b.dir && !b.exchange) change.remove(*b.dir, args.name);
  change.put(*b.new_dir, args.new_name, std::move(value));
  if (auto done = change.commit(orphan_elsewhere ? there : moved); !done) return done;

  if (orphan_elsewhere) return reply_elsewhere(cx, there, there_type, b.there->home);
  if (cx.reply().orphaned) return reply_stat(cx, there);
  if (lives_here) return reply_stat(cx, moved);
  return reply_elsewhere(cx, moved, type, b.here ? b.here->home : b.moved_home.value_or(home));
}

}  // namespace

Outcome rename_between(OpContext& cx, const RenameArgs& args) {
  GET(Between b, resolve(cx, args));
  if (b.exchange && !b.there) return stop(ENOENT);
  if (b.known()) {
    // The new name's errors come behind the old one's.
    if (b.there && (args.flags & RENAME_NOREPLACE)) return stop(EEXIST);
    if (int err = check_loop(b)) return stop(err);
    if (b.there && b.there->entry->ino == b.ino())
      return b.there->remote ? reply_elsewhere(cx, b.ino(), b.there->entry->type, b.there->home)
                             : reply_stat(cx, b.there->target.inode());
    if (int err = check_old_name(cx, b)) return stop(err);
    if (int err = check_new_name(cx, b)) return stop(err);
    if (b.moves_dir() || (b.exchange && b.meets_dir()))
      if (auto need = busy_above(cx, *b.new_dir))
        return std::unexpected(Stop{0, std::move(*need), {}, {}});
  }
  std::vector<Asked> asked = what_to_ask(cx, args, b);
  GET(const Prepared* others, cx.others(std::move(asked)));
  if (!b.taken && !b.dir) b.taken = &others->values[0];
  if (int err = check_sticky(cx, b, *others)) return stop(err);
  if (!b.exchange && b.there && b.there->remote) {
    if (int err = may_remove_stat(cx, *b.new_dir, dropped(*others)->stat, b.moves_dir()))
      return stop(err);
  }
  return carry_out(cx, args, b, *others);
}

}  // namespace graftfs::ops
