// FUSE against the ceiling: how much of what FUSE itself allows is left when
// every change is journaled. GraftFS and the null file system are mounted side
// by side and do the same phase in turns. Both have the same settings, among
// them default_permissions; a null file system without it, which the kernel asks
// less, is measured as well and told, without a bar.

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/benchmark.h"
#include "harness/placement.h"
#include "harness/process.h"
#include "harness/statistics.h"
#include "harness/target.h"
#include "harness/workload.h"

namespace graftfs::bench {
namespace {

constexpr double kBar = 0.8;
constexpr unsigned kClientThreads[] = {1, 4};

struct Phase {
  const char* name;
  double (Files::*run)();
  bool cold;  // the kernel's caches are dropped first
};

// rmdir only clears up; it is measured because it is done anyway, without a bar.
constexpr Phase kPhases[] = {
    {"create", &Files::create, false}, {"cold stat", &Files::stat, true},
    {"rename", &Files::rename, false}, {"unlink", &Files::unlink, false},
    {"mkdir", &Files::mkdir, false},   {"rmdir", &Files::rmdir, false},
};

// What one side reached in one phase, a value per round.
struct Series {
  std::vector<double> speed;          // operations per second
  std::vector<double> server_cpu_us;  // per operation, settling included
  std::vector<double> requests;       // answers written per operation
  double shortest_s = 1e9;
};

void measure(Target& target, Files& files, unsigned threads, const Phase& phase, Series& series) {
  if (phase.cold) {
    target.drop_caches();
  }
  target.settle();
  std::optional<Together> together;
  if (threads == 1) {
    together.emplace(target);
  }
  pid_t server = target.server();
  double cpu = cpu_seconds(server);
  long writes = write_calls(server);
  series.speed.push_back((files.*phase.run)());
  series.shortest_s = std::min(series.shortest_s, files.last_seconds());
  double count = static_cast<double>(files.count());
  series.requests.push_back(static_cast<double>(write_calls(server) - writes) / count);
  target.settle();
  series.server_cpu_us.push_back((cpu_seconds(server) - cpu) * 1e6 / count);
}

Json summary(const std::map<std::string, Series>& all) {
  Json speed = Json::object();
  Json cpu = Json::object();
  for (const auto& [name, series] : all) {
    speed[name] = rounded(median(series.speed));
    cpu[name] = rounded(median(series.server_cpu_us), 3);
  }
  return {{"operations_per_second", std::move(speed)},
          {"server_cpu_us_per_operation", std::move(cpu)}};
}

// A cold stat that did not reach the server would measure the kernel's cache.
// A server that answers without write(2) cannot be checked this way.
double requests_per_cold_stat(const std::map<std::string, Series>& all) {
  double least = 1e9;
  for (const auto& [name, series] : all) {
    if (name.starts_with("cold stat")) {
      least = std::min(least, *std::min_element(series.requests.begin(), series.requests.end()));
    }
  }
  return least;
}

Report run_fuse(const Context& context) {
  enum Side { kSubject, kReference, kBare, kSides };
  auto subject = make_subject(context);
  std::map<unsigned, std::unique_ptr<Target>> references, bare;
  std::vector<Target*> all = {subject.get()};
  for (unsigned threads : kClientThreads) {
    unsigned best = fastest_null_threads(context, threads);
    references[threads] =
        std::make_unique<NullFsTarget>(context, fmt::format("reference-{}", threads), best);
    bare[threads] =
        std::make_unique<NullFsTarget>(context, fmt::format("bare-{}", threads), best, false);
    all.push_back(references[threads].get());
    all.push_back(bare[threads].get());
  }
  for (Target* target : all) {
    target->start();
    warm_up(*target);
  }
  std::map<std::string, Series> results[kSides];
  uint64_t count = context.quick ? 400 : 80000;
  int rounds = context.rounds_or(5);
  double shortest_s = 1e9;
  for (int round = 0; round < rounds; round++) {
    for (unsigned threads : kClientThreads) {
      Target* sides[] = {subject.get(), references[threads].get(), bare[threads].get()};
      std::string home = fmt::format("r{}-{}", round, threads);
      Files files[] = {{sides[0]->path() / home, threads, count},
                       {sides[1]->path() / home, threads, count},
                       {sides[2]->path() / home, threads, count}};
      for (const Phase& phase : kPhases) {
        std::string name =
            fmt::format("{}, {} thread{}", phase.name, threads, threads == 1 ? "" : "s");
        // Who begins changes from round to round.
        for (int turn = 0; turn < kSides; turn++) {
          int side = (turn + round) % kSides;
          Series& series = results[side][name];
          measure(*sides[side], files[side], threads, phase, series);
          shortest_s = std::min(shortest_s, series.shortest_s);
        }
        progress(fmt::format(
            "fuse, round {} of {}: {}: {} {:.0f}/s, {} {:.0f}/s, bare {:.0f}/s", round + 1, rounds,
            name, sides[0]->name(), results[kSubject][name].speed.back(), sides[1]->name(),
            results[kReference][name].speed.back(), results[kBare][name].speed.back()));
      }
    }
  }

  Report report;
  report.figures = {
      {"subject", subject->details()},
      {"files_per_phase", count},
      {"rounds", rounds},
      {"shortest_phase_s", rounded(shortest_s, 3)},
      {"placement", "1 thread: client and answering thread on one CPU; 4 threads: free"}};
  report.figures.update(summary(results[0]));
  report.reference = {{"1 thread", references[1]->details()},
                      {"4 threads", references[4]->details()}};
  report.reference.update(summary(results[kReference]));
  report.reference["without default_permissions"] = summary(results[kBare]);
  for (int side : {kSubject, kReference}) {
    double requests = requests_per_cold_stat(results[side]);
    Json& at = side == kSubject ? report.figures : report.reference;
    if (requests > 0) {
      at["requests_per_cold_stat_at_least"] = rounded(requests, 3);
    }
  }
  for (const auto& [name, series] : results[0]) {
    double ratio = median_ratio(series.speed, results[kReference][name].speed);
    report.figures["to one without default_permissions"][name] =
        rounded(median_ratio(series.speed, results[kBare][name].speed), 3);
    if (name.starts_with("rmdir")) {
      report.figures["ratio of " + name] = rounded(ratio, 3);
    } else {
      report.at_least(name, ratio, kBar);
    }
  }
  report.durability = context.subject == "graftfs" ? context.durability : "none";
  report.cache =
      "cold stat: the kernel's names and attributes dropped by a remount before each pass, the "
      "server's own cache warm; all other phases: new names, warm directories";
  return report;
}

GRAFTFS_BENCHMARK("fuse", "create, mkdir, rename, unlink, cold stat against the null file system",
                  run_fuse);

}  // namespace
}  // namespace graftfs::bench
