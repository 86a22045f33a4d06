// mdtest's two patterns on one server over unix sockets, by clients of the library that each have
// one request under way, in processes of their own, as mdtest's tasks are. Easy: a directory for
// each, empty files. Hard: all in one directory, 3,901 bytes in each file. In turns.

#include "harness/mdtest.h"

#include <fmt/format.h>

#include "harness/served.h"
#include "harness/statistics.h"

namespace graftfs::bench {
namespace {

constexpr int kTasks = 8;
constexpr size_t kHardBytes = 3901;
constexpr double kBar = 0.5;

MdtestOptions pattern(bool hard, uint64_t items) {
  MdtestOptions o;
  o.tasks = kTasks;
  o.items = items;
  o.only_files = true;
  o.stride = 1;
  o.unique = !hard;
  o.leaves = true;
  if (hard) o.write_bytes = o.read_bytes = kHardBytes;
  return o;
}

Report run_patterns(const Context& context) {
  const uint64_t items = context.quick ? 50 : 5'000;
  std::vector<double> easy, hard;
  Report report;
  for (int round = 0; round < context.rounds_or(3); ++round) {
    for (int turn = 0; turn < 2; ++turn) {
      const bool is_hard = (turn + round) % 2 == 1;
      const char* name = is_hard ? "hard" : "easy";
      Served served(context, fmt::format("mdtest-{}-{}", name, round), context.durability);
      served.serve(1);
      const auto rates = run_mdtest(pattern(is_hard, items),
                                    [&](int) { return library_task(served.volume(), "mdtest"); });
      (is_hard ? hard : easy).push_back(median_rate(rates, "File creation"));
      Json figures = {{"pattern", name}};
      std::string line;
      for (const MdtestRate& rate : rates) {
        figures[rate.name] = median(rate.per_second);
        line += fmt::format("{} {} {:.0f}/s", line.empty() ? "" : ",", rate.name,
                            median(rate.per_second));
      }
      report.figures["rounds"].push_back(std::move(figures));
      progress(fmt::format("mdtest, round {}: {}:{}", round + 1, name, line));
    }
  }
  report.figures["tasks"] = kTasks;
  report.figures["items_each"] = items;
  report.figures["hard_creates_per_second"] = median(hard);
  report.reference["easy_creates_per_second"] = median(easy);
  report.at_least("hard creates against easy ones", median_ratio(hard, easy), kBar);
  report.durability = context.durability;
  report.cache = "each name is new; stats are of files that another task made";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("mdtest-patterns", "mdtest's easy and hard, by clients of the library",
                  run_patterns);

}  // namespace graftfs::bench
