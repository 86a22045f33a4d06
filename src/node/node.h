#pragma once
// A process's part in a cluster: its ranks, its heartbeat, and what it does when others die.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/beats.h"
#include "node/rank_host.h"

namespace graftfs::node {

struct NodeOptions {
  RankOptions rank;                  // of every rank
  std::vector<net::Address> listen;  // see address_of()
  size_t ranks = 1;                  // to run; new ones are made where too few exist
  bool standby = false;              // run none, and take the first that somebody leaves
  // What is taken from a dead node beside ranks of its own is handed over to those, and goes.
  bool retire_taken = true;
  bool balance = false;  // while this node serves /
  Nanos balance_window = 10 * kSecond;
  Nanos lease = 2 * kSecond;
  std::string secret;                           // the volume's key; empty: no tcp
  std::function<void(const std::string&)> log;  // any thread
  // For tests: what the clock of the lease shows.
  std::function<Nanos()> clock;
};

// Owned by a process's main, in its loop's thread. start() completes when the node's ranks serve,
// or, as a standby, when it is known to the others. From then on it takes ranks whose nodes die,
// and hands over those that are to go. stop() ends it in good order: its ranks are vacant, for
// others to take at once. Destroying it without that is a crash: the others notice after the
// lease. Where it loses its own lease for good (it was stopped, and a rank was taken), all of its
// ranks end without a word and `lost` is called; the node is to be destroyed then.
class Node {
 public:
  Node(EventLoop& loop, BlockingPool& pool, std::shared_ptr<Volume> volume, NodeOptions options);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  Task<Result<void>> start();
  Task<Result<void>> stop();
  std::function<void(const std::string& why)> lost;

  cluster::NodeId id() const { return id_; }
  bool is_standby() const { return options_.standby && hosts_.empty(); }
  std::vector<RankId> ranks() const;
  RankHost* host(RankId rank);
  // For clients in this process: a connection without a socket. False where the rank is not here;
  // `done` is untouched then.
  bool connect_inside(RankId rank, const net::Identity& identity, net::ConnectFn& done);
  const cluster::Beats& beats() const { return *beats_; }
  Task<std::vector<HostStatus>> status();
  // How long the last rank took from when it was to be taken until it served.
  Nanos last_take() const { return last_take_; }

 private:
  struct Hosted {
    std::unique_ptr<RankHost> host;
    bool serving = false;
    bool handing_over = false;
    cluster::NodeId from = 0;  // the dead node that it was taken from
  };
  Task<Result<void>> take(RankId rank, OwnOptions own);
  Task<void> take_from_dead(RankId rank);
  Task<void> take_orphan(RankId rank, OwnOptions own);
  Task<void> retire(RankId rank);
  Task<Result<void>> end_rank(RankId rank);
  Task<Result<std::vector<RankId>>> choose_ranks();
  void looked();
  void publish();
  void lose(const std::string& why);
  void end_fenced_processes();
  void say(const std::string& line) const {
    if (options_.log) options_.log(line);
  }
  Task<void> read_revoked();
  void dial_control(RankId rank, net::ConnectFn done);
  void keep_balance();

  EventLoop& loop_;
  BlockingPool& pool_;
  std::shared_ptr<Volume> volume_;
  NodeOptions options_;
  cluster::NodeId id_;
  std::string machine_;
  net::LocalHub hub_;
  net::LocalTransport inside_;
  net::SocketTransport outside_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<cluster::Beats> beats_;
  std::map<RankId, Hosted> hosts_;
  std::vector<std::unique_ptr<RankHost>> former_;  // their loops are posted to until the end
  std::map<RankId, Nanos> vacant_since_;
  std::map<RankId, Nanos> not_before_;  // to be tried again
  std::set<RankId> taking_;
  ViewPtr view_;
  Nanos last_take_ = 0;
  bool stopping_ = false;
  std::mutex revoked_mutex_;
  std::set<std::string> revoked_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  TaskScope tasks_;  // last: its frames use everything above
};

// Ends processes of this machine that are recorded for nodes whose ranks were all taken from
// them: stopped ones may hold locks of the volume. Returns how many. Any thread; blocks.
int end_fenced(const std::vector<cluster::NodeRecord>& nodes,
               const std::function<bool(RankId, cluster::NodeId)>& owns,
               const std::string& machine);

// The machine's boot id, and when a process began (0: there is none).
std::string this_machine();
uint64_t started_at(int32_t pid);
bool is_stopped(int32_t pid);  // by a signal

}  // namespace graftfs::node
