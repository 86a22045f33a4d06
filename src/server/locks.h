#pragma once
// Locks of files (docs/protocols/leases.md): those of fcntl and flock, and the right to write.

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "server/rank_core.h"
#include "types/locks.h"

namespace graftfs {

// One for a rank, in its thread, in memory only. A request that has to wait is parked, holding
// nothing, and starts over when something on its inode is given back. Locks live as long as their
// session. A crash loses them; sessions name theirs when they attach again.
class Locks {
 public:
  explicit Locks(RankCore& core) : core_(core) {}
  ~Locks() { *alive_ = false; }

  // Granted; or EAGAIN, EDEADLK (among fcntl's at this rank), EINTR (cancelled), ETIMEDOUT (it has
  // waited for kLongest, and is to come again), or what to wait for.
  Outcome acquire(SessionId session, const LockArgs& args);
  void release(SessionId session, const LockRange& range);
  // The right to write to a file that the session has just made: nobody else can have it.
  void grant_new(SessionId session, Ino ino) { table_.set(session, LockRange::to_write(ino)); }
  // As acquire() of that right, for an operation that needs it itself; waits as long as it takes.
  Outcome own(SessionId session, Ino ino) {
    return acquire(session, {LockOp::wait, LockRange::to_write(ino), kUntimed});
  }
  // A request that waits is answered EINTR.
  void cancel(SessionId session, const LockArgs& args) {
    end({session, args.range.ino, args.number}, EINTR);
  }
  static constexpr Nanos kLongest = 2 * kSecond;
  static constexpr uint64_t kUntimed = UINT64_MAX;  // the number of such a wait
  const LockTable& table() const { return table_; }
  void session_gone(SessionId session);
  // The session has these and no others, as far as the inodes are this rank's. Evicted where
  // another one has been granted what it claims.
  void claim(SessionId session, std::vector<LockRange> locks);
  // Those of them that are on files which an owner before has lost: all of its files are here
  // again.
  void claim_made_again(SessionId session);
  // A subtree changes hands: what is on the inode comes, or is another rank's from now on.
  void add(SessionId session, const LockRange& range) { table_.set(session, range); }
  void forget(Ino ino);

 private:
  struct Waiter {
    SessionId session;
    Ino ino;
    uint64_t number = 0;
    friend auto operator<=>(const Waiter&, const Waiter&) = default;
  };
  using Owner = std::pair<SessionId, uint64_t>;

  bool waits_for(const Owner& me, SessionId session, const LockRange& want,
                 std::set<Owner>& seen) const;
  void end(const Waiter& waiter, int err);
  void ask_back(SessionId session, const LockRange& want);
  void wake(Ino ino);
  Task<void> claim_task(SessionId session, std::vector<LockRange> locks);
  bool claim_one(SessionId session, const LockRange& lock);
  void watch();
  void evict_silent(SessionId session, const LockRange& want);

  RankCore& core_;
  LockTable table_;
  std::map<Waiter, LockRange> waiting_;
  std::map<Waiter, int> ended_;  // those of them that are to be answered with this error
  std::map<SessionId, std::vector<LockRange>> claimed_;  // those that were not known here
  bool watching_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs
