#pragma once
// The rank's cache: a forest of directories with some of their entries.
//
// Owned by one rank, used in its thread, in memory only. Changes come from two sides: events
// (live and replayed, through the apply_* functions, which obey versions) and the store (through
// the merge_* functions, which never overwrite what the cache knows better). A crash loses it;
// the journal and the store hold everything in it.

#include <absl/container/flat_hash_map.h>

#include <span>
#include <string_view>
#include <vector>

#include "cache/dentry.h"
#include "store/store.h"
#include "types/ino_table.h"

namespace graftfs {

struct CacheUsage {
  size_t dirs = 0;
  size_t entries = 0;
  size_t dirty = 0;
  size_t bytes = 0;  // estimate of the memory held
};

class Cache {
 public:
  Cache();
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  // -- looking -------------------------------------------------------------------------------
  Dir* find_dir(Ino ino) const;       // null: not cached
  Dentry* find_inode(Ino ino) const;  // the entry that embeds the file; null: not cached
  // The entry (of any kind, also null), or nullptr where the cache has none of that name.
  Dentry* find_entry(const Dir& dir, NameHash hash, std::string_view name) const;
  Dentry* find_entry(const Dir& dir, std::string_view name) const {
    return find_entry(dir, name_hash(name), name);
  }
  // Whether `dir` lies in the subtree below `ancestor` (or is it), as far as parents are cached.
  static bool is_below(const Dir* dir, const Dir* ancestor);
  // "/a/b" from the import point down; a dangling root shows as "?#ino".
  static std::string path_of(const Dir& dir);
  const CacheUsage& usage() const { return usage_; }
  template <class F>
  void for_each_dir(F&& f) const {
    for (Dir* d = ring_.ring_next; d != &ring_; d = d->ring_next) f(*d);
  }

  // -- events --------------------------------------------------------------------------------
  // An item is taken if its version is newer than what is known; a dirty one then waits for
  // write-back from `lsn` on. They return false for an item that has no base to stand on: its
  // directory was never named (damage in a journal; a programmer's error live).
  bool apply_header(Lsn lsn, bool dirty, const DirHeader& header);
  bool apply_entry(Lsn lsn, bool dirty, Ino dir, std::string_view name, const EntryValue& value);
  // Only the version, times, link count and number of entries of a known header.
  bool apply_touch(Lsn lsn, bool dirty, const DirHeader& header);
  // A directory left this rank (Export) or was purged (InoRelease): it and all its entries are
  // dropped, dirty or not. Its cached children dangle.
  void discard_dir(Ino dir);
  // The same for several, at the price of a walk over the directories: their entries are not
  // visible any more, and are freed by sweep().
  void discard_dirs(const std::vector<Ino>& dirs);
  // Frees up to `steps` entries of what was discarded. False: there is more.
  bool sweep(size_t steps);
  // All that is in `aside`, a cache which nobody else looks at, is in this one from now on, and
  // `aside` is empty. Of what both know the newer version counts. The price grows with the number
  // of directories, not of entries: a subtree arrives in one go.
  void join(Cache& aside);
  // Where it hangs, once its parent is cached.
  void attach(Dir& dir);
  void attach_all();

  // -- subtrees of other ranks -----------------------------------------------------------------
  // Where one begins the cache has a stub: a Dir below its parent, which must be cached, with
  // `foreign` set and nothing in it. It is never evicted, so the way from it to the import's root
  // is always at hand. Changes the rank of a stub that is there.
  Dir* put_stub(Ino ino, Dir& parent, RankId rank);
  void drop_stub(Ino ino);  // nothing where it is none

  // -- store ---------------------------------------------------------------------------------
  // A header that was read. Keeps what is newer here.
  Dir* merge_header(const DirHeader& header);
  void merge_entry(Dir& dir, NameHash hash, std::string_view name, const EntryValue& value);
  // The store was asked for this name and has none.
  void merge_absent(Dir& dir, NameHash hash, std::string_view name);
  // All hashes in [from, to) have been merged.
  void merge_known(Dir& dir, NameHash from, NameHash to);

  // -- write-back ------------------------------------------------------------------------------
  // The dirty item that waits for the oldest event, or null.
  DirtyItem* oldest_dirty() const;
  // All of them: first what has arrived with subtrees, then the others, both oldest first.
  DirtyItem* first_dirty() const { return next_dirty(&arrived_); }
  DirtyItem* next_dirty(const DirtyItem* item) const;
  size_t dirty_count() const { return usage_.dirty; }
  // The item as it is now is in the store.
  void mark_clean(DirtyItem& item);
  // What the store does not have of these dirty items was logged at `lsn` or later: they wait from
  // there on, behind what is older.
  void wait_from(std::span<DirtyItem* const> items, Lsn lsn);

  // -- memory ----------------------------------------------------------------------------------
  // Drops clean items that were not used lately until at most `bytes` are held, or `steps`
  // items were looked at.
  void evict(size_t bytes, size_t steps);

 private:
  Dir* new_dir(const DirHeader& header);
  Dentry* new_dentry(Dir& dir, NameHash hash, std::string_view name);
  void drop_dentry(Dentry& dentry);
  void set_value(Dentry& dentry, const EntryValue& value);
  void mark_dirty(DirtyItem& item, Lsn lsn);
  void insert_dirty(DirtyItem& item, Lsn lsn, DirtyItem* before);
  void unlink_dirty(DirtyItem& item);
  static Dir* dir_of(DirtyItem& item) {
    return item.is_header ? static_cast<Dir*>(&item) : static_cast<Dentry&>(item).dir;
  }
  void set_parent(Dir& dir, Dir* parent);
  void drop_dir(Dir& dir);
  bool evict_entries(Dir& dir, size_t bytes, size_t& steps);
  void take_from_ring(Dir& dir);
  void merge_dir(const Dir& dir);

  absl::flat_hash_map<uint64_t, Dir*> dirs_;
  InoTable<Dentry*> inodes_;
  // Heads of lists in the order of `since`. What arrives has one of its own, so that nothing has to
  // be sorted in. Both may have items of directories that were discarded and are not freed yet.
  DirtyItem dirty_, arrived_;
  Dir ring_;                     // list head of all directories
  Dir* hand_;                    // of the eviction clock
  std::vector<Dir*> discarded_;  // neither in dirs_ nor in the ring; to be freed
  CacheUsage usage_;
};

}  // namespace graftfs
