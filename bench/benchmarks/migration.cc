// Migration: a subtree of 100,000 files moves from rank to rank and back while eight clients
// create, look up, rename and remove in it as fast as they can. What counts is the longest that any
// of their operations took. The reference is the same load before anything moves, in the same run.
// At the end every file that was acknowledged is looked up, and every one that was removed.
//
// `--only thousand`: a thousand moves in a row, and what they leave behind.

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <random>

#include "harness/process.h"
#include "harness/served.h"

namespace graftfs::bench {
namespace {

constexpr size_t kClients = 8;
constexpr size_t kDepth = 4;  // operations under way, of each client
constexpr double kBarStallMs = 20;
const std::string kMoving = "moving";

// What a client does in its directories: each file is created, renamed, looked up, and sooner or
// later removed. An error ends the benchmark.
class Load {
 public:
  Load(LibraryClients& clients, std::vector<Ino> dirs) : clients_(clients), dirs_(std::move(dirs)) {
    for (size_t client = 0; client < clients.size(); ++client)
      for (size_t i = 0; i < kDepth; ++i) next(client * kDepth + i);
  }
  // Operations that were answered since the last call.
  Latencies take() { return std::exchange(latencies_, {}); }
  // No new ones; returns when all are answered.
  void end() {
    ending_ = true;
    while (running_ > 0) clients_.loop().run_one();
  }
  // What is not as it was answered.
  size_t lost() {
    size_t lost = 0;
    for (const auto& [name, where] : names_)
      lost += clients_.call(0, LookupArgs{where.dir, name}).err != (where.exists ? 0 : ENOENT);
    return lost;
  }
  size_t acknowledged() const { return acknowledged_; }

 private:
  struct Where {
    Ino dir;
    bool exists;
  };
  struct Worker {
    uint64_t number = 0;
    int step = 0;
    Ino dir;
  };
  // One operation after the other, for each worker: create, rename, look up, and remove every
  // second.
  void next(size_t worker) {
    if (ending_) return;
    Worker& w = workers_[worker];
    const std::string name = fmt::format("w{}-{}", worker, w.number);
    const std::string renamed = name + "r";
    Args args;
    switch (w.step) {
      case 0:
        w.dir = dirs_[random_() % dirs_.size()];
        args = MknodArgs{w.dir, name, S_IFREG | 0644, 0, 0};
        break;
      case 1: {
        RenameArgs rename;
        rename.dir = rename.new_dir = w.dir;
        rename.name = name;
        rename.new_name = renamed;
        args = std::move(rename);
        break;
      }
      case 2:
        args = LookupArgs{w.dir, renamed};
        break;
      default:
        args = UnlinkArgs{w.dir, renamed};
    }
    running_++;
    const Nanos began = clients_.loop().now();
    clients_.submit(
        worker / kDepth, std::move(args), [this, worker, began, name, renamed](Reply reply) {
          running_--;
          latencies_.add(clients_.loop().now() - began);
          if (reply.err)
            throw BenchmarkError(
                fmt::format("an operation on {} failed with errno {}", name, reply.err));
          answered(worker, name, renamed);
          next(worker);
        });
  }
  void answered(size_t worker, const std::string& name, const std::string& renamed) {
    Worker& w = workers_[worker];
    acknowledged_++;
    switch (w.step++) {
      case 0:
        names_[name] = {w.dir, true};
        return;
      case 1:
        names_[name].exists = false;
        names_[renamed] = {w.dir, true};
        return;
      case 2:
        if (w.number % 2) return;
        break;
      default:
        names_[renamed].exists = false;
    }
    // Of the older ones one in fifty is kept for the check.
    if (w.number % 50) {
      names_.erase(name);
      names_.erase(renamed);
    }
    w.number++;
    w.step = 0;
  }

  LibraryClients& clients_;
  std::vector<Ino> dirs_;
  std::map<size_t, Worker> workers_;
  std::map<std::string, Where> names_;
  Latencies latencies_;
  std::mt19937_64 random_{1};
  size_t running_ = 0, acknowledged_ = 0;
  bool ending_ = false;
};

uint64_t bytes_written(pid_t pid) {
  std::ifstream io(fmt::format("/proc/{}/io", pid));
  for (std::string word; io >> word;)
    if (uint64_t n = 0; word == "wchar:" && io >> n) return n;
  return 0;
}

double resident_mb(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:")) return static_cast<double>(std::stoull(line.substr(8))) / 1e3;
  return 0;
}

Report run_migration(const Context& context) {
  const bool thousand = context.wants("thousand") && !context.only.empty();
  const size_t dirs = context.quick ? 10 : 100, files = context.quick ? 20 : 1'000;
  const int moves = thousand ? (context.quick ? 20 : 1000) : context.rounds_or(10);
  Served served(context, "migration", context.durability);
  const pid_t server = served.serve(2);
  LibraryClients clients(served.volume(), kClients);
  const Ino top = clients.must(0, MkdirArgs{kRootIno, kMoving, 0755, 0}).stat.ino;
  std::vector<Ino> homes;
  for (size_t d = 0; d < dirs; ++d)
    homes.push_back(clients.must(0, MkdirArgs{top, fmt::format("d{}", d), 0755, 0}).stat.ino);
  size_t made = 0;
  for (size_t i = 0; i < dirs * files; ++i)
    clients.submit(i % kClients,
                   MknodArgs{homes[i % dirs], fmt::format("file{:08}", i), S_IFREG | 0644, 0, 0},
                   [&made](Reply reply) { made += reply.err == 0; });
  while (made < dirs * files) clients.loop().run_one();

  Load load(clients, homes);
  clients.turn(kSecond);
  load.take();
  const Nanos quiet = (context.quick ? 1 : 5) * kSecond;
  clients.turn(quiet);
  Latencies before = load.take();
  const double usual =
      static_cast<double>(before.all.size()) / (static_cast<double>(quiet) / kSecond);
  const double resident = resident_mb(server);

  Report report;
  double longest = 0, slowest_rate = 1e18;
  for (int i = 0; i < moves; ++i) {
    const uint64_t written = bytes_written(server);
    Stopwatch watch;
    clients.run_beside({context.graftfs, "subtree", "move",
                        fmt::format("{}:/{}", served.volume().string(), kMoving),
                        fmt::format("{}", (i + 1) % 2)});
    const double seconds = watch.seconds();
    Latencies during = load.take();
    longest = std::max(longest, during.at(1));
    const double rate = static_cast<double>(during.all.size()) / seconds;
    slowest_rate = std::min(slowest_rate, rate);
    if (!thousand)
      report.figures["moves"].push_back(
          {{"seconds", rounded(seconds)},
           {"longest_ms", rounded(during.at(1) * 1e3)},
           {"p99_ms", rounded(during.at(0.99) * 1e3)},
           {"operations_per_second", rounded(rate)},
           {"megabytes_written_by_the_server",
            rounded(static_cast<double>(bytes_written(server) - written) / 1e6)}});
    if (i % 50 == 0 || !thousand)
      progress(fmt::format("migration, move {} of {}: {:.2f} s, longest operation {:.1f} ms", i + 1,
                           moves, seconds, during.at(1) * 1e3));
    clients.turn(thousand ? 10 * kMillisecond : kSecond / 2);
    load.take();
  }
  load.end();
  report.figures["files"] = dirs * files;
  report.figures["clients"] = kClients;
  report.figures["outstanding_each"] = kDepth;
  report.figures["number_of_moves"] = moves;
  report.figures["operations"] = load.acknowledged();
  report.figures["throughput_while_moving_against_before"] = rounded(slowest_rate / usual);
  report.figures["resident_mb"] = {{"before", rounded(resident)},
                                   {"after", rounded(resident_mb(server))}};
  report.reference["operations_per_second_before"] = rounded(usual);
  report.reference["longest_ms_before"] = rounded(before.at(1) * 1e3);
  report.reference["p99_ms_before"] = rounded(before.at(0.99) * 1e3);
  report.at_most("longest operation while the subtree moves, ms", longest * 1e3, kBarStallMs);
  report.at_most("operations lost", static_cast<double>(load.lost()), 0);
  report.durability = context.durability;
  report.cache = "the subtree is cached at its rank; half of the created files are written back";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("migration", "a subtree of 100,000 files moves under load", run_migration);

}  // namespace graftfs::bench
