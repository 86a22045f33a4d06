// One directory with a million entries: creating must not get slower, a listing
// must begin at once and stream, and a neighbour must not notice. The null file
// system does the same tenth by tenth in turns.

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "harness/benchmark.h"
#include "harness/pause_probe.h"
#include "harness/placement.h"
#include "harness/process.h"
#include "harness/statistics.h"
#include "harness/target.h"

namespace graftfs::bench {
namespace {

constexpr int kTenths = 10;
constexpr double kBarOfLastTenth = 0.8;
constexpr double kBarFirstEntryMs = 10;
constexpr double kBarListing = 300000;
constexpr double kBarPauseMs = 50;

// What one side did.
struct Side {
  std::unique_ptr<Target> target;
  std::vector<double> tenths;    // creates per second
  std::vector<double> listings;  // entries per second
  std::vector<double> first_entry_ms;
  std::vector<double> operations_ms;  // of the neighbour
  double longest_oversleep_ms = 0;

  std::filesystem::path directory() const { return target->path() / "big"; }
};

double create_files(const std::filesystem::path& directory, uint64_t from, uint64_t to) {
  int at = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  Stopwatch watch;
  for (uint64_t i = from; i < to; i++) {
    std::string name = fmt::format("f{:011}", i);
    int fd = openat(at, name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0) {
      int error = errno;
      close(at);
      throw BenchmarkError(fmt::format("create of '{}' failed: {}", name, std::strerror(error)));
    }
    close(fd);
  }
  double seconds = watch.seconds();
  close(at);
  return static_cast<double>(to - from) / seconds;
}

// The kernel's record, which glibc does not declare.
struct LinuxDirent {
  uint64_t ino;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

// Lists with plain getdents64 calls; returns the number of names found.
uint64_t list(const std::filesystem::path& directory, double& first_ms, double& seconds) {
  std::vector<char> buffer(32 << 10);  // as large as readdir(3) makes it
  uint64_t entries = 0;
  Stopwatch watch;
  int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    throw BenchmarkError(
        fmt::format("cannot open '{}': {}", directory.string(), std::strerror(errno)));
  }
  for (;;) {
    long bytes = syscall(SYS_getdents64, fd, buffer.data(), buffer.size());
    if (bytes < 0) {
      int error = errno;
      close(fd);
      throw BenchmarkError(fmt::format("listing failed: {}", std::strerror(error)));
    }
    if (entries == 0) {
      first_ms = watch.seconds() * 1000;
    }
    if (bytes == 0) {
      break;
    }
    for (long at = 0; at < bytes;) {
      auto* entry = reinterpret_cast<LinuxDirent*>(buffer.data() + at);
      at += entry->length;
      entries++;
    }
  }
  seconds = watch.seconds();
  close(fd);
  return entries;
}

// Work on one side while the neighbour works beside it.
template <typename Work>
void with_neighbour(Side& side, Work&& work) {
  PauseProbe probe(side.target->path() / "neighbour");
  work();
  probe.stop();
  side.operations_ms.insert(side.operations_ms.end(), probe.operations_ms().begin(),
                            probe.operations_ms().end());
  side.longest_oversleep_ms = std::max(side.longest_oversleep_ms, probe.longest_oversleep_ms());
}

// The kernel's million cached names slow it down by a quarter whatever serves
// them (0.72 of the first tenth with the null file system), so they are dropped.
void create_tenth(Side& side, int tenth, uint64_t total) {
  side.target->drop_caches();
  side.target->settle();
  with_neighbour(side, [&] {
    // Made after the neighbour's thread, which stays free.
    Together together(*side.target);
    side.tenths.push_back(
        create_files(side.directory(), total * tenth / kTenths, total * (tenth + 1) / kTenths));
  });
}

void list_once(Side& side, uint64_t total) {
  side.target->drop_caches();
  side.target->settle();
  with_neighbour(side, [&] {
    Together together(*side.target);
    double first_ms = 0;
    double seconds = 0;
    uint64_t entries = list(side.directory(), first_ms, seconds);
    if (entries != total + 2) {
      throw BenchmarkError(fmt::format("the listing of {} has {} entries instead of {}",
                                       side.target->name(), entries, total + 2));
    }
    side.first_entry_ms.push_back(first_ms);
    side.listings.push_back(static_cast<double>(entries) / seconds);
  });
}

Json summary(const Side& side) {
  Json tenths = Json::array();
  for (double speed : side.tenths) {
    tenths.push_back(rounded(speed));
  }
  return {{"target", side.target->details()},
          {"creates_per_second_by_tenth", tenths},
          {"last_tenth_of_first", rounded(side.tenths.back() / side.tenths.front(), 3)},
          {"entries_listed_per_second", rounded(median(side.listings))},
          {"first_entry_ms_worst",
           rounded(*std::max_element(side.first_entry_ms.begin(), side.first_entry_ms.end()), 3)},
          {"neighbour_operations", side.operations_ms.size()},
          {"neighbour_ms_p50", rounded(percentile(side.operations_ms, 0.5), 3)},
          {"neighbour_ms_p99.9", rounded(percentile(side.operations_ms, 0.999), 3)},
          {"neighbour_ms_longest", rounded(percentile(side.operations_ms, 1), 3)},
          {"machine_oversleep_ms_longest", rounded(side.longest_oversleep_ms, 3)}};
}

Report run_big_directory(const Context& context) {
  Side sides[2];
  sides[0].target = make_subject(context);
  sides[1].target = make_null(context, "reference", 1);
  for (Side& side : sides) {
    side.target->start();
    warm_up(*side.target);
    std::filesystem::create_directories(side.directory());
  }
  uint64_t total = context.quick ? 5000 : 1000000;
  for (int tenth = 0; tenth < kTenths; tenth++) {
    for (int turn = 0; turn < 2; turn++) {
      create_tenth(sides[(turn + tenth) % 2], tenth, total);
    }
    progress(fmt::format("big-directory, tenth {}: {} {:.0f} creates/s, {} {:.0f}/s", tenth + 1,
                         sides[0].target->name(), sides[0].tenths.back(), sides[1].target->name(),
                         sides[1].tenths.back()));
  }
  int rounds = context.rounds_or(5);
  for (int round = 0; round < rounds; round++) {
    for (int turn = 0; turn < 2; turn++) {
      list_once(sides[(turn + round) % 2], total);
    }
    progress(fmt::format("big-directory, listing {}: {} {:.0f} entries/s, {} {:.0f}/s", round + 1,
                         sides[0].target->name(), sides[0].listings.back(), sides[1].target->name(),
                         sides[1].listings.back()));
  }

  const Side& subject = sides[0];
  Report report;
  report.figures = {{"entries", total}, {"listing_rounds", rounds}};
  report.figures.update(summary(subject));
  report.figures["creates_of_null_fs"] = rounded(median_ratio(subject.tenths, sides[1].tenths), 3);
  report.figures["listing_of_null_fs"] =
      rounded(median_ratio(subject.listings, sides[1].listings), 3);
  report.reference = summary(sides[1]);
  report.at_least("creates: last tenth of first", subject.tenths.back() / subject.tenths.front(),
                  kBarOfLastTenth);
  report.at_most("first entry, worst, ms",
                 *std::max_element(subject.first_entry_ms.begin(), subject.first_entry_ms.end()),
                 kBarFirstEntryMs);
  report.at_least("entries listed per second", median(subject.listings), kBarListing);
  report.at_most("longest pause of a neighbour, ms", percentile(subject.operations_ms, 1),
                 kBarPauseMs);
  report.durability = context.subject == "graftfs" ? context.durability : "none";
  report.cache =
      "before each tenth and each listing the kernel's caches of the mount are dropped (remount); "
      "the "
      "server's own stay";
  return report;
}

GRAFTFS_BENCHMARK("big-directory", "1,000,000 entries in one directory, with a neighbour",
                  run_big_directory);

}  // namespace
}  // namespace graftfs::bench
