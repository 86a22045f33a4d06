#pragma once
// A volume in a directory of this machine (docs/formats/store-local.md).

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "store/local/cluster_files.h"
#include "store/local/local_data.h"
#include "store/local/local_dirs.h"
#include "store/local/local_journal.h"
#include "store/local/volume_file.h"
#include "store/store.h"
#include "store/volume.h"

namespace graftfs {

struct LocalOptions {
  local::JournalOptions journal;
  local::DataOptions data;
  local::DirsOptions dirs;
  // Address space for the directories; it is only reserved, and grows when it is used up.
  size_t dirs_map_size = size_t{1} << 40;
};

// What a process has of a volume once: its lock, the directories with the thread that commits
// them, and the files of the cluster state. Held by shared_ptr by every LocalStore on it; any
// thread. Destroying it waits for what its thread is doing. A crash leaves nothing locked.
class LocalVolume final : public Volume, public std::enable_shared_from_this<LocalVolume> {
 public:
  // EINVAL where it is not a volume or was made by a newer version, EUCLEAN where it is damaged,
  // EBUSY where this process has it open or it is being formatted. Blocks.
  static Result<std::shared_ptr<LocalVolume>> open(const std::string& path,
                                                   LocalOptions options = {});
  ~LocalVolume() override;

  const local::VolumeFile& file() const override { return file_; }
  std::string name() const override { return volume_->path; }
  Result<std::unique_ptr<Store>> use(Executor& executor, BlockingPool& pool) override;
  Result<std::string> secret(const std::function<std::string()>& make) override {
    return local::read_or_make_key(volume_->path, make);
  }
  const std::string& path() const { return volume_->path; }
  void when_stuck(Nanos after, std::function<void()> fn) override {
    env_->when_stuck(after, std::move(fn));
  }
  Result<StateValue> cluster_value(const std::string& key) const override {
    return cluster_->get(key);
  }
  Result<std::vector<std::pair<std::string, StateValue>>> cluster_list(
      const std::string& prefix) const override {
    return cluster_->list(prefix);
  }
  void clear_dead_readers() override { env_->clear_dead_readers(); }

 private:
  friend class LocalStore;
  LocalVolume() = default;
  // Returns when what was given to the writer before is done.
  void drain();
  // The disk has lost writes: whoever owns these journals next must doubt what was not synced.
  void distrust_journals(BlockingPool& pool);
  void note_owned(std::shared_ptr<local::JournalFiles> files);

  LocalOptions options_;
  std::shared_ptr<local::Volume> volume_;
  local::VolumeFile file_;
  local::Fd lock_;
  std::shared_ptr<local::ClusterFiles> cluster_;
  std::shared_ptr<local::LmdbEnv> env_;
  std::mutex mutex_;
  std::vector<std::weak_ptr<local::JournalFiles>> owned_;
  std::unique_ptr<BlockingPool> writer_;  // of directories
  std::unique_ptr<BlockingPool> state_;   // never waits for LMDB, nor behind file data
};

// One executor's use of a volume. Owned by that executor's main; used from its thread, which like
// the pool must outlive it. For each journal that is owned there are two threads: one that syncs
// and one that prepares segments. Destroying it waits for what they are doing and writes nothing
// else: there is nothing to be written at the end. A crash at any point leaves what the completed
// calls promised; a journal's lock is given back by the kernel.
class LocalStore final : public Store {
 public:
  // Makes an empty volume (see local::format_volume). Blocks.
  static Result<local::VolumeFile> format(const std::string& path,
                                          local::VolumeFile file = local::new_volume_file()) {
    return local::format_volume(path, std::move(file));
  }
  // On a volume of its own.
  static Result<std::unique_ptr<LocalStore>> open(Executor& executor, BlockingPool& pool,
                                                  const std::string& path,
                                                  LocalOptions options = {});
  // Beside the other stores of the process.
  static Result<std::unique_ptr<LocalStore>> on(Executor& executor, BlockingPool& pool,
                                                std::shared_ptr<LocalVolume> volume);
  ~LocalStore() override;

  DirStore& dirs() override { return *dirs_; }
  DataStore& data() override { return *data_; }
  StateStore& state() override { return *state_; }
  using Store::own_journal;
  Task<Result<JournalDevice*>> own_journal(RankId rank, OwnOptions options) override;
  Task<Result<Epoch>> raise_epoch(RankId rank, Epoch at_least) override;
  Task<Result<void>> disown_journal(RankId rank) override;
  Task<Result<JournalDevice*>> read_journal(RankId rank) override;
  bool unsynced_survived(RankId rank) const override;
  Task<Result<StoreUsage>> usage() override;
  void shut_down() override { volume_->shut_down = true; }
  std::string name() const override { return volume_->path; }
  const local::VolumeFile& volume_file() const { return process_->file(); }
  LocalVolume& volume() { return *process_; }

 private:
  LocalStore(Executor& executor, BlockingPool& pool, std::shared_ptr<LocalVolume> volume)
      : executor_(executor), pool_(pool), process_(std::move(volume)), volume_(process_->volume_) {}
  Result<void> open_parts();

  Executor& executor_;
  BlockingPool& pool_;
  std::shared_ptr<LocalVolume> process_;
  std::shared_ptr<local::Volume> volume_;
  std::shared_ptr<local::Fences> fences_ = std::make_shared<local::Fences>();
  std::unique_ptr<local::LocalDirs> dirs_;
  std::unique_ptr<local::LocalState> state_;
  std::unique_ptr<local::LocalData> data_;
  std::map<RankId, std::unique_ptr<local::LocalJournal>> owned_, readers_;
  std::vector<std::unique_ptr<local::LocalJournal>> former_;  // given up; devices live on
};

}  // namespace graftfs
