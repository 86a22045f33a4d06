#include <algorithm>

#include "base/check.h"
#include "server/leases.h"
#include "server/op_context.h"
#include "server/rank.h"
#include "server/two_party.h"

namespace graftfs {

Change::Change(OpContext& context, EventType type)
    : cx_(context), event_(context.rank_.scratch_), now_(context.now()) {
  event_.clear();
  event_.type = type;
  event_.session = context.session();
  event_.seq = context.request().seq;
  event_.oldest = std::min(context.request().oldest, event_.seq);
  event_.result = Ino{};
  event_.result_flags = 0;
}

uint32_t Change::dir_index(Dir& dir) {
  for (size_t i = 0; i < touched_.size(); ++i)
    if (touched_[i] == &dir) return static_cast<uint32_t>(i);
  CHECK(touched_.size() < TreeEvent::kMaxItems);
  touched_.push_back(&dir);
  event_.dirs.push_back({.dirty = true, .full = false, .header = dir.header});
  event_.dirs.back().header.version = dir.header.version.next();
  return static_cast<uint32_t>(touched_.size() - 1);
}

DirHeader& Change::touch(Dir& dir) {
  DirHeader& header = event_.dirs[dir_index(dir)].header;
  Inode& inode = header.inode;
  if (cx_.with_others()) {
    // Others may have touched it since the operation began.
    inode.mtime = std::max(inode.mtime, now_);
    inode.ctime = std::max(inode.ctime, now_);
  } else {
    inode.mtime = inode.ctime = now_;
  }
  return header;
}

DirHeader& Change::edit_dir(Dir& dir) {
  DirItem& item = event_.dirs[dir_index(dir)];
  item.full = true;
  item.header.inode.ctime = now_;
  return item.header;
}

DirHeader& Change::new_dir(DirHeader header) {
  CHECK(touched_.size() < TreeEvent::kMaxItems);
  touched_.push_back(nullptr);
  header.version = Version{1};
  event_.dirs.push_back({.dirty = true, .full = true, .header = std::move(header)});
  return event_.dirs.back().header;
}

EntryItem& Change::entry_item(Dir& dir, std::string_view name) {
  uint32_t index = dir_index(dir);
  for (EntryItem& item : event_.entries)
    if (item.dir == index && item.name == name) return item;
  CHECK(event_.entries.size() < TreeEvent::kMaxItems);
  EntryItem& item = event_.entries.emplace_back();
  item.dir = index;
  item.name = name;
  // As it is now, in case only a part of it is edited.
  if (Dentry* e = cx_.rank_.cache_.find_entry(dir, name)) {
    item.value.kind = e->kind;
    item.value.ino = e->ino;
    item.value.type = e->type;
    if (e->kind == EntryKind::primary) item.value.inode = e->inode;
  }
  item.value.version = event_.dirs[index].header.version;
  return item;
}

Inode& Change::edit(const Target& target) {
  if (target.dir) {
    DirItem& item = event_.dirs[dir_index(*target.dir)];
    item.full = true;
    return item.header.inode;
  }
  return entry_item(*target.dentry->dir, target.dentry->name).value.inode;
}

void Change::put(Dir& dir, std::string_view name, EntryValue value) {
  EntryItem& item = entry_item(dir, name);
  Inode& inode = event_.dirs[item.dir].header.inode;
  if (item.value.kind == EntryKind::null && value.kind != EntryKind::null) inode.size++;
  if (item.value.kind != EntryKind::null && value.kind == EntryKind::null) inode.size--;
  value.version = event_.dirs[item.dir].header.version;
  if (value.kind == EntryKind::primary) {
    value.ino = value.inode.ino;
    value.type = value.inode.mode & S_IFMT;
  }
  item.value = std::move(value);
}

void Change::remove(Dir& dir, std::string_view name) { put(dir, name, EntryValue{}); }

void Change::orphan(Inode inode, Dir& orphans) {
  orphan_ = inode.ino;
  cx_.reply().orphaned = true;
  cx_.reply().stat = inode;
  EntryValue value;
  value.kind = EntryKind::primary;
  value.inode = std::move(inode);
  put(orphans, hidden_name(orphan_), std::move(value));
}

void Change::drop_link(const NamedTarget& named, Dir& orphans) {
  const Target& target = named.target;
  if (target.is_dir()) {
    DirHeader& header = edit_dir(*target.dir);
    header.inode.nlink = 0;
    header.at = {orphans.ino(), hidden_name(target.ino())};
    orphan_ = target.ino();
    cx_.reply().orphaned = true;
    cx_.reply().stat = header.inode;
    EntryValue link;
    link.kind = EntryKind::dir_link;
    link.ino = target.ino();
    link.type = S_IFDIR;
    put(orphans, hidden_name(target.ino()), std::move(link));
    return;
  }
  // It may live in the ~linked of another rank, which has left it to this one.
  Dir* home = named.entry->kind == EntryKind::remote_link ? target.dentry->dir : nullptr;
  drop_file(target, home, orphans);
}

void Change::drop_remote_link(const Target& target, Dir& orphans) {
  drop_file(target, target.dentry->dir, orphans);
}

// `linked`: where it lives, if it may have more names.
void Change::drop_file(const Target& target, Dir* linked, Dir& orphans) {
  if (linked && target.inode().nlink > 1) {
    Inode& inode = edit(target);
    inode.nlink--;
    inode.ctime = now_;
    cx_.reply().stat = inode;
    return;
  }
  Inode inode = target.inode();
  inode.nlink = 0;
  inode.ctime = now_;
  if (linked) remove(*linked, hidden_name(inode.ino));
  orphan(std::move(inode), orphans);
}

Outcome Change::ask_holders(SessionId except) {
  if (cx_.rank_.leases_->idle()) return {};
  auto need = cx_.rank_.leases_->ask(except, event_);
  if (!need) return {};
  return std::unexpected(Stop{0, std::move(*need), {}, {}});
}

Lsn Change::commit_part(const ProtocolId& op) {
  event_.type = EventType::commit;
  Commit commit;
  commit.op = op;
  commit.map = std::move(map_);
  Lsn lsn = cx_.rank_.log(event_, &commit);
  if (!orphan_) return lsn;
  // Whoever has no session here cannot have it open.
  cx_.rank_.add_hold(orphan_, cx_.session(), 0);
  purge_unheld();
  return lsn;
}

Outcome Change::commit(Ino result) {
  if (auto free = ask_holders(cx_.session()); !free) return free;
  event_.result = result;
  if (orphan_) {
    event_.result = orphan_;
    event_.result_flags |= kResultOrphaned;
    cx_.hold(orphan_, 0);
  }
  if (cx_.reply().created) event_.result_flags |= kResultCreated;
  if (cx_.reply().orphaned) event_.result_flags |= kResultOrphaned;
  CHECK(map_.empty() || cx_.with_others_);
  Lsn lsn = cx_.with_others_ ? cx_.rank_.two_party_->commit(cx_.two_party_, event_, std::move(map_))
                             : cx_.rank_.log(event_);
  cx_.logged_ = lsn;
  cx_.show_written_ = std::max(cx_.show_written_, lsn);
  if (cx_.rank_.options_.durability == Durability::strict)
    cx_.show_durable_ = std::max(cx_.show_durable_, lsn);
  if (orphan_) purge_unheld();
  return {};
}

// The session may have ended, or have released it already before a machine lost the event.
void Change::purge_unheld() {
  if (!cx_.rank_.holds_.contains(orphan_.v)) cx_.rank_.want_purge(orphan_);
}

}  // namespace graftfs
