#pragma once
// A simulated process: its part in the cluster, and the ranks that it runs.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/task.h"
#include "cluster/beats.h"
#include "node/peer_lines.h"
#include "server/endpoint.h"
#include "server/rank.h"
#include "sim/cluster/config.h"
#include "sim/cluster/oracle.h"
#include "sim/cluster/transport.h"
#include "sim/medium.h"

namespace graftfs::sim {

inline constexpr uint64_t kVolume = 0x6772616674667332;

// What all processes of a run have in common. Owned by the world, outlives them.
struct Room {
  EventQueue& queue;
  SimNet& net;
  RankWitness& oracle;
  std::shared_ptr<Medium> medium;
  const ClusterConfig& config;
  NodeExecutor& world;
  uint64_t last_node = 0, last_host = 0;
  uint64_t takeovers = 0, evictions = 0;
  bool comes_late = false;     // a client to a rank that has lost something
  bool lost_nameless = false;  // what a client had done to an inode that nobody can reach any more
  // Ranks are taken where a connection breaks and their owner is dead; not only by its lease.
  bool hints = true;
  // The process is over: its ranks were taken from it. Called in an event of the world's.
  std::function<void(int machine)> lost;
  // A rank was recovered in that epoch, or its recovery has ended there: what was found until then
  // is settled, also by who never came to serve, for who comes next sees what they logged.
  std::function<void(RankId, Epoch)> settle;
};

class Process;

// One rank in a process, in a thread of its own, which is an executor here: what node::RankHost is
// in a real one. It begins as that does, and ends as if its process had died.
struct Host {
  Host(Process& p, NodeExecutor& e, RankId r) : process(p), executor(e), id(r) {}
  ~Host();
  Task<Result<Epoch>> bring_up(OwnOptions own);
  std::string name() const;
  // Its journal is somebody else's by now.
  bool fenced() const;

  Process& process;
  NodeExecutor& executor;
  const RankId id;
  uint64_t number = 0;
  bool serving = false;
  bool looked_at = false;  // its fence was this process's, when the lease was renewed
  std::unique_ptr<Store> store;
  std::unique_ptr<SimTransport> transport;
  std::unique_ptr<node::PeerLines> peers;
  std::unique_ptr<Rank> rank;
  std::unique_ptr<Endpoint> endpoint;
  std::unique_ptr<net::Listener> listener;
  TaskScope tasks;  // destroyed first
};

// Owned by the world. Its beats, its view of the cluster and its decisions are the product's; what
// node::Node does with threads is done with executors here. start() begins a life, end() ends it at
// any moment, from outside of its own events: nothing is left but what is on the disk.
class Process {
 public:
  Process(Room& room, int machine, NodeExecutor& executor);

  // `add`: it makes a new rank; else it takes one that nobody runs, if there is one.
  void start(bool add);
  void end();
  // Its machine begins anew, too: it knows nothing of who lived there.
  void reboot() { ++boots_; }
  void stall(bool on);
  // Takes no rank any more, because the end is near.
  void close() { stopping_ = true; }
  bool taking() const { return !taking_.empty(); }
  // Stops the ranks in good order, and then the process.
  Task<Result<void>> stop();

  bool alive() const { return beats_ != nullptr; }
  bool stalled() const { return executor_.stalled(); }
  int machine() const { return machine_; }
  bool owns(const NodeExecutor* executor) const;
  // Whose executor it is; kNobody: the process's own.
  RankId rank_at(const NodeExecutor* executor) const;
  Host* host(RankId rank);  // that serves
  std::vector<Host*> hosts();
  bool lease_valid() const { return beats_ && beats_->lease_valid(); }
  bool starting() const { return !settled_; }
  Room& room() { return room_; }
  cluster::NodeId id() const { return beats_->me().id; }
  Medium::Process on_medium() const;
  void peer_lost(RankId rank);

 private:
  Task<void> run(bool add);
  Task<Result<void>> take(RankId rank, OwnOptions own);
  Task<void> take_from_dead(RankId rank);
  Task<void> take_orphan(RankId rank, OwnOptions own);
  Task<Result<RankId>> add_rank();
  Task<void> set_root(RankId rank);
  void looked();
  void publish();
  NodeExecutor& executor_of(RankId rank);

  Room& room_;
  const int machine_;
  NodeExecutor& executor_;
  std::map<RankId, NodeExecutor*> executors_;
  uint64_t life_ = 0, boots_ = 0;
  bool settled_ = false;  // it has taken what it takes at its start
  bool stopping_ = false;
  std::unique_ptr<Store> store_;
  std::unique_ptr<cluster::Beats> beats_;
  std::map<RankId, std::unique_ptr<Host>> hosts_;
  std::set<RankId> taking_;
  std::map<RankId, Nanos> vacant_since_, not_before_;
  node::ViewPtr view_;
  std::unique_ptr<TaskScope> tasks_;
};

}  // namespace graftfs::sim
