#pragma once
// A volume on Ceph RADOS (docs/formats/store-rados.md).

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "store/local/volume_file.h"
#include "store/rados/rados_data.h"
#include "store/rados/rados_dirs.h"
#include "store/rados/rados_journal.h"
#include "store/store.h"
#include "store/volume.h"

namespace graftfs {

struct RadosOptions {
  uint64_t segment_capacity = 1 << 20;
  size_t big_directory = 50'000;  // entries, from which on it lies in several objects
  bool early_journal = false;     // see rados::RadosJournal
};

// What a process has of a volume once: what it is called, and what it is. Any thread; the calls
// block, each with a client of its own.
class RadosVolume final : public Volume, public std::enable_shared_from_this<RadosVolume> {
 public:
  // Makes an empty volume in the pool's namespace, which must be empty. EEXIST, ENOTEMPTY.
  static Result<local::VolumeFile> format(const std::string& name,
                                          local::VolumeFile file = local::new_volume_file());
  // Removes a volume's objects, and nothing else. EBUSY where a rank of it is owned.
  static Result<void> erase(const std::string& name);
  // EINVAL where it is not a volume or was made by a newer version, EUCLEAN where it is damaged;
  // whatever keeps from the cluster is a sentence.
  static Result<std::shared_ptr<RadosVolume>> open(const std::string& name,
                                                   RadosOptions options = {});
  const local::VolumeFile& file() const override { return file_; }
  std::string name() const override { return name_.shown(); }
  Result<std::unique_ptr<Store>> use(Executor& executor, BlockingPool& pool) override;
  Result<std::string> secret(const std::function<std::string()>& make) override;
  // Processes that own a rank.
  Result<std::optional<std::string>> in_use() override;
  const rados::VolumeName& full_name() const { return name_; }
  const RadosOptions& options() const { return options_; }
  // The volume's settings; empty: there are none.
  Result<std::string> config() const;
  Result<void> set_config(std::string_view text) const;

 private:
  RadosVolume() = default;
  rados::VolumeName name_;
  RadosOptions options_;
  local::VolumeFile file_;
};

// One executor's use of a volume, and a RADOS client of its own. Owned by that executor's main;
// used from its thread, which like the pool must outlive it. Destroying it waits, not for long, for
// what is under way, and gives up the journals that it owns. A crash leaves what the completed
// calls promised; its journals are free when the cluster, or this machine, knows that it is dead.
class RadosStore final : public Store {
 public:
  static Result<std::unique_ptr<RadosStore>> on(Executor& executor, BlockingPool& pool,
                                                std::shared_ptr<RadosVolume> volume);
  // Over a client that is there, whose calls complete on the executor.
  RadosStore(Executor& executor, std::shared_ptr<rados::Session> session, RadosOptions options);
  ~RadosStore() override;

  DirStore& dirs() override { return *dirs_; }
  DataStore& data() override { return *data_; }
  StateStore& state() override { return *state_; }
  using Store::own_journal;
  Task<Result<JournalDevice*>> own_journal(RankId rank, OwnOptions options) override;
  Task<Result<Epoch>> raise_epoch(RankId rank, Epoch at_least) override;
  Task<Result<void>> disown_journal(RankId rank) override;
  Task<Result<JournalDevice*>> read_journal(RankId rank) override;
  // Nothing that was completed is ever lost, unless its owner said so early.
  bool unsynced_survived(RankId rank) const override;
  Task<Result<StoreUsage>> usage() override;
  void shut_down() override { session_->shut_down(); }
  std::string name() const override { return session_->name().shown(); }
  // Of file data that is written: see rados::RadosData. So it is with an early journal of its own.
  void answer_early() { data_->answer_early(); }

 private:
  struct Owned {
    std::unique_ptr<rados::RadosJournal> journal;
    Epoch epoch;
    uint64_t fence = 0;  // the version of the fence's state
    uint64_t node = 0;
    bool all_survived = false;
  };
  Task<Result<void>> take(RankId rank, OwnOptions options, Owned& owned);
  Task<Result<void>> shut_out(std::string address);

  Executor& executor_;
  const RadosOptions options_;
  std::shared_ptr<rados::Session> session_;
  std::unique_ptr<rados::RadosDirs> dirs_;
  std::unique_ptr<rados::RadosState> state_;
  std::unique_ptr<rados::RadosData> data_;
  std::shared_ptr<rados::Tokens> tokens_ = std::make_shared<rados::Tokens>();
  std::map<RankId, Owned> owned_;
  std::map<RankId, std::unique_ptr<rados::RadosJournal>> readers_;
  std::vector<std::unique_ptr<rados::RadosJournal>> former_;  // given up; devices live on
};

}  // namespace graftfs
