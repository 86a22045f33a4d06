#pragma once
// Virtual time in which nodes work at the same time, each on a processor of its machine.

#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "sim/executor.h"

namespace graftfs::sim {

// What a node is given waits until the node is done with what came before and its machine has a
// core that is free; then it takes as long as is charged for it while it runs. Messages and timers
// are on their way meanwhile, other machines work. So a node that has too much to do falls behind,
// and everything that arrives in the meantime is one batch, as in a real event loop.
//
// Events run one after the other in the order of their beginnings. now() is the time of the node
// whose event runs: its beginning and what has been charged since. Two events of different nodes
// that overlap see nothing of each other, because messages take time. Nothing is drawn: the same
// calls give the same run. Stalls and clocks of nodes are EventQueue's and do not work here.
class ParallelQueue final : public EventQueue {
 public:
  ParallelQueue() : EventQueue(0) {}

  // A machine with so many cores; its number.
  int add_machine(int cores);
  // On which the node runs, before it is given anything. (NodeExecutor::follow places, too.)
  void place(NodeExecutor& node, int machine) { node.machine_ = machine; }
  bool step() override;

  // The event that runs takes so much longer.
  void charge(Nanos cost) { now_ += cost; }
  // Counts the batches of the node whose event runs: what had arrived when the first of them began
  // belongs to one.
  uint64_t turn() const { return turn_; }
  // Time of processors that was used so far.
  Nanos used(int machine) const { return machines_[static_cast<size_t>(machine)].used; }

 private:
  struct Item {
    Nanos ready;
    uint64_t order;
    Fn fn;
    // The first one is on top of a heap.
    friend bool operator<(const Item& a, const Item& b) {
      return std::pair(a.ready, a.order) > std::pair(b.ready, b.order);
    }
  };
  struct Entry {
    Nanos begin = 0, ready = 0;
    int node = -1;
    friend auto operator<=>(const Entry&, const Entry&) = default;
  };
  struct Work {
    std::vector<Item> items;  // a heap
    Nanos free_at = 0;
    Nanos turn_began = -1;
    uint64_t turn = 0;
    Entry entry;  // in the agenda that counts; node -1: none does
  };
  struct Machine {
    std::vector<Nanos> free_at;  // of each core
    Nanos used = 0;
  };

  void post(NodeExecutor& node, Fn fn) override { post_after(node, 0, std::move(fn)); }
  void post_after(NodeExecutor& node, Nanos delay, Fn fn) override;
  void drop(NodeExecutor& node) override;
  Work& work_of(const NodeExecutor& node);
  Machine& machine_of(const NodeExecutor& node);
  static size_t core_of(const Machine& machine);
  void enter(const NodeExecutor& node, Work& work);

  std::vector<Work> works_;  // by node
  std::vector<Machine> machines_;
  // Also entries that do not count any more.
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> agenda_;
  uint64_t order_ = 0;
  uint64_t turn_ = 0;
};

}  // namespace graftfs::sim
