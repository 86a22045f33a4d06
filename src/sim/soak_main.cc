// graftfs-soak: random runs of the simulator.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/fault.h"
#include "sim/cluster/cluster.h"
#include "sim/cluster/matrix.h"
#include "sim/world.h"

namespace {

using namespace graftfs;
using Clock = std::chrono::steady_clock;

constexpr const char* kUsage =
    "usage: graftfs-soak [--seeds N] [--minutes M] [--seed S] [--first S] [--trace]\n"
    "\n"
    "Runs the simulator under random seeds (docs/simulator.md).\n"
    "  --seeds N    run N seeds (default 1000)\n"
    "  --minutes M  run until M minutes have passed\n"
    "  --seed S     run only this seed, and print what it does\n"
    "  --first S    begin at this seed (default 1)\n"
    "  --only WORDS only seeds whose line (--trace) has these words in it, as in 'trouble lies'\n"
    "  --trace      print a line for every seed\n"
    "  --store S    'disk' (default), or 'rados': the store on Ceph, on a modelled cluster\n"
    "  --cluster    several ranks; with --seeds, --seed, --first, --minutes, --only\n"
    "  --plain      with --cluster: only crashes, takeovers and breaks of the network\n"
    "  --matrix     every pair of kill points of migrations and of operations of two ranks;\n"
    "               --only WORDS: only cases whose line has these words in it, which then are\n"
    "               printed in full where it is one\n"
    "  --script     run the fixed script once instead, with --strict, --full (traces), --kill N\n"
    "               (crash at the Nth kill point), --step N (at the Nth step), --power-cut,\n"
    "               --once (what died is not begun again), and a second crash in recovery:\n"
    "               --recovery-kill N, --recovery-step N, --recovery-power-cut\n"
    "\n"
    "Prints what failed and how to run it again. Exits with 1 where a seed failed, or where a "
    "kill\n"
    "point was never reached in a run of at least 500 seeds.\n"
    "\n"
    "example: graftfs-soak --seed 42\n";

constexpr uint64_t kEnoughSeeds = 500;
// What one rank, whose clients call it in its own process, does not come to: --cluster does.
constexpr std::string_view kOfSeveralRanks[] = {"migration.",     "two_party.",        "session.",
                                                "cluster.",       "client.reconnect.", "lease.",
                                                "client.recall.", "purge.asked"};
// What only the store on Ceph has.
constexpr std::string_view kOfRados = "store.rados.";
// What no simulation comes to, but the modules' own tests do: the store on files; rights to write
// and locks of several clients; a directory whose parent nobody here knows; files of several
// blocks.
constexpr std::string_view kNotSimulated[] = {
    "store.own.", "store.cluster.",      "store.journal.creating", "store.journal.removing",
    "lock.",      "client.data.granted", "recovery.attach.ask",    "store.rados.blocks_named"};
bool is_one_of(std::span<const std::string_view> prefixes, std::string_view name) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

struct Options {
  uint64_t seeds = 1000;
  double minutes = 0;
  uint64_t first = 1;
  bool one = false;
  bool trace = false;
  std::string only;
  sim::StoreKind store = sim::StoreKind::disk;
  bool cluster = false;
  bool matrix = false;
  bool plain = false;
  bool script = false;
  sim::SimConfig scripted = sim::script_config();
};

bool parse(int argc, char** argv, Options& o) {
  for (int i = 1; i < argc; ++i) {
    std::string_view arg = argv[i];
    auto number = [&](double& out) {
      if (i + 1 >= argc) return false;
      char* end = nullptr;
      out = std::strtod(argv[++i], &end);
      return *end == '\0' && out >= 0;
    };
    double n = 0;
    if (arg == "--only" && i + 1 < argc) {
      o.only = argv[++i];
    } else if (arg == "--store" && i + 1 < argc) {
      const std::string_view kind = argv[++i];
      if (kind != "disk" && kind != "rados") return false;
      o.store = kind == "rados" ? sim::StoreKind::rados : sim::StoreKind::disk;
    } else if (arg == "--trace") {
      o.trace = true;
    } else if (arg == "--cluster") {
      o.cluster = true;
    } else if (arg == "--plain") {
      o.plain = true;
    } else if (arg == "--matrix") {
      o.matrix = true;
    } else if (arg == "--script") {
      o.script = true;
    } else if (arg == "--strict") {
      o.scripted.durability = Durability::strict;
    } else if (arg == "--full") {
      o.scripted.trace = TracePolicy::full;
    } else if (arg == "--power-cut") {
      o.scripted.crash_kind = CrashKind::power_cut;
    } else if (arg == "--kill" && number(n)) {
      o.scripted.crash_at_kill_point = static_cast<uint64_t>(n);
    } else if (arg == "--step" && number(n)) {
      o.scripted.crash_at_step = static_cast<uint64_t>(n);
    } else if (arg == "--recovery-kill" && number(n)) {
      o.scripted.recovery_kill_point = static_cast<uint64_t>(n);
    } else if (arg == "--recovery-step" && number(n)) {
      o.scripted.recovery_step = static_cast<uint64_t>(n);
    } else if (arg == "--recovery-power-cut") {
      o.scripted.recovery_crash_kind = CrashKind::power_cut;
    } else if (arg == "--once") {
      o.scripted.script_once = true;
    } else if (arg == "--seeds" && number(n)) {
      o.seeds = static_cast<uint64_t>(n);
    } else if (arg == "--minutes" && number(n)) {
      o.minutes = n;
    } else if (arg == "--first" && number(n)) {
      o.first = static_cast<uint64_t>(n);
    } else if (arg == "--seed" && number(n)) {
      o.first = static_cast<uint64_t>(n);
      o.one = o.trace = true;
    } else {
      return false;
    }
  }
  return true;
}

// The sites of the product itself. A kill point that was never reached is a hole in the test.
uint64_t report_sites(bool several_ranks, sim::StoreKind store) {
  uint64_t missed = 0;
  fmt::print("kill points and marks, and how often each was reached:\n");
  for (const fault::Site* site : fault::sites())
    if (site->hits > 0)
      fmt::print("  {:>10}  {}{}\n", site->hits.load(), site->name,
                 site->kind == fault::SiteKind::mark ? " (mark)" : "");
  for (const fault::Site* site : fault::sites()) {
    if (site->hits > 0) continue;
    fmt::print("       never  {}{}\n", site->name,
               site->kind == fault::SiteKind::mark ? " (mark)" : "");
    if (std::string_view(site->name).starts_with(kOfRados) && store != sim::StoreKind::rados)
      continue;
    missed += site->kind == fault::SiteKind::kill_point && !is_one_of(kNotSimulated, site->name) &&
              is_one_of(kOfSeveralRanks, site->name) == several_ranks;
  }
  return missed;
}

// Whether enough was run, and a kill point was never reached all the same.
bool has_holes(uint64_t missed, uint64_t runs) {
  if (missed == 0 || runs < kEnoughSeeds) return false;
  fmt::print("{} kill points were never reached: the workload has to get there\n", missed);
  return true;
}

void report_objects(sim::StoreKind store, const rados::ModelCluster::Counts& objects) {
  if (store != sim::StoreKind::rados) return;
  fmt::print(
      "{} operations of dead clients arrived, {} of any were refused by a guard, {} shut out\n",
      objects.late, objects.guarded, objects.shut_out);
}

// Runs of several ranks, as many as asked for.
int soak_cluster(const Options& options) {
  auto began = Clock::now();
  auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - began).count(); };
  uint64_t runs = 0, failed = 0;
  sim::ClusterResult all;
  for (uint64_t seed = options.first;; ++seed) {
    if (options.one && runs == 1) break;
    if (options.minutes > 0 ? elapsed() > options.minutes * 60 : runs >= options.seeds) break;
    const bool rados = options.store == sim::StoreKind::rados;
    sim::ClusterConfig config = options.plain ? sim::plain_cluster(seed)
                                : rados       ? sim::random_rados_cluster(seed)
                                              : sim::random_cluster(seed);
    if (sim::describe(config).find(options.only) == std::string::npos) continue;
    config.print = options.one;
    if (options.trace) fmt::print("{}\n", sim::describe(config));
    std::fflush(stdout);
    sim::ClusterResult result = sim::run_cluster(config);
    ++runs;
    all.executions += result.executions;
    all.crashes += result.crashes;
    all.redirects += result.redirects;
    all.moves += result.moves;
    all.messages += result.messages;
    all.across += result.across;
    all.takeovers += result.takeovers;
    all.stalls += result.stalls;
    all.fenced += result.fenced;
    all.cached += result.cached;
    all.objects += result.objects;
    if (result.ok) continue;
    ++failed;
    fmt::print(
        "FAILED {}\n  commit {}, digest {:08x}\n  {}\n  again: graftfs-soak --cluster{} --seed "
        "{}\n",
        sim::describe(config), GRAFTFS_COMMIT, result.digest, result.failure,
        rados ? " --store rados" : "", seed);
  }
  const uint64_t missed = options.one ? 0 : report_sites(true, options.store);
  fmt::print(
      "{} clusters in {:.1f} s, {} requests, {} answers from caches, {} messages of clients, {} "
      "redirects, {} crashes, "
      "{} takeovers, {} stalls, {} requests of the fenced, {} moves, {} across ranks, {} failed\n",
      runs, elapsed(), all.executions, all.cached, all.messages, all.redirects, all.crashes,
      all.takeovers, all.stalls, all.fenced, all.moves, all.across, failed);
  report_objects(options.store, all.objects);
  return has_holes(missed, runs) || failed > 0 ? 1 : 0;
}

// Every pair of kill points. A point at which nobody has died is a hole in the test.
int soak_matrix(const Options& options) {
  auto began = Clock::now();
  std::vector<sim::MatrixCase> cases;
  auto add = [&](const std::string& operation) {
    for (sim::MatrixCase& c : sim::matrix_of(operation, true))
      if (sim::describe(c).find(options.only) != std::string::npos) cases.push_back(std::move(c));
  };
  add("migrate");
  for (const std::string& operation : sim::two_party_operations()) add(operation);
  // The line of one case may be the beginning of another's.
  auto named = std::ranges::find_if(
      cases, [&](const sim::MatrixCase& c) { return sim::describe(c) == options.only; });
  if (named != cases.end()) cases = std::vector<sim::MatrixCase>{std::move(*named)};
  std::map<std::string, uint64_t> deaths;
  uint64_t failed = 0;
  for (sim::MatrixCase& c : cases) {
    c.print = cases.size() == 1;
    sim::ClusterResult result = sim::run_matrix_case(c, deaths);
    if (result.ok) continue;
    ++failed;
    fmt::print("FAILED {}\n  commit {}, digest {:08x}\n  {}\n", sim::describe(c), GRAFTFS_COMMIT,
               result.digest, result.failure);
    fmt::print("  again: graftfs-soak --matrix --only {}\n", sim::describe(c));
    std::fflush(stdout);
  }
  uint64_t never = 0;
  fmt::print("kill points, and how often somebody has died there:\n");
  for (const char* prefix : {"migration.export.", "migration.import.", "two_party.coordinator.",
                             "two_party.participant."}) {
    for (const std::string& point : sim::points_of(prefix)) {
      never += deaths[prefix + point] == 0;
      fmt::print("  {:>8}  {}{}\n", deaths[prefix + point], prefix, point);
    }
  }
  fmt::print("{} cases in {:.1f} s, {} failed, {} points where nobody has died\n", cases.size(),
             std::chrono::duration<double>(Clock::now() - began).count(), failed, never);
  return failed > 0 || (never > 0 && options.only.empty()) ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    fmt::print(stderr, "{}", kUsage);
    return 2;
  }
  if (options.script) {
    options.scripted.print = true;
    sim::RunResult result = sim::run_simulation(options.scripted);
    fmt::print("{}: {} kill points, {} steps {}\n", result.ok ? "ok" : "FAILED", result.kill_points,
               result.steps, result.failure);
    return result.ok ? 0 : 1;
  }
  if (options.matrix) return soak_matrix(options);
  if (options.cluster) return soak_cluster(options);
  auto began = Clock::now();
  auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - began).count(); };
  uint64_t runs = 0, failed = 0, refused = 0, crashes = 0, executions = 0;
  rados::ModelCluster::Counts objects;
  for (uint64_t seed = options.first;; ++seed) {
    if (options.one && runs == 1) break;
    if (options.minutes > 0 ? elapsed() > options.minutes * 60 : runs >= options.seeds) break;
    sim::SimConfig config = options.store == sim::StoreKind::rados ? sim::random_rados_config(seed)
                                                                   : sim::random_config(seed);
    if (sim::describe(config).find(options.only) == std::string::npos) continue;
    config.print = options.one;
    if (options.trace) fmt::print("{}\n", sim::describe(config));
    std::fflush(stdout);
    sim::RunResult result = sim::run_simulation(config);
    ++runs;
    refused += result.refused;
    crashes += result.crashes;
    executions += result.executions;
    objects += result.objects;
    if (options.trace)
      fmt::print("seed {}: {}, digest {:08x}, {} steps, {} requests, {} crashes\n", seed,
                 result.ok ? "ok" : "failed", result.digest, result.steps, result.executions,
                 result.crashes);
    if (result.ok) continue;
    ++failed;
    fmt::print("FAILED {}\n  commit {}, digest {:08x}\n  {}\n  again: graftfs-soak{} --seed {}\n",
               sim::describe(config), GRAFTFS_COMMIT, result.digest, result.failure,
               options.store == sim::StoreKind::rados ? " --store rados" : "", seed);
  }
  double seconds = elapsed();
  uint64_t missed = options.one ? 0 : report_sites(false, options.store);
  fmt::print(
      "{} seeds in {:.1f} s ({:.0f}/s), {} requests, {} crashes, {} disks refused, "
      "{} failed\n",
      runs, seconds, static_cast<double>(runs) / seconds, executions, crashes, refused, failed);
  report_objects(options.store, objects);
  return has_holes(missed, runs) || failed > 0 ? 1 : 0;
}
