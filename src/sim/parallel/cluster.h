#pragma once
// A cluster whose nodes work at the same time, and in which nothing goes wrong: how fast is it?

#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "client/router.h"
#include "sim/cluster/process.h"
#include "sim/parallel/costs.h"
#include "sim/parallel/queue.h"

namespace graftfs::sim {

struct ParallelOptions {
  int ranks = 1;  // each in a process of its own
  int clients = 1;
  // Of each process's machine, for its rank and everything beside it. Clients have a machine each.
  int cores = 1;
  bool one_machine = false;  // for all processes
  Durability durability = Durability::strict;
  Costs costs;
};

// The ranks, processes, clients and protocols are the product's, and so is what they say to each
// other; how long that takes is `costs`. Used by one thread, for one run. The same options and the
// same tasks give the same run.
class ParallelCluster final : private RankWitness, private NetMeter {
 public:
  explicit ParallelCluster(ParallelOptions options);
  ~ParallelCluster();

  // Runs until the task is done, which is the world's: on a machine of its own, at no cost. Throws
  // what is wrong.
  void run(Task<void> task);
  // All ranks serve, and are connected.
  Task<void> start();
  // A request of nobody's session at that rank, and its answer.
  Task<Reply> call(RankId rank, Args args);
  // A subtree changes hands.
  Task<Result<void>> move(Ino root, RankId from, RankId to);
  // A request of this client's; from its executor.
  Promised<Reply> ask(size_t client, Args args);
  // Begins the task in the client's executor.
  void begin(size_t client, std::function<Task<void>()> task);

  ParallelQueue& queue() { return queue_; }
  NodeExecutor& world() { return world_; }
  NodeExecutor& executor_of(size_t client) { return clients_[client]->executor; }
  Host& host(RankId rank);
  Nanos used(RankId rank) const { return queue_.used(machine_of_[rank.v]); }

  struct Counts {
    uint64_t executed = 0;                                     // requests carried out by ranks
    uint64_t redirects = 0;                                    // and sent to another one
    uint64_t to_ranks = 0, from_ranks = 0, between_ranks = 0;  // messages
    std::map<std::string, uint64_t> kinds;                     // of messages
    Counts operator-(const Counts& before) const;
  };
  Counts counts() const;

 private:
  struct ClientNode {
    explicit ClientNode(NodeExecutor& e) : executor(e) {}
    NodeExecutor& executor;
    SessionId session;
    std::unique_ptr<SimTransport> transport;
    std::unique_ptr<Router> router;
    TaskScope tasks;  // destroyed first
  };
  static constexpr size_t kKinds = std::variant_size_v<Body>;

  void executed(Owner owner, const graftfs::Executed& executed) override;
  void recovered(Owner, Lsn) override {}
  void power_cut(RankId) override {}
  void fail(std::string what) override;
  uint64_t sends(const NodeExecutor& node, const Message& message, uint64_t last) override;
  uint64_t receives(const NodeExecutor& node, const Message& message, uint64_t last) override;
  void start_client(ClientNode& client);
  bool all_connected();
  RankMap rank_map();
  bool is_rank(const NodeExecutor& node) const;

  ParallelOptions options_;
  ParallelQueue queue_;
  NodeExecutor& world_;
  SimRandom random_{1};
  SimNet net_;
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  ClusterConfig config_;
  Room room_;
  std::vector<int> machine_of_;        // by rank
  std::vector<NodeExecutor*> beside_;  // its other threads
  std::vector<Nanos> beside_owed_;     // what they have not been given yet
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<std::unique_ptr<ClientNode>> clients_;
  size_t first_client_ = 0;  // the number of its executor
  TaskScope tasks_;
  std::string failure_;
  uint64_t executed_ = 0, redirects_ = 0;
  uint64_t to_ranks_ = 0, from_ranks_ = 0, between_ranks_ = 0;
  std::array<uint64_t, kKinds> kinds_{};
  std::array<const char*, kKinds> names_{};
  std::string table_text_;
  RankMap map_;
};

}  // namespace graftfs::sim
