// mdtest's two patterns on one server over unix sockets, by clients of the library that each have
// one request under way, in processes of their own, as mdtest's tasks are. Easy: a directory for
// each, empty files. Hard: all in one directory, 3,901 bytes in each file. In turns; and so on the
// plain disk. One round: an ext4 without a journal does not use the inodes of files that were just
// removed again, and looks at them all for each file that is made.

#include "harness/mdtest.h"

#include <fmt/format.h>
#include <unistd.h>

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
  std::vector<double> easy, hard, disk_easy, disk_hard;
  Report report;
  for (int round = 0; round < context.rounds_or(1); ++round) {
    for (int turn = 0; turn < 2; ++turn) {
      const bool is_hard = (turn + round) % 2 == 1;
      const char* name = is_hard ? "hard" : "easy";
      ::sync();  // nobody pays for what another one has left to be written
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
      const std::filesystem::path plain =
          context.work / fmt::format("mdtest-disk-{}-{}", name, round);
      std::filesystem::create_directories(plain);
      ::sync();
      const auto disk =
          run_mdtest(pattern(is_hard, items), [&](int) { return directory_task(plain); });
      (is_hard ? disk_hard : disk_easy).push_back(median_rate(disk, "File creation"));
      progress(fmt::format("mdtest, round {}: {} on the disk: {:.0f} creates/s", round + 1, name,
                           median_rate(disk, "File creation")));
      std::filesystem::remove_all(plain);
    }
  }
  report.figures["tasks"] = kTasks;
  report.figures["items_each"] = items;
  report.figures["hard_creates_per_second"] = median(hard);
  report.reference["easy_creates_per_second"] = median(easy);
  report.reference["disk_easy_creates_per_second"] = median(disk_easy);
  report.reference["disk_hard_creates_per_second"] = median(disk_hard);
  report.reference["disk_hard_against_easy"] = median_ratio(disk_hard, disk_easy);
  report.at_least("hard creates against easy ones", median_ratio(hard, easy), kBar);
  report.durability = context.durability;
  report.cache = "each name is new; stats are of files that another task made";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("mdtest-patterns", "mdtest's easy and hard, by clients of the library",
                  run_patterns);

}  // namespace graftfs::bench
