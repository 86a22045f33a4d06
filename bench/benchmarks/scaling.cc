// Scaling: creates at two ranks, each with a thread and a subtree of its own, against the same at
// one rank, in one process, in turns. Each rank has a client in its own thread with many requests
// under way, as an embedded one has.

#include <fmt/format.h>

#include <atomic>

#include "benchmarks/scaling.h"
#include "harness/embedded.h"
#include "harness/embedded_node.h"
#include "harness/process.h"
#include "harness/statistics.h"

namespace graftfs::bench {
namespace {

constexpr size_t kDepth = kScalingDepth;
constexpr size_t kDirs = 8;
constexpr double kBar = 1.7;

// A client in a rank's thread: keeps kDepth creates under way. Touched by that thread alone, but
// for the two counters.
struct Load : std::enable_shared_from_this<Load> {
  Rank* rank = nullptr;
  SessionId session;
  std::vector<Ino> dirs;
  size_t total = 0, sent = 0;
  uint64_t seq = 0;
  std::atomic<size_t> answered = 0, failed = 0;

  void send() {
    if (sent == total) return;
    const size_t i = sent++;
    Request request;
    request.session = session;
    request.seq = ++seq;
    request.oldest = seq > 2 * kDepth ? seq - 2 * kDepth : 1;
    request.args = MknodArgs{dirs[i % kDirs], fmt::format("file{:08}", i), S_IFREG | 0644, 0, 0};
    rank->submit(std::move(request), [self = shared_from_this()](Reply reply) {
      if (reply.err) self->failed++;
      self->answered++;
      self->send();
    });
  }
};

}  // namespace

ScalingRate creates_at_ranks(const Context& context, const std::string& label, size_t ranks,
                             size_t total) {
  RankOptions options;
  options.durability = Durability::strict;
  options.memory_limit = size_t{4} << 30;
  EmbeddedNode e(context.work / label, ranks, options);
  std::vector<std::shared_ptr<Load>> loads;
  for (size_t r = 0; r < ranks; ++r) {
    const RankId rank{static_cast<uint16_t>(r)};
    Reply top = e.call(RankId{0}, MkdirArgs{kRootIno, fmt::format("of{}", r), 0755, 0});
    if (top.err) throw BenchmarkError(fmt::format("mkdir failed with errno {}", top.err));
    if (r > 0) e.move(RankId{0}, top.stat.ino, rank);
    auto load = std::make_shared<Load>();
    load->session = SessionId{100 + r};
    load->total = total / ranks;
    for (size_t d = 0; d < kDirs; ++d) {
      Reply made = e.call(rank, MkdirArgs{top.stat.ino, fmt::format("d{}", d), 0755, 0});
      if (made.err) throw BenchmarkError(fmt::format("mkdir failed with errno {}", made.err));
      load->dirs.push_back(made.stat.ino);
    }
    loads.push_back(std::move(load));
  }
  double cpu = process_cpu_seconds();
  Stopwatch watch;
  for (size_t r = 0; r < ranks; ++r)
    e.node().host(RankId{static_cast<uint16_t>(r)})->with_rank([load = loads[r]](Rank& rank) {
      load->rank = &rank;
      rank.open_session(load->session);
      for (size_t i = 0; i < kDepth; ++i) load->send();
    });
  auto all = [&] {
    for (auto& load : loads)
      if (load->answered < load->total) return false;
    return true;
  };
  while (!all()) {
    e.loop().post_after(kMillisecond, [] {});  // the node's own loop has to turn
    e.loop().run_one();
  }
  ScalingRate rate;
  const double seconds = watch.seconds();
  rate.per_second = static_cast<double>(total) / seconds;
  rate.busy_cores = (process_cpu_seconds() - cpu) / seconds;
  for (auto& load : loads)
    if (load->failed) throw BenchmarkError(fmt::format("{} creates failed", load->failed.load()));
  e.stop();
  return rate;
}

namespace {

Report run_scaling(const Context& context) {
  const size_t total = context.quick ? 20'000 : 800'000;
  std::vector<double> one, two;
  Report report;
  for (int round = 0; round < context.rounds_or(3); ++round) {
    for (size_t turn = 0; turn < 2; ++turn) {
      const size_t ranks = (turn + static_cast<size_t>(round)) % 2 + 1;
      ScalingRate rate =
          creates_at_ranks(context, fmt::format("scaling-{}-{}", round, ranks), ranks, total);
      (ranks == 1 ? one : two).push_back(rate.per_second);
      report.figures["rounds"].push_back({{"ranks", ranks},
                                          {"creates_per_second", rate.per_second},
                                          {"busy_cores", rate.busy_cores}});
      progress(fmt::format("scaling, round {}: {} rank{}: {:.0f} creates/s with {:.2f} cores",
                           round + 1, ranks, ranks == 1 ? "" : "s", rate.per_second,
                           rate.busy_cores));
    }
  }
  report.figures["creates"] = total;
  report.figures["outstanding_each"] = kDepth;
  report.figures["two_ranks_creates_per_second"] = median(two);
  report.reference["one_rank_creates_per_second"] = median(one);
  report.at_least("creates at two ranks against one", median_ratio(two, one), kBar);
  report.durability = "strict";
  report.cache = "everything cached in the ranks; write-back to the store runs meanwhile";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("scaling", "two ranks on two cores against one", run_scaling);

}  // namespace graftfs::bench
