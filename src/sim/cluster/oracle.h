#pragma once
// What several ranks together have to keep: one tree, one authority for each directory, and every
// promise.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "server/rank.h"
#include "sim/cluster/transport.h"
#include "sim/executor.h"
#include "sim/model.h"

namespace graftfs::sim {

// A rank under one of its owners.
struct Owner {
  RankId rank;
  Epoch epoch;
  uint64_t process = 0;  // the life of it that owns it
};

// Who is told what the ranks of simulated processes do.
class RankWitness {
 public:
  virtual ~RankWitness() = default;
  virtual void executed(Owner owner, const graftfs::Executed& executed) = 0;
  // The rank serves again, with every event up to `last`.
  virtual void recovered(Owner owner, Lsn last) = 0;
  // Of what it had, only what was durable is sure to come back.
  virtual void power_cut(RankId rank) = 0;
  // Something is wrong.
  virtual void fail(std::string what) = 0;
};

// Owned by the world; sees each request at the moment a rank carries it out. As the simulated ranks
// run one after the other, the order of these moments is a serial order: a reply that the model
// would not give in it is not linearizable.
//
// An operation of several ranks takes effect at the moment its coordinator carries it out: what it
// changes elsewhere has been promised by then, and nobody sees what is promised. One that fails
// because of what another rank said must have been right at some moment since it was asked for.
//
// The first thing found wrong is kept in failure().
class ClusterOracle final : public RankWitness {
 public:
  ClusterOracle(EventQueue& queue, Durability durability)
      : queue_(queue), durability_(durability) {}

  const std::string& failure() const { return failure_; }
  void fail(std::string what) override;
  void print(bool on) { print_ = on; }

  // The first start has made the root.
  void begin(const Stat& root) {
    start_.set_root(root);
    now_.set_root(root);
  }
  // A client begins to ask; the number is Credentials::pid of what it sends.
  void asked(int32_t call, SessionId session, bool sync);
  void executed(Owner owner, const graftfs::Executed& executed) override;
  // By that rank in that process; nobody: the client says it by itself, or nobody knows.
  using Speaker = SimNet::Speaker;
  void answered(int32_t call, int err, std::optional<Speaker> by = {});
  // A client has answered it from what it was leased, asking nobody: it must be so at this moment.
  void from_cache(const Request& request, const Reply& reply);
  // Nobody will send again what this client was answered.
  void client_died(SessionId session) { dead_.insert(session); }
  // What the rank has written and not synced may be gone.
  void power_cut(RankId rank) override { cut_.insert(rank); }
  // What owners before it do from now on is
  // nothing, and nobody may be told of it.
  void recovered(Owner owner, Lsn last) override;
  // One rank at the most believes itself to be the authority for a directory. Fenced ones do not
  // count: they are not given.
  void check_owners(const std::vector<const Rank*>& serving);
  // Everything that was answered and lost with a machine was sent again.
  void check_owed();
  // What the client was answered and is lost cannot be done again, and nobody misses it.
  void given_up(int32_t call) { owed_.erase(call); }
  // An operation of several ranks has brought this time to the inode.
  bool was_brought(Ino ino, const Timespec& time) const;

  const Model& model() const { return now_; }
  uint64_t executions() const { return executions_; }
  uint64_t across() const { return across_; }  // that several ranks have carried out
  uint64_t void_executions() const { return void_; }
  uint64_t cached() const { return cached_; }  // answers of clients that asked nobody

 private:
  struct Done {
    RankId rank;
    Lsn lsn;
    uint64_t order = 0;
    Request request;
    Reply reply;
    Timespec now;
    bool with_others = false;
  };
  struct Call {
    SessionId session;
    bool sync = false;
    bool answered = false;
    bool is_valid = false;      // carried out by who had the rank
    bool lost = false;          // with a machine, before it was answered
    std::set<Speaker> is_void;  // carried out by who has lost the rank: these must not answer it
    uint64_t asked_at = 0;      // order of the newest change then
    RankId rank;
    Lsn lsn, reveals;
    std::map<RankId, Lsn> covers;  // a sync: what it makes durable
  };
  struct Mark {  // who changed it last
    RankId rank;
    Lsn last, other;
    SessionId session;
  };
  std::string apply(Model& model, const Done& done, Expected& expected);
  std::string judge(Model& model, const Done& done, Expected& expected);
  bool was_right(const Done& done, uint64_t since);
  bool names_what_is_not_empty(const Done& done) const;
  void note_marks(const Done& done, const Expected& expected);
  Lsn reveals(const Done& done, const Expected& expected) const;

  EventQueue& queue_;
  const Durability durability_;
  bool print_ = false;
  std::string failure_;
  Model start_, now_;
  uint64_t orders_ = 0;
  std::vector<Done> history_;  // changes, in the order in which they were made
  std::set<std::tuple<RankId, SessionId, uint64_t>> done_;
  std::map<int32_t, Call> calls_;
  std::map<Part, Mark> marks_;
  std::map<RankId, Epoch> epochs_;
  std::map<RankId, Lsn> promised_;  // must survive the death of the rank's process
  std::map<RankId, Lsn> durable_;   // and that of its machine
  std::map<SessionId, std::map<RankId, Lsn>>
      told_;  // the newest event each session was answered for
  std::set<RankId> cut_;
  std::set<SessionId> dead_;
  std::map<int32_t, SessionId> owed_;  // answered, and lost with a machine
  std::map<Ino, Timespec> brought_;    // by the last operation of several ranks that changed it
  uint64_t executions_ = 0, across_ = 0, void_ = 0, cached_ = 0;
};

}  // namespace graftfs::sim
