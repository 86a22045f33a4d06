#pragma once
// A network for simulated nodes: messages take time, and connections break.

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "net/net.h"
#include "sim/executor.h"

namespace graftfs::sim {

struct SimNetOptions {
  Nanos latency_max = 200 * kMicrosecond;
  Nanos break_after = 5 * kMillisecond;  // until the other side of a dead node notices
  bool print = false;                    // what ranks say to each other, as it arrives
  Nanos latency_min = 0;
};

// Who counts what is sent, and makes it cost something. Called in the events of the nodes.
class NetMeter {
 public:
  virtual ~NetMeter() = default;
  // What it returned for this end of this connection the last time comes back as `last`; 0 at
  // first.
  virtual uint64_t sends(const NodeExecutor& node, const Message& message, uint64_t last) = 0;
  virtual uint64_t receives(const NodeExecutor& node, const Message& message, uint64_t last) = 0;
};

// The wires. Owned by the world, outlives every transport; the world's thread. Every message is
// encoded and decoded on its way, so that the codecs are exercised, and arrives in the order it was
// sent, or not at all: then the connection is broken, which both sides are told once, each at a
// time of its own. A node that crashes loses its ends; the other side is told after a while.
// Between machines that are parted nothing arrives: what was sent comes when they are joined again,
// or, where the connection has not lasted that long, never.
class SimNet {
 public:
  SimNet(EventQueue& queue, SimRandom& random, SimNetOptions options)
      : queue_(queue), random_(random), options_(options) {}

  // The node's process is gone.
  void node_died(const NodeExecutor& node);
  // Breaks one connection, whichever; false: there is none.
  bool break_one();
  // Which machine a node runs on; by itself each is one of its own.
  void place(const NodeExecutor& node, int machine) { machines_[node.id()] = machine; }
  void part(int a, int b);
  void join(int a, int b);
  // When what is sent now arrives.
  Nanos latency();
  EventQueue& queue() { return queue_; }
  uint64_t messages() const { return messages_; }
  // Outlives the network.
  void set_meter(NetMeter* meter) { meter_ = meter; }
  // Who has said what is being delivered at this moment; nobody, outside of that.
  struct Speaker {
    uint64_t process = 0;  // that listened; 0: what is said comes from who has connected
    RankId rank;
    friend auto operator<=>(const Speaker&, const Speaker&) = default;
  };
  const std::optional<Speaker>& speaker() const { return speaker_; }

 private:
  friend class SimTransport;
  friend class SimConnection;

  struct End {
    NodeExecutor* node = nullptr;
    bool open = true;   // its Connection lives
    bool told = false;  // that it is broken
    bool reading = true;
    net::ConnectionEvents* events = nullptr;
    uint64_t metered[2] = {0, 0};  // sending, receiving
  };
  struct Wire;
  struct Door {
    NodeExecutor* node = nullptr;
    net::Doorman doorman;
    net::AcceptFn accept;
  };

  int machine_of(const NodeExecutor& node) const;
  bool parted(const NodeExecutor& a, const NodeExecutor& b) const;
  void deliver_later(const std::shared_ptr<Wire>& wire, int to, std::string frame);
  void deliver(const std::shared_ptr<Wire>& wire, int to, const std::string& frame);
  void pass(const std::shared_ptr<Wire>& wire, int to, const std::string& frame);
  void unstick(const std::shared_ptr<Wire>& wire, int to);
  void break_wire(const std::shared_ptr<Wire>& wire, Nanos after, const char* why);
  void tell(const std::shared_ptr<Wire>& wire, int end, Nanos after, const char* why);

  EventQueue& queue_;
  SimRandom& random_;
  SimNetOptions options_;
  std::map<std::string, std::shared_ptr<Door>> doors_;
  std::vector<std::weak_ptr<Wire>> wires_;
  std::map<int, int> machines_;  // by node
  std::set<std::pair<int, int>> parted_;
  uint64_t messages_ = 0;
  std::optional<Speaker> speaker_;
  NetMeter* meter_ = nullptr;
};

// One node's way into it. Lives as long as the node's process.
class SimTransport final : public net::Transport {
 public:
  SimTransport(SimNet& net, NodeExecutor& node) : net_(net), node_(node) {}
  Result<std::unique_ptr<net::Listener>> listen(const net::Address& address, net::Doorman doorman,
                                                net::AcceptFn accept) override;
  void connect(const net::Address& address, net::Identity identity, net::ConnectFn done) override;

 private:
  SimNet& net_;
  NodeExecutor& node_;
};

}  // namespace graftfs::sim
