#include "server/recent.h"

#include <algorithm>

namespace graftfs {

void Recent::note(const TreeEvent& event, Lsn lsn) {
  if (!on()) since_ = lsn;
  keys_.clear();
  for (const DirItem& item : event.dirs)
    if (item.full) keys_.emplace_back(item.header.inode.ino, kSelf);
  for (const EntryItem& item : event.entries)
    keys_.emplace_back(event.dirs[item.dir].header.inode.ino, name_hash(item.name));
  // What others did to any of these shows in all of them now: entries move.
  Lsn moved;
  for (const Key& key : keys_)
    moved = std::max(moved, others(key.first, key.second, event.session));
  for (const Key& key : keys_) {
    marks_[key] = {lsn, event.session, moved};
    order_.emplace_back(lsn, key);
  }
}

void Recent::forget(Lsn durable) {
  while (!order_.empty() && order_.front().first <= durable) {
    auto it = marks_.find(order_.front().second);
    if (it != marks_.end() && it->second.last <= durable) marks_.erase(it);
    order_.pop_front();
  }
}

void Recent::stop() {
  marks_.clear();
  order_.clear();
  since_ = {};
}

Lsn Recent::others(Ino dir, NameHash name, SessionId session) const {
  auto it = marks_.find({dir, name});
  return it == marks_.end() ? Lsn{} : others(it->second, session);
}

}  // namespace graftfs
