#include "sim/parallel/queue.h"

#include <algorithm>

#include "base/check.h"

namespace graftfs::sim {

int ParallelQueue::add_machine(int cores) {
  machines_.push_back({std::vector<Nanos>(static_cast<size_t>(cores)), 0});
  return static_cast<int>(machines_.size()) - 1;
}

ParallelQueue::Work& ParallelQueue::work_of(const NodeExecutor& node) {
  const auto at = static_cast<size_t>(node.id());
  if (at >= works_.size()) works_.resize(nodes_.size());
  return works_[at];
}

ParallelQueue::Machine& ParallelQueue::machine_of(const NodeExecutor& node) {
  CHECK(node.machine_ >= 0, "node {} stands on no machine", node.id());
  return machines_[static_cast<size_t>(node.machine_)];
}

// The core that is free first.
size_t ParallelQueue::core_of(const Machine& machine) {
  auto first = std::min_element(machine.free_at.begin(), machine.free_at.end());
  return static_cast<size_t>(first - machine.free_at.begin());
}

// Into the agenda, at the time at which its first item may begin as far as is known now. Whoever
// takes its core first makes that later.
void ParallelQueue::enter(const NodeExecutor& node, Work& work) {
  work.entry.node = -1;
  if (work.items.empty()) return;
  const Nanos ready = work.items.front().ready;
  const Machine& machine = machine_of(node);
  work.entry = {std::max({ready, work.free_at, machine.free_at[core_of(machine)]}), ready,
                node.id()};
  agenda_.push(work.entry);
}

void ParallelQueue::post_after(NodeExecutor& node, Nanos delay, Fn fn) {
  Work& work = work_of(node);
  work.items.push_back({now_ + delay, ++order_, std::move(fn)});
  std::push_heap(work.items.begin(), work.items.end());
  if (work.entry.node < 0 || work.items.front().ready < work.entry.ready) enter(node, work);
}

void ParallelQueue::drop(NodeExecutor& node) {
  // What the functions own may post again while it is destroyed.
  while (!work_of(node).items.empty()) auto dropped = std::exchange(work_of(node).items, {});
  enter(node, work_of(node));
}

bool ParallelQueue::step() {
  for (;;) {
    if (agenda_.empty()) return false;
    const Entry next = agenda_.top();
    agenda_.pop();
    NodeExecutor& node = *nodes_[static_cast<size_t>(next.node)];
    Work& work = work_of(node);
    if (work.entry != next) continue;
    const size_t core = core_of(machine_of(node));
    const Nanos begin = std::max({next.ready, work.free_at, machine_of(node).free_at[core]});
    if (begin > next.begin) {
      enter(node, work);
      continue;
    }
    std::pop_heap(work.items.begin(), work.items.end());
    Item item = std::move(work.items.back());
    work.items.pop_back();
    if (item.ready > work.turn_began) {
      work.turn_began = begin;
      ++work.turn;
    }
    turn_ = work.turn;
    now_ = begin;
    enter(node, work);
    note_step(node);
    item.fn();
    item.fn = nullptr;
    // Functions may have added nodes and machines.
    Machine& machine = machine_of(node);
    machine.free_at[core] = now_;
    machine.used += now_ - begin;
    work_of(node).free_at = now_;
    enter(node, work_of(node));
    return true;
  }
}

}  // namespace graftfs::sim
