#pragma once
// How a client finds the ranks of a cluster: by the state in the volume.

#include <functional>
#include <memory>
#include <string>

#include "client/router.h"
#include "net/socket/socket.h"
#include "node/cluster_view.h"
#include "store/store.h"

namespace graftfs::node {

// Owned by whoever owns the Router, in the loop's thread; outlives it. Reads the table every
// quarter of a second, so that a rank that has moved is found soon. It judges nobody dead: who
// cannot be reached is tried again. A store that cannot be read leaves what was known.
class Finder {
 public:
  Finder(EventLoop& loop, StateStore& state, uint64_t volume, std::string secret);
  ~Finder() { *alive_ = false; }

  // Asked first, for ranks that this process runs; false: it does not.
  std::function<bool(RankId, const net::Identity&, net::ConnectFn&)> inside;
  // EHOSTDOWN where no process serves the volume: none answers within `patience`.
  Task<Result<void>> start(Nanos patience);
  RankMap map() const;
  void dial(RankId rank, SessionId session, net::ConnectFn done);
  // For an operator's commands.
  void dial_control(RankId rank, net::ConnectFn done);

 private:
  void connect(RankId rank, net::Role role, uint64_t id, net::ConnectFn done);
  Task<void> keep_reading();
  Task<Result<void>> read();

  EventLoop& loop_;
  StateStore& state_;
  uint64_t volume_;
  std::string secret_;
  net::SocketTransport sockets_;
  ClusterView view_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  TaskScope tasks_;
};

}  // namespace graftfs::node
