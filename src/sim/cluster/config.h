#pragma once
// What a run of the simulated cluster is drawn from.

#include <cstdint>
#include <string>

#include "events/trace.h"
#include "journal/journal.h"
#include "sim/config.h"

namespace graftfs::sim {

struct ClusterConfig {
  uint64_t seed = 1;
  StoreKind store = StoreKind::disk;
  Durability durability = Durability::posix;
  TracePolicy trace = TracePolicy::chunked;
  int ranks = 2;     // each begins in a process of its own, on a machine of its own
  int standbys = 0;  // processes that begin without one
  int clients = 2;
  int workers = 2;  // of each client, one request at a time each
  int operations = 200;
  // What goes wrong, at random moments; each at most so often.
  int crashes = 2;         // of processes of ranks, at a kill point
  int client_crashes = 0;  // and of clients
  int power_cuts = 0;      // so many of the crashes take the machine along
  int stalls = 0;      // a process stops, for a moment or until its ranks are taken, and goes on
  int breaks = 3;      // of connections
  int cuts = 1;        // of the network between two machines
  int moves = 0;       // of subtrees, by migration
  bool across = true;  // operations of several ranks
  bool hints = true;   // ranks are taken where a connection breaks, not only by a lease
  bool skew = false;   // clocks run at rates within 5 %, and show different times
  bool print = false;
  uint32_t segment_events = 32;
  size_t memory_limit = 64 << 10;
  size_t write_back_batch = 8;
  uint64_t ino_range = 1 << 20;  // a small one is used up, and fetched anew, all the time
  int64_t write_back_after = 20'000'000;
  int64_t latency_max = 200'000;
  int64_t lease = 200'000'000;
  int64_t forget_after = 3'000'000'000;  // sessions that nobody speaks for
  // Of a cluster of objects.
  rados::ModelOptions rados;
  int osd_restarts = 0;
  Nanos osd_away = 60 * kMillisecond;  // at most, each time
  size_t big_directory = 50'000;
  // What is written to a journal is answered before it is there.
  bool early() const { return store == StoreKind::rados && durability == Durability::posix; }
};
ClusterConfig random_cluster(uint64_t seed);
// The same with crashes, takeovers and breaks of the network alone: where something fails, whether
// it needs more than that.
ClusterConfig plain_cluster(uint64_t seed);
// On a cluster of objects, with what is drawn for that.
ClusterConfig random_rados_cluster(uint64_t seed);
std::string describe(const ClusterConfig& config);

}  // namespace graftfs::sim
