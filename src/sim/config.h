#pragma once
// What one run of the simulator does. Everything follows from these numbers.

#include <cstdint>
#include <string>

#include "events/trace.h"
#include "journal/journal.h"
#include "store/memory/memory_disk.h"
#include "store/rados/model_cluster.h"

namespace graftfs::sim {

class SimRandom;

enum class Workload : uint8_t { random, scripted };
enum class StoreKind : uint8_t { disk, rados };

// What a disk that lies does, one kind a run.
enum class Lie : uint8_t {
  journal_lost,         // a write of the journal never happened
  journal_torn,         // some of its sectors never did
  journal_misdirected,  // it went to another sector, or to another segment
  journal_sync,         // a sync of the journal made nothing durable
  dirs_sync,            // a commit of directories is gone after the next power cut
  data_lost,            // as of the journal, of file data
  data_torn,
  data_sync,
  data_bit,  // a bit of file data flips at rest
};
inline constexpr int kLies = 9;
inline bool lies_about_data(Lie lie) { return lie >= Lie::data_lost; }

// Faults of the disk, beside crashes.
enum class DiskTrouble : uint8_t {
  none,
  full,        // space runs out, and comes back
  errors,      // calls fail with EIO, syncs fail once
  corruption,  // bits flip while the rank is down
  lies,        // calls report success and did something else
};

struct SimConfig {
  uint64_t seed = 1;
  StoreKind store = StoreKind::disk;
  Workload workload = Workload::random;
  Durability durability = Durability::posix;
  TracePolicy trace = TracePolicy::chunked;
  DiskTrouble trouble = DiskTrouble::none;
  Lie lie = Lie::journal_lost;  // where the trouble is lies

  int clients = 3;
  int workers = 2;  // of each client, one request at a time each
  int operations = 150;
  int crashes = 3;             // at most, at random points
  bool print = false;          // every request, crash and message of the rank
  bool checks_inside = false;  // what-if crashes every few steps

  uint32_t segment_events = 16;
  uint32_t segments_per_major = 3;
  uint64_t segment_capacity = 64 << 10;
  uint64_t journal_cap = 1;  // below the least: the rank takes the least that works
  size_t memory_limit = 16 << 10;
  size_t write_back_batch = 4;
  uint64_t ino_range = 1 << 20;  // a small one is used up, and fetched anew, all the time
  Nanos write_back_after = 20 * kMillisecond;
  Nanos latency_max = 200 * kMicrosecond;
  // Write-back that cannot keep up (the journal reaches its cap) or fails for a while.
  uint32_t commit_stall_ppm = 0;
  Nanos commit_stall = 0;
  uint32_t commit_eio_ppm = 0;
  // Of a cluster of objects.
  rados::ModelOptions rados;
  uint32_t osd_restarts_ppm = 0;  // of the steps
  size_t big_directory = 50'000;  // entries, from which on it lies in several objects
  bool bulky = false;             // many events are long
  bool deep = false;              // directories in directories, used without those above them

  // Where to crash instead of at random; 0: not there.
  uint64_t crash_at_kill_point = 0;  // the nth one that is reached
  uint64_t crash_at_step = 0;        // the nth step
  CrashKind crash_kind = CrashKind::process_death;
  // And again in the recovery from that crash, at its nth kill point or step.
  uint64_t recovery_kill_point = 0;
  uint64_t recovery_step = 0;
  CrashKind recovery_crash_kind = CrashKind::process_death;
  // A client that died with the script under way leaves it at that, instead of beginning it again.
  bool script_once = false;
};

// Everything drawn from the seed.
SimConfig random_config(uint64_t seed);
// The same on a cluster of objects, with what is drawn for that.
SimConfig random_rados_config(uint64_t seed);
// What it does wrong.
rados::ModelOptions random_rados(SimRandom& r);
std::string describe_rados(const rados::ModelOptions& options, size_t big_directory);
// The fixed script's; durability, traces and where to crash are the caller's.
SimConfig script_config();
// A line that a person can read, and that names what differs from one run to the next.
std::string describe(const SimConfig& config);

}  // namespace graftfs::sim
