#include "sim/cluster/process.h"

#include <fmt/format.h>

#include "base/check.h"
#include "store/fence.h"

namespace graftfs::sim {
namespace {

constexpr Nanos kProofPause = 20 * kMillisecond;
constexpr int kProofTries = 5;

net::Address address_of(const std::string& name) { return {net::Address::local, name, 0}; }

}  // namespace

// -- a rank ---------------------------------------------------------------------------------------

Host::~Host() {
  tasks.cancel_all();
  endpoint.reset();
  listener.reset();
  rank.reset();
  peers.reset();
  transport.reset();
  store.reset();
}

std::string Host::name() const { return fmt::format("host-{}", number); }

bool Host::fenced() const {
  auto fence = decode_fence(process.room().medium->state(fence_key(id)), id);
  return fence && rank && fence->epoch > rank->epoch();
}

Task<Result<Epoch>> Host::bring_up(OwnOptions own) {
  Room& room = process.room();
  number = ++room.last_host;
  store = room.medium->open(executor, process.on_medium());
  transport = std::make_unique<SimTransport>(room.net, executor);
  node::PeerEvents events;
  events.up = [this](RankId other, Epoch epoch) { rank->peer_up(other, epoch); };
  events.down = [this](RankId other) {
    rank->peer_down(other);
    process.peer_lost(other);
  };
  events.received = [this](RankId from, Message m) { rank->receive(from, std::move(m)); };
  auto dial = [this](RankId, const node::RankView& where, net::ConnectFn done) {
    net::Identity me;
    me.role = net::Role::node;
    me.volume = kVolume;
    me.id = process.id();
    std::string to = where.addresses.empty() ? "nowhere" : where.addresses[0];
    transport->connect(address_of(to), std::move(me), std::move(done));
  };
  auto lease = [this] { return looked_at && process.lease_valid(); };
  peers = std::make_unique<node::PeerLines>(executor, id, dial, lease, events);
  const ClusterConfig& c = room.config;
  RankOptions o;
  o.rank = id;
  o.volume = kVolume;
  o.volume_name = "simulated";
  o.durability = c.durability;
  o.trace = c.trace;
  o.memory_limit = c.memory_limit;
  o.segment_events = c.segment_events;
  o.write_back_after = c.write_back_after;
  o.write_back_batch = c.write_back_batch;
  o.ino_range = c.ino_range;
  o.reconnect_window = c.lease;
  o.peers = peers.get();
  o.own = own;
  o.log = [this](const std::string& line) {
    if (process.room().config.print)
      fmt::print("{:>7} rank {}: {}\n", process.room().queue.steps(), id.v, line);
  };
  o.executed = [this](const Executed& e) {
    process.room().oracle.executed({id, rank->epoch(), process.id()}, e);
  };
  rank = std::make_unique<Rank>(executor, *store, std::move(o));
  auto started = co_await rank->start();
  if (!started) {
    // What it found is settled, and the events that it has logged have the numbers behind it.
    if (c.early()) room.oracle.power_cut(id);
    room.settle(id, rank->epoch());
    co_return std::unexpected(std::move(started).error());
  }
  // Also where it has lost the rank again meanwhile: who has it next finds what this one has
  // logged.
  if (c.early()) room.oracle.power_cut(id);
  if (!fenced()) room.settle(id, rank->epoch());
  room.oracle.recovered({id, rank->epoch()}, rank->recovered().last);
  EndpointOptions options;
  options.lease = c.lease;
  options.window = c.lease;
  options.forget_after = c.forget_after;
  options.log = [this](const std::string& line) {
    Room& room = process.room();
    if (line.find("was evicted") != line.npos) ++room.evictions;
    if (room.config.print) fmt::print("{:>7} rank {}: {}\n", room.queue.steps(), id.v, line);
  };
  endpoint = std::make_unique<Endpoint>(*rank, std::move(options));
  net::Doorman doorman;
  doorman.volume = kVolume;
  doorman.node = process.id();
  doorman.lease_ms = static_cast<uint32_t>(c.lease / kMillisecond);
  auto accept = [this](std::unique_ptr<net::Connection> connection) {
    if (connection->peer().role == net::Role::node)
      peers->accepted(std::move(connection));
    else
      endpoint->add(std::move(connection));
  };
  CO_TRY_ASSIGN(listener, transport->listen(address_of(name()), std::move(doorman), accept));
  peers->begin(rank->epoch());
  serving = true;
  if (c.print)
    fmt::print("{:>7} rank {} serves on machine {}, with what was logged up to event {}\n",
               room.queue.steps(), id.v, process.machine(), rank->recovered().last.v);
  co_return rank->epoch();
}

// -- a life ---------------------------------------------------------------------------------------

Process::Process(Room& room, int machine, NodeExecutor& executor)
    : room_(room), machine_(machine), executor_(executor) {
  room_.net.place(executor_, machine_);
}

NodeExecutor& Process::executor_of(RankId rank) {
  NodeExecutor*& executor = executors_[rank];
  if (!executor) {
    executor = &room_.queue.add_node();
    executor->follow(executor_);
    room_.net.place(*executor, machine_);
  }
  return *executor;
}

bool Process::owns(const NodeExecutor* executor) const {
  if (executor == &executor_) return true;
  for (const auto& [rank, mine] : executors_)
    if (mine == executor) return true;
  return false;
}

RankId Process::rank_at(const NodeExecutor* executor) const {
  for (const auto& [rank, mine] : executors_)
    if (mine == executor) return rank;
  return kNobody;
}

void Process::start(bool add) {
  store_ = room_.medium->open(executor_, on_medium());
  cluster::NodeRecord me;
  me.id = ++room_.last_node;
  me.machine = fmt::format("{}", machine_);
  me.pid = 1;
  me.started = life_;
  cluster::BeatOptions beat;
  beat.lease = room_.config.lease;
  beat.clock = [this] { return executor_.now(); };
  beats_ = std::make_unique<cluster::Beats>(executor_, store_->state(), me, beat);
  beats_->lost = [this](const std::string& why) {
    if (room_.config.print)
      fmt::print("{:>7} machine {}: {}\n", room_.queue.steps(), machine_, why);
    room_.world.post([this, life = life_] {
      if (life == life_) room_.lost(machine_);
    });
  };
  tasks_ = std::make_unique<TaskScope>();
  settled_ = false;
  executor_.post([this, add] { tasks_->spawn(run(add)); });
}

Medium::Process Process::on_medium() const {
  return {fmt::format("machine-{}/{}", machine_, boots_), static_cast<int32_t>(life_)};
}

void Process::end() {
  room_.medium->kill(on_medium());
  ++life_;
  stopping_ = false;
  if (tasks_) tasks_->cancel_all();
  tasks_.reset();
  hosts_.clear();
  taking_.clear();
  vacant_since_.clear();
  not_before_.clear();
  view_.reset();
  beats_.reset();
  store_.reset();
  executor_.crash();
  for (auto& [rank, executor] : executors_) {
    executor->crash();
    room_.net.node_died(*executor);
  }
}

void Process::stall(bool on) {
  executor_.stall(on);
  for (auto& [rank, executor] : executors_) executor->stall(on);
}

Task<Result<void>> Process::stop() {
  for (auto& [rank, host] : hosts_) {
    host->serving = false;
    host->listener.reset();
    host->endpoint.reset();
    Promised<Result<void>> stopped(room_.world);
    host->executor.post([host = host.get(), stopped] {
      host->tasks.spawn([](Host& h, Promised<Result<void>> done) -> Task<void> {
        Result<void> result = co_await h.rank->stop();
        done.set(std::move(result));
      }(*host, stopped));
    });
    Result<void> result = co_await stopped;
    if (!result) co_return result;
    cluster::NodeId me = id();
    std::function<Result<bool>(cluster::Table&)> give_up =
        [rank = rank, me](cluster::Table& table) -> Result<bool> {
      return table.give_up(rank, me);
    };
    CO_TRY(co_await beats_->change_table(give_up));
  }
  co_return co_await beats_->leave();
}

Host* Process::host(RankId rank) {
  auto it = hosts_.find(rank);
  return it != hosts_.end() && it->second->serving ? it->second.get() : nullptr;
}

std::vector<Host*> Process::hosts() {
  std::vector<Host*> all;
  for (auto& [rank, host] : hosts_) all.push_back(host.get());
  return all;
}

// -- as node::Node --------------------------------------------------------------------------------

Task<void> Process::run(bool add) {
  do {
    (void)co_await beats_->beat_now();
  } while (!beats_->lease_valid());
  std::set<RankId> tried;
  while (hosts_.empty()) {
    std::optional<RankId> rank;
    if (add) {
      Result<RankId> added = co_await add_rank();
      if (added) rank = *added;
    }
    for (const auto& [number, line] : beats_->table().ranks)
      if (!rank && !tried.contains(number)) rank = number;
    if (!rank) break;
    tried.insert(*rank);
    OwnOptions own;
    own.node = id();
    Result<void> taken = co_await take(*rank, own);
    if (!taken && taken.error().code != EBUSY && taken.error().code != ESTALE)
      room_.oracle.fail(
          fmt::format("rank {} does not start: {}", rank->v, graftfs::describe(taken.error())));
  }
  if (hosts_.empty()) beats_->set_standby(true);
  settled_ = true;
  beats_->looked = [this] { looked(); };
  publish();
  co_await beats_->run();
}

Task<Result<RankId>> Process::add_rank() {
  std::optional<RankId> rank;
  std::function<Result<bool>(cluster::Table&)> add =
      [&rank](cluster::Table& table) -> Result<bool> {
    rank = table.add();
    return rank.has_value();
  };
  CO_TRY(co_await beats_->change_table(add));
  if (!rank) co_return fail(EBUSY, "there is no number for a rank");
  co_return *rank;
}

Task<Result<void>> Process::take(RankId rank, OwnOptions own) {
  if (hosts_.contains(rank) || !taking_.insert(rank).second)
    co_return fail(EBUSY, "it is this process's already");
  NodeExecutor& executor = executor_of(rank);
  auto& host = hosts_[rank];
  host = std::make_unique<Host>(*this, executor, rank);
  Promised<Result<Epoch>> started(executor_);
  executor.post([this, host = host.get(), own, started] {
    host->tasks.spawn(
        [](Process& process, Host& h, OwnOptions o, Promised<Result<Epoch>> done) -> Task<void> {
          Result<Epoch> epoch = co_await h.bring_up(o);
          process.executor_.post([done, epoch = std::move(epoch)] { done.set(epoch); });
        }(*this, *host, own, started));
  });
  Result<Epoch> epoch = co_await started;
  taking_.erase(rank);
  if (!epoch) {
    hosts_.erase(rank);
    executor.crash();
    room_.net.node_died(executor);
    co_return std::unexpected(std::move(epoch).error());
  }
  std::vector<std::string> names{hosts_[rank]->name()};
  beats_->own(rank, *epoch, names);
  std::function<Result<bool>(cluster::Table&)> taken =
      [rank, mine = *epoch, me = id()](cluster::Table& table) -> Result<bool> {
    return table.take(rank, mine, me);
  };
  CO_TRY(co_await beats_->change_table(taken));
  beats_->set_standby(false);
  while (!co_await beats_->beat_now()) co_await sleep_for(executor_, beats_->lease() / 4);
  hosts_[rank]->looked_at = true;
  publish();
  co_return Result<void>{};
}

void Process::looked() {
  if (stopping_) return;
  const cluster::Table& table = beats_->table();
  for (const auto& [rank, line] : table.ranks) {
    auto mine = hosts_.find(rank);
    if (mine != hosts_.end()) {
      vacant_since_.erase(rank);
      const Host& host = *mine->second;
      if (!host.serving || table.root == rank) continue;
      auto root = host.rank->state().imports.find(kRootIno);
      if (root != host.rank->state().imports.end() && root->second.settled)
        tasks_->spawn(set_root(rank));
      continue;
    }
    if (taking_.contains(rank)) continue;
    if (line.node != 0 && beats_->watch().is_alive(line.node)) {
      vacant_since_.erase(rank);
      continue;
    }
    const Nanos now = executor_.now();
    if (auto wait = not_before_.find(rank); wait != not_before_.end() && now < wait->second)
      continue;
    cluster::Orphan orphan{rank, vacant_since_.try_emplace(rank, now).first->second};
    if (!cluster::should_take(orphan, id(), beats_->living(), now, beats_->lease())) continue;
    tasks_->spawn(take_from_dead(rank));
  }
  publish();
}

Task<void> Process::set_root(RankId rank) {
  std::function<Result<bool>(cluster::Table&)> root = [rank](cluster::Table& t) -> Result<bool> {
    return std::exchange(t.root, rank) != rank;
  };
  (void)co_await beats_->change_table(root);
}

Task<void> Process::take_from_dead(RankId rank) {
  Result<OwnOptions> own = co_await beats_->take_from(rank);
  if (own) co_return co_await take_orphan(rank, *own);
  not_before_[rank] = executor_.now() + beats_->lease();
}

Task<void> Process::take_orphan(RankId rank, OwnOptions own) {
  const int tries = own.mode == OwnMode::if_free ? kProofTries : 1;
  for (int i = 0; i < tries && !stopping_; ++i) {
    Result<void> taken = co_await take(rank, own);
    if (taken) {
      ++room_.takeovers;
      vacant_since_.erase(rank);
      not_before_.erase(rank);
      co_return;
    }
    not_before_[rank] = executor_.now() + beats_->lease();
    const int code = taken.error().code;
    if (code == ESTALE) co_return;
    if (code != EBUSY)
      room_.oracle.fail(
          fmt::format("rank {} cannot be taken: {}", rank.v, graftfs::describe(taken.error())));
    if (own.mode == OwnMode::if_free) co_await sleep_for(executor_, kProofPause);
  }
}

void Process::peer_lost(RankId rank) {
  if (!room_.hints) return;
  executor_.post([this, rank] {
    if (!settled_ || stopping_ || hosts_.contains(rank) || taking_.contains(rank)) return;
    OwnOptions own;
    own.node = id();
    tasks_->spawn(take_orphan(rank, own));
  });
}

void Process::publish() {
  auto view = std::make_shared<const node::ClusterView>(node::view_of(*beats_));
  if (view_ && *view_ == *view) return;
  view_ = std::move(view);
  for (auto& [rank, host] : hosts_) {
    host->executor.post([host = host.get(), view = view_] {
      if (host->peers) host->peers->update(view);
    });
  }
}

}  // namespace graftfs::sim
