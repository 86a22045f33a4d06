// Takeover: three processes serve a rank each. One of them, with its journal at the cap, is killed
// with SIGKILL under load; another process takes its rank. What counts: how long until the dead
// rank's subtree answers again, and what the clients of the third rank notice. The reference is
// the time before the kill, in the same run.

#include <fmt/format.h>

#include <algorithm>

#include "harness/process.h"
#include "harness/served.h"

namespace graftfs::bench {
namespace {

constexpr double kDetectionS = 2.0, kRecoveryTargetS = 1.0, kMoreS = 0.5;
constexpr double kBarOthers = 1.5;  // p99 while the rank is taken, against before
constexpr double kBarFull = 0.9;    // as for `recovery`
constexpr size_t kDepth = 64;
constexpr Nanos kWindow = 5 * kSecond;  // in which the others are watched, before and after
constexpr double kPatienceS = 60;

// Creates in a directory, `depth` at once, from one client, until told to end.
class Creates {
 public:
  Creates(LibraryClients& clients, size_t client, Ino dir, size_t depth)
      : clients_(clients), client_(client), dir_(dir) {
    for (size_t i = 0; i < depth; ++i) next();
  }
  Latencies take() { return std::exchange(latencies_, {}); }
  void end() {
    ending_ = true;
    while (running_ > 0) clients_.loop().run_one();
  }

 private:
  void next() {
    if (ending_) return;
    running_++;
    const Nanos began = clients_.loop().now();
    clients_.submit(
        client_, MknodArgs{dir_, fmt::format("file{:08}", number_++), S_IFREG | 0644, 0, 0},
        [this, began](Reply reply) {
          running_--;
          if (reply.err)
            throw BenchmarkError(fmt::format("a create failed with errno {}", reply.err));
          latencies_.add(clients_.loop().now() - began);
          next();
        });
  }

  LibraryClients& clients_;
  size_t client_;
  Ino dir_;
  Latencies latencies_;
  uint64_t number_ = 0;
  size_t running_ = 0;
  bool ending_ = false;
};

Ino subtree_at(const Context& context, const Served& served, LibraryClients& clients, size_t rank) {
  const std::string name = fmt::format("of{}", rank);
  Ino ino = clients.must(0, MkdirArgs{kRootIno, name, 0755, 0}).stat.ino;
  clients.run_beside({context.graftfs, "subtree", "move",
                      fmt::format("{}:/{}", served.volume().string(), name),
                      fmt::format("{}", rank)});
  return ino;
}

// How full the journal of a rank is, as its process says.
double fullness(const Served& served, size_t rank) {
  const Json cluster = served.ask({"rank", "list"});
  for (const Json& line : cluster["ranks"])
    if (line["rank"] == rank && line.contains("journal_cap_bytes"))
      return line["journal_bytes"].get<double>() / line["journal_cap_bytes"].get<double>();
  return 0;
}

Report run_takeover(const Context& context) {
  std::vector<double> took, others, fullest_at_kill;
  Report report;
  for (int round = 0; round < context.rounds_or(3); ++round) {
    Served served(context, fmt::format("takeover-{}", round), context.durability);
    served.serve(1);
    // Its write-back waits until the journal is nearly at its cap.
    const pid_t victim = served.serve(1, {"--write-back-from", "95", "--write-back-after", "1h"});
    served.serve(1);
    LibraryClients clients(served.volume(), 2);
    const Ino dying = subtree_at(context, served, clients, 1);
    const Ino living = subtree_at(context, served, clients, 2);
    Creates load(clients, 0, dying, kDepth);
    double full = 0, fullest = 0;
    Stopwatch filling;
    // Until write-back keeps up with it, or the cap is reached.
    for (int unchanged = 0; full < 0.95 && unchanged < 8 && !context.quick;) {
      clients.turn(kSecond / 2);
      full = fullness(served, 1);
      unchanged = full > fullest ? 0 : unchanged + 1;
      fullest = std::max(full, fullest);
    }
    Creates other(clients, 1, living, 1);
    clients.turn(kSecond);
    full = fullness(served, 1);
    clients.turn(kSecond);  // nobody turned the clients while that was asked
    other.take();
    clients.turn(kWindow);
    const Latencies before = other.take();

    Stopwatch watch;
    served.kill(victim);
    // What was under way may have been answered already, and only wait to be read; what is sent
    // now is answered by whoever has the rank next.
    double seconds = kPatienceS;
    bool again = false;
    clients.submit(0, MknodArgs{dying, "behind the kill", S_IFREG | 0644, 0, 0}, [&](Reply reply) {
      if (reply.err) throw BenchmarkError(fmt::format("a create failed: errno {}", reply.err));
      again = true;
      seconds = watch.seconds();
    });
    while (!again && watch.seconds() < kPatienceS) clients.turn(kMillisecond);
    // What the new owner does about it afterwards must not disturb them either.
    const auto passed = static_cast<Nanos>(watch.seconds() * kSecond);
    if (passed < kWindow) clients.turn(kWindow - passed);
    const Latencies during = other.take();
    load.end();
    other.end();
    took.push_back(seconds);
    fullest_at_kill.push_back(full);
    others.push_back(during.at(0.99) / before.at(0.99));
    report.figures["rounds"].push_back({{"seconds_until_served", rounded(seconds)},
                                        {"journal_full", rounded(full)},
                                        {"others_p99_ms", rounded(during.at(0.99) * 1e3)},
                                        {"others_longest_ms", rounded(during.at(1) * 1e3)},
                                        {"others_p99_ms_before", rounded(before.at(0.99) * 1e3)},
                                        {"others_longest_ms_before", rounded(before.at(1) * 1e3)}});
    progress(
        fmt::format("takeover, round {}: served again after {:.2f} s; p99 of others {:.2f} ms, "
                    "before {:.2f} ms; longest {:.1f} ms, before {:.1f} ms",
                    round + 1, seconds, during.at(0.99) * 1e3, before.at(0.99) * 1e3,
                    during.at(1) * 1e3, before.at(1) * 1e3));
  }
  report.reference["failure_detection_s"] = kDetectionS;
  report.reference["recovery_target_s"] = kRecoveryTargetS;
  report.at_most("until the dead rank's subtree is served, s, worst",
                 *std::max_element(took.begin(), took.end()),
                 kDetectionS + kRecoveryTargetS + kMoreS);
  report.at_most("p99 of the other ranks' clients against before", median(others), kBarOthers);
  report.at_least("the dead rank's journal at the kill, of its cap, least",
                  *std::min_element(fullest_at_kill.begin(), fullest_at_kill.end()),
                  context.quick ? 0 : kBarFull);
  report.durability = context.durability;
  report.cache = "the one who takes the rank has nothing of it cached";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("takeover", "a rank at its journal's cap is killed, and another process takes it",
                  run_takeover);

}  // namespace graftfs::bench
