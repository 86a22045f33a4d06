#pragma once
// What the parts of a rank (migration, operations on several authorities, leases) know of it.

#include "cache/cache.h"
#include "events/event.h"
#include "events/rank_state.h"
#include "events/two_party.h"
#include "journal/journal.h"
#include "server/authority.h"
#include "server/op_context.h"
#include "server/peers.h"
#include "store/store.h"

namespace graftfs {

class Migrations;
class TwoParty;
class Leases;
class Locks;
struct RankOptions;

// A view of the rank, owned by it, living as long; in its thread.
class RankCore {
 public:
  explicit RankCore(Rank& rank) : rank_(rank) {}

  RankId id() const;
  Epoch epoch() const;
  const RankOptions& options() const;
  Executor& executor();
  Store& store();
  Cache& cache();
  RankState& state();
  Journal& journal();
  TaskScope& tasks();
  Peers* peers();  // null: there is no other rank, and never will be
  Migrations& migrations();
  TwoParty& two_party();
  Leases& leases();
  Locks& locks();

  // From this rank.
  void send(RankId to, Body body);
  Lsn log(const TreeEvent& event);
  // Logs and applies; bounds in the cache follow where the map of subtrees changed.
  Lsn log_event(EventType type, const std::string& payload);
  // A Commit with this tree event (of type `commit`).
  Lsn log_commit(const Commit& commit, const TreeEvent& event);
  // Calls `send` once the journal is durable up to there and this node's lease is valid; may be at
  // once. Never, where the rank fails first.
  void say_when(Lsn durable, Fn send);
  // Requests that are parked for this need start over.
  void wake(const Need& need);
  // While it is above 0 every directory that a request touches is asked about (Migrations::parks,
  // TwoParty::busy).
  void add_gate(int change);
  // Brings a directory (its way up included) into the cache, and says whose it is.
  Task<Result<Place>> find_dir(Ino ino);
  Task<Result<Place>> find_inode(Ino ino);
  // What an operation lacks (a kind below Need::frozen).
  Task<Result<Place>> fetch(Need need);
  Rank& rank() { return rank_; }
  // By its client, after an owner before had lost it.
  bool was_made_again(Ino ino) const;
  // Holds of nameless inodes, as they are handed over.
  std::vector<std::pair<SessionId, HoldCount>> holds(Ino ino) const;
  void add_hold(SessionId session, const HoldCount& more);
  void drop_hold(Ino ino, SessionId session, uint32_t count);
  // The session holds these and nothing else.
  void set_holds(SessionId session, const std::vector<HoldCount>& holds);
  std::vector<Ino> held() const;  // inodes that somebody holds, in order
  void open_session(SessionId session);
  size_t segment_capacity() const;  // bytes; an event is at most half of that
  bool is_throttled() const;        // the journal is at its cap
  void say(const std::string& line) const;
  // The rank is over: it answers and writes nothing any more.
  void fail(Error error);

 private:
  Rank& rank_;
};

}  // namespace graftfs
