#pragma once
// What the volume of a run lies on: the simulated disk, or the modelled cluster of objects.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/executor.h"
#include "store/memory/memory_disk.h"
#include "store/rados/model_cluster.h"
#include "store/rados/rados_store.h"
#include "store/store.h"

namespace graftfs::sim {

// Owned by the world; outlives the stores on it.
class Medium {
 public:
  using Process = rados::ModelProcess;
  virtual ~Medium() = default;
  virtual std::unique_ptr<Store> open(NodeExecutor& executor, const Process& process) = 0;
  // The process dies; to be called before its stores are destroyed.
  virtual void kill(const Process&) {}
  // To be called after the stores of the dead are destroyed: what they leave.
  virtual void crash(Random&, CrashKind) {}
  // The machine of these ranks loses its power: in the same place.
  virtual void crash_of(Random&, const std::vector<RankId>&) {}
  // A look at what is stored, without what is in flight.
  virtual std::shared_ptr<Medium> clone() const = 0;
  // The same, after a death of everybody now.
  virtual std::shared_ptr<Medium> what_if(Random& random, CrashKind kind) const = 0;
  // Every directory of which anything is there.
  virtual std::vector<Ino> dirs() const = 0;
  // A key of the state, as it is; "" where there is none.
  virtual std::string state(const std::string& key) const = 0;
  // How many calls have reported success and did something else.
  virtual uint64_t lies() const { return 0; }
};

class DiskMedium : public Medium {
 public:
  DiskMedium(std::shared_ptr<MemoryDisk> disk, Random* random)
      : disk_(std::move(disk)), random_(random) {}
  std::unique_ptr<Store> open(NodeExecutor& executor, const Process& process) override;
  void crash(Random& random, CrashKind kind) override { disk_->crash(random, kind); }
  void crash_of(Random& random, const std::vector<RankId>& ranks) override {
    disk_->crash_of(random, ranks);
  }
  std::shared_ptr<Medium> clone() const override;
  std::shared_ptr<Medium> what_if(Random& random, CrashKind kind) const override;
  std::vector<Ino> dirs() const override { return disk_->dirs(); }
  std::string state(const std::string& key) const override { return disk_->state(key); }
  uint64_t lies() const override { return disk_->lies(); }

 private:
  std::shared_ptr<MemoryDisk> disk_;
  Random* random_;
};

// Who dies is shut out by whoever comes next, and not before.
class RadosMedium final : public Medium {
 public:
  RadosMedium(std::shared_ptr<rados::ModelCluster> cluster, RadosOptions options)
      : cluster_(std::move(cluster)), options_(options) {}
  std::unique_ptr<Store> open(NodeExecutor& executor, const Process& process) override;
  void kill(const Process& process) override;
  std::shared_ptr<Medium> clone() const override;
  std::shared_ptr<Medium> what_if(Random& random, CrashKind kind) const override;
  std::vector<Ino> dirs() const override;
  std::string state(const std::string& key) const override { return cluster_->state(key); }

 private:
  std::shared_ptr<rados::ModelCluster> cluster_;
  RadosOptions options_;
};

// The directories as they are stored.
struct StoredDir {
  std::optional<std::string> header;
  std::map<EntryKey, std::string> entries;
};
Result<std::map<Ino, StoredDir>> stored_dirs(const Medium& medium);

}  // namespace graftfs::sim
