#include "sim/cluster/cluster.h"

#include <fmt/format.h>

#include "base/check.h"

namespace graftfs::sim {
namespace {

constexpr uint64_t kMostSteps = 3'000'000;
constexpr Nanos kNotice = 5 * kMillisecond;  // until a peer's death is noticed

}  // namespace

Cluster::Cluster(ClusterConfig config)
    : config_(config),
      queue_(config.seed),
      random_(config.seed ^ 0xbeef),
      disk_random_(config.seed ^ 0xd15c),
      net_(queue_, random_, {config.latency_max, kNotice, config.print}),
      oracle_(queue_, config.durability),
      medium_(make_medium()),
      world_node_(queue_.add_node()),
      room_{queue_, net_, oracle_, medium_, config_, world_node_},
      operations_left_(config.operations),
      crashes_left_(config.crashes),
      power_cuts_left_(config.power_cuts) {
  room_.hints = config_.hints;
  room_.settle = [this](RankId rank, Epoch until) {
    std::map<Epoch, Lsn> found;
    for (const auto& process : processes_)
      for (Host* host : process->hosts())
        if (host->id == rank && host->rank && !host->serving && host->rank->recovered().newest)
          found[host->rank->epoch()] = host->rank->recovered().last;
    for (auto [epoch, last] : found)
      if (epoch <= until) oracle_.recovered({rank, epoch}, last);
  };
  room_.lost = [this](int machine) {
    // As if it had died; what takes its place is another node.
    Process& process = *processes_[machine];
    queue_.note("lost");
    process.end();
    medium_->crash(random_, CrashKind::process_death);
    begin_again(process, kMillisecond);
  };
  oracle_.print(config_.print);
  for (int i = 0; i < config_.ranks + config_.standbys; ++i) {
    NodeExecutor& executor = queue_.add_node();
    if (config_.skew)
      executor.set_clock(static_cast<int64_t>(random_.below(48'000)) - 24'000,
                         static_cast<Nanos>(random_.below(20 * kMillisecond)));
    processes_.push_back(std::make_unique<Process>(room_, i, executor));
  }
  for (int i = 0; i < config_.clients; ++i) {
    NodeExecutor& executor = queue_.add_node();
    if (config_.skew) executor.set_clock(static_cast<int64_t>(random_.below(48'000)) - 24'000, 0);
    net_.place(executor, 100 + i);
    clients_.push_back(std::make_unique<ClientNode>(executor, i));
  }
  fault::set_handler(&Cluster::on_kill_point, this);
}

std::shared_ptr<Medium> Cluster::make_medium() {
  if (config_.store == StoreKind::rados) {
    objects_ =
        std::make_shared<rados::ModelCluster>(config_.rados, &queue_.add_node(), &disk_random_);
    RadosOptions options;
    options.early_journal = config_.early();
    options.big_directory = config_.big_directory;
    return std::make_shared<RadosMedium>(objects_, options);
  }
  auto disk = std::make_shared<MemoryDisk>();
  for (auto& chance : disk->faults().chances) chance.latency_max = config_.latency_max / 4;
  return std::make_shared<DiskMedium>(std::move(disk), &disk_random_);
}

Cluster::~Cluster() {
  fault::set_handler(nullptr, nullptr);
  tasks_.cancel_all();
  for (auto& client : clients_) end_client(*client);
  for (auto& p : processes_) p->end();
  world_node_.crash();
}

// -- who is there ---------------------------------------------------------------------------------

Process* Cluster::process_at(const NodeExecutor* executor) {
  for (auto& p : processes_)
    if (p->owns(executor)) return p.get();
  return nullptr;
}

Host* Cluster::serving(RankId rank) {
  for (auto& p : processes_) {
    Host* host = p->alive() ? p->host(rank) : nullptr;
    if (host && !host->fenced() && !host->rank->failed()) return host;
  }
  return nullptr;
}

std::vector<RankId> Cluster::rank_ids() const {
  std::vector<RankId> ids;
  for (int i = 0; i < config_.ranks; ++i) ids.push_back(RankId{static_cast<uint16_t>(i)});
  return ids;
}

std::vector<Host*> Cluster::serving() {
  std::vector<Host*> all;
  for (RankId rank : rank_ids())
    if (Host* host = serving(rank)) all.push_back(host);
  return all;
}

bool Cluster::all_serve() {
  for (auto& p : processes_)
    if (!p->alive() || p->stalled() || p->starting()) return false;
  return serving().size() == static_cast<size_t>(config_.ranks);
}

// What the clients know of the cluster.
RankMap Cluster::rank_map() {
  std::string text = medium_->state(cluster::kTableKey);
  if (text == table_text_) return map_;
  auto table = cluster::decode_table(text);
  CHECK(table.has_value());
  table_text_ = std::move(text);
  map_ = RankMap{table->root, {}};
  for (const auto& [rank, line] : table->ranks) map_.ranks.push_back(rank);
  return map_;
}

// -- death ----------------------------------------------------------------------------------------

void Cluster::crash(Process& process, CrashKind kind) {
  ++crashes_;
  if (config_.print)
    fmt::print("{:>7} machine {} {}\n", queue_.steps(), process.machine(),
               kind == CrashKind::power_cut ? "loses its power" : "loses its process");
  queue_.note("death");
  std::vector<RankId> ranks;
  for (Host* host : process.hosts()) {
    if (!host->rank || host->fenced()) continue;
    // What a recovery found is settled, also where it does not get to serving: the events that it
    // logs have the numbers behind it.
    if (config_.early()) oracle_.power_cut(host->id);
    if (!host->serving) room_.settle(host->id, host->rank->epoch());
    ranks.push_back(host->id);
  }
  process.end();
  if (kind == CrashKind::power_cut) {
    process.reboot();
    for (RankId rank : ranks) oracle_.power_cut(rank);
    medium_->crash_of(random_, ranks);
  } else {
    medium_->crash(random_, CrashKind::process_death);
  }
  begin_again(process, restart_after());
}

Nanos Cluster::restart_after() {
  return kNotice * 2 + static_cast<Nanos>(random_.below(50 * kMillisecond));
}

void Cluster::begin_again(Process& process, Nanos after) {
  world_node_.post_after(after, [&process] {
    if (!process.alive()) process.start(false);
  });
}

void Cluster::on_kill_point(void* context, const fault::Site& site) {
  auto& cluster = *static_cast<Cluster*>(context);
  if (cluster.finished_) return;
  Process* process = cluster.process_at(cluster.queue_.current());
  if (process && process->alive() && cluster.dies_here(*process, site)) throw fault::Killed{};
}

bool Cluster::dies_here(Process&, const fault::Site& site) {
  if (quiet_ || kill_in_ == 0) return false;
  queue_.note(site.name);
  if (--kill_in_ > 0) return false;
  if (config_.print) fmt::print("{:>7} at {}\n", queue_.steps(), site.name);
  return true;
}

bool Cluster::step() {
  try {
    return queue_.step();
  } catch (const fault::Killed&) {
    Process* process = process_at(queue_.current());
    const bool cut = power_cuts_left_ > 0 && random_.chance(50);
    power_cuts_left_ -= cut;
    if (process) crash(*process, cut ? CrashKind::power_cut : CrashKind::process_death);
  } catch (const CheckFailed& check) {
    oracle_.fail(check.what);
  }
  return true;
}

// -- the run --------------------------------------------------------------------------------------

Task<void> Cluster::play() {
  for (auto& p : processes_) {
    p->start(p->machine() < config_.ranks);
    while (p->starting()) co_await sleep_for(world_node_, kMillisecond);
  }
  while (!all_serve()) co_await sleep_for(world_node_, kMillisecond);
  oracle_.begin(serving(RankId{0})->rank->cache().find_dir(kRootIno)->inode());
  for (auto& c : clients_) start_client(*c);
  co_await middle();
  if (!oracle_.failure().empty()) co_return;
  quiet_ = true;
  end_trouble();
  co_await come_to_rest();
  if (!oracle_.failure().empty()) co_return;
  co_await look_at_everything();
  // And once more from what is in the store and the journals.
  co_await begin_anew();
  co_await come_to_rest();
  if (!oracle_.failure().empty()) co_return;
  co_await look_at_everything();
  if (!room_.comes_late) oracle_.check_owed();
  finished_ = true;
}

// First two of everything, then trouble and work.
Task<void> Cluster::middle() {
  co_await split(config_.ranks * 2);
  quiet_ = false;
  for (auto& c : clients_) start_work(*c);
  tasks_.spawn(trouble());
  while (workers_left_ > 0) co_await sleep_for(world_node_, kMillisecond);
}

void Cluster::look_at_owners() {
  std::vector<const Rank*> ranks;
  for (Host* host : serving()) ranks.push_back(host->rank.get());
  oracle_.check_owners(ranks);
}

ClusterResult Cluster::run() {
  tasks_.spawn(play());
  constexpr uint64_t kLookEvery = 64;
  while (!finished_ && oracle_.failure().empty()) {
    const bool ran = step();
    after_step();
    if (!ran) {
      oracle_.fail("nothing happens any more, and something was to happen");
    } else if (queue_.steps() > kMostSteps) {
      oracle_.fail("it does not come to rest: " + unrest());
    } else if (queue_.steps() % kLookEvery == 0) {
      look_at_owners();
    }
  }
  ClusterResult result;
  result.failure = oracle_.failure();
  result.ok = result.failure.empty();
  result.digest = queue_.digest();
  result.steps = queue_.steps();
  result.executions = oracle_.executions();
  result.across = oracle_.across();
  result.fenced = oracle_.void_executions();
  result.cached = oracle_.cached();
  result.crashes = crashes_;
  result.moves = moves_;
  result.stalls = stalls_;
  result.takeovers = room_.takeovers;
  result.messages = net_.messages();
  if (objects_) result.objects = objects_->counts();
  for (auto& c : clients_)
    if (c->router) redirects_ += c->router->redirects();
  result.redirects = redirects_;
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
