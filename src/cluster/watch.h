#pragma once
// Who lives: pure logic over durations (docs/protocols/cluster.md, "Noticing death").

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/executor.h"
#include "cluster/records.h"

namespace graftfs::cluster {

// A node's own lease, of length L. Times are on its own clock, which runs on in a suspend.
class Lease {
 public:
  explicit Lease(Nanos length) : length_(length) {}
  // A beat that was begun at `begin` has been written, and afterwards the fences of all of its
  // ranks were its own.
  void renewed(Nanos begin) { end_ = std::max(end_, begin + length_); }
  // It is over for good: a fence is somebody else's.
  void lost() { lost_ = true; }
  // Whether the node may still speak for its ranks.
  bool valid(Nanos now) const { return !lost_ && now < end_; }
  // Whether it should begin something new: not in the last quarter.
  bool fresh(Nanos now) const { return !lost_ && now < end_ - length_ / 4; }
  Nanos end() const { return lost_ ? 0 : end_; }
  bool is_lost() const { return lost_; }

 private:
  Nanos length_;
  Nanos end_ = 0;
  bool lost_ = false;
};

// What one node sees of the others. Counts on its own clock from when it first sees a beat, which
// is after the beat began; so it calls nobody dead whose lease is not over, as long as the two
// clocks run at rates within 10 % of each other.
class Watch {
 public:
  explicit Watch(Nanos lease) : lease_(lease) {}

  struct Sighting {
    NodeId node = 0;
    uint64_t version = 0;  // of its record: grows with each beat
  };
  // All records as they were read, begun at `now` at the earliest. Returns those that are dead
  // from now on, in order. Who is not listed has gone in good order.
  std::vector<NodeId> look(Nanos now, const std::vector<Sighting>& seen);
  // Its journal's lock was free: no need to wait.
  void prove_dead(NodeId node);

  bool is_dead(NodeId node) const;
  bool is_alive(NodeId node) const;
  // The version that was seen unchanged for 5/4 L.
  uint64_t last_beat(NodeId node) const;
  Nanos dead_since(NodeId node) const;
  Nanos patience() const { return lease_ + lease_ / 4; }

 private:
  struct Known {
    uint64_t version = 0;
    Nanos since = 0;  // it was first seen
    bool dead = false;
    Nanos died = 0;
  };
  Nanos lease_;
  std::map<NodeId, Known> nodes_;
};

// What a node should do about ranks that nobody runs.
struct Member {
  NodeId id = 0;
  bool standby = false;
  size_t ranks = 0;
};
struct Orphan {
  RankId rank;
  Nanos since = 0;  // it was seen that nobody runs it
};
// Whether node `me` should try to take it now. `living`: all nodes that are not dead, with `me`.
// A standby tries at once; where there is none, the node with the fewest ranks (ties: the lowest
// id) after L/4, and everybody after 2 L more, because who should have may be unable to.
bool should_take(const Orphan& orphan, NodeId me, const std::vector<Member>& living, Nanos now,
                 Nanos lease);

}  // namespace graftfs::cluster
