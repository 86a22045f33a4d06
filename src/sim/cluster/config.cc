#include "sim/cluster/config.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/executor.h"

namespace graftfs::sim {

ClusterConfig random_cluster(uint64_t seed) {
  SimRandom r(seed ^ 0xc105);
  ClusterConfig c;
  c.seed = seed;
  c.durability = r.chance(50) ? Durability::posix : Durability::strict;
  c.trace = r.chance(70) ? TracePolicy::chunked : TracePolicy::full;
  c.ranks = static_cast<int>(2 + r.below(3));
  c.standbys = static_cast<int>(r.below(2));
  c.clients = static_cast<int>(1 + r.below(3));
  c.workers = static_cast<int>(1 + r.below(3));
  c.operations = static_cast<int>(60 + r.below(240));
  c.crashes = static_cast<int>(r.below(4));
  c.client_crashes = r.chance(25) ? 1 : 0;
  c.power_cuts = r.chance(30) ? 1 : 0;
  c.stalls = r.chance(40) ? static_cast<int>(1 + r.below(2)) : 0;
  c.breaks = static_cast<int>(r.below(6));
  c.cuts = static_cast<int>(r.below(3));
  c.moves = r.chance(70) ? static_cast<int>(1 + r.below(8)) : 0;
  c.across = r.chance(80);
  c.hints = r.chance(60);
  c.skew = r.chance(40);
  c.segment_events = static_cast<uint32_t>(8 + r.below(60));
  c.memory_limit = r.chance(50) ? 16 << 10 : 1 << 20;
  c.write_back_batch = 1 + r.below(30);
  c.write_back_after = static_cast<Nanos>((1 + r.below(50)) * kMillisecond);
  c.latency_max = static_cast<Nanos>(r.chance(30) ? 5 * kMillisecond : 200 * kMicrosecond);
  const uint64_t inos[] = {1 << 20, 1 << 20, 64, 8};
  c.ino_range = inos[r.below(4)];
  return c;
}

ClusterConfig plain_cluster(uint64_t seed) {
  ClusterConfig c = random_cluster(seed);
  c.across = c.skew = false;
  c.power_cuts = c.stalls = c.client_crashes = c.moves = 0;
  return c;
}

ClusterConfig random_rados_cluster(uint64_t seed) {
  ClusterConfig c = random_cluster(seed);
  SimRandom r(seed ^ 0x4ad05);
  c.store = StoreKind::rados;
  c.rados = random_rados(r);
  // Leases are short here.
  c.rados.latency = std::min(c.rados.latency, 300 * kMicrosecond);
  c.rados.slow = std::min(c.rados.slow, 5 * kMillisecond);
  c.osd_restarts = static_cast<int>(r.below(4));
  c.big_directory = r.chance(30) ? 6 : 50'000;
  // Where a directory goes to another rank, only being shut out stops who had it before.
  if (c.rados.guards_alone) c.moves = 0;
  // Longer than clients have to come back to a rank that has begun anew.
  if (r.chance(30)) c.osd_away = 4 * c.lease;
  return c;
}

std::string describe(const ClusterConfig& c) {
  return fmt::format(
      "seed {}: {} ranks, {} standbys, {} clients x {} workers, {} operations{}, {} crashes, "
      "{} client crashes, {} power cuts, {} stalls, {} breaks, {} cuts, {} moves, {}{}{}, {} "
      "traces{}",
      c.seed, c.ranks, c.standbys, c.clients, c.workers, c.operations,
      c.across ? " also across" : "", c.crashes, c.client_crashes, c.power_cuts, c.stalls, c.breaks,
      c.cuts, c.moves, c.hints ? "hints, " : "", c.skew ? "skewed, " : "",
      c.durability == Durability::strict ? "strict" : "posix",
      c.trace == TracePolicy::full ? "full" : "chunked",
      c.store == StoreKind::rados ? describe_rados(c.rados, c.big_directory) : "");
}

}  // namespace graftfs::sim
