#pragma once
// Connections over unix sockets (plain; the file's permission decides) and tcp (sealed).

#include <list>
#include <memory>

#include "base/event_loop.h"
#include "net/net.h"

namespace graftfs::net {

class SocketTransport final : public Transport {
 public:
  SocketTransport(EventLoop& loop, Limits limits = {});
  ~SocketTransport() override;

  // unix: a socket that nobody listens at any more is replaced; the new one is its owner's only
  // (mode 0600). EADDRINUSE where somebody does. tcp: an address in numbers, or "localhost".
  Result<std::unique_ptr<Listener>> listen(const Address& address, Doorman doorman,
                                           AcceptFn accept) override;
  void connect(const Address& address, Identity identity, ConnectFn done) override;

 private:
  class Connecting;
  EventLoop& loop_;
  Limits limits_;
  std::list<std::unique_ptr<Connecting>> connecting_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs::net
