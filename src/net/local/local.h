#pragma once
// Connections between the threads of one process. Messages are moved, not encoded.

#include <map>
#include <mutex>

#include "net/net.h"

namespace graftfs::net {

class LocalTransport;

// Where listeners of this process are found by name. One for a process (or a test); outlives every
// transport on it. Any thread.
class LocalHub {
 private:
  friend class LocalTransport;
  friend class LocalListener;
  struct Entry {
    Executor* executor;
    Doorman doorman;
    AcceptFn accept;
    Limits limits;
  };
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Entry>> listeners_;
};

// Between two executors a turn's messages cost one lock and, where the other side sleeps, one wake.
// Executors must outlive all connections between them, and no longer run functions when they are
// destroyed one after another: stop and join all loops first.
class LocalTransport final : public Transport {
 public:
  LocalTransport(LocalHub& hub, Executor& executor, Limits limits = {})
      : hub_(hub), executor_(executor), limits_(limits) {}
  ~LocalTransport() override { *alive_ = false; }

  Result<std::unique_ptr<Listener>> listen(const Address& address, Doorman doorman,
                                           AcceptFn accept) override;
  void connect(const Address& address, Identity identity, ConnectFn done) override;

 private:
  LocalHub& hub_;
  Executor& executor_;
  Limits limits_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs::net
