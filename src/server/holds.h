#pragma once
// Who still refers to inodes without names (docs/protocols/leases.md).

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "server/rank_core.h"

namespace graftfs {

// One for a rank, in its thread, in memory only. Before inodes are purged ask() asks every session
// that has a way to be asked; each that says yes holds the inode from then on, until it says
// Release. A session without a connection is waited for, and evicted when it has been silent for
// kPatience leases. Nobody can begin to refer to an inode that has no name, so an answer stays
// true. A crash forgets what was asked; the next start asks again. Where the rank ends, ask()
// returns.
class HoldQueries {
 public:
  explicit HoldQueries(RankCore& core) : core_(core), answered_(core.executor()) {}
  ~HoldQueries() { *alive_ = false; }

  Task<void> ask(std::vector<Ino> inos);
  void receive(SessionId session, const msg::HoldAnswer& answer);
  void session_gone(SessionId session);
  // Its connection is a new one: it is asked again.
  void attached(SessionId session);
  // Nobody waits for answers any more.
  void end();
  // From now on, while there is a way to ask: what a session was told to be without a name, or
  // would have been if another rank had not evicted it before that, and has not released for long,
  // is forgotten, so that it is asked for by whoever purges it.
  void sweep();

  static constexpr int kPatience = 10;

 private:
  void evict_silent();

  RankCore& core_;
  uint64_t number_ = 0;  // of the query that is out
  std::vector<Ino> asked_;
  Nanos since_ = 0;
  std::set<SessionId> waiting_;  // for these
  Bell answered_;
  std::set<std::pair<Ino, SessionId>> old_;  // holds of nameless inodes, at the last sweep
  bool sweeping_ = false;
  bool ended_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs
