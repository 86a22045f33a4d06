#pragma once
// Which session may keep what it was told (docs/protocols/leases.md).

#include "server/rank_core.h"

namespace graftfs {

// What a session must forget of a directory.
struct RecallItem {
  SessionId session;
  Ino dir;
  bool self = false;  // its own attributes
  bool all = false;   // and everything, and the lease itself
  std::vector<std::string> names;
  std::vector<Ino> inos;
};

// How the sessions are reached: the endpoint implements it.
class SessionLines {
 public:
  virtual ~SessionLines() = default;
  // False: it has no connection at the moment.
  virtual bool send(SessionId session, Body body) = 0;
  // The client has not been heard of for too long, or is gone: its session ends.
  virtual void evict(SessionId session, const std::string& why) = 0;
  // When the rank last answered it.
  virtual Nanos heard(SessionId session) const = 0;
};

// One for a rank, in its thread, in memory only.
class Leases {
 public:
  explicit Leases(RankCore& core) : core_(core) {}

  // Null: there are no clients but those in this thread.
  void set_lines(SessionLines* lines) { lines_ = lines; }
  SessionLines* lines() const { return lines_; }
  // Answers to recalls and hold queries.
  void receive(SessionId session, Message message);
  // Nothing is leased to anybody: nothing has to be asked.
  bool idle() const { return true; }
  // For a reply about this directory; false: the client may not keep it.
  bool give(SessionId session, const Dir& dir);
  // What others hold of what the event changes; empty: go on.
  std::vector<RecallItem> conflicts(SessionId session, const TreeEvent& event) const;
  // Begins; `need` is woken when all have answered or were evicted.
  Need recall(std::vector<RecallItem> items);
  bool none_below(const Dir& root) const;
  void recall_tree(const Dir& root, Fn done);
  void session_gone(SessionId session);

 private:
  RankCore& core_;
  SessionLines* lines_ = nullptr;
};

}  // namespace graftfs
