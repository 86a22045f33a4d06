#pragma once
// The files below VOLUME/journal/rank-N: segments, recycled files, the lock and the owner record.
// Everything here blocks; LocalJournal runs it on helper threads.

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/ids.h"
#include "store/local/cluster_files.h"
#include "store/local/local_common.h"
#include "store/store.h"

namespace graftfs::local {

struct JournalOptions {
  uint64_t segment_capacity = 1 << 20;
  int spares = 2;        // segments prepared ahead
  int max_recycled = 4;  // removed segments kept for reuse
};

// Who owned the journal last, as the file `owner` says.
struct OwnerRecord {
  uint64_t pid = 0;
  std::string boot_id;
  std::string mount;  // empty: unsynced writes must not be trusted
};

// Shared by a LocalJournal and the jobs it started; any thread. `lock-E`, where E is the owner's
// epoch, is held from claim() until release() or the end of the process, however it ends: where it
// is free, the owner is dead. Who the owner is, the fence says. A crash leaves segments that are
// whole (a file gets its segment's name once it is preallocated and zeroed on disk), and files
// "new-*", which the next owner deletes. An error leaves no segment half made.
//
// An owner that was fenced may be anywhere in here and wake up later. So files are named by the
// epoch that made them, a new owner takes over none of an owner that may still live, it recycles
// only segments that it made itself, and what somebody else makes or removes is no error.
class JournalFiles {
 public:
  JournalFiles(std::shared_ptr<Volume> volume, std::shared_ptr<const ClusterFiles> cluster,
               RankId rank, JournalOptions options);

  struct Claim {
    std::shared_ptr<Fence> fence;
    bool proven = false;  // that the process of the owner before has ended
  };
  // Raises the fence: from now on this is the owner. EBUSY, with the owner's pid; ESTALE.
  Result<Claim> claim(const OwnOptions& options);
  // Then, when no lease of an owner before can be left: looks at what is there.
  Result<void> settle(bool proven);
  // The fence at a higher epoch.
  Result<std::shared_ptr<Fence>> raise(Epoch at_least);
  // Whether the previous owner's record says that its unsynced writes are still there.
  bool unsynced_survived() const { return survived_; }
  void release();
  // A segment was synced. The first of this owner's own says what counts of what was found, so
  // from then on unsynced writes may be believed in again. From one thread.
  void synced(SegmentId id);
  // After a failed sync: the next owner must not believe in unsynced writes.
  void distrust();
  // Opens the directory without owning it. ENOENT where the rank has no journal.
  Result<void> open_for_reading();

  Result<std::vector<SegmentInfo>> list();
  Result<std::shared_ptr<Fd>> create(SegmentId id);
  Result<std::shared_ptr<Fd>> open(SegmentId id, bool for_writing);
  Result<void> remove(SegmentId id);
  // Prepares spare files until there are enough. Stops quietly when the disk is full.
  void prepare_spares();

  const JournalOptions& options() const { return options_; }
  const Volume& volume() const { return *volume_; }
  std::string name_of(SegmentId id) const;

  // Set once: by release() (ESTALE) or a failed sync (EIO).
  std::atomic<int> closed{0};
  Result<void> usable(SegmentId id) const;

 private:
  Result<void> open_dir(bool create);
  Result<Fd> lock_epoch(Epoch epoch);
  std::unexpected<Error> is_busy();
  std::shared_ptr<Fence> fence() const;  // null: for reading
  void set_fence(std::shared_ptr<Fence> fence);
  Result<void> fenced_in() const;
  Result<void> scan(bool proven);
  Result<void> remove_old_locks();
  Result<void> write_owner(bool trusted);
  OwnerRecord read_owner();
  bool is_trusted(const OwnerRecord& previous) const;
  std::string mount_of_dir() const;
  // Leaves `kept` bytes of the disk free.
  Result<std::string> prepare_file(uint64_t kept);
  std::string shown(const std::string& name) const { return dir_name_ + "/" + name; }

  std::shared_ptr<Volume> volume_;
  RankId rank_;
  JournalOptions options_;
  std::string dir_name_;
  Fd dir_;
  std::shared_ptr<const ClusterFiles> cluster_;
  std::vector<Fd> locks_;
  uint64_t node_ = 0;
  mutable std::mutex fence_mutex_;
  std::shared_ptr<Fence> fence_;
  Epoch before_;  // of the owner before
  bool survived_ = false;
  std::atomic<bool> trusted_{false};  // what the owner record says
  std::atomic<uint64_t> made_{0};     // the first segment that this owner made
  std::mutex mutex_;                  // of what follows
  std::vector<std::string> free_;
  std::set<SegmentId> there_;  // segments found or made
  uint64_t next_file_ = 1;
};

}  // namespace graftfs::local
