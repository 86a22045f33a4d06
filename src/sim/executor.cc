#include "sim/executor.h"

#include <cstring>

#include "base/crc32c.h"

namespace graftfs::sim {
namespace {

constexpr int64_t kEpoch = 1'700'000'000;  // seconds; when every run begins
constexpr uint64_t kLongestStep = 2 * kMicrosecond;
constexpr int64_t kMillion = 1'000'000;

Timespec wall_at(Nanos now) {
  return {kEpoch + now / kSecond, static_cast<uint32_t>(now % kSecond)};
}

}  // namespace

void NodeExecutor::post(Fn fn) { queue_.post(*this, std::move(fn)); }

void NodeExecutor::post_after(Nanos delay, Fn fn) {
  if (ppm_ != 0 && delay > 0) delay = delay * kMillion / (kMillion + ppm_) + 1;
  queue_.post_after(*this, delay, std::move(fn));
}

Nanos NodeExecutor::now() const { return queue_.now_ + queue_.now_ / kMillion * ppm_; }
Timespec NodeExecutor::wall_now() const { return wall_at(now() + wall_offset_); }

void NodeExecutor::stall(bool on) {
  stalled_ = on;
  if (on) return;
  for (Fn& fn : late_) posted_.push_back(std::move(fn));
  late_.clear();
}

void NodeExecutor::crash() {
  // What the functions own may post again while it is destroyed.
  std::deque<Fn> dropped = std::move(posted_), overdue = std::move(late_);
  posted_.clear();
  dropped.clear();
  overdue.clear();
  posted_.clear();
  late_.clear();
  stalled_ = false;
  queue_.drop(*this);
}

void EventQueue::post_after(NodeExecutor& node, Nanos delay, Fn fn) {
  std::pair<Nanos, uint64_t> key(now_ + delay, random_.next());
  timers_.emplace(key, Timer{&node, std::move(fn)});
}

void EventQueue::drop(NodeExecutor& node) {
  std::vector<Fn> late;
  for (auto it = timers_.begin(); it != timers_.end();) {
    if (it->second.node == &node) {
      late.push_back(std::move(it->second.fn));
      it = timers_.erase(it);
    } else {
      ++it;
    }
  }
}

NodeExecutor& EventQueue::add_node() {
  nodes_.push_back(std::make_unique<NodeExecutor>(*this, static_cast<int>(nodes_.size())));
  return *nodes_.back();
}

Timespec EventQueue::wall_now() const { return wall_at(now_); }

void EventQueue::note(std::string_view what) { digest_ = crc32c(what, digest_); }

void EventQueue::note_step(NodeExecutor& node) {
  ++steps_;
  current_ = &node;
  int64_t trace[2] = {now_, node.id()};
  digest_ = crc32c(std::string_view(reinterpret_cast<const char*>(trace), sizeof trace), digest_);
}

void EventQueue::run(NodeExecutor& node, Fn fn) {
  note_step(node);
  now_ += static_cast<Nanos>(random_.below(kLongestStep)) + 1;
  fn();
}

bool EventQueue::take_timer() {
  if (timers_.empty() || timers_.begin()->first.first > now_) return false;
  auto timer = timers_.extract(timers_.begin());
  Timer& t = timer.mapped();
  if (t.node->stalled_)
    t.node->late_.push_back(std::move(t.fn));
  else
    run(*t.node, std::move(t.fn));
  return true;
}

bool EventQueue::step() {
  size_t ready = 0;
  for (const auto& node : nodes_) ready += node->ready();
  bool due = !timers_.empty() && timers_.begin()->first.first <= now_;
  if (ready + due == 0) {
    if (timers_.empty()) return false;
    now_ = timers_.begin()->first.first;
    due = true;
  }
  uint64_t pick = random_.below(ready + due);
  for (const auto& node : nodes_) {
    if (!node->ready()) continue;
    if (pick-- > 0) continue;
    Fn fn = std::move(node->posted_.front());
    node->posted_.pop_front();
    run(*node, std::move(fn));
    return true;
  }
  return take_timer();
}

}  // namespace graftfs::sim
