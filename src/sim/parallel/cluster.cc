#include "sim/parallel/cluster.h"

#include <fmt/format.h>

#include <stdexcept>

#include "base/check.h"
#include "server/migrate.h"
#include "sim/parallel/store.h"

namespace graftfs::sim {
namespace {

// What the other threads of a machine are given at once.
constexpr Nanos kBesideAtOnce = 50 * kMicrosecond;

// As `graftfs serve` has it.
ClusterConfig as_served(const ParallelOptions& options) {
  RankOptions product;
  ClusterConfig config;
  config.durability = options.durability;
  config.trace = product.trace;
  config.ranks = options.ranks;
  config.segment_events = product.segment_events;
  config.memory_limit = product.memory_limit;
  config.write_back_batch = product.write_back_batch;
  config.ino_range = product.ino_range;
  config.write_back_after = product.write_back_after;
  config.lease = 2 * kSecond;
  config.forget_after = 3600 * kSecond;
  return config;
}

// Across the network.
class TimedMedium final : public DiskMedium {
 public:
  TimedMedium(ParallelQueue& queue, std::shared_ptr<MemoryDisk> disk, Random* random,
              const Costs& costs)
      : DiskMedium(disk, random), queue_(queue), disk_(std::move(disk)), costs_(costs) {}
  std::unique_ptr<Store> open(NodeExecutor& executor, const Process&) override {
    return std::make_unique<TimedStore>(queue_, executor, disk_, costs_);
  }

 private:
  ParallelQueue& queue_;
  std::shared_ptr<MemoryDisk> disk_;
  const Costs& costs_;
};

}  // namespace

ParallelCluster::ParallelCluster(ParallelOptions options)
    : options_(options),
      world_(queue_.add_node()),
      net_(queue_, random_,
           {.latency_max = options.costs.network, .latency_min = options.costs.network}),
      config_(as_served(options)),
      room_{queue_,  net_,
            *this,   std::make_shared<TimedMedium>(queue_, disk_, &random_, options_.costs),
            config_, world_} {
  queue_.place(world_, queue_.add_machine(1));
  net_.set_meter(this);
  room_.settle = [](RankId, Epoch) {};
  room_.lost = [this](int machine) { fail(fmt::format("machine {} has lost its lease", machine)); };
  int machine = -1;
  for (int i = 0; i < options_.ranks; ++i) {
    if (machine < 0 || !options_.one_machine) machine = queue_.add_machine(options_.cores);
    machine_of_.push_back(machine);
    NodeExecutor& executor = queue_.add_node();
    queue_.place(executor, machine);
    beside_.push_back(&queue_.add_node());
    queue_.place(*beside_.back(), machine);
    processes_.push_back(std::make_unique<Process>(room_, i, executor));
  }
  beside_owed_.resize(beside_.size());
  for (int i = 0; i < options_.clients; ++i) {
    NodeExecutor& executor = queue_.add_node();
    if (i == 0) first_client_ = static_cast<size_t>(executor.id());
    queue_.place(executor, queue_.add_machine(1));
    net_.place(executor, options_.ranks + i);
    clients_.push_back(std::make_unique<ClientNode>(executor));
    start_client(*clients_.back());
  }
}

ParallelCluster::~ParallelCluster() {
  tasks_.cancel_all();
  for (auto& c : clients_) {
    c->tasks.cancel_all();
    c->router.reset();
    c->transport.reset();
    c->executor.crash();
  }
  net_.set_meter(nullptr);
  for (auto& process : processes_) process->end();
  for (NodeExecutor* executor : beside_) executor->crash();
  world_.crash();
}

void ParallelCluster::fail(std::string what) {
  if (failure_.empty()) failure_ = std::move(what);
}

void ParallelCluster::run(Task<void> task) {
  bool done = false;
  auto watched = [](Task<void> inner, bool& over) -> Task<void> {
    co_await std::move(inner);
    over = true;
  };
  tasks_.spawn(watched(std::move(task), done));
  while (!done) {
    if (!queue_.step()) fail("nothing happens any more, and something was to happen");
    if (!failure_.empty()) throw std::runtime_error(failure_);
  }
}

// -- ranks ----------------------------------------------------------------------------------------

Host& ParallelCluster::host(RankId rank) {
  Host* host = processes_[rank.v]->host(rank);
  CHECK(host, "rank {} does not serve", rank);
  return *host;
}

bool ParallelCluster::all_connected() {
  for (size_t rank = 0; rank < processes_.size(); ++rank) {
    Host* host = processes_[rank]->host(RankId{static_cast<uint16_t>(rank)});
    if (!host) return false;
    for (size_t other = 0; other < processes_.size(); ++other)
      if (other != rank && !host->peers->is_up(RankId{static_cast<uint16_t>(other)})) return false;
  }
  return true;
}

// One after the other, so that each has the rank of its number.
Task<void> ParallelCluster::start() {
  for (auto& process : processes_) {
    process->start(true);
    while (process->starting()) co_await sleep_for(world_, kMillisecond);
  }
  while (!all_connected()) co_await sleep_for(world_, 10 * kMillisecond);
}

Task<Reply> ParallelCluster::call(RankId rank, Args args) {
  Promised<Reply> answer(world_);
  Host& there = host(rank);
  there.executor.post([&there, answer, args = std::move(args)]() mutable {
    Request request;
    request.args = std::move(args);
    there.rank->submit(std::move(request), [answer](Reply reply) { answer.set(std::move(reply)); });
  });
  co_return co_await answer;
}

Task<Result<void>> ParallelCluster::move(Ino root, RankId from, RankId to) {
  constexpr int kTries = 200;
  for (int tries = 0;; ++tries) {
    Promised<Result<void>> moved(world_);
    Host& there = host(from);
    there.executor.post([&there, root, to, moved] {
      there.rank->migrations().start(root, to, [moved](Result<void> r) { moved.set(r); });
    });
    Result<void> result = co_await moved;
    if (result || tries == kTries) co_return result;
    co_await sleep_for(world_, 5 * kMillisecond);
  }
}

bool ParallelCluster::is_rank(const NodeExecutor& node) const {
  const auto id = static_cast<size_t>(node.id());
  return clients_.empty() || id < first_client_ || id >= first_client_ + clients_.size();
}

// -- clients --------------------------------------------------------------------------------------

RankMap ParallelCluster::rank_map() {
  std::string text = disk_->state(cluster::kTableKey);
  if (text == table_text_) return map_;
  auto table = cluster::decode_table(text);
  CHECK(table.has_value());
  table_text_ = std::move(text);
  map_ = RankMap{table->root, {}};
  for (const auto& [rank, line] : table->ranks) map_.ranks.push_back(rank);
  return map_;
}

void ParallelCluster::start_client(ClientNode& c) {
  c.session = SessionId{random_.next() | 1};
  c.transport = std::make_unique<SimTransport>(net_, c.executor);
  DialFn dial = [this, &c](RankId rank, net::ConnectFn done) {
    net::Identity identity;
    identity.role = net::Role::client;
    identity.volume = kVolume;
    identity.id = c.session.v;
    auto connect = [this, &c, rank, identity, done = std::move(done)]() mutable {
      Host* host = processes_[rank.v]->host(rank);
      net::Address address{net::Address::local, host ? host->name() : "nowhere", 0};
      c.transport->connect(address, std::move(identity), std::move(done));
    };
    // Where it is it reads from the state: the table and the node's record.
    c.executor.post_after(4 * options_.costs.network, std::move(connect));
  };
  c.router = std::make_unique<Router>(c.executor, std::move(dial), [this] { return rank_map(); });
  c.router->open_session(c.session);
}

Promised<Reply> ParallelCluster::ask(size_t client, Args args) {
  ClientNode& c = *clients_[client];
  Promised<Reply> answer(c.executor);
  Request request;
  request.session = c.session;
  request.args = std::move(args);
  c.router->submit(std::move(request), [answer](Reply reply) { answer.set(std::move(reply)); });
  return answer;
}

void ParallelCluster::begin(size_t client, std::function<Task<void>()> task) {
  ClientNode& c = *clients_[client];
  c.executor.post([&c, task = std::move(task)] {
    // A coroutine of a function object's uses it to its end.
    auto held = [](std::function<Task<void>()> fn) -> Task<void> { co_await fn(); };
    c.tasks.spawn(held(task));
  });
}

// -- what it costs --------------------------------------------------------------------------------

void ParallelCluster::executed(Owner owner, const graftfs::Executed& executed) {
  const Costs& costs = options_.costs;
  const Args& args = executed.request.args;
  const Costs::Operation* cost = &costs.getattr;
  if (std::holds_alternative<LookupArgs>(args))
    cost = &costs.lookup;
  else if (std::holds_alternative<MkdirArgs>(args))
    cost = &costs.mkdir;
  else if (executed.lsn)
    cost = &costs.mknod;
  ++executed_;
  queue_.charge(cost->thread);
  const size_t rank = owner.rank.v;
  Nanos& owed = beside_owed_[rank] += cost->beside;
  if (owed < kBesideAtOnce) return;
  beside_[rank]->post([this, work = std::exchange(owed, 0)] { queue_.charge(work); });
}

uint64_t ParallelCluster::sends(const NodeExecutor& node, const Message& message, uint64_t last) {
  const Costs& costs = options_.costs;
  const bool rank = is_rank(node);
  const size_t kind = message.body.index();
  ++kinds_[kind];
  names_[kind] = message_name(message.body);
  const bool for_client = std::holds_alternative<msg::Answer>(message.body) ||
                          std::holds_alternative<msg::BeatAnswer>(message.body) ||
                          std::holds_alternative<msg::Attached>(message.body) ||
                          std::holds_alternative<msg::Recall>(message.body) ||
                          std::holds_alternative<msg::SessionMoved>(message.body);
  ++(!rank ? to_ranks_ : for_client ? from_ranks_ : between_ranks_);
  if (auto* answer = std::get_if<msg::Answer>(&message.body);
      answer && answer->reply.err == kAskRank) {
    ++redirects_;
    queue_.charge(costs.redirect);
  }
  queue_.charge(costs.message + (last == queue_.turn() ? 0 : costs.batch));
  return queue_.turn();
}

uint64_t ParallelCluster::receives(const NodeExecutor& node, const Message& message,
                                   uint64_t last) {
  const Costs& costs = options_.costs;
  queue_.charge(costs.message + (last == queue_.turn() ? 0 : costs.batch));
  // An attach is an event in the journal, as a create is.
  if (std::holds_alternative<msg::Attach>(message.body))
    queue_.charge(costs.mknod.thread + costs.mknod.beside);
  else if (is_rank(node) && !std::holds_alternative<msg::Call>(message.body))
    queue_.charge(costs.protocol);
  return queue_.turn();
}

ParallelCluster::Counts ParallelCluster::counts() const {
  Counts c{executed_, redirects_, to_ranks_, from_ranks_, between_ranks_, {}};
  for (size_t kind = 0; kind < kKinds; ++kind)
    if (kinds_[kind] > 0) c.kinds[names_[kind]] = kinds_[kind];
  return c;
}

ParallelCluster::Counts ParallelCluster::Counts::operator-(const Counts& before) const {
  Counts c{executed - before.executed,           redirects - before.redirects,
           to_ranks - before.to_ranks,           from_ranks - before.from_ranks,
           between_ranks - before.between_ranks, {}};
  for (const auto& [kind, count] : kinds) {
    auto at = before.kinds.find(kind);
    const uint64_t new_ones = count - (at == before.kinds.end() ? 0 : at->second);
    if (new_ones > 0) c.kinds[kind] = new_ones;
  }
  return c;
}

}  // namespace graftfs::sim
