// The model: 1 to 128 ranks, each on a machine of its own. The ranks, clients and protocols are the
// real ones, in the simulator and in virtual time; what things cost is measured first, on this
// machine, on the real rank (docs/benchmarks.md says what that leaves out).
//
// makedirs: clients in proportion to the ranks each make a tree of directories and files below a
// directory that an operator has spread over the ranks. They begin without a connection and without
// knowing where anything is.
// hot spot: the same clients all create and look up files in one directory, which one rank has,
// while a client at each of the other ranks goes about its business.

#include <fmt/format.h>

#include <fstream>

#include "benchmarks/model_costs.h"
#include "benchmarks/scaling.h"
#include "harness/embedded.h"
#include "harness/plot.h"
#include "harness/process.h"
#include "harness/statistics.h"
#include "sim/parallel/cluster.h"

namespace graftfs::bench {
namespace {

using sim::ParallelCluster;
using sim::ParallelOptions;

constexpr double kBar = 0.8;
constexpr int kClients = 8;   // for each rank
constexpr int kWorkers = 64;  // of each client, one request under way each
constexpr int kFiles = 10;    // in each directory
constexpr int kSubdirs = 3;

struct Sizes {
  int ranks = 128;                  // the most
  int levels = 1;                   // of a worker's tree, below its own directory
  size_t hot = 80'000;              // operations in the hot spot
  Nanos alone = 40 * kMillisecond;  // a neighbour of it is watched for so long before
  size_t scaling = 200'000;         // creates, real and simulated
};

Sizes sizes_of(const Context& context) {
  if (context.quick) return {4, 1, 2'000, 10 * kMillisecond, 10'000};
  return {};
}

[[noreturn]] void failed(const char* what, int err) {
  throw BenchmarkError(fmt::format("{} failed with errno {} in the model", what, err));
}

RankId rank_of(int number) { return RankId{static_cast<uint16_t>(number)}; }

double seconds(Nanos time) { return static_cast<double>(time) / kSecond; }

// The operations of one workload, and when they took place.
struct Work {
  Nanos began = 0, ended = 0;
  size_t done = 0;
  int left = 0;                   // tasks
  std::vector<double> latencies;  // in seconds
  double per_second() const { return static_cast<double>(done) / seconds(ended - began); }
  double latency_ms(double fraction) const {
    return latencies.empty() ? 0 : percentile(latencies, fraction) * 1e3;
  }
};

// A cluster with /work/0 to /work/N-1, of which each rank has its own.
class Model {
 public:
  Model(const sim::Costs& costs, int ranks)
      : ranks_(ranks),
        cluster_(
            ParallelOptions{.ranks = ranks, .clients = ranks * (kClients + 1), .costs = costs}) {}

  // The first are kClients for each rank; behind them is one more for each.
  int clients() const { return ranks_ * kClients; }
  static int home_of(int client) { return client / kClients; }
  ParallelCluster& cluster() { return cluster_; }
  int ranks() const { return ranks_; }

  // What an operator does: a directory for each rank, given to it.
  Task<void> spread() {
    co_await cluster_.start();
    const auto before = cluster_.counts();
    const Nanos began = cluster_.queue().now();
    work_ = co_await mkdir(kRootIno, "work");
    for (int r = 0; r < ranks_; ++r) {
      Ino dir = co_await mkdir(work_, std::to_string(r));
      if (r == 0) continue;
      auto moved = co_await cluster_.move(dir, RankId{0}, rank_of(r));
      if (!moved) throw BenchmarkError(describe(moved.error()));
    }
    spread_seconds = seconds(cluster_.queue().now() - began);
    const auto counts = cluster_.counts() - before;
    if (ranks_ > 1) messages_per_move = static_cast<double>(counts.between_ranks) / (ranks_ - 1);
    if (ranks_ > 2) co_await move_on();
  }

  // What the cluster does while nobody asks it for anything: the share of a processor that the
  // busiest machine of a rank uses.
  Task<double> idle() {
    constexpr Nanos kWatched = 2 * kSecond;
    std::vector<Nanos> used;
    for (int r = 0; r < ranks_; ++r) used.push_back(cluster_.used(rank_of(r)));
    co_await sleep_for(cluster_.world(), kWatched);
    Nanos most = 0;
    for (int r = 0; r < ranks_; ++r)
      most = std::max(most, cluster_.used(rank_of(r)) - used[static_cast<size_t>(r)]);
    co_return seconds(most) / seconds(kWatched);
  }

  // One operation of a worker's.
  Task<Reply> must(int client, Args args, const char* what, Work* work) {
    const Nanos began = cluster_.queue().now();
    auto asked = cluster_.ask(static_cast<size_t>(client), std::move(args));
    Reply reply = co_await asked;
    if (reply.err) failed(what, reply.err);
    if (work) {
      ++work->done;
      work->latencies.push_back(seconds(cluster_.queue().now() - began));
    }
    co_return reply;
  }

  // From / to /work/RANK, as any client that knows nothing.
  Task<Ino> find(int client, int rank) {
    LookupArgs work{kRootIno, "work"};
    Reply at_work = co_await must(client, work, "lookup", nullptr);
    LookupArgs dir{at_work.stat.ino, std::to_string(rank)};
    Reply at_dir = co_await must(client, dir, "lookup", nullptr);
    co_return at_dir.stat.ino;
  }

  Task<Ino> make(int client, Ino parent, std::string name, Work* work) {
    MkdirArgs args{parent, std::move(name), 0755, 0};
    Reply made = co_await must(client, args, "mkdir", work);
    co_return made.stat.ino;
  }

  // A directory with files in it, and as many levels of the like below.
  Task<void> make_tree(int client, Ino parent, std::string name, int levels, Work& work) {
    Ino dir = co_await make(client, parent, std::move(name), &work);
    for (int i = 0; i < kFiles; ++i) {
      MknodArgs file{dir, fmt::format("file{}", i), S_IFREG | 0644, 0, 0};
      Reply made = co_await must(client, file, "create", &work);
    }
    for (int i = 0; levels > 0 && i < kSubdirs; ++i) {
      std::string below = fmt::format("dir{}", i);
      co_await make_tree(client, dir, std::move(below), levels - 1, work);
    }
  }

  // Runs tasks of clients until all of them are over. `begin` counts them in work.left.
  Task<void> until_over(Work& work) {
    while (work.left > 0) co_await sleep_for(cluster_.world(), 100 * kMicrosecond);
  }
  void over(Work& work) {
    --work.left;
    work.ended = std::max(work.ended, cluster_.queue().now());
  }

  double spread_seconds = 0, messages_per_move = 0, messages_per_move_on = 0;

 private:
  // A subtree moves from a rank that has nothing of what it hangs in: who has that must be told,
  // and which one it is the rank does not know.
  Task<void> move_on() {
    Ino dir = co_await mkdir(work_, "moves");
    auto moved = co_await cluster_.move(dir, RankId{0}, RankId{1});
    if (!moved) throw BenchmarkError(describe(moved.error()));
    co_await sleep_for(cluster_.world(), 50 * kMillisecond);
    const auto before = cluster_.counts();
    auto again = co_await cluster_.move(dir, RankId{1}, RankId{2});
    if (!again) throw BenchmarkError(describe(again.error()));
    co_await sleep_for(cluster_.world(), 50 * kMillisecond);
    messages_per_move_on = static_cast<double>((cluster_.counts() - before).between_ranks);
  }

  Task<Ino> mkdir(Ino parent, std::string name) {
    MkdirArgs args{parent, std::move(name), 0755, 0};
    Reply made = co_await cluster_.call(RankId{0}, args);
    if (made.err) failed("mkdir", made.err);
    co_return made.stat.ino;
  }

  const int ranks_;
  ParallelCluster cluster_;
  Ino work_;
};

// -- makedirs -------------------------------------------------------------------------------------

struct Makedirs {
  int ranks = 0;
  Work work;
  double found_ms = 0;                    // until the last client had its directory
  double root_busy = 0, others_busy = 0;  // of a processor
  double spread_seconds = 0, messages_per_move = 0, messages_per_move_on = 0;
  double idle = 0;
  double host_us = 0;  // of this machine's processor, for an operation: a check that no cost grows
  ParallelCluster::Counts counts;
  double per_op(uint64_t n) const {
    return static_cast<double>(n) / static_cast<double>(work.done);
  }
};

Makedirs run_makedirs(const sim::Costs& costs, int ranks, int levels) {
  Model m(costs, ranks);
  Makedirs result;
  result.ranks = ranks;
  Work& work = result.work;
  Nanos found = 0;
  auto worker = [&](int client, Ino dir, int number) -> Task<void> {
    std::string name = fmt::format("tree{}", number);
    co_await m.make_tree(client, dir, std::move(name), levels, work);
    m.over(work);
  };
  auto client_begins = [&](int client) -> Task<void> {
    Ino shared = co_await m.find(client, Model::home_of(client));
    std::string name = fmt::format("client{}", client);
    Ino own = co_await m.make(client, shared, std::move(name), &work);
    found = std::max(found, m.cluster().queue().now());
    for (int i = 0; i < kWorkers; ++i) {
      ++work.left;
      m.cluster().begin(static_cast<size_t>(client),
                        [&, client, own, i] { return worker(client, own, i); });
    }
    m.over(work);
  };
  auto play = [&]() -> Task<void> {
    co_await m.spread();
    result.idle = co_await m.idle();
    const auto before = m.cluster().counts();
    std::vector<Nanos> used;
    for (int r = 0; r < ranks; ++r) used.push_back(m.cluster().used(rank_of(r)));
    const double cpu = process_cpu_seconds();
    work.began = m.cluster().queue().now();
    for (int client = 0; client < m.clients(); ++client) {
      ++work.left;
      m.cluster().begin(static_cast<size_t>(client), [&, client] { return client_begins(client); });
    }
    co_await m.until_over(work);
    result.counts = m.cluster().counts() - before;
    result.host_us = (process_cpu_seconds() - cpu) * 1e6 / static_cast<double>(work.done);
    const double time = seconds(work.ended - work.began);
    for (int r = 0; r < ranks; ++r) {
      const double busy =
          seconds(m.cluster().used(rank_of(r)) - used[static_cast<size_t>(r)]) / time;
      if (r == 0)
        result.root_busy = busy;
      else
        result.others_busy += busy / (ranks - 1);
    }
  };
  m.cluster().run(play());
  result.found_ms = seconds(found - work.began) * 1e3;
  result.spread_seconds = m.spread_seconds;
  result.messages_per_move = m.messages_per_move;
  result.messages_per_move_on = m.messages_per_move_on;
  return result;
}

// -- the hot spot ---------------------------------------------------------------------------------

struct HotSpot {
  int ranks = 0;
  Work hot, beside, alone;         // in the directory; at the other ranks meanwhile, and before
  ParallelCluster::Counts counts;  // meanwhile
};

HotSpot run_hot_spot(const sim::Costs& costs, int ranks, const Sizes& sizes) {
  Model m(costs, ranks);
  HotSpot result;
  result.ranks = ranks;
  const int hot_rank = ranks > 1 ? 1 : 0;
  // More requests in one queue make nothing faster.
  const int workers = std::max(kWorkers / ranks, 4);
  Work* watched = &result.alone;  // what neighbours do counts here
  bool stop = false;
  int neighbours = 0;
  sim::SimRandom random(7);
  size_t begun = 0;
  std::vector<std::string> names;  // of files that are there

  // Creates a file, and looks for one that somebody else has made, in turns.
  auto worker = [&](int client, Ino dir, int number) -> Task<void> {
    for (int i = number; begun < sizes.hot; ++i) {
      ++begun;
      if (i % 2 == 1 && !names.empty()) {
        LookupArgs look{dir, names[random.below(names.size())]};
        co_await m.must(client, look, "lookup", &result.hot);
        continue;
      }
      std::string name = fmt::format("file{}-{}-{}", client, number, i);
      MknodArgs file{dir, name, S_IFREG | 0644, 0, 0};
      co_await m.must(client, file, "create", &result.hot);
      names.push_back(std::move(name));
    }
    m.over(result.hot);
  };
  auto client_begins = [&](int client) -> Task<void> {
    Ino dir = co_await m.find(client, hot_rank);
    for (int i = 0; i < workers; ++i) {
      ++result.hot.left;
      m.cluster().begin(static_cast<size_t>(client),
                        [&, client, dir, i] { return worker(client, dir, i); });
    }
    m.over(result.hot);
  };
  // One request at a time, in directories of its own.
  auto neighbour = [&](int client, int rank) -> Task<void> {
    Ino dir = co_await m.find(client, rank);
    Ino shared = dir;
    for (int i = 0; !stop; ++i) {
      std::string name = fmt::format("neighbour{}", i);
      if (i % kFiles == 0) {
        dir = co_await m.make(client, shared, std::move(name), watched);
        continue;
      }
      MknodArgs file{dir, std::move(name), S_IFREG | 0644, 0, 0};
      co_await m.must(client, file, "create", watched);
    }
    --neighbours;
  };
  auto play = [&]() -> Task<void> {
    co_await m.spread();
    for (int r = 0; r < ranks; ++r) {
      if (r == hot_rank) continue;
      const int client = m.clients() + r;
      ++neighbours;
      m.cluster().begin(static_cast<size_t>(client),
                        [&, client, r] { return neighbour(client, r); });
    }
    // The first moments go to finding everything.
    co_await sleep_for(m.cluster().world(), sizes.alone);
    result.alone = {};
    result.alone.began = m.cluster().queue().now();
    co_await sleep_for(m.cluster().world(), sizes.alone);
    result.alone.ended = result.beside.began = m.cluster().queue().now();
    watched = &result.beside;
    const auto before = m.cluster().counts();
    result.hot.began = m.cluster().queue().now();
    for (int client = 0; client < m.clients(); ++client) {
      ++result.hot.left;
      m.cluster().begin(static_cast<size_t>(client), [&, client] { return client_begins(client); });
    }
    co_await m.until_over(result.hot);
    result.beside.ended = m.cluster().queue().now();
    result.counts = m.cluster().counts() - before;
    stop = true;
    while (neighbours > 0) co_await sleep_for(m.cluster().world(), kMillisecond);
  };
  m.cluster().run(play());
  return result;
}

// -- against the real thing -----------------------------------------------------------------------

// What `scaling` measures: ranks on one machine of two cores, a client in the thread of each.
double simulated_scaling(const MeasuredCosts& measured, int ranks, size_t total) {
  sim::Costs costs = measured.all;
  costs.mknod = measured.create_alone;
  costs.network = 0;  // the store is on the same machine
  ParallelCluster cluster(ParallelOptions{
      .ranks = ranks, .clients = 0, .cores = 2, .one_machine = true, .costs = costs});
  struct Load {
    Rank* rank = nullptr;
    SessionId session;
    Ino dir;
    size_t total = 0, sent = 0, answered = 0;
    uint64_t seq = 0;
    void send() {
      if (sent == total) return;
      ++sent;
      Request request;
      request.session = session;
      request.seq = ++seq;
      request.oldest = seq > 2 * kScalingDepth ? seq - 2 * kScalingDepth : 1;
      request.args = MknodArgs{dir, fmt::format("file{:08}", seq), S_IFREG | 0644, 0, 0};
      rank->submit(std::move(request), [this](Reply reply) {
        if (reply.err) failed("create", reply.err);
        ++answered;
        send();
      });
    }
  };
  std::vector<Load> loads(static_cast<size_t>(ranks));
  Nanos began = 0, ended = 0;
  auto play = [&]() -> Task<void> {
    co_await cluster.start();
    for (int r = 0; r < ranks; ++r) {
      MkdirArgs args{kRootIno, std::to_string(r), 0755, 0};
      Reply made = co_await cluster.call(RankId{0}, args);
      if (made.err) failed("mkdir", made.err);
      if (r > 0) {
        auto moved = co_await cluster.move(made.stat.ino, RankId{0}, rank_of(r));
        if (!moved) throw BenchmarkError(describe(moved.error()));
      }
      Load& load = loads[static_cast<size_t>(r)];
      load.session = SessionId{100 + static_cast<uint64_t>(r)};
      load.dir = made.stat.ino;
      load.total = total / static_cast<size_t>(ranks);
    }
    began = cluster.queue().now();
    for (int r = 0; r < ranks; ++r) {
      sim::Host& host = cluster.host(rank_of(r));
      host.executor.post([&host, &load = loads[static_cast<size_t>(r)]] {
        load.rank = host.rank.get();
        load.rank->open_session(load.session);
        for (size_t i = 0; i < kScalingDepth; ++i) load.send();
      });
    }
    auto all = [&] {
      for (const Load& load : loads)
        if (load.answered < load.total) return false;
      return true;
    };
    while (!all()) co_await sleep_for(cluster.world(), 10 * kMicrosecond);
    ended = cluster.queue().now();
  };
  cluster.run(play());
  return static_cast<double>(total) / seconds(ended - began);
}

double efficiency(const Makedirs& t, const Makedirs& one) {
  return t.work.per_second() / (t.ranks * one.work.per_second());
}

// -- the report -----------------------------------------------------------------------------------

void draw(const std::filesystem::path& file, const std::vector<Makedirs>& trees,
          const std::vector<HotSpot>& spots) {
  Panel rates{"makedirs: every rank has its share", "ranks", "operations a second", {}, true};
  Panel shares{"makedirs: efficiency", "ranks", "of N times one rank", {}, false};
  Panel hot{"one directory for all clients", "ranks", "operations a second", {}, true};
  Series rate{"all ranks together", {}, false}, ideal{"N times one rank", {}, true};
  Series share{"efficiency", {}, false}, bar{"bar", {}, true}, full{"1", {}, true};
  const double one = trees.front().work.per_second();
  for (const Makedirs& t : trees) {
    const double n = t.ranks;
    rate.points.emplace_back(n, t.work.per_second());
    ideal.points.emplace_back(n, n * one);
    share.points.emplace_back(n, efficiency(t, trees.front()));
    bar.points.emplace_back(n, kBar);
    full.points.emplace_back(n, 1);
  }
  Series there{"in the directory (one rank)", {}, false};
  Series beside{"neighbours at the other ranks", {}, false};
  Series alone{"neighbours, before", {}, true};
  for (const HotSpot& s : spots) {
    there.points.emplace_back(s.ranks, s.hot.per_second());
    if (s.ranks == 1) continue;
    beside.points.emplace_back(s.ranks, s.beside.per_second());
    alone.points.emplace_back(s.ranks, s.alone.per_second());
  }
  rates.series = {rate, ideal};
  shares.series = {share, bar, full};
  hot.series = {there, beside, alone};
  std::ofstream out(file);
  out << svg_of({rates, shares, hot});
  if (!out.flush())
    throw BenchmarkError(fmt::format("the plot cannot be written to '{}'", file.string()));
}

void report_makedirs(Report& report, const std::vector<Makedirs>& all) {
  for (const Makedirs& t : all) {
    const uint64_t messages = t.counts.to_ranks + t.counts.from_ranks + t.counts.between_ranks;
    report.figures["makedirs"].push_back(
        {{"ranks", t.ranks},
         {"operations", t.work.done},
         {"operations_per_second", rounded(t.work.per_second())},
         {"efficiency", rounded(efficiency(t, all.front()))},
         {"messages_per_operation", rounded(t.per_op(messages))},
         {"between_ranks_per_operation", rounded(t.per_op(t.counts.between_ranks))},
         {"redirects_per_operation", rounded(t.per_op(t.counts.redirects))},
         {"p50_ms", rounded(t.work.latency_ms(0.5))},
         {"p99_ms", rounded(t.work.latency_ms(0.99))},
         {"all_have_begun_after_ms", rounded(t.found_ms)},
         {"took_ms", rounded(seconds(t.work.ended - t.work.began) * 1e3)},
         {"busy_root_rank", rounded(t.root_busy, 3)},
         {"busy_other_ranks", rounded(t.others_busy, 3)},
         {"busy_while_idle", rounded(t.idle, 3)},
         {"messages_per_first_move", rounded(t.messages_per_move)},
         {"messages_per_move_on", rounded(t.messages_per_move_on)},
         {"spreading_seconds", rounded(t.spread_seconds)},
         {"simulator_us_per_operation", rounded(t.host_us, 3)}});
  }
  const Makedirs& most = all.back();
  Json& kinds = report.figures["messages_of_a_makedirs_operation"];
  for (const auto& [kind, count] : most.counts.kinds) kinds[kind] = rounded(most.per_op(count), 3);
  report.at_least(fmt::format("makedirs: efficiency at {} ranks", most.ranks),
                  efficiency(most, all.front()), kBar);
}

void report_hot_spot(Report& report, const std::vector<HotSpot>& all) {
  for (const HotSpot& s : all) {
    const auto messages = s.counts.to_ranks + s.counts.from_ranks + s.counts.between_ranks;
    const auto done = static_cast<double>(s.hot.done + s.beside.done);
    const bool others = s.ranks > 1;
    report.figures["hot_spot"].push_back(
        {{"ranks", s.ranks},
         {"clients", s.ranks * kClients},
         {"operations_per_second", rounded(s.hot.per_second())},
         {"p50_ms", rounded(s.hot.latency_ms(0.5))},
         {"messages_per_operation", rounded(static_cast<double>(messages) / done)},
         {"neighbours_per_second", rounded(others ? s.beside.per_second() : 0)},
         {"neighbours_before_per_second", rounded(others ? s.alone.per_second() : 0)},
         {"neighbours_p50_ms", rounded(s.beside.latency_ms(0.5))},
         {"neighbours_p99_ms", rounded(s.beside.latency_ms(0.99))},
         {"neighbours_before_p99_ms", rounded(s.alone.latency_ms(0.99))}});
  }
}

// The same program's real ranks, on this machine, and the model of exactly that.
void report_scaling(Report& report, const Context& context, const MeasuredCosts& costs,
                    size_t total) {
  std::vector<double> one, two, one_cpu, two_cpu;
  for (int round = 0; round < context.rounds_or(3); ++round) {
    for (size_t ranks : {1, 2}) {
      auto rate =
          creates_at_ranks(context, fmt::format("model-scaling-{}-{}", round, ranks), ranks, total);
      (ranks == 1 ? one : two).push_back(rate.per_second);
      // Other work on this machine spoils the rates, and this less.
      (ranks == 1 ? one_cpu : two_cpu).push_back(rate.busy_cores / rate.per_second * 1e6);
    }
  }
  const double model_one = simulated_scaling(costs, 1, total);
  const double model_two = simulated_scaling(costs, 2, total);
  report.figures["scaling_two_ranks_against_one"] = rounded(model_two / model_one);
  report.figures["scaling_one_rank_creates_per_second"] = rounded(model_one);
  report.reference["scaling_two_ranks_against_one_measured"] = rounded(median_ratio(two, one));
  report.reference["scaling_one_rank_creates_per_second_measured"] = rounded(median(one));
  report.reference["scaling_cpu_us_of_a_create_one_rank"] = rounded(median(one_cpu));
  report.reference["scaling_cpu_us_of_a_create_two_ranks"] = rounded(median(two_cpu));
}

Report run_model(const Context& context) {
  const Sizes sizes = sizes_of(context);
  Report report;
  const MeasuredCosts measured = measure_costs(context);
  const sim::Costs& costs = measured.all;
  report.figures["costs_us"] = to_json(measured);
  report.figures["clients_a_rank"] = kClients;
  report.figures["outstanding_a_client"] = kWorkers;
  std::vector<Makedirs> trees;
  std::vector<HotSpot> spots;
  for (int ranks = 1; ranks <= sizes.ranks; ranks *= 2) {
    trees.push_back(run_makedirs(costs, ranks, sizes.levels));
    progress(fmt::format("model, makedirs, {} ranks: {:.0f} operations/s, efficiency {:.3f}", ranks,
                         trees.back().work.per_second(), efficiency(trees.back(), trees.front())));
  }
  report_makedirs(report, trees);
  for (int ranks = 1; ranks <= sizes.ranks; ranks *= 2) {
    spots.push_back(run_hot_spot(costs, ranks, sizes));
    progress(fmt::format("model, hot spot, {} ranks: {:.0f} operations/s", ranks,
                         spots.back().hot.per_second()));
  }
  report_hot_spot(report, spots);
  if (!context.plot.empty()) draw(context.plot, trees, spots);
  report_scaling(report, context, measured, sizes.scaling);
  report.durability = "strict";
  report.cache = "everything cached in the ranks; clients begin without knowing anything";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("model", "1 to 128 ranks in virtual time, with costs measured here", run_model);

}  // namespace graftfs::bench
