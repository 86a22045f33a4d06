#pragma once
// A node's part in the cluster: it says that it lives, and looks who else does.

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/task.h"
#include "cluster/records.h"
#include "cluster/watch.h"
#include "store/store.h"

namespace graftfs::cluster {

struct BeatOptions {
  Nanos lease = 2 * kSecond;
  // Runs on while the machine is suspended; of any thread.
  std::function<Nanos()> clock;
};

// Owned by the node, on the executor's thread, but for lease_valid() and takes_requests(), which
// any thread may ask. run() goes on until stop(), or until the node's lease is lost for good: then
// `lost` has been called, once. A crash leaves the node's record, which the others find dead and
// remove later. An error of the store is a beat that was missed: the lease runs out if it lasts.
class Beats {
 public:
  Beats(Executor& executor, StateStore& state, NodeRecord me, BeatOptions options);

  // Beats and looks, every L/4.
  Task<void> run();
  // One round, at once: so that what was changed is known to others.
  // True: the fences of all of this node's ranks were its own then.
  Task<bool> beat_now();
  // No beat any more; removes the record. For an end in good order.
  Task<Result<void>> leave();

  // The rank is this node's from now on, under this epoch; its fence is looked after.
  void own(RankId rank, Epoch epoch, std::vector<std::string> addresses);
  void disown(RankId rank);
  void set_standby(bool standby) { me_.standby = standby; }

  bool lease_valid() const { return options_.clock() < lease_end_.load(std::memory_order_relaxed); }
  // Not in the lease's last quarter.
  bool takes_requests() const {
    return options_.clock() < lease_end_.load(std::memory_order_relaxed) - options_.lease / 4;
  }

  // Reads the table, changes it, writes it, as often as others come between. `change` returns
  // whether there is anything to be written. Completion: the table is durable, and known here.
  Task<Result<void>> change_table(std::function<Result<bool>(Table&)> change);

  const Table& table() const { return table_; }
  const std::map<NodeId, NodeRecord>& nodes() const { return nodes_; }  // also dead ones
  const Watch& watch() const { return watch_; }
  const NodeRecord& me() const { return me_; }
  Nanos lease() const { return options_.lease; }
  std::vector<Member> living() const;
  // Where a rank can be reached: by the table, while its node is not dead.
  const NodeRecord* node_of(RankId rank) const;
  // What to give to own_journal() so that the rank is taken from whoever had it last. ESTALE:
  // somebody who lives has begun to take it.
  Task<Result<OwnOptions>> take_from(RankId rank) const;

  // Called after each round, from the executor.
  std::function<void()> looked;
  std::function<void(NodeId)> died;
  // A fence of this node's is somebody else's. It may say nothing any more.
  std::function<void(const std::string& why)> lost;

 private:
  Task<bool> round();
  Task<Result<void>> renew();
  Task<Result<void>> look();
  void lose(const std::string& why);

  Executor& executor_;
  StateStore& state_;
  NodeRecord me_;
  BeatOptions options_;
  Lease lease_;
  Watch watch_;
  Table table_;
  uint64_t table_version_ = 0;
  uint64_t record_version_ = 0;
  std::map<RankId, Epoch> owned_;
  std::map<NodeId, NodeRecord> nodes_;
  std::atomic<Nanos> lease_end_{0};
  bool busy_ = false;  // a round is under way
  bool stopped_ = false;
};

}  // namespace graftfs::cluster
