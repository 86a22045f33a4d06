#pragma once
// What several ranks together have to keep: one tree, one authority for each directory, and every
// promise.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "server/rank.h"
#include "sim/executor.h"
#include "sim/model.h"

namespace graftfs::sim {

// Owned by the world; sees each request at the moment a rank carries it out. As the simulated ranks
// run one after the other, the order of these moments is a serial order: a reply that the model
// would not give in it is not linearizable. The first thing found wrong is kept in failure().
class ClusterOracle {
 public:
  explicit ClusterOracle(EventQueue& queue) : queue_(queue) {}

  const std::string& failure() const { return failure_; }
  void fail(std::string what);

  // The first start has made the root.
  void begin(const Stat& root) {
    start_.set_root(root);
    now_.set_root(root);
  }
  void executed(RankId rank, const Request& request, const Reply& reply, Lsn lsn);
  // The client has the answer to the request with this number (Credentials::pid).
  void answered(int32_t call);
  // The rank serves again, with every event up to `last`.
  void recovered(RankId rank, Lsn last);
  // One rank at the most believes itself to be the authority for a directory.
  void check_owners(const std::vector<const Rank*>& serving);

  const Model& model() const { return now_; }
  uint64_t executions() const { return executions_; }
  uint64_t refused_across() const { return refused_across_; }  // EXDEV

 private:
  struct Executed {
    RankId rank;
    Lsn lsn;
    Request request;
    Reply reply;
    Timespec now;
  };
  std::string apply(Model& model, const Executed& executed, Expected& expected);

  EventQueue& queue_;
  std::string failure_;
  Model start_, now_;
  std::vector<Executed> history_;  // changes, in the order in which they were made
  std::set<std::tuple<RankId, SessionId, uint64_t>> done_;
  std::map<int32_t, std::pair<RankId, Lsn>> calls_;
  std::map<RankId, Lsn> promised_;  // must survive the death of the rank's process
  uint64_t executions_ = 0, refused_across_ = 0;
};

}  // namespace graftfs::sim
