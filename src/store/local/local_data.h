#pragma once
// File data in plain files.

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <functional>
#include <map>
#include <memory>

#include "store/local/cluster_files.h"
#include "store/local/data_files.h"
#include "store/local/gates.h"
#include "store/store.h"

namespace graftfs::local {

struct DataOptions {
  size_t max_open_files = 512;
  // Longer writes go to the pool; so do all for a while after one took longer than the limit.
  size_t inline_write_bytes = 128 << 10;
  Nanos slow_write = 2 * kMillisecond;
  Nanos slow_pause = 50 * kMillisecond;
  // sync_all() of more files than this is one syncfs.
  size_t sync_files_max = 16;
  // A file that has not changed for so long is sealed; where there is much to be read, for as long
  // as this takes.
  Nanos seal_after = 2 * kSecond;
  uint64_t seal_bytes_per_second = 64 << 20;
};

// Owned by the LocalStore, used from the executor's thread. Reads of what is in the page cache
// and short writes run inline; the rest, and what comes after it on the same ino, on the pool, in
// the order of issue. What is at rest is sealed in the background. A crash of the process leaves
// all that was completed; a power cut leaves of what was not synced what the file system makes of
// it. A failed write may have been carried out in part.
class LocalData final : public DataStore {
 public:
  // `on_sync_failure` is called (on the executor's thread) when the disk may have lost writes.
  LocalData(Executor& executor, BlockingPool& pool, std::shared_ptr<Volume> volume,
            std::shared_ptr<Fences> fences, DataOptions options,
            std::function<void()> on_sync_failure);
  Result<void> open();

  Task<Result<DataInfo>> write(Ino ino, uint64_t offset, std::string_view bytes,
                               uint64_t valid_size) override;
  Task<Result<void>> read(Ino ino, uint64_t offset, char* out, size_t length) override;
  Task<Result<DataInfo>> truncate(Ino ino, uint64_t size) override;
  Task<Result<DataInfo>> allocate(Ino ino, AllocateMode mode, uint64_t offset, uint64_t length,
                                  uint64_t valid_size) override;
  Task<Result<uint64_t>> seek(Ino ino, uint64_t offset, bool data, uint64_t size) override;
  Task<Result<DataInfo>> copy(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                              uint64_t length, uint64_t valid_size) override;
  Task<Result<void>> sync(Ino ino) override;
  Task<Result<void>> sync_all() override;
  // True from the start until the first sync_all(): the previous owner's writes may be unsynced.
  bool has_unsynced() const override {
    return inherited_ || !unsynced_.empty() || !removed_from_.empty();
  }
  void note_written(Ino ino) override;
  void forget(Ino ino) override { files_->forget(ino); }
  Task<Result<void>> believe(Ino ino) override;
  // What a crash has left without a whole seal is looked for, once, and sealed.
  void look_for_unsealed();
  void on_damage(std::function<void(const Error&)> fn) override { on_damage_ = std::move(fn); }
  Task<Result<void>> remove(Ino ino) override;
  Task<Result<void>> remove_many(std::vector<Ino> inos) override;
  Task<Result<std::vector<Ino>>> list(Ino from, size_t max) override;

 private:
  struct Unsynced {
    uint64_t generation = 0;  // of the last change
    bool created = false;     // its name may not be durable
  };
  struct SyncItem {
    Ino ino;
    uint64_t generation = 0;
    bool created = false;
    std::shared_ptr<DataFile> file;
  };

  Result<void> alive() const { return files_->volume().alive(); }
  void changed(const DataFile& file, bool created);
  void synced(const SyncItem& item);
  void poison(Ino ino);
  Task<Result<void>> sync_files(std::vector<SyncItem> items);
  Task<Result<void>> sync_volume(std::vector<SyncItem> items);
  // Opens them; those that are gone need no sync.
  Task<Result<void>> sync_present(std::vector<SyncItem> items);
  Task<Result<void>> sync_removals(std::vector<std::pair<int, uint64_t>> fans);
  void removed(Ino ino);
  void removals_synced(const std::vector<std::pair<int, uint64_t>>& fans);
  std::unexpected<Error> poisoned_error(Ino ino) const;
  // Seals what is at rest, until there is nothing more to seal.
  Task<void> seal_at_rest();
  Task<void> seal(std::vector<Ino> inos);
  void never_seal();
  void start_looking();
  Task<void> find_unsealed();
  bool is_stale(const Error& error, Ino ino, int tries);
  void forget_all_of(Ino ino);
  // Passes the error on, and tells of damage.
  Error told(Ino ino, Error error);
  // The file may be changed without waiting for the disk or for another process.
  bool free_to_write(DataFile& file, uint64_t offset, uint64_t length, uint64_t valid_size);
  void rests(Ino ino);
  // Opens it, and takes note if that made the file.
  using Make = DataFiles::Make;
  Result<std::shared_ptr<DataFile>> open_file(Ino ino, Make make);

  Executor& executor_;
  BlockingPool& pool_;
  DataOptions options_;
  std::shared_ptr<DataFiles> files_;
  std::shared_ptr<Fences> fences_;
  std::function<void()> on_sync_failure_;
  Gates gates_;
  Nanos slow_until_ = 0;
  uint64_t generation_ = 0;
  bool inherited_ = true;
  absl::flat_hash_map<Ino, Unsynced> unsynced_;
  // Directories (by fan) whose files were removed, and when last: the names may come back.
  std::map<int, uint64_t> removed_from_;
  absl::flat_hash_set<Ino> poisoned_;
  // Files to be sealed, by when they may be.
  absl::flat_hash_map<Ino, Nanos> to_seal_;
  bool sealing_ = false;
  bool never_ = false;  // nothing can be sealed here
  bool look_ = false;   // once the first sync_all() is over
  std::function<void(const Error&)> on_damage_;
  absl::flat_hash_set<Ino> told_;  // of their damage
  bool all_poisoned() const { return files_->volume().lost_data; }
  std::vector<Ino> listed_;  // of the list() under way, from listed_from_ on
  Ino listed_from_;
  TaskScope tasks_;  // the last: they use all of the above
};

}  // namespace graftfs::local
