#include "sim/world.h"

#include <fmt/format.h>

#include <cstdlib>

#include "sim/describe.h"
#include "sim/evidence.h"
#include "sim/workload.h"

namespace graftfs::sim {
namespace {

constexpr uint64_t kVolume = 0x6772616674667331;
constexpr uint64_t kMostSteps = 3'000'000;
constexpr Nanos kFullUntil = 20 * kSecond;  // then somebody makes room
constexpr char kFileData[] = "data/";       // as objects of it begin
constexpr Nanos kReconnectWindow = 300 * kMillisecond;

}  // namespace

void SimClient::hold(Ino ino) {
  holds[ino]++;
  world.oracle().held[ino]++;
}

void SimClient::unhold(Ino ino) {
  auto it = holds.find(ino);
  if (it == holds.end()) return;
  if (--it->second == 0) holds.erase(it);
  world.oracle().held[ino]--;
}

World::World(SimConfig config)
    : config_(config),
      queue_(config.seed),
      random_(config.seed ^ 0xbeef),
      disk_random_(config.seed ^ 0xd15c),
      oracle_(queue_,
              {config.durability,
               config.trouble == DiskTrouble::errors || config.trouble == DiskTrouble::corruption,
               config.trouble == DiskTrouble::full, kVolume, config.print,
               config.trouble == DiskTrouble::lies && lies_about_data(config.lie)}),
      world_node_(queue_.add_node()),
      rank_node_(queue_.add_node()),
      operations_left_(config.operations),
      crashes_left_(config.crashes) {
  make_medium();
  for (int i = 0; i < config_.clients; ++i) {
    clients_.push_back(std::make_unique<SimClient>(*this, queue_.add_node(), i));
    done_.emplace_back(config_.workers, false);
    workers_left_ += config_.workers;
  }
  fault::set_handler(&World::on_kill_point, this);
}

void World::make_medium() {
  if (on_rados()) {
    NodeExecutor& osds = queue_.add_node();
    objects_ = std::make_shared<rados::ModelCluster>(config_.rados, &osds, &disk_random_);
    RadosOptions options;
    options.segment_capacity = config_.segment_capacity;
    options.big_directory = config_.big_directory;
    options.early_journal = early();
    medium_ = std::make_unique<RadosMedium>(objects_, options);
    return;
  }
  MemoryDiskOptions options;
  options.segment_capacity = config_.segment_capacity;
  disk_ = std::make_shared<MemoryDisk>(options);
  for (auto& chance : disk_->faults().chances) chance.latency_max = config_.latency_max;
  medium_ = std::make_unique<DiskMedium>(disk_, &disk_random_);
}

// A process that begins is another one, and a machine that lost its power knows nothing of those
// before.
Medium::Process World::process_of(const SimClient* client) const {
  std::string machine =
      client ? fmt::format("client-{}", client->index) : fmt::format("rank/{}", reboots_);
  return {std::move(machine), static_cast<int32_t>(client ? client->life : crashes_)};
}

World::~World() {
  fault::set_handler(nullptr, nullptr);
  finish_tasks_.cancel_all();
  for (auto& client : clients_) end_client(*client);
  rank_tasks_.cancel_all();
  rank_.reset();
  store_.reset();
  rank_node_.crash();
  world_node_.crash();
}

Nanos World::latency() {
  return config_.latency_max == 0 ? 0 : static_cast<Nanos>(random_.below(config_.latency_max));
}

bool World::take_operation() {
  if (operations_left_ <= 0) return false;
  --operations_left_;
  if (config_.trouble == DiskTrouble::full) {
    // Space runs out in the middle of the run, and comes back.
    if (operations_left_ == config_.operations * 2 / 3)
      disk_->set_capacity(disk_->used() + random_.below(2 * config_.segment_capacity));
    if (operations_left_ == config_.operations / 3) disk_->set_capacity(UINT64_MAX);
  }
  return true;
}

// -- the rank -------------------------------------------------------------------------------------

RankOptions World::rank_options() {
  RankOptions o;
  o.volume = kVolume;
  o.volume_name = "simulated";
  o.durability = config_.durability;
  o.trace = config_.trace;
  o.memory_limit = config_.memory_limit;
  o.journal_cap = config_.journal_cap;
  o.segment_events = config_.segment_events;
  o.segments_per_major = config_.segments_per_major;
  o.write_back_after = config_.write_back_after;
  o.write_back_batch = config_.write_back_batch;
  o.ino_range = config_.ino_range;
  o.reconnect_window = kReconnectWindow;
  if (config_.print)
    o.log = [this](const std::string& line) {
      fmt::print("{:>6} rank: {}\n", queue_.steps(), line);
    };
  o.executed = [this](const Executed& e) {
    if (config_.print)
      fmt::print("{:>6} {} -> errno {} ino {:#x} event {}\n", queue_.steps(),
                 describe_request(e.request), e.reply.err, e.reply.stat.ino.v, e.lsn.v);
    oracle_.executed(e.request.cred.pid, e.request, e.reply, e.lsn);
  };
  return o;
}

void World::start_rank() {
  store_ = medium_->open(rank_node_, process_of(nullptr));
  rank_ = std::make_unique<Rank>(rank_node_, *store_, rank_options());
  served_ = false;
  plan_crash();
  rank_tasks_.spawn(run_rank());
}

Task<void> World::run_rank() {
  auto started = co_await rank_->start();
  if (started) {
    rank_started();
    co_return;
  }
  if (config_.print)
    fmt::print("{:>6} no start: {}\n", queue_.steps(), graftfs::describe(started.error()));
  if (on_rados() && started.error().code == EBUSY) {
    // The cluster takes the owner for alive until it has heard nothing of it for long enough.
    world_node_.post_after(kSecond, [this, seen = crashes_] {
      if (seen == crashes_) crash(CrashKind::process_death, nullptr);
    });
    co_return;
  }
  bool allowed = config_.trouble == DiskTrouble::errors || corrupted_ || medium_->lies() > 0;
  // A sync that failed may have dropped what it covered: to refuse is right then, too.
  if (started.error().is_damage() && allowed) {
    refused_ = finished_ = true;
    co_return;
  }
  if (started.error().code == ENOSPC && config_.trouble == DiskTrouble::full) {
    // A new segment does not fit: somebody makes room.
    disk_->set_capacity(UINT64_MAX);
    allowed = true;
  }
  if (!allowed) {
    oracle_.fail("the rank does not start: " + graftfs::describe(started.error()));
    co_return;
  }
  // A disk that fails: somebody starts the rank again later, in the end on a good one.
  if (crashes_ > 50) set_troubles(false);
  NodeExecutor& node = world_node_;
  node.post([this] { crash(CrashKind::process_death, nullptr); });
}

void World::rank_started() {
  serving_ = served_ = true;
  if (config_.print)
    fmt::print("{:>6} the rank serves, with events up to {}\n", queue_.steps(),
               rank_->recovered().last.v);
  // Nobody shuts a dead client out of file data, and bytes that come later are not what is tested.
  if (objects_) objects_->settle(kFileData);
  oracle_.recovered(*medium_, rank_->recovered());
  if (config_.trouble == DiskTrouble::lies && !finishing_) set_lies(true);
  for (auto& client : clients_) {
    SimClient* c = client.get();
    Nanos delay = static_cast<Nanos>(random_.below(10 * kMillisecond));
    // Not for a later rank: it sends for the clients itself.
    c->executor.post_after(delay, [this, c, crashes = crashes_] {
      if (serving_ && crashes == crashes_) connect(*c);
    });
  }
}

// The client finds the rank: it says what it holds, and when that is known it sends again what was
// not answered (a release must not overtake the claim).
void World::connect(SimClient& c) {
  if (c.link) {
    c.claims_left = 1;
    // What it has let go counts until the rank has answered: the release is sent again behind this.
    std::map<Ino, uint32_t> claims = c.releasing;
    for (const auto& [ino, count] : c.holds) claims[ino] += count;
    for (const auto& [ino, count] : claims) {
      for (uint32_t i = 0; i < count; ++i) {
        Request claim;
        claim.session = c.client->session();
        claim.args = OpenArgs{ino, 0};
        ++c.claims_left;
        c.link->claim(std::move(claim), [this, &c](Reply) { claimed(c); });
      }
    }
    claimed(c);
    return;
  }
  ++c.life;
  if (!early()) c.store = medium_->open(c.executor, process_of(&c));
  c.data = std::make_unique<SimData>((early() ? store_ : c.store)->data(), oracle_);
  c.link = std::make_unique<Link>(*this, c.executor);
  c.link->connect();
  c.client = std::make_unique<Client>(c.executor, *c.link, *c.data, random_);
  start_workers(c);
}

void World::claimed(SimClient& c) {
  if (--c.claims_left > 0) return;
  c.link->connect();
  c.client->reconnect(*c.link);
}

// -- crashes --------------------------------------------------------------------------------------

void World::plan_crash() {
  kill_in_ = step_in_ = 0;
  if (config_.crash_at_kill_point || config_.crash_at_step || crashes_left_ <= 0) return;
  next_kind_ = random_.chance(50) ? CrashKind::process_death : CrashKind::power_cut;
  // Often early, so that recovery itself is hit, too.
  uint64_t span = random_.chance(40) ? 40 : 600;
  if (random_.chance(60))
    kill_in_ = 1 + random_.below(span);
  else
    step_in_ = 1 + random_.below(span * 4);
}

void World::on_kill_point(void* context, const fault::Site& site) {
  auto& world = *static_cast<World*>(context);
  // Not in what only tidies up after a crash, nor in the oracle's own reading of a disk.
  NodeExecutor* node = world.queue_.current();
  if (!node || world.finished_ || reading_image()) return;
  ++world.kill_points_;
  world.queue_.note(site.name);
  bool now = world.kill_points_ == world.config_.crash_at_kill_point;
  if (world.recovering()) now |= ++world.recovery_kill_points_ == world.config_.recovery_kill_point;
  if (world.kill_in_ > 0) now |= --world.kill_in_ == 0;
  world.last_site_ = site.name;
  if (now) throw fault::Killed{};
}

CrashKind World::kind_of_crash() const {
  if (!config_.crash_at_kill_point && !config_.crash_at_step) return next_kind_;
  return crashes_ == 0 ? config_.crash_kind : config_.recovery_crash_kind;
}

void World::end_client(SimClient& c) {
  if (c.link) c.link->disconnect();
  if (c.data)
    for (Ino ino : c.data->busy()) oracle_.data_crashed(ino);
  c.tasks.cancel_all();
  c.client.reset();
  c.link.reset();
  c.data.reset();
  if (c.store) medium_->kill(process_of(&c));
  c.store.reset();
  c.executor.crash();
  if (objects_ && !early()) objects_->settle(kFileData);
  while (!c.holds.empty()) c.unhold(c.holds.begin()->first);
  c.releasing.clear();
}

void World::crash(CrashKind kind, NodeExecutor* killed_at) {
  medium_->kill(process_of(nullptr));
  ++crashes_;
  reboots_ += kind == CrashKind::power_cut && !config_.rados.guards_alone;
  if (early()) kind = CrashKind::power_cut;
  if (config_.print)
    fmt::print("{:>6} {} after kill point {}\n", queue_.steps(),
               kind == CrashKind::power_cut ? "power cut" : "process death", last_site_);
  queue_.note(kind == CrashKind::power_cut ? "power cut" : "death");
  if (rank_ && !served_ && rank_->recovered().newest) oracle_.recovery_cut_off(rank_->recovered());
  serving_ = false;
  // What read through a client that lives on would leave it with buffers that are gone.
  // What they were told may turn out to have been a lie.
  bool all =
      kind == CrashKind::power_cut || finishing_ || random_.chance(25) || medium_->lies() > 0;
  finishing_ = false;
  finish_tasks_.cancel_all();
  rank_tasks_.cancel_all();
  rank_.reset();
  for (auto& c : clients_) {
    if (all || killed_at == &c->executor)
      end_client(*c);
    else if (c->link)
      c->link->disconnect();
  }
  store_.reset();
  rank_node_.crash();
  medium_->crash(random_, kind);
  oracle_.crashed(kind);
  if (config_.trouble == DiskTrouble::corruption && crashes_ >= 2 && random_.chance(50))
    corrupt_at_rest(kind);
  if (config_.trouble == DiskTrouble::lies && config_.lie == Lie::data_bit) rot();
  if (config_.trouble == DiskTrouble::lies && lies_about_data(config_.lie))
    oracle_.disk_may_have_spoiled(disk_->sealed());
  if (medium_->lies() > 0) oracle_.disk_has_lied(evidence_on(*disk_, kVolume, kind));
  world_node_.post_after(static_cast<Nanos>(random_.below(5 * kMillisecond)),
                         [this] { start_rank(); });
}

// Flips some bits of file data, most of them where checksums vouch for it.
void World::rot() {
  for (int i = 0; i < 3; ++i) {
    const auto sealed = disk_->sealed();
    Ino ino{kFirstFreeIno + random_.below(40)};
    uint64_t bytes = 6000;
    if (!sealed.empty() && random_.chance(75)) {
      auto it = sealed.begin();
      std::advance(it, random_.below(sealed.size()));
      ino = it->first;
      bytes = std::min<uint64_t>(it->second, bytes);
    }
    const uint64_t bit = random_.below(8 * bytes);
    if (random_.chance(20))
      disk_->flip_seal_bit(ino, bit);
    else
      disk_->flip_data_bit(ino, bit);
  }
}

// Flips one bit of something that is stored.
void World::corrupt_at_rest(CrashKind kind) {
  uint64_t bit = random_.next();
  auto segments = disk_->segments(RankId{0});
  auto dirs = disk_->dirs();
  switch (random_.below(3)) {
    case 0:
      if (!segments.empty())
        disk_->flip_journal_bit(RankId{0}, segments[random_.below(segments.size())],
                                bit % (8 * 4096));
      break;
    case 1:
      if (!dirs.empty()) disk_->flip_header_bit(dirs[random_.below(dirs.size())], bit);
      break;
    default:
      if (dirs.empty()) break;
      Ino dir = dirs[random_.below(dirs.size())];
      auto keys = disk_->entries(dir);
      if (!keys.empty()) disk_->flip_entry_bit(dir, keys[random_.below(keys.size())], bit);
  }
  corrupted_ = true;
  oracle_.disk_is_damaged(evidence_on(*disk_, kVolume, kind));
}

void World::set_lies(bool on) {
  MemoryFaults& faults = disk_->faults();
  // A few in a run, so that each is seen by what comes behind it.
  const uint32_t write = on ? 6'000 : 0, sync = on ? 30'000 : 0;
  switch (config_.lie) {
    case Lie::journal_lost:
      faults[StoreCall::journal_write].lost_ppm = write;
      break;
    case Lie::journal_torn:
      faults[StoreCall::journal_write].torn_ppm = write;
      break;
    case Lie::journal_misdirected:
      faults[StoreCall::journal_write].misdirected_ppm = write;
      break;
    case Lie::journal_sync:
      faults[StoreCall::journal_sync].lost_ppm = sync;
      break;
    case Lie::dirs_sync:
      faults[StoreCall::dirs_commit].volatile_ppm = 10 * sync;
      break;
    case Lie::data_lost:
      faults[StoreCall::data_write].lost_ppm = sync;
      break;
    case Lie::data_torn:
      faults[StoreCall::data_write].torn_ppm = sync;
      break;
    case Lie::data_sync:
      faults[StoreCall::data_sync].lost_ppm = faults[StoreCall::data_sync_all].lost_ppm = sync;
      break;
    case Lie::data_bit:
      break;  // at rest, in crash()
  }
}

void World::set_troubles(bool on) {
  if (!disk_) return;
  MemoryFaults::Chances& commits = disk_->faults()[StoreCall::dirs_commit];
  commits.stall_ppm = on ? config_.commit_stall_ppm : 0;
  commits.stall = config_.commit_stall;
  commits.eio_ppm = on ? config_.commit_eio_ppm : 0;
  if (config_.trouble == DiskTrouble::lies && !on) set_lies(false);
  if (config_.trouble != DiskTrouble::errors) return;
  for (auto& chance : disk_->faults().chances) chance.eio_ppm = on ? 3000 : 0;
}

// -- the run --------------------------------------------------------------------------------------

bool World::step() {
  bool more = true;
  try {
    more = queue_.step();
  } catch (const fault::Killed&) {
    NodeExecutor* at = queue_.current();
    --crashes_left_;
    kill_in_ = step_in_ = 0;
    crash(kind_of_crash(), at);
    return true;
  } catch (const CheckFailed& check) {
    oracle_.fail(check.what);
    return true;
  }
  bool now = config_.crash_at_step && queue_.steps() == config_.crash_at_step;
  if (recovering()) now |= ++recovery_steps_ == config_.recovery_step;
  if (step_in_ > 0) now |= --step_in_ == 0;
  if (now && !finished_) {
    --crashes_left_;
    kill_in_ = step_in_ = 0;
    crash(kind_of_crash(), nullptr);
    return true;
  }
  if (config_.trouble == DiskTrouble::full && queue_.now() > kFullUntil)
    disk_->set_capacity(UINT64_MAX);
  if (rank_failed() && serving_) {
    if (config_.trouble < DiskTrouble::full && !medium_->lies())
      oracle_.fail("the rank failed by itself");
    crash(CrashKind::process_death, nullptr);
    return true;
  }
  if (config_.checks_inside && serving_ && !finished_ && random_.below(40) == 0)
    oracle_.what_if(*medium_,
                    early() || random_.chance(50) ? CrashKind::power_cut : CrashKind::process_death,
                    random_);
  if (objects_ && !finished_ && random_.below(1'000'000) < config_.osd_restarts_ppm)
    objects_->restart_osd(static_cast<unsigned>(random_.below(config_.rados.osds)),
                          static_cast<Nanos>(random_.below(60 * kMillisecond)), random_.chance(30));
  if (workers_left_ == 0 && !finishing_ && serving_) {
    finishing_ = true;
    set_troubles(false);
    finish_tasks_.spawn(finish());
  }
  return more;
}

// Every client lets go, the whole tree is read through the rank, everything is written back.
Task<void> World::finish() {
  kill_in_ = step_in_ = 0;
  crashes_left_ = 0;
  while (!clients_[0]->alive()) co_await sleep_for(world_node_, kMillisecond);
  SimClient& reader = *clients_[0];
  for (auto& c : clients_) {
    while (!c->link || !c->link->connected()) co_await sleep_for(world_node_, kMillisecond);
    while (!c->holds.empty()) {
      Ino ino = c->holds.begin()->first;
      co_await release(*c, ino);
    }
  }
  co_await read_everything(reader);
  // Damage that was never met may keep write-back from ending.
  if (corrupted_) {
    finished_ = true;
    co_return;
  }
  for (int i = 0; i < 2000 && rank_; ++i) {
    auto written = co_await rank_->write_back_all();
    if (!written && config_.trouble == DiskTrouble::none)
      oracle_.fail("the last write-back: " + graftfs::describe(written.error()));
    Dir* orphans = rank_->cache().find_dir(orphans_dir_ino(RankId{0}));
    if (orphans && orphans->inode().size == 0 && rank_->cache().dirty_count() == 0) break;
    co_await sleep_for(world_node_, kMillisecond);
  }
  // Whatever somebody has sent who is dead comes now, and changes nothing of that.
  if (objects_) objects_->settle("", true);
  oracle_.check_settled(*medium_);
  for (auto& c : clients_) end_client(*c);
  serving_ = false;
  auto stopped = co_await rank_->stop();
  if (!stopped && config_.trouble == DiskTrouble::none)
    oracle_.fail("stopping: " + graftfs::describe(stopped.error()));
  finished_ = true;
}

RunResult World::run() {
  set_troubles(true);
  world_node_.post([this] { start_rank(); });
  while (!finished_ && oracle_.failure().empty()) {
    if (!step()) {
      oracle_.fail("nothing is left to do, and clients are waiting");
      break;
    }
    if (queue_.steps() > kMostSteps) {
      oracle_.fail("the run never ends");
      break;
    }
  }
  RunResult result;
  result.failure = oracle_.failure();
  result.ok = result.failure.empty();
  result.refused = refused_;
  result.digest = queue_.digest();
  result.steps = queue_.steps();
  result.kill_points = kill_points_;
  result.executions = oracle_.executions();
  result.crashes = crashes_;
  result.recovery_steps = recovery_steps_;
  if (objects_) result.objects = objects_->counts();
  result.recovery_kill_points = recovery_kill_points_;
  return result;
}

RunResult run_simulation(const SimConfig& config) {
  World world(config);
  throw_failed_checks(true);
  RunResult result = world.run();
  throw_failed_checks(false);
  return result;
}

}  // namespace graftfs::sim
