#include "sim/cluster/cluster.h"

#include <fmt/format.h>

#include "base/check.h"
#include "events/import.h"
#include "server/authority.h"
#include "server/migrate.h"
#include "server/rank_core.h"

namespace graftfs::sim {
namespace {

constexpr uint64_t kVolume = 0x6772616674667332;
constexpr uint64_t kMostSteps = 3'000'000;
constexpr Nanos kLease = 2 * kSecond;
constexpr Nanos kNotice = 5 * kMillisecond;  // until a peer's death is noticed

net::Address address_of(RankId rank) {
  return {net::Address::local, fmt::format("rank-{}", rank.v), 0};
}

}  // namespace

ClusterConfig random_cluster(uint64_t seed) {
  SimRandom r(seed ^ 0xc105);
  ClusterConfig c;
  c.seed = seed;
  c.durability = r.chance(50) ? Durability::posix : Durability::strict;
  c.trace = r.chance(70) ? TracePolicy::chunked : TracePolicy::full;
  c.ranks = static_cast<int>(2 + r.below(3));
  c.clients = static_cast<int>(1 + r.below(3));
  c.workers = static_cast<int>(1 + r.below(3));
  c.operations = static_cast<int>(60 + r.below(240));
  c.crashes = static_cast<int>(r.below(4));
  c.breaks = static_cast<int>(r.below(6));
  c.cuts = static_cast<int>(r.below(3));
  c.segment_events = static_cast<uint32_t>(8 + r.below(60));
  c.memory_limit = r.chance(50) ? 16 << 10 : 1 << 20;
  c.write_back_batch = 1 + r.below(30);
  c.write_back_after = static_cast<Nanos>((1 + r.below(50)) * kMillisecond);
  c.latency_max = static_cast<Nanos>(r.chance(30) ? 5 * kMillisecond : 200 * kMicrosecond);
  return c;
}

std::string describe(const ClusterConfig& c) {
  return fmt::format(
      "seed {}: {} ranks, {} clients x {} workers, {} operations, {} crashes, {} "
      "breaks, {} cuts, {} moves, {}, {} traces",
      c.seed, c.ranks, c.clients, c.workers, c.operations, c.crashes, c.breaks, c.cuts, c.moves,
      c.durability == Durability::strict ? "strict" : "posix",
      c.trace == TracePolicy::full ? "full" : "chunked");
}

bool Cluster::Node::alive(RankId other) const {
  return other.v < cluster.nodes_.size() && cluster.node(other).serving &&
         !cluster.parted_.contains(std::minmax(id.v, other.v));
}

Cluster::Cluster(ClusterConfig config)
    : config_(config),
      queue_(config.seed),
      random_(config.seed ^ 0xbeef),
      disk_random_(config.seed ^ 0xd15c),
      net_(queue_, random_, {config.latency_max, kNotice}),
      oracle_(queue_),
      disk_(std::make_shared<MemoryDisk>()),
      world_node_(queue_.add_node()),
      operations_left_(config.operations),
      crashes_left_(config.crashes) {
  for (auto& chance : disk_->faults().chances) chance.latency_max = config_.latency_max / 4;
  for (int i = 0; i < config_.ranks; ++i)
    nodes_.push_back(
        std::make_unique<Node>(*this, queue_.add_node(), RankId{static_cast<uint16_t>(i)}));
  for (int i = 0; i < config_.clients; ++i)
    clients_.push_back(std::make_unique<ClientNode>(queue_.add_node(), i));
  fault::set_handler(&Cluster::on_kill_point, this);
}

Cluster::~Cluster() {
  fault::set_handler(nullptr, nullptr);
  tasks_.cancel_all();
  for (auto& client : clients_) {
    client->tasks.cancel_all();
    client->router.reset();
    client->transport.reset();
    client->executor.crash();
  }
  for (auto& n : nodes_) {
    n->tasks.cancel_all();
    n->endpoint.reset();
    n->listener.reset();
    n->transport.reset();
    n->rank.reset();
    n->store.reset();
    n->executor.crash();
  }
  world_node_.crash();
}

// -- ranks ----------------------------------------------------------------------------------------

RankId Cluster::root_rank() const {
  for (const auto& n : nodes_)
    if (n->serving && n->rank->state().is_root(kRootIno)) return n->id;
  return RankId{0};
}

std::vector<RankId> Cluster::rank_ids() const {
  std::vector<RankId> ids;
  for (const auto& n : nodes_) ids.push_back(n->id);
  return ids;
}

bool Cluster::all_serve() const {
  for (const auto& n : nodes_)
    if (!n->serving) return false;
  return true;
}

Cluster::Node* Cluster::node_at(const NodeExecutor* executor) {
  for (auto& n : nodes_)
    if (&n->executor == executor) return n.get();
  return nullptr;
}

void Cluster::start_rank(Node& n) {
  RankOptions o;
  o.rank = n.id;
  o.volume = kVolume;
  o.volume_name = "simulated";
  o.durability = config_.durability;
  o.trace = config_.trace;
  o.memory_limit = config_.memory_limit;
  o.segment_events = config_.segment_events;
  o.write_back_after = config_.write_back_after;
  o.write_back_batch = config_.write_back_batch;
  o.peers = &n;
  if (config_.print)
    o.log = [this, id = n.id](const std::string& line) {
      fmt::print("{:>7} rank {}: {}\n", queue_.steps(), id.v, line);
    };
  o.executed = [this, id = n.id](const Request& request, const Reply& reply, Lsn lsn) {
    if (config_.print)
      fmt::print("{:>7} rank {}: {:x}:{} {} -> errno {} ino {:#x} event {}\n", queue_.steps(), id.v,
                 request.session.v & 0xffff, request.seq, op_name(request.args), reply.err,
                 reply.stat.ino.v, lsn.v);
    oracle_.executed(id, request, reply, lsn);
  };
  n.store = std::make_unique<MemoryStore>(n.executor, disk_, &disk_random_);
  n.rank = std::make_unique<Rank>(n.executor, *n.store, std::move(o));
  n.tasks.spawn(run_rank(n));
}

Task<void> Cluster::run_rank(Node& n) {
  auto started = co_await n.rank->start();
  if (!started) {
    oracle_.fail(
        fmt::format("rank {} does not start: {}", n.id.v, graftfs::describe(started.error())));
    co_return;
  }
  serve(n);
}

void Cluster::serve(Node& n) {
  n.serving = true;
  if (config_.print)
    fmt::print("{:>7} rank {} serves, with events up to {}\n", queue_.steps(), n.id.v,
               n.rank->recovered().last.v);
  oracle_.recovered(n.id, n.rank->recovered().last);
  EndpointOptions options;
  options.lease = kLease;
  options.window = n.rank->recovered().fresh ? 0 : kLease / 8;
  n.endpoint = std::make_unique<Endpoint>(*n.rank, std::move(options));
  n.transport = std::make_unique<SimTransport>(net_, n.executor);
  net::Doorman doorman;
  doorman.volume = kVolume;
  doorman.node = n.id.v + 1u;
  auto listener = n.transport->listen(address_of(n.id), std::move(doorman),
                                      [&n](std::unique_ptr<net::Connection> connection) {
                                        n.endpoint->add(std::move(connection));
                                      });
  CHECK(listener.has_value());
  n.listener = std::move(*listener);
  for (auto& other : nodes_)
    if (other.get() != &n && other->serving) meet(n, *other);
}

// Both have a connection to the other one again.
void Cluster::meet(Node& a, Node& b) {
  if (parted_.contains(std::minmax(a.id.v, b.id.v))) return;
  send(a, b.id, Message{a.id, b.id, msg::Hail{a.rank->epoch()}});
  send(b, a.id, Message{b.id, a.id, msg::Hail{b.rank->epoch()}});
}

void Cluster::send(Node& from, RankId to, Message message) {
  if (to.v >= nodes_.size() || !from.alive(to)) return;
  Node& there = node(to);
  Nanos& due = from.due[to];
  due = std::max(due + 1, queue_.now() + net_.latency());
  std::string frame;
  encode_message(message, frame);
  there.executor.post_after(
      due - queue_.now(), [this, from = &from, life = from.life, to = &there, frame] {
        if (!to->serving || parted_.contains(std::minmax(from->id.v, to->id.v))) return;
        if (from->life != life) return;  // the connection went with its process
        Result<Message> decoded = decode_message(frame, Sender::node_to_node);
        CHECK(decoded.has_value(), "a message does not survive its encoding");
        to->rank->receive(from->id, std::move(*decoded));
      });
}

void Cluster::crash(Node& n) {
  ++crashes_;
  if (config_.print) fmt::print("{:>7} rank {} dies\n", queue_.steps(), n.id.v);
  queue_.note("death");
  // What a recovery found is settled, also where it does not get to serving: the events that it
  // logs have the numbers behind it.
  if (!n.serving && n.rank && n.rank->recovered().newest)
    oracle_.recovered(n.id, n.rank->recovered().last);
  n.serving = false;
  n.life++;
  n.tasks.cancel_all();
  n.endpoint.reset();
  n.listener.reset();
  n.transport.reset();
  n.rank.reset();
  n.store.reset();
  n.executor.crash();
  net_.node_died(n.executor);
  disk_->crash(random_, CrashKind::process_death);
  for (auto& other : nodes_) {
    if (other.get() == &n) continue;
    other->executor.post_after(kNotice, [other = other.get(), id = n.id] {
      if (other->serving) other->rank->peer_down(id);
    });
  }
  world_node_.post_after(kNotice * 2 + static_cast<Nanos>(random_.below(50 * kMillisecond)),
                         [this, &n] { start_rank(n); });
}

void Cluster::part(RankId a, RankId b) {
  parted_.insert(std::minmax(a.v, b.v));
  for (auto [at, of] : {std::pair(a, b), std::pair(b, a)}) {
    node(at).executor.post([n = &node(at), of] {
      if (n->serving) n->rank->peer_down(of);
    });
  }
  world_node_.post_after(static_cast<Nanos>(1 + random_.below(200)) * kMillisecond, [this, a, b] {
    parted_.erase(std::minmax(a.v, b.v));
    if (node(a).serving && node(b).serving) meet(node(a), node(b));
  });
}

// -- the run --------------------------------------------------------------------------------------

void Cluster::on_kill_point(void* context, const fault::Site& site) {
  auto& cluster = *static_cast<Cluster*>(context);
  if (cluster.quiet_ || cluster.finished_ || cluster.kill_in_ == 0) return;
  if (!cluster.node_at(cluster.queue_.current())) return;
  cluster.queue_.note(site.name);
  if (--cluster.kill_in_ == 0) throw fault::Killed{};
}

bool Cluster::step() {
  try {
    return queue_.step();
  } catch (const fault::Killed&) {
    if (Node* n = node_at(queue_.current())) crash(*n);
  } catch (const CheckFailed& check) {
    oracle_.fail(check.what);
  }
  return true;
}

// First two of everything, then trouble and work, then peace.
Task<void> Cluster::play() {
  while (!all_serve()) co_await sleep_for(world_node_, kMillisecond);
  oracle_.begin(node(RankId{0}).rank->cache().find_dir(kRootIno)->inode());
  start_clients();
  co_await split(config_.ranks * 2);
  quiet_ = false;
  for (auto& c : clients_)
    for (int w = 0; w < config_.workers; ++w) {
      ++workers_left_;
      c->tasks.spawn(work(*c, random_.next()));
    }
  tasks_.spawn(trouble());
  while (workers_left_ > 0) co_await sleep_for(world_node_, kMillisecond);
  quiet_ = true;
  while (!all_serve() || !parted_.empty()) co_await sleep_for(world_node_, kMillisecond);
  co_await look_at_everything();
  // And once more from what is in the store and the journals.
  for (auto& n : nodes_) {
    auto stopped = co_await n->rank->stop();
    if (!stopped)
      oracle_.fail(
          fmt::format("rank {} does not stop: {}", n->id.v, graftfs::describe(stopped.error())));
    if (!oracle_.failure().empty()) co_return;
    n->life++;
    n->serving = false;
    n->endpoint.reset();
    n->listener.reset();
    n->transport.reset();
    net_.node_died(n->executor);
  }
  for (auto& n : nodes_) {
    n->tasks.cancel_all();
    n->rank.reset();
    n->store.reset();
    n->executor.crash();
    start_rank(*n);
  }
  while (!all_serve()) co_await sleep_for(world_node_, kMillisecond);
  co_await look_at_everything();
  finished_ = true;
}

Task<void> Cluster::trouble() {
  int breaks = config_.breaks, cuts = config_.cuts, moves = config_.moves;
  while (workers_left_ > 0) {
    Nanos pause = static_cast<Nanos>(1 + random_.below(20)) * kMillisecond;
    co_await sleep_for(world_node_, pause);
    if (quiet_) co_return;
    uint64_t pick = random_.below(4);
    if (pick == 0 && crashes_left_ > 0 && kill_in_ == 0) {
      --crashes_left_;
      kill_in_ = 1 + random_.below(random_.chance(40) ? 40 : 400);
    } else if (pick == 1 && breaks > 0) {
      --breaks;
      net_.break_one();
    } else if (pick == 2 && cuts > 0 && nodes_.size() > 1) {
      --cuts;
      uint64_t a = random_.below(nodes_.size()), b = random_.below(nodes_.size());
      if (a != b) part(nodes_[a]->id, nodes_[b]->id);
    } else if (pick == 3 && moves > 0) {
      --moves;
      move_something();
    }
  }
}

void Cluster::move_something() {
  std::vector<Ino> dirs;
  for (const auto& [ino, n] : oracle_.model().nodes())
    if (n.stat.is_dir() && n.stat.nlink > 0) dirs.push_back(ino);
  Ino root = dirs[random_.below(dirs.size())];
  for (auto& n : nodes_) {
    if (!n->serving) continue;
    RankCore& core = n->rank->core();
    if (place_of(core.cache(), core.state(), root).what != Place::ours) continue;
    RankId to = nodes_[random_.below(nodes_.size())]->id;
    if (to == n->id) return;
    n->executor.post([this, n = n.get(), life = n->life, root, to] {
      if (!n->serving || n->life != life) return;
      n->rank->core().migrations().start(root, to, [this](Result<void> moved) {
        if (moved) ++moves_;
      });
    });
    return;
  }
}

ClusterResult Cluster::run() {
  for (auto& n : nodes_) start_rank(*n);
  tasks_.spawn(play());
  constexpr uint64_t kLookEvery = 64;
  while (!finished_ && oracle_.failure().empty()) {
    if (!step()) {
      oracle_.fail("nothing happens any more, and something was to happen");
    } else if (queue_.steps() > kMostSteps) {
      oracle_.fail("it does not come to rest");
    } else if (queue_.steps() % kLookEvery == 0) {
      std::vector<const Rank*> serving;
      for (auto& n : nodes_)
        if (n->serving) serving.push_back(n->rank.get());
      oracle_.check_owners(serving);
    }
  }
  ClusterResult result;
  result.failure = oracle_.failure();
  result.ok = result.failure.empty();
  result.digest = queue_.digest();
  result.steps = queue_.steps();
  result.executions = oracle_.executions();
  result.crashes = crashes_;
  result.moves = moves_;
  result.messages = net_.messages();
  result.refused_across = oracle_.refused_across();
  for (auto& c : clients_)
    if (c->router) result.redirects += c->router->redirects();
  return result;
}

ClusterResult run_cluster(const ClusterConfig& config) {
  ClusterResult result;
  try {
    result = Cluster(config).run();
  } catch (const CheckFailed& check) {
    result.failure = check.what;
  } catch (const std::exception& error) {
    result.failure = error.what();
  }
  return result;
}

}  // namespace graftfs::sim
