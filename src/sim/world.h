#pragma once
// One simulated machine room: a rank on a simulated disk, its clients, and what goes wrong.

#include <memory>
#include <string>
#include <vector>

#include "base/fault.h"
#include "base/task.h"
#include "client/client.h"
#include "server/rank.h"
#include "sim/config.h"
#include "sim/executor.h"
#include "sim/link.h"
#include "sim/medium.h"
#include "sim/oracle.h"

namespace graftfs::sim {

// One client with its own view of the disk. A new one takes its place when it dies.
struct SimClient {
  SimClient(World& world, NodeExecutor& executor, int index)
      : world(world), executor(executor), index(index) {}

  World& world;
  NodeExecutor& executor;
  int index;
  std::unique_ptr<Store> store;  // null: the rank's
  std::unique_ptr<SimData> data;
  std::unique_ptr<Link> link;
  std::unique_ptr<Client> client;
  std::map<Ino, uint32_t> holds;
  std::map<Ino, uint32_t> releasing;  // let go, and the rank has not said that it knows
  size_t claims_left = 0;
  uint64_t life = 0;
  TaskScope tasks;  // destroyed first

  void hold(Ino ino);
  // Forgets one hold: the request to release it is on its way.
  void unhold(Ino ino);
  bool alive() const { return client != nullptr; }
};

struct RunResult {
  bool ok = false;
  bool refused = false;  // recovery refused a disk that was damaged on purpose
  std::string failure;
  uint32_t digest = 0;
  uint64_t steps = 0, kill_points = 0, executions = 0, crashes = 0;
  uint64_t recovery_steps = 0, recovery_kill_points = 0;  // of the recovery from the first crash
  rados::ModelCluster::Counts objects;
};

// Lives for one run, in one thread. Deterministic: everything follows from the config.
class World {
 public:
  explicit World(SimConfig config);
  ~World();

  RunResult run();

  // -- for clients, links and workloads --------------------------------------------------------
  const SimConfig& config() const { return config_; }
  Oracle& oracle() { return oracle_; }
  bool sync_has_failed(Ino ino) const { return disk_ && disk_->sync_has_failed(ino); }
  EventQueue& queue() { return queue_; }
  Rank* rank() { return serving_ ? rank_.get() : nullptr; }
  bool rank_failed() const { return rank_ && rank_->failed(); }
  NodeExecutor& rank_node() { return rank_node_; }
  SimRandom& random() { return random_; }
  Nanos latency();
  int32_t next_call() { return ++last_call_; }
  std::vector<std::unique_ptr<SimClient>>& clients() { return clients_; }
  void worker_done(int client, int worker) {
    workers_left_ -= done_[client][worker] ? 0 : 1, done_[client][worker] = true;
  }
  bool workers_left() const { return workers_left_ > 0; }
  bool worker_is_done(int client, int worker) const { return done_[client][worker]; }
  uint64_t crashes() const { return crashes_; }
  // A client may begin another operation.
  bool take_operation();

 private:
  static void on_kill_point(void* context, const fault::Site& site);
  void start_rank();
  Task<void> run_rank();
  void rank_started();
  void connect(SimClient& client);
  void claimed(SimClient& client);
  void end_client(SimClient& client);
  void crash(CrashKind kind, NodeExecutor* killed_at);
  void plan_crash();
  CrashKind kind_of_crash() const;
  bool step();
  bool recovering() const { return crashes_ == 1 && rank_ && !served_; }
  void set_troubles(bool on);
  void set_lies(bool on);
  void corrupt_at_rest(CrashKind kind);
  void rot();
  void make_medium();
  bool on_rados() const { return config_.store == StoreKind::rados; }
  // A mount on Ceph that hosts its rank, in posix: it writes file data through the rank's store,
  // and the death of the process is a power cut to it.
  bool early() const { return on_rados() && config_.durability == Durability::posix; }
  Medium::Process process_of(const SimClient* client) const;  // null: the rank's
  void finish_errors(const Error& error);
  Task<void> finish();
  RankOptions rank_options();

  SimConfig config_;
  EventQueue queue_;
  SimRandom random_;
  SimRandom disk_random_;
  Oracle oracle_;
  std::shared_ptr<MemoryDisk> disk_;              // or
  std::shared_ptr<rados::ModelCluster> objects_;  // one of the two
  std::unique_ptr<Medium> medium_;
  NodeExecutor& world_node_;
  NodeExecutor& rank_node_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Rank> rank_;
  TaskScope rank_tasks_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::vector<std::vector<bool>> done_;
  TaskScope finish_tasks_;
  bool serving_ = false;
  bool served_ = false;  // this rank has got to serving
  bool refused_ = false;
  bool corrupted_ = false;
  bool finishing_ = false;
  bool finished_ = false;
  int operations_left_;
  int workers_left_ = 0;
  int32_t last_call_ = 0;
  uint64_t kill_points_ = 0;
  const char* last_site_ = "none";
  uint64_t crashes_ = 0;
  uint64_t reboots_ = 0;
  int crashes_left_;
  uint64_t recovery_steps_ = 0, recovery_kill_points_ = 0;
  uint64_t kill_in_ = 0;  // kill points until the next crash; 0: none planned
  uint64_t step_in_ = 0;
  CrashKind next_kind_ = CrashKind::process_death;
};

// One run; catches whatever it throws.
RunResult run_simulation(const SimConfig& config);

}  // namespace graftfs::sim
