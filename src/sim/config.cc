#include "sim/config.h"

#include <algorithm>

#include <fmt/format.h>

#include "sim/executor.h"

namespace graftfs::sim {

SimConfig random_config(uint64_t seed) {
  SimRandom r(seed ^ 0x5eed);
  SimConfig c;
  c.seed = seed;
  c.durability = r.chance(50) ? Durability::strict : Durability::posix;
  c.trace = r.chance(70) ? TracePolicy::chunked : TracePolicy::full;
  uint64_t trouble = r.below(100);
  if (trouble < 10)
    c.trouble = DiskTrouble::full;
  else if (trouble < 20)
    c.trouble = DiskTrouble::errors;
  else if (trouble < 30)
    c.trouble = DiskTrouble::corruption;
  else if (trouble < 45)
    c.trouble = DiskTrouble::lies;
  c.clients = 1 + static_cast<int>(r.below(3));
  c.workers = 1 + static_cast<int>(r.below(3));
  c.operations = 60 + static_cast<int>(r.below(140));
  c.crashes = static_cast<int>(r.below(5));
  c.checks_inside = r.chance(15);
  const uint32_t events[] = {4, 16, 16, 64, 1024};
  c.segment_events = events[r.below(5)];
  c.segments_per_major = 1 + static_cast<uint32_t>(r.below(4));
  const size_t memory[] = {1, 4 << 10, 16 << 10, 1 << 20};
  c.memory_limit = memory[r.below(4)];
  const size_t batch[] = {1, 4, 32};
  c.write_back_batch = batch[r.below(3)];
  const Nanos after[] = {kMillisecond, 20 * kMillisecond, kSecond};
  c.write_back_after = after[r.below(3)];
  c.segment_capacity = r.chance(50) ? 32 << 10 : 128 << 10;
  const Nanos latency[] = {0, 50 * kMicrosecond, kMillisecond};
  c.latency_max = latency[r.below(3)];
  // Drawn last, so that the rest of a seed stays what it was.
  uint64_t write_back = r.below(100);
  if (write_back < 12) {
    c.segment_capacity = 64 << 10;  // the cap is six of them
    c.operations += 200;
    c.bulky = true;
    if (write_back < 6) {
      c.commit_stall_ppm = 500'000;
      c.commit_stall = 300 * kMillisecond;
    } else {
      c.commit_eio_ppm = 900'000;
    }
  }
  c.lie = static_cast<Lie>(r.below(kLies));
  if (c.trouble == DiskTrouble::lies) c.crashes = 1 + static_cast<int>(r.below(5));
  // Directories are used whose ancestors are only on their way into the cache.
  c.deep = r.chance(12) && !c.bulky;  // both at once: events longer than a segment holds
  if (c.deep) {
    c.memory_limit = 1;
    c.crashes = std::max(c.crashes, 2);
  }
  const uint64_t inos[] = {1 << 20, 64, 8};
  c.ino_range = inos[r.below(3)];
  return c;
}

rados::ModelOptions random_rados(SimRandom& r) {
  rados::ModelOptions o;
  const unsigned osds[] = {1, 3, 40};
  o.osds = osds[r.below(3)];
  const Nanos latency[] = {20 * kMicrosecond, 300 * kMicrosecond, 2 * kMillisecond};
  o.latency = latency[r.below(3)];
  const uint32_t slow[] = {0, 3, 30};
  o.slow_percent = slow[r.below(3)];
  o.slow = static_cast<Nanos>(1 + r.below(o.slow_percent > 10 ? 5 : 30)) * kMillisecond;
  const Nanos late[] = {kMillisecond, 20 * kMillisecond, 100 * kMillisecond, 300 * kMillisecond};
  o.late = late[r.below(4)];
  const Nanos map_within[] = {kMillisecond, 50 * kMillisecond, 2 * kSecond};
  o.map_within = map_within[r.below(3)];
  const uint64_t keys[] = {1024, 3};
  o.keys_in_answer = keys[r.below(2)];
  o.slow_osds = r.chance(50);
  o.guards_alone = r.chance(40);
  return o;
}

SimConfig random_rados_config(uint64_t seed) {
  SimConfig c = random_config(seed);
  SimRandom r(seed ^ 0x4ad05);
  c.store = StoreKind::rados;
  c.trouble = DiskTrouble::none;
  c.commit_stall_ppm = c.commit_eio_ppm = 0;
  c.rados = random_rados(r);
  c.osd_restarts_ppm = r.chance(40) ? 1000 : 0;
  c.big_directory = r.chance(30) ? 6 : 50'000;
  c.crashes = 1 + static_cast<int>(r.below(5));
  if (c.rados.guards_alone) {
    // What somebody sent who has died meets what his successor has written.
    const Nanos after[] = {kMillisecond, 5 * kMillisecond};
    c.write_back_after = after[r.below(2)];
    c.memory_limit = r.chance(50) ? 1 : 4 << 10;
    c.crashes += 2;
    c.rados.slow_osds = true;
    c.rados.late = 300 * kMillisecond;
  }
  return c;
}

SimConfig script_config() {
  SimConfig config;
  config.seed = 7;
  config.workload = Workload::scripted;
  config.clients = 2;
  config.workers = 1;
  config.crashes = 0;
  config.segment_capacity = 32 << 10;
  config.write_back_after = kMillisecond;
  config.memory_limit = 4 << 10;
  return config;
}

std::string describe_rados(const rados::ModelOptions& o, size_t big_directory) {
  return fmt::format(" rados osds {} latency {} slow {} %{} late {} map {} keys {} big {}{}",
                     o.osds, o.latency, o.slow_percent, o.slow_osds ? " and OSDs" : "", o.late,
                     o.map_within, o.keys_in_answer, big_directory,
                     o.guards_alone ? " guards alone" : "");
}

std::string describe(const SimConfig& c) {
  static constexpr const char* kTrouble[] = {"none", "full", "errors", "corruption", "lies"};
  static constexpr const char* kLie[] = {"journal lost", "journal torn",     "journal misdirected",
                                         "journal sync", "directories sync", "data lost",
                                         "data torn",    "data sync",        "data bit"};
  return fmt::format(
      "seed {} {} {} {} trouble {}{} clients {} workers {} operations {} crashes {} "
      "segment-events {} major {} capacity {} memory {} batch {} inos {} write-back-after {} "
      "latency {}"
      "{}{}",
      c.seed, c.workload == Workload::random ? "random" : "scripted",
      c.durability == Durability::strict ? "strict" : "posix",
      c.trace == TracePolicy::full ? "full" : "chunked", kTrouble[static_cast<int>(c.trouble)],
      c.trouble == DiskTrouble::lies ? fmt::format(" ({})", kLie[static_cast<int>(c.lie)]) : "",
      c.clients, c.workers, c.operations, c.crashes, c.segment_events, c.segments_per_major,
      c.segment_capacity, c.memory_limit, c.write_back_batch, c.ino_range, c.write_back_after,
      c.latency_max,
      c.store == StoreKind::rados
          ? describe_rados(c.rados, c.big_directory) + (c.osd_restarts_ppm ? " restarts" : "")
          : "",
      std::string(c.deep ? " deep" : "") +
          (c.commit_stall_ppm ? " slow write-back"
           : c.commit_eio_ppm ? " failing write-back"
                              : "") +
          (c.crash_at_kill_point || c.crash_at_step
               ? fmt::format(" crash at kill point {} step {} ({})", c.crash_at_kill_point,
                             c.crash_at_step,
                             c.crash_kind == CrashKind::power_cut ? "power cut" : "process death")
               : std::string()) +
          (c.recovery_kill_point || c.recovery_step
               ? fmt::format(
                     " and in recovery at kill point {} step {} ({})", c.recovery_kill_point,
                     c.recovery_step,
                     c.recovery_crash_kind == CrashKind::power_cut ? "power cut" : "process death")
               : std::string()));
}

}  // namespace graftfs::sim
