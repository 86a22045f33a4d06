#pragma once
// The entries of one directory, in hash order.

#include <absl/container/btree_map.h>

#include "types/entry.h"

namespace graftfs {

struct Dentry;

// A B-tree that remembers where it looked last. One operation looks for the same name up to six
// times (to check it, to change it, to apply the change), and inserts where it looked in vain; all
// but the first of these cost no walk. Entries of the same hash hang behind the first one.
//
// Owned by a Dir, in its rank's thread.
class EntryIndex {
 public:
  using Map = absl::btree_map<NameHash, Dentry*>;

  // The first entry of that hash; null: none.
  Dentry* first(NameHash hash) const {
    auto at = where(hash);
    return at != map_.end() && at->first == hash ? at->second : nullptr;
  }
  // Makes `entry` the first of its hash; what was the first is the caller's to hang behind it.
  void set_first(NameHash hash, Dentry* entry) {
    auto at = map_.try_emplace(where(hash), hash, entry);
    at->second = entry;
    looked_ = {hash, at, true};
  }
  void erase(NameHash hash) { looked_ = {hash, map_.erase(where(hash)), true}; }

  bool empty() const { return map_.empty(); }
  size_t size() const { return map_.size(); }  // different hashes
  auto begin() const { return map_.begin(); }
  auto end() const { return map_.end(); }
  auto lower_bound(NameHash hash) const { return map_.lower_bound(hash); }
  auto upper_bound(NameHash hash) const { return map_.upper_bound(hash); }

 private:
  Map::const_iterator where(NameHash hash) const {
    if (!looked_.valid || looked_.hash != hash) looked_ = {hash, map_.lower_bound(hash), true};
    return looked_.at;
  }

  struct Looked {
    NameHash hash = 0;
    Map::const_iterator at;  // the first entry that is not before `hash`
    bool valid = false;
  };
  Map map_;
  mutable Looked looked_;
};

}  // namespace graftfs
