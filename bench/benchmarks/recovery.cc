// Recovery: the server is killed in the middle of a load with its journal as
// long as it ever gets; how long until the mount answers again. The reference
// is the same volume mounted after a clean unmount, in turns.

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "harness/benchmark.h"
#include "harness/process.h"
#include "harness/statistics.h"
#include "harness/target.h"

namespace graftfs::bench {
namespace {

constexpr double kBarServingS = 1.0;
constexpr double kBarEventsPerSecond = 1000000;
constexpr unsigned kThreads = 4;
constexpr uint64_t kKept = 2000;  // files a thread leaves behind it

// Creates, renames and unlinks until the mount dies. Everything is relative to
// open directories, so nothing can slip through to what lies below the mount.
class Load {
 public:
  Load(const std::filesystem::path& home, int round) {
    for (unsigned i = 0; i < kThreads; i++) {
      auto worker = std::make_unique<Worker>();
      worker->path = home / fmt::format("load-{}-{}", round, i);
      std::filesystem::create_directories(worker->path);
      worker->directory = open(worker->path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      workers_.push_back(std::move(worker));
    }
    for (auto& worker : workers_) {
      worker->thread = std::thread([this, w = worker.get()] { run(*w); });
    }
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;
  ~Load() { end(); }

  // From now on an error is the server's death and not a failure.
  void expect_death() { dying_ = true; }
  void end() {
    stopping_ = true;
    for (auto& worker : workers_) {
      if (worker->thread.joinable()) {
        worker->thread.join();
        close(worker->directory);
      }
    }
  }
  // After end(): throws when an operation failed while the server was alive.
  void check() const {
    for (const auto& worker : workers_) {
      if (worker->error != 0) {
        throw BenchmarkError(fmt::format("the load failed before the server was killed: {}",
                                         std::strerror(worker->error)));
      }
    }
  }
  // How many of the files whose rename was answered are missing now.
  uint64_t lost() const {
    uint64_t lost = 0;
    for (const auto& worker : workers_) {
      uint64_t from = worker->acknowledged > kKept ? worker->acknowledged - kKept : 0;
      // The one at `from` may have been unlinked by a request without answer.
      for (uint64_t i = from + 1; i < worker->acknowledged; i++) {
        struct stat attributes;
        lost += stat((worker->path / name('r', i)).c_str(), &attributes) != 0;
      }
    }
    return lost;
  }
  uint64_t operations() const {
    uint64_t sum = 0;
    for (const auto& worker : workers_) {
      sum += worker->acknowledged * 3;
    }
    return sum;
  }

 private:
  struct Worker {
    std::filesystem::path path;
    int directory = -1;
    std::atomic<uint64_t> acknowledged = 0;  // files 0 .. acknowledged-1 are renamed
    int error = 0;
    std::thread thread;
  };

  static std::string name(char prefix, uint64_t i) { return fmt::format("{}{:011}", prefix, i); }

  void run(Worker& worker) {
    for (uint64_t i = 0; !stopping_; i++) {
      if (!step(worker.directory, i)) {
        if (!dying_) {
          worker.error = errno;
        }
        return;
      }
      worker.acknowledged = i + 1;
    }
  }

  static bool step(int directory, uint64_t i) {
    int fd = openat(directory, name('f', i).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0) {
      return false;
    }
    close(fd);
    if (renameat(directory, name('f', i).c_str(), directory, name('r', i).c_str()) != 0) {
      return false;
    }
    return i < kKept || unlinkat(directory, name('r', i - kKept).c_str(), 0) == 0;
  }

  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> dying_ = false;
};

// A number of `graftfs info --json`.
double number(const Json& info, const char* object, const char* key) {
  if (!info.contains(object) || !info[object].contains(key) || !info[object][key].is_number()) {
    throw BenchmarkError(
        fmt::format("'graftfs info --json' of a mount does not print {}.{}", object, key));
  }
  return info[object][key].get<double>();
}

struct Fill {
  double bytes;  // the longest seen
  double cap;
};

// Waits until the journal is at its cap, or does not get longer any more.
Fill fill_journal(const GraftFsTarget& target, bool quick) {
  constexpr double kPlateauS = 4;
  constexpr double kLongestS = 120;
  Fill fill = {0, 0};
  Stopwatch watch;
  double grew_at = 0;
  while (watch.seconds() < (quick ? 1 : kLongestS)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    Json info = target.info();
    double bytes = number(info, "journal", "bytes");
    fill.cap = number(info, "journal", "cap_bytes");
    if (bytes > fill.bytes * 1.01) {
      grew_at = watch.seconds();
    }
    fill.bytes = std::max(fill.bytes, bytes);
    if (bytes >= fill.cap * 0.95 || watch.seconds() - grew_at > kPlateauS) {
      break;
    }
  }
  return fill;
}

double mount_until_stat(GraftFsTarget& target, const Stopwatch& watch) {
  target.mount();
  struct stat attributes;
  while (stat(target.path().c_str(), &attributes) != 0) {
    if (watch.seconds() > 60) {
      throw BenchmarkError("the mount does not answer 60 s after it was made");
    }
  }
  return watch.seconds();
}

struct Rounds {
  std::vector<double> serving_s;
  std::vector<double> clean_s;
  std::vector<double> events_per_second;
  std::vector<double> events;
  std::vector<double> journal_bytes;
  double cap_bytes = 0;
  double least_of_cap = 1;
  uint64_t lost = 0;
};

void crash_once(GraftFsTarget& target, const Context& context, int round, Rounds& rounds) {
  Load load(target.path(), round);
  Fill fill = fill_journal(target, context.quick);
  load.expect_death();
  Stopwatch watch;
  target.kill_server();
  rounds.serving_s.push_back(mount_until_stat(target, watch));
  load.end();
  load.check();
  rounds.journal_bytes.push_back(fill.bytes);
  rounds.cap_bytes = fill.cap;
  rounds.least_of_cap = std::min(rounds.least_of_cap, fill.bytes / fill.cap);
  Json info = target.info();
  double events = number(info, "recovery", "events");
  rounds.events.push_back(events);
  rounds.events_per_second.push_back(events / std::max(number(info, "recovery", "seconds"), 1e-9));
  rounds.lost += load.lost();
  progress(
      fmt::format("recovery, round {}: serving {:.3f} s after kill -9, {:.0f} events, {:.1f} "
                  "of {:.1f} MB of journal, {} operations before",
                  round + 1, rounds.serving_s.back(), events, fill.bytes / 1e6, fill.cap / 1e6,
                  load.operations()));
}

Report run_recovery(const Context& context) {
  if (context.subject != "graftfs") {
    throw BenchmarkError("only GraftFS has a journal to recover; leave out --subject");
  }
  GraftFsTarget target(context, "subject");
  // Write-back would keep the journal shorter; here it begins just below the cap.
  target.set_mount_options({"--write-back-from", "95", "--write-back-after", "1h"});
  target.start();
  Rounds rounds;
  int count = context.rounds_or(5);
  for (int round = 0; round < count; round++) {
    crash_once(target, context, round, rounds);
    target.unmount();
    Stopwatch watch;
    rounds.clean_s.push_back(mount_until_stat(target, watch));
  }
  double worst = *std::max_element(rounds.serving_s.begin(), rounds.serving_s.end());
  Report report;
  report.figures = {{"rounds", count},
                    {"load", fmt::format("{} threads: create, rename, unlink", kThreads)},
                    {"serving_s_worst", rounded(worst)},
                    {"serving_s_median", rounded(median(rounds.serving_s))},
                    {"events_replayed_median", median(rounds.events)},
                    {"events_per_second_median", rounded(median(rounds.events_per_second))},
                    {"journal_bytes_at_kill_median", median(rounds.journal_bytes)},
                    {"journal_cap_bytes", rounds.cap_bytes},
                    {"journal_of_cap_least", rounded(rounds.least_of_cap, 3)},
                    {"of_clean_mount", rounded(median_ratio(rounds.serving_s, rounds.clean_s), 3)}};
  report.reference = {{"target", "the same volume after a clean unmount"},
                      {"serving_s_median", rounded(median(rounds.clean_s))}};
  report.at_most("worst time from kill -9 to serving, s", worst, kBarServingS);
  report.at_least("events replayed per second", median(rounds.events_per_second),
                  kBarEventsPerSecond);
  if (!context.quick) report.at_least("journal at the kill, of its cap", rounds.least_of_cap, 0.9);
  report.at_most("acknowledged changes lost", static_cast<double>(rounds.lost), 0);
  report.durability = context.durability;
  report.cache = "the journal as the killed server left it: in the page cache";
  return report;
}

GRAFTFS_BENCHMARK("recovery", "kill -9 under load with a full journal until it serves again",
                  run_recovery);

}  // namespace
}  // namespace graftfs::bench
