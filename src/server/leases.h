#pragma once
// Which session may keep what it was told (docs/protocols/leases.md).

#include <absl/container/flat_hash_map.h>

#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "server/rank_core.h"

namespace graftfs {

// How the sessions are reached: the endpoint implements it.
class SessionLines {
 public:
  virtual ~SessionLines() = default;
  // False: it has no connection at the moment.
  virtual bool send(SessionId session, Body body) = 0;
  virtual bool connected(SessionId session) const = 0;
  // The client has not been heard of for too long, or is gone: its session ends.
  virtual void evict(SessionId session, const std::string& why) = 0;
  // Its connection is closed; it may come back with a new one.
  virtual void disconnect(SessionId session, const std::string& why) = 0;
  // When the rank last answered it.
  virtual Nanos heard(SessionId session) const = 0;
  // How long a client goes by what it was leased, after the last answer to a beat.
  virtual Nanos lease() const = 0;
  // What sessions had locked before this rank began they are still to claim.
  virtual bool in_window() const = 0;
};

// Leases on directories: of a directory's own attributes, its entries, and the attributes of the
// inodes embedded there. One for a rank, in its thread, in memory only: after a crash nothing is
// leased, because clients drop what they hold of a rank when they attach to it. An operation that
// is about to change what others hold calls ask(), and waits; it holds nothing meanwhile. It waits
// until all have answered or were evicted, which they are after 5/4 of the lease.
class Leases {
 public:
  explicit Leases(RankCore& core) : core_(core) {}
  ~Leases() { *alive_ = false; }

  // Null: there are no clients but those in this thread.
  void set_lines(SessionLines* lines) {
    lines_ = lines;
    watch();
  }
  SessionLines* lines() const { return lines_; }
  // Attach (whoever says it keeps nothing of before), and answers to recalls.
  void receive(SessionId session, Message message);
  // Nothing is leased to anybody: nothing has to be asked.
  bool idle() const { return sessions_.empty(); }
  // The request was carried out; writes into its reply what the client may keep of it.
  // `shown`: what the reply waits for to be durable.
  void give(const Request& request, Reply& reply, Lsn shown);
  // Of what else is said to clients and has to be told apart from answers before it.
  uint64_t next_order() { return ++order_; }
  // What the event changes is recalled from all sessions that hold it, but `except`. Nothing: they
  // do not, and will not before this turn of the loop ends. Else what to wait for; then it has to
  // be asked again.
  std::optional<Need> ask(SessionId except, const TreeEvent& event);
  // No directory below is leased; what has come to be since recall_tree() is recalled again.
  bool none_below(const Dir& root);
  // Everything below; `done` is posted when nobody holds anything of it.
  void recall_tree(const Dir& root, Fn done);
  void session_gone(SessionId session);

  size_t leased(SessionId session) const;  // directories
  // Of a session; one more, and the oldest is recalled.
  void set_most(size_t dirs) { most_ = dirs; }

 private:
  // What is told anew of a directory, or of the inodes in it.
  struct Items {
    bool self = false;
    bool all = false;
    std::set<std::string> names;
    std::set<Ino> inos;
    bool covers(const Items& other) const;
  };
  using Holder = std::pair<Ino, SessionId>;  // of a lease on that directory
  // From its begin until a while after all have answered nothing of its directories is leased.
  struct Recalling {
    std::map<Ino, Items> what;
    std::set<Holder> holders;
    size_t unanswered = 0;
    Fn done;
  };
  struct Asked {
    uint64_t recall = 0;
    Holder holder;
    Nanos since = 0;
    bool reminded = false;
  };
  struct Held {
    std::list<Ino>::iterator place;
    uint64_t given = 0, recalled = 0;  // when something was, last
  };
  struct DirLeases {
    std::map<SessionId, Held> holders;
    std::vector<uint64_t> recalls;
    Nanos since = 0;  // of the recalls that are counted
    uint32_t count = 0;
    Nanos closed_until = 0;
  };
  struct SessionLeases {
    std::list<Ino> order;  // the one that was used last is the last
  };

  void give_all(const Request& request, Reply& reply, Lsn shown);
  bool lease(SessionId session, const Dir& dir);
  std::map<Ino, Items> items_of(SessionId except, const TreeEvent& event) const;
  const Recalling* covering(const DirLeases& leases, const Holder& holder, const Items& items,
                            uint64_t* id) const;
  uint64_t begin(std::map<Ino, Items> what, std::set<Holder> holders, Fn done);
  bool is_hot(DirLeases& leases) const;
  void answered(std::map<uint64_t, Asked>::iterator asked);
  void over(uint64_t id);
  void retire(uint64_t id);
  void drop(const Holder& holder);
  void tidy(Ino dir);
  bool is_below(Ino dir, const Dir& root) const;
  void watch();
  void look_at_silent();

  RankCore& core_;
  SessionLines* lines_ = nullptr;
  absl::flat_hash_map<Ino, DirLeases> dirs_;
  std::map<SessionId, SessionLeases> sessions_;
  std::map<uint64_t, Recalling> recalls_;
  std::map<uint64_t, Asked> asked_;  // by the number of the message
  uint64_t last_recall_ = 0, last_number_ = 0, order_ = 0;
  size_t most_ = 100'000;
  bool watching_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs
