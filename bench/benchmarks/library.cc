// Library: an in-process client on the rank's own thread, durable group commit. Creates and cached
// lookups per second of CPU that the whole process used (helper threads and write-back included).
// The reference is a hash map of the same names, in turns.

#include <absl/container/flat_hash_map.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "harness/embedded.h"
#include "harness/statistics.h"

namespace graftfs::bench {
namespace {

struct Rates {
  double per_second = 0, per_core = 0, busy_cores = 0, p50_us = 0, p99_us = 0;
};

// Keeps `depth` requests under way until `total` are answered. `make(i)` is the i-th.
template <class Make>
Rates drive(Embedded& e, size_t total, size_t depth, Make make) {
  std::vector<Nanos> began(total);
  std::vector<double> latency(total);
  size_t sent = 0, answered = 0, failed = 0;
  Nanos start = e.loop().now();
  double cpu = process_cpu_seconds();
  std::function<void()> send = [&] {
    size_t i = sent++;
    began[i] = e.loop().now();
    e.rank().submit(e.request(make(i)), [&, i](Reply reply) {
      latency[i] = static_cast<double>(e.loop().now() - began[i]) / 1e3;
      failed += reply.err != 0;
      answered++;
    });
  };
  while (answered < total) {
    while (sent < total && sent - answered < depth) send();
    if (answered < total) e.loop().run_one();
  }
  double seconds = static_cast<double>(e.loop().now() - start) / 1e9;
  cpu = process_cpu_seconds() - cpu;
  if (failed > 0) throw BenchmarkError(fmt::format("{} of {} requests failed", failed, total));
  std::sort(latency.begin(), latency.end());
  Rates r;
  r.per_second = static_cast<double>(total) / seconds;
  r.busy_cores = cpu / seconds;
  r.per_core = static_cast<double>(total) / cpu;
  r.p50_us = latency[total / 2];
  r.p99_us = latency[total * 99 / 100];
  return r;
}

Json to_json(const Rates& r) {
  return {{"per_second", r.per_second},
          {"per_busy_core", r.per_core},
          {"busy_cores", r.busy_cores},
          {"p50_us", r.p50_us},
          {"p99_us", r.p99_us}};
}

std::string file_name(size_t i) { return fmt::format("file{:08}", i); }

double map_creates_per_second(size_t n) {
  absl::flat_hash_map<std::string, Stat> map;
  double cpu = process_cpu_seconds();
  for (size_t i = 0; i < n; ++i) map[file_name(i)] = Stat{};
  return static_cast<double>(n) / (process_cpu_seconds() - cpu);
}

Report run_library(const Context& context) {
  const size_t creates = context.quick ? 20'000 : 1'000'000;
  const size_t lookups = context.quick ? 20'000 : 2'000'000;
  const size_t singles = context.quick ? 200 : 5'000;
  const size_t depth = 1024;
  const size_t dirs = 16;
  std::vector<double> create_rates, lookup_rates, map_rates;
  Report report;
  for (int round = 0; round < context.rounds_or(3); ++round) {
    RankOptions options;
    options.durability = Durability::strict;
    options.memory_limit = size_t{4} << 30;
    Embedded e(context.work / fmt::format("library-{}", round), options);
    std::vector<Ino> dir;
    for (size_t d = 0; d < dirs; ++d) dir.push_back(e.make_path(2, fmt::format("d{}-", d)));
    Rates create = drive(e, creates, depth, [&](size_t i) -> Args {
      return MknodArgs{dir[i % dirs], file_name(i), S_IFREG | 0644, 0, 0};
    });
    Rates lookup = drive(e, lookups, depth, [&](size_t i) -> Args {
      size_t j = i * 7919 % creates;
      return LookupArgs{dir[j % dirs], file_name(j)};
    });
    Rates one_create = drive(e, singles, 1, [&](size_t i) -> Args {
      return MknodArgs{dir[i % dirs], fmt::format("one{:08}", i), S_IFREG | 0644, 0, 0};
    });
    Rates one_lookup = drive(
        e, singles, 1, [&](size_t i) -> Args { return LookupArgs{dir[i % dirs], file_name(i)}; });
    create_rates.push_back(create.per_core);
    lookup_rates.push_back(lookup.per_core);
    map_rates.push_back(map_creates_per_second(creates));
    report.figures["rounds"].push_back({{"create", to_json(create)},
                                        {"lookup", to_json(lookup)},
                                        {"create_one_outstanding", to_json(one_create)},
                                        {"lookup_one_outstanding", to_json(one_lookup)},
                                        {"write_backs", e.rank().stats().write_backs}});
    e.stop();
  }
  report.figures["creates"] = creates;
  report.figures["lookups"] = lookups;
  report.figures["outstanding"] = depth;
  report.reference["hash_map_inserts_per_cpu_second"] = median(map_rates);
  report.reference["create_against_hash_map"] = median(create_rates) / median(map_rates);
  report.at_least("creates per second and busy core", median(create_rates), 250'000);
  report.at_least("cached lookups per second and busy core", median(lookup_rates), 1'000'000);
  report.durability = "strict";
  report.cache = "everything cached in the rank; write-back to the store runs meanwhile";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("library", "in-process client, pipelined, durable group commit", run_library);

}  // namespace graftfs::bench
