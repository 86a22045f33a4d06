#pragma once
// What a process has of a volume once, whatever it is stored on.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/blocking_pool.h"
#include "store/local/volume_file.h"
#include "store/store.h"

namespace graftfs {

// Shared by all executors of a process; any thread; the calls block.
class Volume {
 public:
  virtual ~Volume() = default;
  virtual const local::VolumeFile& file() const = 0;
  virtual std::string name() const = 0;  // for messages
  // One executor's use of it, which keeps it.
  virtual Result<std::unique_ptr<Store>> use(Executor& executor, BlockingPool& pool) = 0;
  // The volume's secret: what `make` returns, unless there is one.
  virtual Result<std::string> secret(const std::function<std::string()>& make) = 0;
  // Who has it open, in words; nullopt: nobody that can be known of.
  virtual Result<std::optional<std::string>> in_use() { return std::nullopt; }

  // A process that is stopped may hold up others where they share memory
  // (docs/protocols/cluster.md). `fn` is called, on the thread that commits, when a commit has
  // waited for so long; it may end one that is stopped and fenced, and may use what follows.
  virtual void when_stuck(Nanos, std::function<void()>) {}
  virtual Result<StateValue> cluster_value(const std::string&) const { return StateValue{}; }
  virtual Result<std::vector<std::pair<std::string, StateValue>>> cluster_list(
      const std::string&) const {
    return {};
  }
  // Frees what readers that died hold.
  virtual void clear_dead_readers() {}
};

struct VolumeOptions {
  uint64_t segment_capacity = 1 << 20;
  bool new_sums = false;  // see local::DirsOptions
  // A journal on Ceph, and file data that the same store writes, complete before they are there:
  // the process's death then counts as a power loss (docs/decisions/015-posix-on-ceph.md).
  bool early_journal = false;
};

// A directory, or rados:POOL/... . Errors as those of LocalVolume and RadosVolume.
Result<std::shared_ptr<Volume>> open_volume(const std::string& name, VolumeOptions options = {});

}  // namespace graftfs
