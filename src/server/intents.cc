#include "server/intents.h"

#include "base/fault.h"
#include "server/authority.h"
#include "server/ops/permission.h"
#include "server/rank.h"

namespace graftfs::intents {
namespace {

using msg::Intent;
using msg::IntentKind;
using msg::IntentValue;
using ops::may;

// One part being built.
struct Build {
  OpContext& cx;
  Change& change;
  RankId coordinator;
  bool check;
  uint32_t& phase;

  const RankState& state() const { return cx.rank().state(); }
};

// The inode of a file goes to ~linked: from now on it has a name at another rank.
Outcome move_to_linked(Build& b, const Target& target) {
  GET(Dir * linked, b.cx.linked_dir());
  EntryValue value{.kind = EntryKind::primary, .ino = target.ino()};
  value.inode = target.inode();
  value.inode.ctime = b.change.now();
  b.change.put(*linked, hidden_name(target.ino()), std::move(value));
  return {};
}

// Whose a third rank's inode is, that rank tells the coordinator, which looks at the sticky bit.
int may_take(Build& b, const Dir& dir, const NamedTarget& named) {
  if (named.remote) return may(b.cx, dir.inode(), ops::kMayWrite | ops::kMayExec);
  const Inode& victim = named.target.inode();
  return ops::may_remove(b.cx, dir, victim, victim.is_dir());
}

// A name goes away, or something else stands there (`put`).
Outcome take_name(Build& b, const Intent& intent, IntentValue& value, const EntryValue* put) {
  b.phase = kResolve;
  GET(Dir * dir,
      b.check ? ops::resolve_parent(b.cx, intent.dir, intent.name) : b.cx.dir(intent.dir));
  if (b.check && b.cx.read_only()) return stop(EROFS);
  GET(NamedTarget named, b.cx.lookup_any(*dir, intent.name));
  const Ino ino = named.entry->ino;
  // It is another one than it was a moment ago: the operation begins again.
  if (intent.ino && intent.ino != ino)
    return std::unexpected(Stop{0, Need{Need::busy, {}, {}, 0}, {}, {}});
  // It would become a part of what it hangs in, and not hang there any more.
  if (b.check && b.cx.is_arriving(ino)) {
    MARK("two_party.participant.arrives");
    return std::unexpected(Stop{0, Need{Need::busy, {}, {}, 0}, {}, {}});
  }
  // Its inode stays here: for whoever asks it is a link, also on the wire, where an embedded one
  // would have its number from the inode that is not sent.
  value.value.kind =
      named.entry->kind == EntryKind::primary ? EntryKind::remote_link : named.entry->kind;
  value.value.ino = ino;
  value.value.type = named.entry->type;
  if (!named.remote)
    value.stat = named.target.inode();
  else if (dir->inode().mode & S_ISVTX)
    value.stat = dir->inode();  // the coordinator sees that it is not the name's inode
  if (b.check) {
    b.phase = kMay;
    if (int err = may_take(b, *dir, named)) return stop(err);
    b.phase = kPosix;
    if (b.cx.out_of_space()) return stop(ENOSPC);
  }
  int links = 0;
  switch (named.entry->kind) {
    case EntryKind::primary: {
      auto moved = move_to_linked(b, named.target);
      if (!moved) return moved;
      break;
    }
    case EntryKind::dir_link:
      links--;
      if (named.remote)
        b.change.map(
            {.kind = MapChange::bound_remove, .root = ino, .within = import_of(b.state(), *dir)});
      break;
    default:
      if (!named.remote) b.change.edit(named.target).ctime = b.change.now();
  }
  if (put) {
    b.change.put(*dir, intent.name, *put);
    if (put->kind == EntryKind::dir_link) {
      links++;
      // It is the coordinator's, or was until now.
      b.change.map({.kind = MapChange::bound_add,
                    .root = put->ino,
                    .within = import_of(b.state(), *dir),
                    .bound = {.parent = dir->ino(), .rank = b.coordinator}});
    }
  } else {
    b.change.remove(*dir, intent.name);
  }
  DirHeader& header = b.change.touch(*dir);
  header.inode.nlink = static_cast<uint32_t>(static_cast<int64_t>(header.inode.nlink) + links);
  return {};
}

Outcome add_link(Build& b, const Intent& intent, IntentValue& value) {
  b.phase = kResolve;
  GET(Target target, b.cx.inode(intent.ino));
  value.stat = target.inode();
  if (b.check) {
    b.phase = kPosix;
    if (target.is_dir()) return stop(EPERM);
    if (target.inode().nlink == 0) return stop(ENOENT);
    if (target.inode().nlink >= kMaxLink) return stop(EMLINK);
    if (b.cx.out_of_space()) return stop(ENOSPC);
  }
  Dentry& home = *target.dentry;
  if (!is_hidden_dir(home.dir->ino())) {
    auto moved = move_to_linked(b, target);
    if (!moved) return moved;
    b.change.put(
        *home.dir, home.name,
        {.kind = EntryKind::remote_link, .ino = intent.ino, .type = target.inode().mode & S_IFMT});
    GET(Dir * linked, b.cx.linked_dir());
    Inode& inode = b.change.inode_in(*linked, hidden_name(intent.ino));
    inode.nlink++;
    return {};
  }
  Inode& inode = b.change.edit(target);
  inode.nlink++;
  inode.ctime = b.change.now();
  return {};
}

Outcome drop_link(Build& b, const Intent& intent, IntentValue& value) {
  b.phase = kResolve;
  GET(Target target, b.cx.inode(intent.ino));
  GET(Dir * orphans, b.cx.orphans_dir());
  value.stat = target.inode();
  if (b.check && (target.is_dir() || !is_hidden_dir(target.dentry->dir->ino())))
    return stop(EUCLEAN);  // no name at another rank leads here
  b.change.drop_remote_link(target, *orphans);
  return {};
}

Outcome drop_dir(Build& b, const Intent& intent, IntentValue& value) {
  b.phase = kResolve;
  // With its names: whether it is empty is not told while another operation is about to change
  // that.
  GET(Target target, b.cx.inode(intent.ino));
  GET(Dir * orphans, b.cx.orphans_dir());
  if (!target.is_dir()) return stop(ENOTDIR);
  Dir* dir = target.dir;
  value.stat = dir->inode();
  if (b.check) {
    b.phase = kPosix;
    if (dir->inode().nlink == 0) return stop(ENOENT);
    if (dir->inode().size > 0) return stop(ENOTEMPTY);
  }
  const NamedTarget named{nullptr, {dir, nullptr}};
  b.change.drop_link(named, *orphans);
  if (b.state().is_root(intent.ino))
    b.change.map({.kind = MapChange::import_remove, .root = intent.ino});
  return {};
}

// Of a file only the name has another place.
Outcome hang(Build& b, const Intent& intent, IntentValue& value) {
  b.phase = kResolve;
  auto found = b.cx.dir(intent.ino);
  if (!found && found.error().err == ENOTDIR) {
    GET(Target target, b.cx.inode(intent.ino));
    value.stat = target.inode();
    b.change.edit(target).ctime = b.change.now();
    return {};
  }
  GET(Dir * dir, std::move(found));
  value.stat = dir->inode();
  if (b.check) {
    b.phase = kMay;
    if (int err = may(b.cx, dir->inode(), ops::kMayWrite)) return stop(err);
  }
  hang_elsewhere(b.cx.rank(), b.change, *dir, intent.dir, intent.name);
  return {};
}

}  // namespace

Outcome build(OpContext& cx, Change& change, RankId coordinator, const std::vector<Intent>& intents,
              bool check, std::vector<IntentValue>& values, uint32_t& phase) {
  Build b{cx, change, coordinator, check, phase};
  values.assign(intents.size(), {});
  for (size_t i = 0; i < intents.size(); ++i) {
    const Intent& intent = intents[i];
    Outcome done;
    switch (intent.kind) {
      case IntentKind::token:
        break;
      case IntentKind::take_name:
        done = take_name(b, intent, values[i], nullptr);
        break;
      case IntentKind::swap_name:
        done = take_name(b, intent, values[i], &intent.value);
        break;
      case IntentKind::add_link:
        done = add_link(b, intent, values[i]);
        break;
      case IntentKind::drop_link:
        done = drop_link(b, intent, values[i]);
        break;
      case IntentKind::drop_dir:
        done = drop_dir(b, intent, values[i]);
        break;
      case IntentKind::hang:
        done = hang(b, intent, values[i]);
        break;
    }
    if (done) continue;
    if (done.error().ask) phase = static_cast<uint32_t>(i);  // which of them is somebody else's
    return done;
  }
  return {};
}

std::vector<Mark> marks_of(const std::vector<Intent>& intents) {
  std::vector<Mark> marks;
  for (const Intent& i : intents) {
    if (i.kind == IntentKind::take_name || i.kind == IntentKind::swap_name)
      marks.push_back({i.dir, i.name});
    if (i.ino) marks.push_back({i.ino, {}});
  }
  return marks;
}

void hang_elsewhere(const Rank& rank, Change& change, Dir& dir, Ino parent, std::string_view name) {
  const RankState& state = rank.state();
  change.edit_dir(dir).at = {parent, std::string(name)};
  MapChange map{.kind = MapChange::path, .root = dir.ino()};
  if (state.is_root(dir.ino())) {
    map.import = state.imports.at(dir.ino());
    map.import.above.clear();
  } else {
    map.kind = MapChange::import_add;
    map.import.root = dir.ino();
    const Ino around = import_of(state, dir);
    const Import& outer = state.imports.at(around);
    for (Ino ino : bounds_below(rank.cache(), outer, dir)) {
      map.import.bounds[ino] = outer.bounds.at(ino);
      change.map({.kind = MapChange::bound_remove, .root = ino, .within = around});
    }
  }
  map.import.path.clear();  // it will be told
  map.import.parent = parent;
  change.map(std::move(map));
}

void move_bounds(const Rank& rank, Change& change, const Dir& dir, Ino from, Ino to) {
  const Import& import = rank.state().imports.at(from);
  for (Ino ino : bounds_below(rank.cache(), import, dir)) {
    change.map({.kind = MapChange::bound_remove, .root = ino, .within = from});
    change.map(
        {.kind = MapChange::bound_add, .root = ino, .within = to, .bound = import.bounds.at(ino)});
  }
}

}  // namespace graftfs::intents
