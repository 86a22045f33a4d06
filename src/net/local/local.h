#pragma once
// Connections between the threads of one process. Messages are moved, not encoded.

#include <map>
#include <memory>
#include <mutex>

#include "net/net.h"

namespace graftfs::net {

class LocalTransport;

// The way into another thread: what is posted runs there, or, once that has closed it, nowhere. Any
// thread; closed by the one it leads to, before its executor ends.
class Door {
 public:
  explicit Door(Executor& executor) : executor_(&executor), home_(&executor) {}
  void post(Fn fn) {
    std::lock_guard lock(mutex_);
    if (executor_) executor_->post(std::move(fn));
  }
  void close() {
    std::lock_guard lock(mutex_);
    executor_ = nullptr;
  }
  bool leads_to(const Executor& executor) const { return home_ == &executor; }

 private:
  std::mutex mutex_;
  Executor* executor_;
  const Executor* const home_;  // compared, never used
};

// Where listeners of this process are found by name. One for a process (or a test); outlives every
// transport on it. Any thread.
class LocalHub {
 private:
  friend class LocalTransport;
  friend class LocalListener;
  struct Entry {
    Executor* executor;  // in its thread only
    std::shared_ptr<Door> door;
    Doorman doorman;
    AcceptFn accept;
    Limits limits;
  };
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Entry>> listeners_;
};

// Between two executors a turn's messages cost two locks and, where the other side sleeps, one
// wake. Made and destroyed in its executor's thread, before that ends and after its listeners: from
// then on nobody posts there any more, so threads may end in any order. Connections that are left
// then are as good as broken.
class LocalTransport final : public Transport {
 public:
  LocalTransport(LocalHub& hub, Executor& executor, Limits limits = {})
      : hub_(hub), executor_(executor), door_(std::make_shared<Door>(executor)), limits_(limits) {}
  ~LocalTransport() override {
    *alive_ = false;
    door_->close();
  }

  Result<std::unique_ptr<Listener>> listen(const Address& address, Doorman doorman,
                                           AcceptFn accept) override;
  void connect(const Address& address, Identity identity, ConnectFn done) override;

 private:
  LocalHub& hub_;
  Executor& executor_;
  std::shared_ptr<Door> door_;
  Limits limits_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs::net
