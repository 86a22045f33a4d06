#pragma once
// The files below VOLUME/journal/rank-N: segments, recycled files, the lock and the owner record.
// Everything here blocks; LocalJournal runs it on helper threads.

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/ids.h"
#include "store/local/local_common.h"
#include "store/store.h"

namespace graftfs::local {

struct JournalOptions {
  uint64_t segment_capacity = 1 << 20;
  int spares = 2;       // segments prepared ahead
  int max_recycled = 4;  // removed segments kept for reuse
};

// Who owned the journal last, as the file `owner` says.
struct OwnerRecord {
  uint64_t pid = 0;
  std::string boot_id;
  std::string mount;  // empty: unsynced writes must not be trusted
};

// Shared by a LocalJournal and the jobs it started; any thread. The lock is held from own()
// until release() or the end of the process, however it ends. A crash leaves segments that are
// whole (a file gets its segment's name once it is preallocated and zeroed on disk), and files
// "new-*", which own() deletes. An error leaves no segment half made.
class JournalFiles {
 public:
  JournalFiles(std::shared_ptr<Volume> volume, RankId rank, JournalOptions options);

  // Locks the journal and makes it this process's. EBUSY, with the owner's pid.
  Result<void> own();
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
  Result<void> scan();
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
  Fd lock_;
  bool survived_ = false;
  std::atomic<bool> trusted_{false};    // what the owner record says
  std::atomic<uint64_t> made_{0};       // the first segment that this owner made
  std::mutex mutex_;  // of what follows
  std::vector<std::string> free_;
  uint64_t next_file_ = 1;
};

}  // namespace graftfs::local
