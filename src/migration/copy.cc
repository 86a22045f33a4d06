#include "migration/copy.h"

#include <algorithm>

#include "base/fault.h"
#include "migration/staging.h"

namespace graftfs::migration {
namespace {

// About what it takes in a message and in an event.
size_t size_of(const Inode& inode) {
  size_t bytes = 96;
  if (!inode.extra) return bytes;
  bytes += inode.extra->symlink.size();
  for (const auto& [name, value] : inode.extra->xattrs) bytes += 8 + name.size() + value.size();
  return bytes;
}

size_t size_of(const Dentry& e) {
  return 24 + e.name.size() + (e.kind == EntryKind::primary ? size_of(e.inode) : 0);
}

size_t size_of(const DirHeader& h) { return 32 + h.at.name.size() + size_of(h.inode); }

}  // namespace

std::vector<Dir*> subtree_of(const Cache& cache, const RankState& state, const Dir& root) {
  std::vector<std::pair<uint32_t, Dir*>> found;
  cache.for_each_dir([&](Dir& dir) {
    if (dir.is_foreign()) return;
    uint32_t depth = 0;
    for (const Dir* d = &dir; d; d = d->parent, ++depth) {
      if (d == &root) return void(found.emplace_back(depth, &dir));
      if (state.is_root(d->ino())) return;
    }
  });
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second->ino() < b.second->ino();
  });
  std::vector<Dir*> dirs;
  dirs.reserve(found.size());
  for (const auto& [depth, dir] : found) dirs.push_back(dir);
  return dirs;
}

SubtreeCopy::SubtreeCopy(Cache& cache, const RankState& state, Ino root, size_t part_bytes)
    : cache_(cache), state_(state), root_(root), part_bytes_(part_bytes) {}

void SubtreeCopy::release() {
  hold_off(false);
  for (auto& [ino, sent] : sent_) {
    if (Dir* dir = cache_.find_dir(Ino{ino})) unpin(*dir, sent);
    sent.pinned = false;
  }
}

void SubtreeCopy::unpin(Dir& dir, Sent& sent) {
  if (!sent.pinned) return;
  dir.pins--;
  dir.changes = nullptr;
}

void SubtreeCopy::look() {
  todo_.clear();
  left_.clear();
  at_ = 0;
  cursor_ = 0;
  Dir* root = cache_.find_dir(root_);
  if (!root) return;
  absl::flat_hash_set<uint64_t> here;
  for (Dir* dir : subtree_of(cache_, state_, *root)) {
    const uint64_t ino = dir->ino().v;
    here.insert(ino);
    if (gone_.contains(ino)) {
      MARK("migration.copy.came_back");
      broken_ = true;
    }
    auto sent = sent_.find(ino);
    if (sent == sent_.end() || dir->header.version > sent->second.version)
      todo_.push_back(dir->ino());
  }
  for (const auto& [ino, sent] : sent_)
    if (!here.contains(ino)) left_.push_back(Ino{ino});
  std::sort(left_.begin(), left_.end());
}

// A directory that was sent has left the subtree, or is no more.
void SubtreeCopy::bury(Ino ino, Sent& sent, msg::MigratePart& part) {
  MARK("migration.copy.left");
  msg::PartDir& gone = part.dirs.emplace_back();
  gone.dirty = true;
  Dir* dir = cache_.find_dir(ino);
  gone.header = tombstone(ino, dir ? std::max(dir->header.version, sent.version) : sent.version);
  if (dir) unpin(*dir, sent);
  gone_.insert(ino.v);
}

bool SubtreeCopy::next(msg::MigratePart& part) {
  size_t bytes = 0;
  if (at_ == todo_.size()) {
    look();
    if (todo_.empty() && left_.empty()) return false;
    for (Ino ino : left_) {
      bury(ino, sent_.at(ino.v), part);
      complete_.erase(ino.v);
      sent_.erase(ino.v);
      bytes += 64;
    }
    left_.clear();
  }
  while (at_ < todo_.size() && bytes < part_bytes_) {
    Dir* dir = cache_.find_dir(todo_[at_]);
    Dir* root = cache_.find_dir(root_);
    if (dir && root && Cache::is_below(dir, root)) {
      visit(*dir, part, bytes);
    } else {
      at_++;
      cursor_ = 0;
    }
  }
  if (at_ == todo_.size()) rounds_++;
  return !part.dirs.empty();
}

// As much of the directory as the part has room for.
void SubtreeCopy::visit(Dir& dir, msg::MigratePart& part, size_t& bytes) {
  const uint64_t ino = dir.ino().v;
  auto [known, fresh] = sent_.try_emplace(ino);
  Sent& sent = known->second;
  if (!sent.pinned) {
    dir.pins++;
    dir.changes = sent.changes.get();
    sent.pinned = true;
  }
  msg::PartDir& out = part.dirs.emplace_back();
  out.header = dir.header;
  out.dirty = dir.dirty() || !fresh;
  bytes += size_of(dir.header);
  if (complete_.contains(ino))
    send_changes(dir, sent, out, bytes);
  else
    send_first(dir, sent, out, bytes);
}

void SubtreeCopy::send_first(Dir& dir, Sent& sent, msg::PartDir& out, size_t& bytes) {
  if (cursor_ == 0) pass_ = dir.header.version;
  const NameHash from = cursor_;
  auto it = dir.entries.lower_bound(from);
  for (; it != dir.entries.end() && bytes < part_bytes_; ++it) {
    for (const Dentry* e = it->second; e; e = e->same_hash) {
      const bool null = e->kind == EntryKind::null;
      if (null && !e->dirty()) continue;
      // A name that is gone: for the importer's journal, too.
      msg::PartEntry& entry = out.entries.emplace_back();
      entry.dirty = e->dirty() || null;
      entry.name = e->name;
      entry.value = {e->kind, e->version, e->ino, e->type, e->inode};
      bytes += size_of(*e);
    }
  }
  const bool end = it == dir.entries.end();
  const NameHash to = end ? Dir::kEndHash : it->first;
  // What was sent of a range that is known here is all that there is.
  out.known_from = std::max(from, dir.known_from);
  out.known_to = std::min(to, dir.known_to);
  if (out.known_from >= out.known_to) out.known_from = out.known_to = 0;
  cursor_ = to;
  if (!end) return;
  sent.version = pass_;
  complete_.insert(dir.ino().v);
  at_++;
  cursor_ = 0;
}

// The importer may have logged them as they were: dirty, whatever the store has by now.
void SubtreeCopy::send_changes(Dir& dir, Sent& sent, msg::PartDir& out, size_t& bytes) {
  std::vector<NameHash>& changes = *sent.changes;
  std::sort(changes.begin(), changes.end());
  changes.erase(std::unique(changes.begin(), changes.end()), changes.end());
  while (!changes.empty() && bytes < part_bytes_) {
    for (const Dentry* e = dir.entries.first(changes.back()); e; e = e->same_hash) {
      msg::PartEntry& entry = out.entries.emplace_back();
      entry.dirty = true;
      entry.name = e->name;
      entry.value = {e->kind, e->version, e->ino, e->type, e->inode};
      bytes += size_of(*e);
    }
    changes.pop_back();
  }
  if (!changes.empty()) return;
  sent.version = dir.header.version;
  at_++;
}

uint64_t SubtreeCopy::unsent(uint64_t enough) {
  if (rounds_ == 0) return enough;
  Dir* root = cache_.find_dir(root_);
  if (!root) return 0;
  uint64_t count = 0;
  size_t seen = 0;
  for (Dir* dir : subtree_of(cache_, state_, *root)) {
    auto sent = sent_.find(dir->ino().v);
    if (sent == sent_.end()) {
      count += 1 + dir->entries.size();
    } else {
      seen++;
      if (dir->header.version > sent->second.version) count += 1 + sent->second.changes->size();
    }
    if (count >= enough) return enough;
  }
  return std::min(enough, count + (sent_.size() - seen));
}

void SubtreeCopy::hold_off(bool off) {
  if (!off) {
    for (Ino ino : held_) {
      Dir* dir = cache_.find_dir(ino);
      if (!dir) continue;
      dir->pins--;
      // One that was removed meanwhile may be another one's to give free by now: its purge's.
      if (dir->inode().nlink > 0 || dir->pins == 0) dir->frozen = false;
    }
    held_.clear();
    return;
  }
  Dir* root = cache_.find_dir(root_);
  if (!root) return;
  for (Dir* dir : subtree_of(cache_, state_, *root)) {
    if (!held_.insert(dir->ino()).second) continue;
    dir->frozen = true;
    dir->pins++;
  }
}

bool SubtreeCopy::in_use() const {
  Dir* root = cache_.find_dir(root_);
  if (!root) return false;
  for (const Dir* dir : subtree_of(cache_, state_, *root)) {
    auto sent = sent_.find(dir->ino().v);
    const uint32_t own = (sent != sent_.end() && sent->second.pinned) + held_.contains(dir->ino());
    if (dir->pins > own) return true;
  }
  return false;
}

std::vector<Ino> SubtreeCopy::dirs() const {
  std::vector<Ino> out;
  if (Dir* root = cache_.find_dir(root_))
    for (Dir* dir : subtree_of(cache_, state_, *root)) out.push_back(dir->ino());
  return out;
}

}  // namespace graftfs::migration
