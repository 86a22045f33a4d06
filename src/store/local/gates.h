#pragma once
// Keeps the operations on one ino in the order of their issue when some of them leave the
// executor's thread.

#include <list>
#include <memory>

#include <absl/container/flat_hash_map.h>

#include "base/executor.h"
#include "base/ids.h"
#include "base/task.h"

namespace graftfs::local {

// A first-come first-served shared / exclusive lock per ino, for coroutines of one thread. An ino
// has a gate only while someone holds it: operations that run inline just look whether there is
// one.
class Gates {
 public:
  explicit Gates(Executor& executor) : executor_(executor) {}

  // Whether an operation on the ino would have to wait.
  bool busy(Ino ino, bool exclusive) const {
    if (gates_.empty()) [[likely]]
      return false;
    auto it = gates_.find(ino);
    return it != gates_.end() && (exclusive || it->second->exclusive || it->second->resuming > 0 ||
                                  !it->second->waiting.empty());
  }

  class Hold;

 private:
  struct Gate {
    int shared = 0;
    bool exclusive = false;
    int resuming = 0;  // of those that hold it: who has waited, and does not run yet
    std::list<Hold*> waiting;
  };
  void leave(Hold& hold);
  void admit(Gate& gate);

  Executor& executor_;
  absl::flat_hash_map<Ino, std::unique_ptr<Gate>> gates_;
};

// A place in the line, from construction to destruction (also when its coroutine is destroyed
// while it waits). Does not move.
class Gates::Hold {
 public:
  Hold(Gates& gates, Ino ino, bool exclusive)
      : gates_(gates), ino_(ino), exclusive_(exclusive), entered_(gates.executor_) {
    auto& gate = gates_.gates_[ino_];
    if (!gate) gate = std::make_unique<Gate>();
    // Who is let in and does not run yet is not overtaken either.
    if (gate->exclusive || gate->resuming > 0 || !gate->waiting.empty() ||
        (exclusive_ && gate->shared > 0)) {
      gate->waiting.push_back(this);
      waits_ = true;
      return;
    }
    enter(*gate);
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() { gates_.leave(*this); }

  // Await entered() if so.
  bool must_wait() const { return waits_; }
  Task<void> entered() {
    co_await entered_;
    resumed();
  }

 private:
  friend class Gates;
  void enter(Gate& gate) {
    if (exclusive_) {
      gate.exclusive = true;
    } else {
      ++gate.shared;
    }
    waits_ = false;
  }
  void resumed() {
    resuming_ = false;
    Gate& gate = *gates_.gates_.at(ino_);
    if (--gate.resuming == 0) gates_.admit(gate);
  }

  Gates& gates_;
  Ino ino_;
  bool exclusive_;
  bool waits_ = false;
  bool resuming_ = false;
  Promised<bool> entered_;
};

inline void Gates::leave(Hold& hold) {
  auto it = gates_.find(hold.ino_);
  Gate& gate = *it->second;
  if (hold.waits_) {
    gate.waiting.remove(&hold);
  } else if (hold.exclusive_) {
    gate.exclusive = false;
  } else {
    --gate.shared;
  }
  gate.resuming -= hold.resuming_;
  admit(gate);
  if (gate.shared == 0 && !gate.exclusive && gate.waiting.empty()) gates_.erase(it);
}

inline void Gates::admit(Gate& gate) {
  while (!gate.waiting.empty() && !gate.exclusive) {
    Hold* next = gate.waiting.front();
    if (next->exclusive_ && gate.shared > 0) break;
    gate.waiting.pop_front();
    next->enter(gate);
    next->resuming_ = true;
    ++gate.resuming;
    next->entered_.set(true);
  }
}

}  // namespace graftfs::local
