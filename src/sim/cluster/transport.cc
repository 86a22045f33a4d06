#include "sim/cluster/transport.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "sim/describe.h"

namespace graftfs::sim {

// A connection: two ends, and what is on its way between them.
struct SimNet::Wire {
  End ends[2];  // 0: who connected, 1: who listened
  Sender says[2];
  uint64_t process = 0;              // that listened
  Nanos due[2] = {0, 0};             // when the last thing sent to that end arrives
  std::deque<std::string> held[2];   // arrived while it was not reading
  std::deque<std::string> stuck[2];  // on its way between machines that are parted
  bool broken = false;
};

class SimConnection final : public net::Connection {
 public:
  SimConnection(SimNet& net, std::shared_ptr<SimNet::Wire> wire, int end, net::Peer peer)
      : net_(net), wire_(std::move(wire)), end_(end), peer_(std::move(peer)) {}
  ~SimConnection() override { close(); }

  void send(Message message) override {
    if (!own().open || wire_->broken) return;
    if (auto* call = std::get_if<msg::Call>(&message.body)) call->request.cred.settle();
    if (NetMeter* meter = net_.meter_) {
      uint64_t& last = own().metered[0];
      last = meter->sends(*own().node, message, last);
    }
    std::string frame;
    encode_message(message, frame);
    net_.deliver_later(wire_, 1 - end_, std::move(frame));
  }
  bool writable() const override { return true; }
  void set_reading(bool on) override {
    if (std::exchange(own().reading, on) || !on) return;
    own().node->post([net = &net_, wire = wire_, end = end_] {
      while (wire->ends[end].open && wire->ends[end].reading && !wire->held[end].empty()) {
        std::string frame = std::move(wire->held[end].front());
        wire->held[end].pop_front();
        net->pass(wire, end, frame);
      }
    });
  }
  void close() override {
    if (!std::exchange(own().open, false)) return;
    own().events = nullptr;
    net_.tell(wire_, 1 - end_, net_.latency(), "closed by the other side");
  }
  const net::Peer& peer() const override { return peer_; }
  void set_events(net::ConnectionEvents* events) override { own().events = events; }

 private:
  SimNet::End& own() { return wire_->ends[end_]; }

  SimNet& net_;
  std::shared_ptr<SimNet::Wire> wire_;
  int end_;
  net::Peer peer_;
};

namespace {

class SimListener final : public net::Listener {
 public:
  SimListener(net::Address address, Fn close)
      : address_(std::move(address)), close_(std::move(close)) {}
  ~SimListener() override { close_(); }
  net::Address address() const override { return address_; }

 private:
  net::Address address_;
  Fn close_;
};

}  // namespace

Nanos SimNet::latency() {
  const Nanos spread = options_.latency_max - options_.latency_min;
  return 1 + options_.latency_min + static_cast<Nanos>(random_.below(spread + 1));
}

void SimNet::deliver_later(const std::shared_ptr<Wire>& wire, int to, std::string frame) {
  End& end = wire->ends[to];
  wire->due[to] = std::max(wire->due[to] + 1, queue_.now() + latency());
  end.node->post_after(wire->due[to] - queue_.now(),
                       [this, wire, to, frame = std::move(frame)] { deliver(wire, to, frame); });
}

void SimNet::deliver(const std::shared_ptr<Wire>& wire, int to, const std::string& frame) {
  End& end = wire->ends[to];
  if (wire->broken || !end.open || end.told) return;
  if (!wire->stuck[to].empty() || parted(*wire->ends[0].node, *wire->ends[1].node)) {
    wire->stuck[to].push_back(frame);
    return;
  }
  pass(wire, to, frame);
}

void SimNet::pass(const std::shared_ptr<Wire>& wire, int to, const std::string& frame) {
  End& end = wire->ends[to];
  if (!end.reading) {
    wire->held[to].push_back(frame);
    return;
  }
  ++messages_;
  Result<Message> message = decode_message(frame, wire->says[1 - to]);
  CHECK(message.has_value(), "a message does not survive its encoding: {}",
        message ? std::string() : graftfs::describe(message.error()));
  if (options_.print)
    if (std::string what = describe_message(*message); !what.empty())
      fmt::print("{:>7} {}\n", queue_.steps(), what);
  if (meter_) end.metered[1] = meter_->receives(*end.node, *message, end.metered[1]);
  if (!end.events) return;
  struct Speaking {
    std::optional<Speaker>& who;
    ~Speaking() { who.reset(); }
  } speaking{speaker_};
  speaker_ = Speaker{to == 0 ? wire->process : 0, message->from};
  end.events->received(std::move(*message));
}

// Behind everything that is on its way to that end.
void SimNet::tell(const std::shared_ptr<Wire>& wire, int to, Nanos after, const char* why) {
  End& end = wire->ends[to];
  if (!end.open || end.told) return;
  wire->due[to] = std::max(wire->due[to] + 1, queue_.now() + after);
  end.node->post_after(wire->due[to] - queue_.now(), [wire, to, why] {
    End& end = wire->ends[to];
    if (!end.open || std::exchange(end.told, true)) return;
    if (end.events) end.events->disconnected(graftfs::fail(ECONNRESET, why).error());
  });
}

void SimNet::break_wire(const std::shared_ptr<Wire>& wire, Nanos after, const char* why) {
  if (wire->broken) return;
  for (int end : {0, 1}) tell(wire, end, after + latency(), why);
  wire->broken = true;  // what is on its way is lost
}

void SimNet::node_died(const NodeExecutor& node) {
  std::erase_if(doors_, [&](const auto& door) { return door.second->node == &node; });
  for (const auto& weak : wires_) {
    auto wire = weak.lock();
    if (!wire) continue;
    for (int end : {0, 1}) {
      if (wire->ends[end].node != &node) continue;
      wire->ends[end].open = false;
      wire->ends[end].events = nullptr;
      tell(wire, 1 - end, options_.break_after, "its process has died");
    }
  }
  std::erase_if(wires_, [](const auto& weak) { return weak.expired(); });
}

int SimNet::machine_of(const NodeExecutor& node) const {
  auto it = machines_.find(node.id());
  return it == machines_.end() ? -1 - node.id() : it->second;
}

bool SimNet::parted(const NodeExecutor& a, const NodeExecutor& b) const {
  return !parted_.empty() && parted_.contains(std::minmax(machine_of(a), machine_of(b)));
}

void SimNet::part(int a, int b) {
  if (a == b) return;
  parted_.insert(std::minmax(a, b));
  for (const auto& weak : wires_) {
    auto wire = weak.lock();
    // Some do not last: each side notices by itself, and what is on its way is lost.
    if (wire && parted(*wire->ends[0].node, *wire->ends[1].node) && random_.chance(60))
      break_wire(wire, static_cast<Nanos>(random_.below(100 * kMillisecond)), "it is silent");
  }
}

void SimNet::join(int a, int b) {
  parted_.erase(std::minmax(a, b));
  for (const auto& weak : wires_) {
    auto wire = weak.lock();
    if (!wire || parted(*wire->ends[0].node, *wire->ends[1].node)) continue;
    for (int end : {0, 1})
      if (!wire->stuck[end].empty())
        wire->ends[end].node->post_after(latency(), [this, wire, end] { unstick(wire, end); });
  }
}

void SimNet::unstick(const std::shared_ptr<Wire>& wire, int to) {
  while (!wire->stuck[to].empty() && !parted(*wire->ends[0].node, *wire->ends[1].node)) {
    std::string frame = std::move(wire->stuck[to].front());
    wire->stuck[to].pop_front();
    if (!wire->broken && wire->ends[to].open && !wire->ends[to].told) pass(wire, to, frame);
  }
}

bool SimNet::break_one() {
  std::erase_if(wires_, [](const auto& weak) { return weak.expired() || weak.lock()->broken; });
  if (wires_.empty()) return false;
  break_wire(wires_[random_.below(wires_.size())].lock(), 1, "the network has dropped it");
  return true;
}

Result<std::unique_ptr<net::Listener>> SimTransport::listen(const net::Address& address,
                                                            net::Doorman doorman,
                                                            net::AcceptFn accept) {
  auto door = std::make_shared<SimNet::Door>(&node_, std::move(doorman), std::move(accept));
  if (!net_.doors_.emplace(address.text, door).second)
    return fail(EADDRINUSE, address.text + " is taken");
  Fn close = [net = &net_, door, name = address.text] {
    auto at = net->doors_.find(name);
    if (at != net->doors_.end() && at->second == door) net->doors_.erase(at);
  };
  return std::make_unique<SimListener>(address, std::move(close));
}

void SimTransport::connect(const net::Address& address, net::Identity identity,
                           net::ConnectFn done) {
  // There and back again: the handshake.
  auto answer = std::make_shared<net::ConnectFn>(std::move(done));
  node_.post_after(net_.latency(), [net = &net_, node = &node_, address, identity, answer] {
    auto at = net->doors_.find(address.text);
    if (at == net->doors_.end() || net->parted(*node, *at->second->node))
      return (*answer)(fail(ECONNREFUSED, address.text + " does not answer"));
    const SimNet::Door& door = *at->second;
    if (identity.volume != door.doorman.volume)
      return (*answer)(fail(ESTALE, address.text + " serves another volume"));
    auto wire = std::make_shared<SimNet::Wire>();
    wire->ends[0].node = node;
    wire->ends[1].node = door.node;
    wire->says[0] = net::sender_of(identity.role);
    wire->says[1] = net::answer_of(identity.role);
    wire->process = door.doorman.node;
    net->wires_.push_back(wire);
    net::Peer there{.role = net::Role::node,
                    .id = door.doorman.node,
                    .limits = {},
                    .name = address.text,
                    .lease_ms = door.doorman.lease_ms,
                    .in_flight = 4096};
    net::Peer here{.role = identity.role,
                   .id = identity.id,
                   .limits = {},
                   .name = fmt::format("node {}", node->id())};
    auto accepted = std::make_shared<std::unique_ptr<net::Connection>>(
        std::make_unique<SimConnection>(*net, wire, 1, std::move(here)));
    wire->due[1] = net->queue().now() + 1;
    door.node->post_after(1, [accept = door.accept, accepted] { accept(std::move(*accepted)); });
    (*answer)(std::make_unique<SimConnection>(*net, wire, 0, std::move(there)));
  });
}

}  // namespace graftfs::sim
