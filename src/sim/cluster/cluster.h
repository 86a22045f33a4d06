#pragma once
// Several ranks, their clients, one store, a network, and what goes wrong.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fault.h"
#include "client/router.h"
#include "server/endpoint.h"
#include "server/peers.h"
#include "server/rank.h"
#include "sim/cluster/oracle.h"
#include "sim/cluster/transport.h"
#include "store/memory/memory_store.h"

namespace graftfs::sim {

struct ClusterConfig {
  uint64_t seed = 1;
  Durability durability = Durability::posix;
  TracePolicy trace = TracePolicy::chunked;
  int ranks = 2;
  int clients = 2;
  int workers = 2;  // of each client, one request at a time each
  int operations = 200;
  int crashes = 2;  // of ranks, at random points, at most
  int breaks = 3;   // of connections
  int cuts = 1;     // of the network between two ranks
  int moves = 0;    // of subtrees, by migration
  bool print = false;
  uint32_t segment_events = 32;
  size_t memory_limit = 64 << 10;
  size_t write_back_batch = 8;
  Nanos write_back_after = 20 * kMillisecond;
  Nanos latency_max = 200 * kMicrosecond;
};
ClusterConfig random_cluster(uint64_t seed);
std::string describe(const ClusterConfig& config);

struct ClusterResult {
  bool ok = false;
  std::string failure;
  uint32_t digest = 0;
  uint64_t steps = 0, executions = 0, crashes = 0, redirects = 0, moves = 0, messages = 0;
  uint64_t refused_across = 0;
};

// Lives for one run, in one thread. Deterministic: everything follows from the config.
class Cluster {
 public:
  explicit Cluster(ClusterConfig config);
  ~Cluster();
  ClusterResult run();

 private:
  // A rank and its process.
  struct Node final : Peers {
    Node(Cluster& c, NodeExecutor& e, RankId i) : cluster(c), executor(e), id(i) {}
    void send(RankId to, Message message) override { cluster.send(*this, to, std::move(message)); }
    bool alive(RankId rank) const override;
    RankId root_rank() const override { return cluster.root_rank(); }
    std::vector<RankId> ranks() const override { return cluster.rank_ids(); }
    bool lease_valid() const override { return true; }

    Cluster& cluster;
    NodeExecutor& executor;
    RankId id;
    uint64_t life = 0;  // of its process
    bool serving = false;
    std::map<RankId, Nanos> due;  // when the last message to that rank arrives
    std::unique_ptr<MemoryStore> store;
    std::unique_ptr<Rank> rank;
    std::unique_ptr<SimTransport> transport;
    std::unique_ptr<net::Listener> listener;
    std::unique_ptr<Endpoint> endpoint;
    TaskScope tasks;  // destroyed first
  };
  struct Worker;
  struct ClientNode {
    ClientNode(NodeExecutor& e, int i) : executor(e), index(i) {}
    NodeExecutor& executor;
    int index;
    SessionId session;
    std::unique_ptr<SimTransport> transport;
    std::unique_ptr<Router> router;
    TaskScope tasks;  // destroyed first
  };

  static void on_kill_point(void* context, const fault::Site& site);
  void start_rank(Node& node);
  Task<void> run_rank(Node& node);
  void serve(Node& node);
  void crash(Node& node);
  void meet(Node& a, Node& b);
  void send(Node& from, RankId to, Message message);
  void part(RankId a, RankId b);
  RankId root_rank() const;
  std::vector<RankId> rank_ids() const;
  bool all_serve() const;
  Node& node(RankId id) { return *nodes_[id.v]; }
  Node* node_at(const NodeExecutor* executor);

  Task<void> play();
  Task<void> split(int parts);
  Task<Result<void>> give(Node& from, Node& to, Ino root);
  void start_clients();
  Task<void> work(ClientNode& client, uint64_t seed);
  // The rank and the import that serve an inode; nothing where it is not known at the moment.
  std::optional<std::pair<RankId, Ino>> place(Ino ino) const;
  bool together(Ino a, Ino b) const;
  Promised<Reply> ask(ClientNode& client, Args args);
  Task<void> look_at_everything();
  Task<void> trouble();
  void move_something();
  bool step();

  ClusterConfig config_;
  EventQueue queue_;
  SimRandom random_;
  SimRandom disk_random_;
  SimNet net_;
  ClusterOracle oracle_;
  std::shared_ptr<MemoryDisk> disk_;
  NodeExecutor& world_node_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<std::unique_ptr<ClientNode>> clients_;
  std::set<std::pair<uint16_t, uint16_t>> parted_;
  TaskScope tasks_;
  bool quiet_ = true;  // nothing goes wrong
  bool finished_ = false;
  int operations_left_;
  int workers_left_ = 0;
  int32_t last_call_ = 0;
  uint64_t crashes_ = 0, moves_ = 0, gifts_ = 0;
  int crashes_left_;
  uint64_t kill_in_ = 0;  // kill points of ranks until the next crash; 0: none planned
};

// One run; catches whatever it throws.
ClusterResult run_cluster(const ClusterConfig& config);

}  // namespace graftfs::sim
