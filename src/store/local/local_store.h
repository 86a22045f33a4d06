#pragma once
// A volume in a directory of this machine (docs/formats/store-local.md).

#include <map>
#include <memory>
#include <string>

#include "store/local/local_data.h"
#include "store/local/local_dirs.h"
#include "store/local/local_journal.h"
#include "store/local/volume_file.h"
#include "store/store.h"

namespace graftfs {

struct LocalOptions {
  local::JournalOptions journal;
  local::DataOptions data;
  local::DirsOptions dirs;
  // Address space for the directories; it is only reserved, and grows when it is used up.
  size_t dirs_map_size = size_t{1} << 40;
};

// Owned by the process's main; used from the executor's thread, which like the pool must outlive
// it. Threads of its own: one that commits directories, and for each journal that is owned one
// that syncs and one that prepares segments. Destroying it waits for what they are doing and
// writes nothing else: there is nothing to be written at the end. A crash at any point leaves
// what the completed calls promised; the journal's lock is given back by the kernel.
class LocalStore final : public Store {
 public:
  // Makes an empty volume (see local::format_volume). Blocks.
  static Result<local::VolumeFile> format(const std::string& path) {
    return local::format_volume(path);
  }
  // Opens a volume: EINVAL where it is not one or was made by a newer version, EUCLEAN where it
  // is damaged, EBUSY where this process has it open or it is being formatted. Blocks.
  static Result<std::unique_ptr<LocalStore>> open(Executor& executor, BlockingPool& pool,
                                                  const std::string& path,
                                                  LocalOptions options = {});
  ~LocalStore() override;

  DirStore& dirs() override { return *dirs_; }
  DataStore& data() override { return *data_; }
  StateStore& state() override { return *state_; }
  Task<Result<JournalDevice*>> own_journal(RankId rank) override;
  Task<Result<void>> disown_journal(RankId rank) override;
  Task<Result<JournalDevice*>> read_journal(RankId rank) override;
  bool unsynced_survived(RankId rank) const override;
  Task<Result<StoreUsage>> usage() override;
  void shut_down() override { volume_->shut_down = true; }
  std::string name() const override { return volume_->path; }
  const local::VolumeFile& volume_file() const { return volume_file_; }

 private:
  LocalStore(Executor& executor, BlockingPool& pool, LocalOptions options)
      : executor_(executor), pool_(pool), options_(options) {}
  Result<void> open_parts(const std::string& path);
  void distrust_journals();

  Executor& executor_;
  BlockingPool& pool_;
  LocalOptions options_;
  std::shared_ptr<local::Volume> volume_;
  local::VolumeFile volume_file_;
  local::Fd lock_;
  std::shared_ptr<local::LmdbEnv> env_;
  std::unique_ptr<local::LocalDirs> dirs_;
  std::unique_ptr<local::LocalState> state_;
  std::unique_ptr<local::LocalData> data_;
  std::map<RankId, std::unique_ptr<local::LocalJournal>> owned_, readers_;
  std::vector<std::unique_ptr<local::LocalJournal>> former_;  // given up; devices live on
  std::unique_ptr<BlockingPool> writer_;  // last: its thread ends first
};

}  // namespace graftfs
