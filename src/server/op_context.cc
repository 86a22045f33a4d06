#include "server/op_context.h"

#include <algorithm>

#include "server/rank.h"

namespace graftfs {

Timespec OpContext::now() const { return rank_.executor_.wall_now(); }
bool OpContext::read_only() const { return rank_.options_.read_only; }
uint32_t OpContext::max_dir_link() const { return rank_.options_.max_dir_link; }
bool OpContext::out_of_space() const {
  return rank_.out_of_space_ || rank_.journal_->out_of_space();
}

bool OpContext::is_absent(const Need& need) const {
  return std::find(absent_.begin(), absent_.end(), need) != absent_.end();
}

void OpContext::shows(const Dir& dir) {
  if (is_hidden_dir(dir.ino()) && dir.ino() == orphans_dir_ino(rank_.options_.rank)) return;
  if (rank_.options_.durability == Durability::strict) {
    show_durable_ = std::max(show_durable_, dir.last_lsn);
    return;
  }
  show_written_ = std::max(show_written_, dir.last_lsn);
  show_durable_ = std::max(show_durable_,
                           dir.last_session == session() ? dir.other_lsn : dir.last_lsn);
}

Found<Dir*> OpContext::dir(Ino ino) {
  if (is_hidden_dir(ino)) return stop(ESTALE);  // nobody has been told of it
  return any_dir(ino);
}

Found<Dir*> OpContext::any_dir(Ino ino) {
  if (rank_.being_purged_.contains(ino.v)) return stop(ESTALE);
  Dir* d = rank_.cache_.find_dir(ino);
  if (!d) {
    if (rank_.cache_.find_inode(ino)) return stop(ENOTDIR);
    Need need{Need::inode, ino, {}, 0};
    if (is_absent(need)) return stop(ESTALE);
    return missing(need);
  }
  // All of its ancestors, or a rename would not see that it goes below itself: one of them may have
  // come a moment ago, and its own parent be on its way.
  const Dir* top = d;
  while (top->parent) top = top->parent;
  if (!rank_.state_.is_root(top->ino())) return missing({Need::dir, top->ino(), {}, 0});
  shows(*d);
  return d;
}

Found<Target> OpContext::inode(Ino ino) {
  if (rank_.being_purged_.contains(ino.v)) return stop(ESTALE);
  if (Dentry* e = rank_.cache_.find_inode(ino)) {
    shows(*e->dir);
    return Target{nullptr, e};
  }
  if (is_hidden_dir(ino)) return stop(ESTALE);
  if (rank_.cache_.find_dir(ino)) {
    GET(Dir * d, any_dir(ino));
    return Target{d, nullptr};
  }
  Need need{Need::inode, ino, {}, 0};
  if (is_absent(need)) return stop(ESTALE);
  return missing(need);
}

Found<Dentry*> OpContext::entry(Dir& dir, std::string_view name) {
  shows(dir);
  NameHash hash = name_hash(name);
  Dentry* e = rank_.cache_.find_entry(dir, hash, name);
  if (e) return e->kind == EntryKind::null ? nullptr : e;
  if (dir.knows(hash)) return nullptr;
  Need need{Need::entry, dir.ino(), std::string(name), 0};
  if (is_absent(need)) return nullptr;
  return missing(need);
}

Found<NamedTarget> OpContext::lookup(Dir& dir, std::string_view name) {
  GET(Dentry * e, entry(dir, name));
  if (!e) return stop(ENOENT);
  if (e->kind == EntryKind::primary) return NamedTarget{e, {nullptr, e}};
  auto target = inode(e->ino);
  if (!target && target.error().err == ESTALE)
    return stop(EUCLEAN);  // an entry that leads nowhere: damage in the store
  if (!target) return std::unexpected(target.error());
  return NamedTarget{e, *target};
}

Found<NameHash> OpContext::range(Dir& dir, NameHash from) {
  shows(dir);
  if (dir.knows(from)) return dir.known_to;
  return missing({Need::range, dir.ino(), {}, from});
}

Found<Ino> OpContext::new_ino() {
  for (const InoRange& range : rank_.state_.inos)
    if (range.next < range.end) return Ino{range.next};
  Need need{Need::inos, {}, {}, 0};
  if (is_absent(need)) return stop(ENOSPC);
  return missing(need);
}

Found<Dir*> OpContext::linked_dir() { return any_dir(linked_dir_ino(rank_.options_.rank)); }
Found<Dir*> OpContext::orphans_dir() { return any_dir(orphans_dir_ino(rank_.options_.rank)); }

void OpContext::hold(Ino ino, uint32_t count) { rank_.add_hold(ino, session(), count); }
void OpContext::release(Ino ino, uint32_t count) { rank_.drop_hold(ino, session(), count); }

}  // namespace graftfs
