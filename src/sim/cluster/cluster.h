#pragma once
// Several ranks, their clients, one store, a network, and what goes wrong.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fault.h"
#include "client/router.h"
#include "sim/cluster/config.h"
#include "sim/cluster/process.h"

namespace graftfs::sim {

struct ClusterResult {
  bool ok = false;
  std::string failure;
  uint32_t digest = 0;
  uint64_t steps = 0, executions = 0, crashes = 0, redirects = 0, moves = 0, messages = 0;
  uint64_t across = 0;     // operations of several ranks
  uint64_t takeovers = 0;  // of ranks by another process
  uint64_t stalls = 0;     // of processes
  uint64_t fenced = 0;     // requests that a process has run that had lost its rank
  uint64_t cached = 0;     // answers of clients that asked nobody
  rados::ModelCluster::Counts objects;
};

// Lives for one run, in one thread. Deterministic: everything follows from the config.
class Cluster {
 public:
  explicit Cluster(ClusterConfig config);
  virtual ~Cluster();
  ClusterResult run();

 protected:
  struct ClientNode {
    ClientNode(NodeExecutor& e, int i) : executor(e), index(i) {}
    NodeExecutor& executor;
    int index;
    int workers_left = 0;
    SessionId session;
    std::unique_ptr<SimTransport> transport;
    std::unique_ptr<Router> router;
    TaskScope tasks;  // destroyed first
  };

  // What happens between the beginning and the end.
  virtual Task<void> middle();
  // A kill point of that process was reached. True: it dies here.
  virtual bool dies_here(Process& process, const fault::Site& site);
  // When a process that has died begins again.
  virtual Nanos restart_after();
  virtual void after_step() {}

  // cluster.cc
  std::shared_ptr<Medium> make_medium();
  static void on_kill_point(void* context, const fault::Site& site);
  bool step();
  Task<void> play();
  void look_at_owners();
  Process* process_at(const NodeExecutor* executor);
  void crash(Process& process, CrashKind kind);
  void begin_again(Process& process, Nanos after);
  std::vector<Host*> serving();  // of each rank who may, in order
  Host* serving(RankId rank);
  std::vector<RankId> rank_ids() const;
  RankMap rank_map();
  bool all_serve();

  // play.cc
  void start_client(ClientNode& client);
  void end_client(ClientNode& client);
  void start_work(ClientNode& client);
  Task<void> work(ClientNode& client, uint64_t seed);
  Args draw(SimRandom& r);
  std::optional<std::pair<RankId, Ino>> place(Ino ino);
  bool together(Ino a, Ino b);
  Promised<Reply> ask(ClientNode& client, Args args);
  Task<void> split(int parts);
  Task<Result<void>> move(Ino root, RankId to);

  // trouble.cc
  Task<void> trouble();
  void stall_something();
  void part_something();
  void move_something();
  void end_trouble();

  // rest.cc
  Task<void> come_to_rest();
  std::string unrest();
  Task<void> look_at_everything();
  Task<void> begin_anew();
  void audit();

  ClusterConfig config_;
  EventQueue queue_;
  SimRandom random_;
  SimRandom disk_random_;
  SimNet net_;
  ClusterOracle oracle_;
  std::shared_ptr<rados::ModelCluster> objects_;  // null: on a disk
  std::shared_ptr<Medium> medium_;
  NodeExecutor& world_node_;
  Room room_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<std::unique_ptr<ClientNode>> clients_;
  std::set<std::pair<int, int>> parted_;
  TaskScope tasks_;
  bool quiet_ = true;  // nothing goes wrong
  bool finished_ = false;
  int operations_left_;
  int workers_left_ = 0;
  int32_t last_call_ = 0;
  uint64_t crashes_ = 0, moves_ = 0, stalls_ = 0, redirects_ = 0;
  int crashes_left_, power_cuts_left_;
  uint64_t kill_in_ = 0;  // kill points of processes until the next crash; 0: none planned
  std::string table_text_;
  RankMap map_;
};

// One run; catches whatever it throws.
ClusterResult run_cluster(const ClusterConfig& config);

}  // namespace graftfs::sim
