#pragma once
// Virtual time: one queue of events for the whole simulated world.

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"

namespace graftfs::sim {

// splitmix64: every stream of random numbers of a run comes from its seed.
class SimRandom final : public Random {
 public:
  explicit SimRandom(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x1234567) {}
  uint64_t next() override {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  bool chance(uint32_t percent) { return below(100) < percent; }

 private:
  uint64_t state_;
};

class EventQueue;
class ParallelQueue;

// One node's executor. What is posted to it runs in order, timers by their due time; among nodes,
// and among timers due at once, the seed decides. crash() drops everything that is queued. While it
// is stalled nothing of it runs, and its clock goes on: as a process that was stopped.
class NodeExecutor final : public Executor {
 public:
  NodeExecutor(EventQueue& queue, int id) : queue_(queue), id_(id) {}
  void post(Fn fn) override;
  void post_after(Nanos delay, Fn fn) override;
  Nanos now() const override;
  Timespec wall_now() const override;

  void crash();
  void stall(bool on);
  bool stalled() const { return stalled_; }
  // Its clock runs faster by so many millionths, and its wall clock shows that much more.
  void set_clock(int64_t ppm, Nanos wall_offset) {
    ppm_ = ppm;
    wall_offset_ = wall_offset;
  }
  // The same machine and clock, and stalled where the other one is.
  void follow(const NodeExecutor& other) {
    set_clock(other.ppm_, other.wall_offset_);
    stalled_ = other.stalled_;
    machine_ = other.machine_;
  }
  int id() const { return id_; }
  bool ready() const { return !stalled_ && !posted_.empty(); }

 private:
  friend class EventQueue;
  friend class ParallelQueue;
  EventQueue& queue_;
  int id_;
  int machine_ = -1;  // where nodes work at the same time: ParallelQueue
  std::deque<Fn> posted_;
  bool stalled_ = false;
  std::deque<Fn> late_;  // timers that came while it was stalled
  int64_t ppm_ = 0;
  Nanos wall_offset_ = 0;
};

// Owned by the world, outlives every node. The digest is a CRC over what ran when: two runs that
// do the same have the same one.
class EventQueue {
 public:
  explicit EventQueue(uint64_t seed) : random_(seed) {}
  virtual ~EventQueue() = default;

  NodeExecutor& add_node();
  // Runs one event. False: there is none. What the event throws comes out of here.
  virtual bool step();
  Nanos now() const { return now_; }
  Timespec wall_now() const;
  uint64_t steps() const { return steps_; }
  // The node whose event is running, or ran last.
  NodeExecutor* current() const { return current_; }
  uint32_t digest() const { return digest_; }
  void note(std::string_view what);

 protected:
  friend class NodeExecutor;
  virtual void post(NodeExecutor& node, Fn fn) { node.posted_.push_back(std::move(fn)); }
  virtual void post_after(NodeExecutor& node, Nanos delay, Fn fn);
  // Everything of the node's that has not run is dropped.
  virtual void drop(NodeExecutor& node);
  // Counts the event that is about to run.
  void note_step(NodeExecutor& node);

  SimRandom random_;
  std::vector<std::unique_ptr<NodeExecutor>> nodes_;
  Nanos now_ = kSecond;

 private:
  struct Timer {
    NodeExecutor* node;
    Fn fn;
  };

  bool take_timer();
  void run(NodeExecutor& node, Fn fn);

  std::map<std::pair<Nanos, uint64_t>, Timer> timers_;  // the second key breaks ties at random
  uint64_t steps_ = 0;
  NodeExecutor* current_ = nullptr;
  uint32_t digest_ = 0;
};

}  // namespace graftfs::sim
