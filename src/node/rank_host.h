#pragma once
// One rank in a thread of its own: its loop, its use of the volume, its connections.

#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/blocking_pool.h"
#include "base/event_loop.h"
#include "net/local/local.h"
#include "net/socket/socket.h"
#include "node/control.h"
#include "node/peer_lines.h"
#include "server/endpoint.h"
#include "server/rank.h"
#include "store/volume.h"

namespace graftfs::node {

// What all ranks of a node have in common. Outlives them.
struct HostContext {
  std::shared_ptr<Volume> volume;
  BlockingPool* pool = nullptr;
  net::LocalHub* hub = nullptr;
  RankOptions rank;                  // but for its number, its owner and its peers
  std::vector<net::Address> listen;  // of rank 0: see address_of()
  uint64_t volume_number = 0;
  cluster::NodeId node = 0;
  uint32_t lease_ms = 2000;
  std::string secret;                             // the volume's key; empty: no tcp
  std::function<bool()> lease_valid;              // any thread
  std::function<bool(std::string_view)> revoked;  // any thread
  std::function<void(const std::string&)> log;    // any thread
  std::function<void(RankId)> peer_lost;          // in the rank's thread: a connection broke
};

// Where rank N listens, of a node that was told `base`: unix:PATH.N, tcp:ADDRESS:PORT+N. EINVAL
// where there is no such port.
Result<net::Address> address_of(const net::Address& base, RankId rank);

struct HostStatus {
  RankId rank;
  Epoch epoch;
  bool failed = false;
  uint64_t requests = 0, journal_bytes = 0, journal_cap = 0, cache_entries = 0;
  uint64_t events_replayed = 0;
  double recovery_seconds = 0;
  size_t clients = 0;
  std::vector<RankId> peers_up;
};

// Made and destroyed by the node's thread, which calls everything here; what it is called back
// with runs in the rank's thread, so the callbacks post. Ends in one of two ways: stop(), in good
// order, or destroying it: then nothing is said and nothing written any more, as if the process
// had died. An error of the rank later is in its status.
class RankHost {
 public:
  using StartFn = std::function<void(Result<Epoch>)>;

  RankHost(HostContext context, RankId rank);
  ~RankHost();
  RankHost(const RankHost&) = delete;
  RankHost& operator=(const RankHost&) = delete;

  // Takes the journal, recovers, listens. `done` is called once, in the rank's thread.
  void start(OwnOptions own, StartFn done);
  void stop(std::function<void(Result<void>)> done);
  void update(ViewPtr view);
  // Keys were taken back: whoever has come with one is disconnected.
  void keys_revoked();
  void status(std::function<void(HostStatus)> done);
  // Exports one subtree to `to`, those of people first; `done` with whether nothing is left.
  void hand_over(RankId to, std::function<void(Result<bool>)> done);
  // Nothing is left: `done` is called when no other rank and no client waits for anything here, and
  // the journal says so.
  void take_leave(RankId heir, std::function<void()> done);
  // Calls back if this rank is the authority for /.
  void if_root(std::function<void()> fn);
  // Runs `fn` in the rank's thread, with the rank; for tests and for those who live in the process.
  void with_rank(std::function<void(Rank&)> fn);

  RankId rank() const { return rank_; }
  // Where it listens, once it has started.
  const std::vector<std::string>& addresses() const { return addresses_; }

 private:
  void main(std::promise<void> ready);
  void post(Fn fn) { loop_->post(std::move(fn)); }
  Task<void> run_start(OwnOptions own, StartFn done);
  Task<Result<Epoch>> bring_up(OwnOptions own);
  Task<void> run_take_leave(RankId heir, std::function<void()> done);
  Task<void> run_stop(std::function<void(Result<void>)> done);
  Result<void> listen();
  void accept(std::unique_ptr<net::Connection> connection);
  void dial(RankId rank, const RankView& where, net::ConnectFn done);
  void take_down();

  HostContext context_;
  RankId rank_;
  std::vector<std::string> addresses_;

  // Of the rank's thread.
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<net::LocalTransport> local_;
  std::unique_ptr<net::SocketTransport> sockets_;
  std::unique_ptr<PeerLines> peers_;
  std::unique_ptr<Rank> server_;
  std::unique_ptr<Endpoint> clients_;   // once it serves
  std::unique_ptr<Controls> controls_;  // likewise
  std::vector<std::unique_ptr<net::Listener>> listeners_;
  std::unique_ptr<TaskScope> tasks_;
  std::thread thread_;
};

}  // namespace graftfs::node
