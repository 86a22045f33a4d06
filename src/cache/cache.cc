#include "cache/cache.h"

#include "base/check.h"
#include "base/fault.h"

namespace graftfs {
namespace {

// What one item costs: the struct, what the allocator rounds it up by, its slots in the B-tree and
// in the index of inodes.
constexpr size_t kDentryBytes = sizeof(Dentry) + 8 + 28 + 10;
constexpr size_t kDirBytes = sizeof(Dir) + 16 + 32;

size_t extra_bytes(const Inode& inode) {
  if (!inode.extra) return 0;
  size_t bytes = sizeof(InodeExtra) + 32 + inode.extra->symlink.capacity();
  for (const auto& [name, value] : inode.extra->xattrs) bytes += 96 + name.size() + value.size();
  return bytes;
}

size_t name_bytes(const std::string& name) {
  return name.capacity() > 15 ? name.capacity() + 16 : 0;
}

}  // namespace

Cache::Cache() {
  dirty_.prev = dirty_.next = &dirty_;
  arrived_.prev = arrived_.next = &arrived_;
  ring_.ring_prev = ring_.ring_next = &ring_;
  hand_ = &ring_;
}

Cache::~Cache() {
  sweep(SIZE_MAX);
  for (Dir* d = ring_.ring_next; d != &ring_;) {
    Dir* next = d->ring_next;
    for (auto& [hash, first] : d->entries)
      for (Dentry* e = first; e;) delete std::exchange(e, e->same_hash);
    delete d;
    d = next;
  }
}

Dir* Cache::find_dir(Ino ino) const {
  auto it = dirs_.find(ino.v);
  if (it == dirs_.end()) return nullptr;
  it->second->referenced = true;
  return it->second;
}

Dentry* Cache::find_inode(Ino ino) const {
  Dentry* e = inodes_.get(ino);
  if (!e || e->dir->discarded) return nullptr;
  e->referenced = true;
  return e;
}

Dentry* Cache::find_entry(const Dir& dir, NameHash hash, std::string_view name) const {
  for (Dentry* e = dir.entries.first(hash); e; e = e->same_hash) {
    if (e->name == name) {
      e->referenced = true;
      return e;
    }
  }
  return nullptr;
}

bool Cache::is_below(const Dir* dir, const Dir* ancestor) {
  for (; dir; dir = dir->parent)
    if (dir == ancestor) return true;
  return false;
}

std::string Cache::path_of(const Dir& dir) {
  if (dir.ino() == kRootIno) return "/";
  std::string path;
  const Dir* d = &dir;
  for (; d->parent; d = d->parent) path = "/" + d->header.at.name + path;
  if (d->ino() != kRootIno) path = fmt::format("?#{:x}", d->ino().v) + path;
  return path;
}

// -- building -----------------------------------------------------------------------------------

Dir* Cache::new_dir(const DirHeader& header) {
  Dir* d = new Dir;
  d->header = header;
  d->referenced = true;
  d->ring_next = hand_;  // just behind the hand: looked at last
  d->ring_prev = hand_->ring_prev;
  d->ring_prev->ring_next = d;
  d->ring_next->ring_prev = d;
  dirs_[header.inode.ino.v] = d;
  usage_.dirs++;
  usage_.bytes += kDirBytes + extra_bytes(header.inode);
  attach(*d);
  return d;
}

Dentry* Cache::new_dentry(Dir& dir, NameHash hash, std::string_view name) {
  Dentry* e = new Dentry;
  e->dir = &dir;
  e->hash = hash;
  e->name = name;
  e->referenced = true;
  Dentry* before = dir.entries.first(hash);
  if (before) MARK("cache.hash_collision");
  if (!before || e->name < before->name) {
    e->same_hash = before;
    dir.entries.set_first(hash, e);
  } else {
    while (before->same_hash && before->same_hash->name < e->name) before = before->same_hash;
    e->same_hash = before->same_hash;
    before->same_hash = e;
  }
  usage_.entries++;
  usage_.bytes += kDentryBytes + name_bytes(e->name);
  return e;
}

void Cache::drop_dentry(Dentry& e) {
  if (e.dirty()) unlink_dirty(e);
  if (e.kind == EntryKind::primary && inodes_.get(e.ino) == &e) inodes_.set(e.ino, nullptr);
  EntryIndex& entries = e.dir->entries;
  Dentry* first = entries.first(e.hash);
  CHECK(first, "dentry '{}' is not in its directory", e.name);
  if (first != &e) {
    while (first->same_hash != &e) first = first->same_hash;
    first->same_hash = e.same_hash;
  } else if (e.same_hash) {
    entries.set_first(e.hash, e.same_hash);
  } else {
    entries.erase(e.hash);
  }
  usage_.entries--;
  usage_.bytes -= kDentryBytes + name_bytes(e.name) + extra_bytes(e.inode);
  delete &e;
}

void Cache::set_value(Dentry& e, const EntryValue& value) {
  bool known = false;  // as the place where this inode is
  if (e.kind == EntryKind::primary) {
    known = inodes_.get(e.ino) == &e;
    if (known && (value.kind != EntryKind::primary || value.inode.ino != e.ino)) {
      inodes_.set(e.ino, nullptr);
      known = false;
    }
  }
  usage_.bytes -= extra_bytes(e.inode);
  e.kind = value.kind;
  e.version = value.version;
  e.type = value.type;
  if (value.kind == EntryKind::primary) {
    if (!known) inodes_.set(value.inode.ino, &e);
    e.inode = value.inode;
    e.ino = value.inode.ino;
    e.type = value.inode.mode & S_IFMT;
  } else {
    if (e.inode.ino) e.inode = Inode{};
    e.ino = value.ino;
  }
  usage_.bytes += extra_bytes(e.inode);
}

void Cache::mark_dirty(DirtyItem& item, Lsn lsn) {
  if (item.dirty()) return;
  // The list is in the order of `since`: its front says what of the journal is still needed. Only
  // what was staged during an import is older than its end.
  DirtyItem* before = &dirty_;
  while (before->prev != &dirty_ && before->prev->since > lsn) before = before->prev;
  insert_dirty(item, lsn, before);
}

void Cache::insert_dirty(DirtyItem& item, Lsn lsn, DirtyItem* before) {
  item.since = lsn;
  item.prev = before->prev;
  item.next = before;
  item.prev->next = item.next->prev = &item;
  dir_of(item)->dirty_items++;
  usage_.dirty++;
}

void Cache::unlink_dirty(DirtyItem& item) {
  item.prev->next = item.next;
  item.next->prev = item.prev;
  item.prev = item.next = nullptr;
  Dir* dir = dir_of(item);
  dir->dirty_items--;
  if (!dir->discarded) usage_.dirty--;
}

void Cache::set_parent(Dir& dir, Dir* parent) {
  if (dir.parent == parent) return;
  if (dir.parent) dir.parent->children--;
  dir.parent = parent;
  if (parent) parent->children++;
}

void Cache::attach(Dir& dir) {
  auto it = dirs_.find(dir.header.at.parent.v);
  // Not below a stub: what hangs in another rank's directory is a root here.
  const bool known = dir.header.at.parent && it != dirs_.end() && !it->second->is_foreign();
  set_parent(dir, known ? it->second : nullptr);
}

void Cache::attach_all() {
  for (Dir* d = ring_.ring_next; d != &ring_; d = d->ring_next) attach(*d);
}

// -- events -------------------------------------------------------------------------------------

bool Cache::apply_header(Lsn lsn, bool dirty, const DirHeader& header) {
  auto it = dirs_.find(header.inode.ino.v);
  if (it == dirs_.end()) {
    Dir* d = new_dir(header);
    if (dirty) mark_dirty(*d, lsn);
    return true;
  }
  Dir& d = *it->second;
  if (header.version <= d.header.version) {
    MARK("cache.apply.old_header");
    // Logged again: a trace may have named this very version before.
    if (dirty && header.version == d.header.version) mark_dirty(d, lsn);
    return true;
  }
  bool moved = d.header.at.parent != header.at.parent;
  usage_.bytes -= extra_bytes(d.header.inode);
  d.header = header;
  usage_.bytes += extra_bytes(d.header.inode);
  if (moved || (!d.parent && header.at.parent)) attach(d);
  if (d.is_foreign()) {
    // It was a stub, and is ours from now on.
    d.foreign = Dir::kOurs;
    d.pins--;
  }
  if (dirty) mark_dirty(d, lsn);
  return true;
}

bool Cache::apply_entry(Lsn lsn, bool dirty, Ino dir, std::string_view name,
                        const EntryValue& value) {
  auto it = dirs_.find(dir.v);
  if (it == dirs_.end()) return false;
  Dir& d = *it->second;
  NameHash hash = name_hash(name);
  Dentry* e = find_entry(d, hash, name);
  if (e && value.version <= e->version) {
    MARK("cache.apply.old_entry");
    if (dirty && value.version == e->version) mark_dirty(*e, lsn);
    return true;
  }
  if (!e) e = new_dentry(d, hash, name);
  set_value(*e, value);
  if (dirty) mark_dirty(*e, lsn);
  if (d.changes) d.changes->push_back(hash);
  return true;
}

bool Cache::apply_touch(Lsn lsn, bool dirty, const DirHeader& header) {
  auto it = dirs_.find(header.inode.ino.v);
  if (it == dirs_.end()) return false;
  Dir& d = *it->second;
  if (header.version <= d.header.version) {
    MARK("cache.apply.old_touch");
    if (dirty && header.version == d.header.version) mark_dirty(d, lsn);
    return true;
  }
  d.header.version = header.version;
  Inode& i = d.header.inode;
  i.nlink = header.inode.nlink;
  i.size = header.inode.size;
  i.mtime = header.inode.mtime;
  i.ctime = header.inode.ctime;
  if (dirty) mark_dirty(d, lsn);
  return true;
}

void Cache::discard_dir(Ino ino) {
  auto it = dirs_.find(ino.v);
  if (it == dirs_.end()) return;
  Dir& dir = *it->second;
  if (dir.children > 0) {
    for (Dir* d = ring_.ring_next; d != &ring_; d = d->ring_next)
      if (d->parent == &dir) set_parent(*d, nullptr);
  }
  drop_dir(dir);
}

void Cache::discard_dirs(const std::vector<Ino>& inos) {
  const size_t before = discarded_.size();
  for (Ino ino : inos) {
    auto it = dirs_.find(ino.v);
    if (it == dirs_.end()) continue;
    it->second->discarded = true;
    discarded_.push_back(it->second);
    dirs_.erase(it);
  }
  if (discarded_.size() == before) return;
  for (Dir* d = ring_.ring_next; d != &ring_; d = d->ring_next)
    if (d->parent && d->parent->discarded) set_parent(*d, nullptr);
  for (size_t i = before; i < discarded_.size(); ++i) {
    Dir& dir = *discarded_[i];
    usage_.dirty -= dir.dirty_items;
    set_parent(dir, nullptr);
    take_from_ring(dir);
    usage_.dirs--;
    usage_.bytes -= kDirBytes + extra_bytes(dir.header.inode);
  }
}

bool Cache::sweep(size_t steps) {
  for (; !discarded_.empty(); discarded_.pop_back()) {
    Dir* dir = discarded_.back();
    for (; !dir->entries.empty(); --steps) {
      if (steps == 0) return false;
      drop_dentry(*dir->entries.begin()->second);
    }
    if (dir->dirty()) unlink_dirty(*dir);
    delete dir;
  }
  return true;
}

void Cache::join(Cache& aside) {
  std::vector<Dir*> arriving, known;
  for (Dir* d = aside.ring_.ring_next; d != &aside.ring_; d = d->ring_next) {
    drop_stub(d->ino());
    (dirs_.contains(d->ino().v) ? known : arriving).push_back(d);
  }
  for (Dir* d : known) {
    MARK("cache.join.known_here");
    merge_dir(*d);
    aside.discard_dir(d->ino());
  }
  for (Dir* d : arriving) dirs_[d->ino().v] = d;
  for (Dir* d : arriving)
    if (!d->parent) attach(*d);
  if (!arriving.empty()) {
    Dir* first = aside.ring_.ring_next;
    Dir* last = aside.ring_.ring_prev;
    first->ring_prev = hand_->ring_prev;
    last->ring_next = hand_;
    first->ring_prev->ring_next = first;
    hand_->ring_prev = last;
  }
  aside.ring_.ring_next = aside.ring_.ring_prev = aside.hand_ = &aside.ring_;
  inodes_.join(aside.inodes_);
  // What arrives lies behind what has arrived, but where two subtrees come at once.
  CHECK(aside.arrived_.next == &aside.arrived_);
  DirtyItem* before = &arrived_;
  for (DirtyItem* last = aside.dirty_.prev; last != &aside.dirty_;) {
    while (before->prev != &arrived_ && before->prev->since > last->since) before = before->prev;
    DirtyItem* first = last;
    if (before->prev == &arrived_ || before->prev->since <= aside.dirty_.next->since)
      first = aside.dirty_.next;  // all that is left
    DirtyItem* next = first->prev;
    first->prev = before->prev;
    last->next = before;
    first->prev->next = first;
    before->prev = last;
    before = first;
    last = next;
  }
  aside.dirty_.prev = aside.dirty_.next = &aside.dirty_;
  aside.dirs_.clear();
  usage_.dirs += aside.usage_.dirs;
  usage_.entries += aside.usage_.entries;
  usage_.dirty += aside.usage_.dirty;
  usage_.bytes += aside.usage_.bytes;
  aside.usage_ = {};
}

// A directory of another cache that this one has, too: item by item.
void Cache::merge_dir(const Dir& dir) {
  apply_header(dir.since, dir.dirty(), dir.header);
  for (const auto& [hash, first] : dir.entries)
    for (const Dentry* e = first; e; e = e->same_hash)
      apply_entry(e->since, e->dirty(), dir.ino(), e->name,
                  EntryValue{e->kind, e->version, e->ino, e->type, e->inode});
  if (dir.known_from < dir.known_to)
    merge_known(*dirs_.at(dir.ino().v), dir.known_from, dir.known_to);
}

// -- subtrees of other ranks --------------------------------------------------------------------

Dir* Cache::put_stub(Ino ino, Dir& parent, RankId rank) {
  auto it = dirs_.find(ino.v);
  CHECK(it == dirs_.end() || it->second->is_foreign(), "directory {} is ours, and no bound", ino);
  if (it != dirs_.end()) {
    it->second->foreign = rank;
    it->second->header.at.parent = parent.ino();
    attach(*it->second);
    return it->second;
  }
  DirHeader header;
  header.inode.ino = ino;
  header.inode.mode = S_IFDIR;
  header.at.parent = parent.ino();
  Dir* d = new_dir(header);
  d->foreign = rank;
  d->pins = 1;
  return d;
}

void Cache::drop_stub(Ino ino) {
  auto it = dirs_.find(ino.v);
  if (it != dirs_.end() && it->second->is_foreign()) drop_dir(*it->second);
}

// -- store --------------------------------------------------------------------------------------

Dir* Cache::merge_header(const DirHeader& header) {
  auto it = dirs_.find(header.inode.ino.v);
  if (it == dirs_.end()) {
    Dir* d = new_dir(header);
    d->fetched = true;
    return d;
  }
  Dir* d = it->second;
  d->fetched = true;
  if (header.version > d->header.version) {
    MARK("cache.merge.newer_header");
    usage_.bytes -= extra_bytes(d->header.inode);
    d->header = header;
    usage_.bytes += extra_bytes(d->header.inode);
    if (d->dirty()) unlink_dirty(*d);
  }
  attach(*d);
  return d;
}

void Cache::merge_entry(Dir& dir, NameHash hash, std::string_view name, const EntryValue& value) {
  Dentry* e = find_entry(dir, hash, name);
  if (e) {
    if (value.version <= e->version) {
      MARK("cache.merge.cache_wins");
      return;
    }
    MARK("cache.merge.store_wins");
    if (e->dirty()) unlink_dirty(*e);
  } else {
    e = new_dentry(dir, hash, name);
  }
  set_value(*e, value);
}

void Cache::merge_absent(Dir& dir, NameHash hash, std::string_view name) {
  if (find_entry(dir, hash, name) || dir.knows(hash)) return;
  new_dentry(dir, hash, name);  // kind null, version 0, clean
}

void Cache::merge_known(Dir& dir, NameHash from, NameHash to) {
  if (dir.known_from == dir.known_to || from > dir.known_to || to < dir.known_from) {
    dir.known_from = from;
    dir.known_to = to;
  } else {
    dir.known_from = std::min(dir.known_from, from);
    dir.known_to = std::max(dir.known_to, to);
  }
}

// -- write-back ---------------------------------------------------------------------------------

DirtyItem* Cache::next_dirty(const DirtyItem* item) const {
  DirtyItem* next = item->next;
  for (;; next = next->next) {
    if (next == &arrived_) next = dirty_.next;
    if (next == &dirty_) return nullptr;
    if (!dir_of(*next)->discarded) return next;
  }
}

DirtyItem* Cache::oldest_dirty() const {
  auto front = [](const DirtyItem& head) -> DirtyItem* {
    for (DirtyItem* item = head.next; item != &head; item = item->next)
      if (!dir_of(*item)->discarded) return item;
    return nullptr;
  };
  DirtyItem* own = front(dirty_);
  DirtyItem* arrived = front(arrived_);
  return !own || (arrived && arrived->since < own->since) ? arrived : own;
}

void Cache::mark_clean(DirtyItem& item) {
  unlink_dirty(item);
  if (item.is_header) return;
  auto& e = static_cast<Dentry&>(item);
  // A clean null entry tells nothing where absence is known anyway.
  if (e.kind == EntryKind::null && e.dir->pins == 0) drop_dentry(e);
}

void Cache::wait_from(std::span<DirtyItem* const> items, Lsn lsn) {
  for (DirtyItem* item : items) unlink_dirty(*item);
  DirtyItem* before = &dirty_;
  while (before->prev != &dirty_ && before->prev->since > lsn) before = before->prev;
  for (DirtyItem* item : items) insert_dirty(*item, lsn, before);
}

void Cache::drop_dir(Dir& dir) {
  CHECK(dir.children == 0, "directory {:#x} still has {} cached children", dir.ino().v,
        dir.children);
  while (!dir.entries.empty()) drop_dentry(*dir.entries.begin()->second);
  if (dir.dirty()) unlink_dirty(dir);
  set_parent(dir, nullptr);
  take_from_ring(dir);
  dirs_.erase(dir.ino().v);
  usage_.dirs--;
  usage_.bytes -= kDirBytes + extra_bytes(dir.header.inode);
  delete &dir;
}

void Cache::take_from_ring(Dir& dir) {
  if (hand_ == &dir) hand_ = dir.ring_next;
  dir.ring_prev->ring_next = dir.ring_next;
  dir.ring_next->ring_prev = dir.ring_prev;
}

// -- memory -------------------------------------------------------------------------------------

// Drops the clean entries of `dir` that nobody used since the last visit, as many as it takes.
// Returns whether none is left.
bool Cache::evict_entries(Dir& dir, size_t bytes, size_t& steps) {
  bool dropped = false;
  for (auto it = dir.entries.begin(); it != dir.entries.end() && usage_.bytes > bytes && steps > 0;
       --steps) {
    NameHash hash = it->first;
    Dentry* e = it->second;
    if (e->dirty() || e->same_hash) {
      ++it;
    } else if (e->referenced) {
      e->referenced = false;
      ++it;
    } else {
      if (e->kind != EntryKind::null) dropped = true;
      drop_dentry(*e);
      it = dir.entries.upper_bound(hash);
    }
  }
  if (dropped) dir.forget_known();
  return dir.entries.empty();
}

void Cache::evict(size_t bytes, size_t steps) {
  while (usage_.bytes > bytes && steps > 0) {
    if (hand_ == &ring_) hand_ = ring_.ring_next;
    if (hand_ == &ring_) return;
    Dir& d = *hand_;
    hand_ = d.ring_next;
    --steps;
    if (d.pins > 0) continue;
    bool empty = evict_entries(d, bytes, steps);
    if (!empty || d.dirty() || d.children > 0 || !d.parent) continue;
    if (d.referenced) {
      d.referenced = false;
    } else {
      MARK("cache.evict.dir");
      drop_dir(d);
    }
  }
}

}  // namespace graftfs
