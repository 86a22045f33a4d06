// What goes wrong in a random run, beside what dies at kill points.
#include <fmt/format.h>

#include "server/migrate.h"
#include "server/rank_core.h"
#include "sim/cluster/cluster.h"

namespace graftfs::sim {

Task<void> Cluster::trouble() {
  int breaks = config_.breaks, cuts = config_.cuts, moves = config_.moves;
  int stalls = config_.stalls, clients = config_.client_crashes;
  int restarts = config_.osd_restarts;
  while (workers_left_ > 0) {
    Nanos pause = static_cast<Nanos>(1 + random_.below(20)) * kMillisecond;
    co_await sleep_for(world_node_, pause);
    if (quiet_) co_return;
    if (restarts > 0 && random_.chance(20)) {
      --restarts;
      objects_->restart_osd(static_cast<unsigned>(random_.below(config_.rados.osds)),
                            static_cast<Nanos>(random_.below(config_.osd_away)), false);
    }
    const uint64_t pick = random_.below(7);
    if (pick == 0 && crashes_left_ > 0 && kill_in_ == 0) {
      --crashes_left_;
      kill_in_ = 1 + random_.below(random_.chance(40) ? 40 : 400);
    } else if (pick == 1 && breaks > 0) {
      --breaks;
      net_.break_one();
    } else if (pick == 2 && cuts > 0) {
      --cuts;
      part_something();
    } else if (pick == 3 && stalls > 0) {
      --stalls;
      stall_something();
    } else if (pick == 4 && clients > 0) {
      --clients;
      ClientNode& client = *clients_[random_.below(clients_.size())];
      if (client.workers_left == 0) continue;
      if (config_.print) fmt::print("{:>7} client {} dies\n", queue_.steps(), client.index);
      queue_.note("client");
      end_client(client);
      oracle_.client_died(client.session);
      // Another one comes.
      start_client(client);
      start_work(client);
    } else if (pick >= 5 && moves > 0) {
      --moves;
      move_something();
    }
  }
}

// A process stops, and goes on: soon, or when another one has its ranks.
void Cluster::stall_something() {
  Process& process = *processes_[random_.below(processes_.size())];
  if (!process.alive() || process.stalled()) return;
  const Nanos time = static_cast<Nanos>(
      random_.below(random_.chance(50) ? static_cast<uint64_t>(config_.lease)
                                       : static_cast<uint64_t>(config_.lease * 4)));
  if (config_.print)
    fmt::print("{:>7} machine {} stops for {} us\n", queue_.steps(), process.machine(),
               time / kMicrosecond);
  ++stalls_;
  process.stall(true);
  world_node_.post_after(time, [this, &process] {
    if (!process.stalled()) return;
    if (config_.print) fmt::print("{:>7} machine {} goes on\n", queue_.steps(), process.machine());
    process.stall(false);
  });
}

void Cluster::part_something() {
  std::vector<int> machines;
  for (auto& p : processes_) machines.push_back(p->machine());
  const int a = machines[random_.below(machines.size())];
  const uint64_t other = random_.below(machines.size() + clients_.size());
  const int b =
      other < machines.size() ? machines[other] : 100 + static_cast<int>(other - machines.size());
  if (a == b || !parted_.insert(std::minmax(a, b)).second) return;
  if (config_.print) fmt::print("{:>7} machines {} and {} are parted\n", queue_.steps(), a, b);
  net_.part(a, b);
  const Nanos length = static_cast<Nanos>(1 + random_.below(300)) * kMillisecond;
  // What it was answered, and a machine has lost, it may come to do again when the window is over.
  const bool is_client = std::max(a, b) >= 100;
  if (is_client && config_.power_cuts > 0 && length > config_.lease / 2) room_.comes_late = true;
  world_node_.post_after(length, [this, a, b] {
    if (parted_.erase(std::minmax(a, b))) net_.join(a, b);
  });
}

void Cluster::move_something() {
  std::vector<Ino> dirs;
  for (const auto& [ino, n] : oracle_.model().nodes())
    if (n.stat.is_dir() && n.stat.nlink > 0) dirs.push_back(ino);
  const Ino root = dirs[random_.below(dirs.size())];
  const RankId to{static_cast<uint16_t>(random_.below(static_cast<uint64_t>(config_.ranks)))};
  for (Host* host : serving()) {
    RankCore& core = host->rank->core();
    if (place_of(core.cache(), core.state(), root).what != Place::ours || host->id == to) continue;
    if (config_.print)
      fmt::print("{:>7} {:#x} is to move from rank {} to {}\n", queue_.steps(), root.v, host->id.v,
                 to.v);
    host->executor.post([this, host, root, to] {
      host->rank->migrations().start(root, to, [this, root](Result<void> moved) {
        moves_ += moved.has_value();
        if (config_.print)
          fmt::print("{:>7} {:#x}: {}\n", queue_.steps(), root.v,
                     moved ? "has moved" : graftfs::describe(moved.error()));
      });
    });
    return;
  }
}

void Cluster::end_trouble() {
  kill_in_ = 0;
  for (auto& p : processes_)
    if (p->stalled()) p->stall(false);
  for (auto [a, b] : std::exchange(parted_, {})) net_.join(a, b);
}

}  // namespace graftfs::sim
