// graftfs-crash-enum: short sequences of operations on a real mount, a crash, and a comparison of
// what was recovered with what POSIX and the durability mode promise (docs/testing-crashes.md).

#include <fmt/format.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <thread>

#include "runner.h"
#include "sandbox.h"

namespace graftfs::crash {
namespace {

constexpr size_t kRoundsPerVolume = 40;
constexpr size_t kMostProblemsShown = 10;

struct Options {
  std::vector<std::string> crashes{"kill", "xfs", "ext4"};
  std::vector<std::string> durabilities{"posix", "strict"};
  bool singles = true;
  size_t sample = 200, midway = 20, per_round = 6;
  uint64_t seed = 1;
  size_t lanes = 2;
  size_t only_every = 1;
  std::string without_crash;
};

// One kind of crash in one durability.
struct Setup {
  BackingKind backing = BackingKind::ext4;
  bool power = false, strict = false;
  std::atomic<size_t> crashes{0}, sequences{0}, problems{0};
  std::atomic<int64_t> busy_ms{0};
  std::string name() const {
    return fmt::format("{}, {}",
                       power ? fmt::format("power cut on {}", name_of(backing)) : "kill -9",
                       strict ? "strict" : "posix");
  }
};

struct Job {
  Setup* setup;
  std::vector<Round> rounds;
  uint64_t seed;
};

std::vector<Sequence> plan(const Options& o) {
  std::vector<Sequence> all = pairs(o.sample, o.seed);
  if (o.singles) {
    auto singles = single_operations();
    all.insert(all.end(), singles.begin(), singles.end());
  }
  return all;
}

std::vector<Job> make_jobs(const Options& o, std::vector<std::unique_ptr<Setup>>& setups) {
  std::vector<Job> jobs;
  std::vector<Sequence> all = plan(o);
  for (auto& setup : setups) {
    // Where the process is killed, or every answer is durable, everything answered is promised,
    // and many sequences can share a crash.
    const bool lossy = setup->power && !setup->strict;
    auto rounds = make_rounds(all, lossy, setup->power ? o.per_round : 10 * o.per_round);
    auto more = midway_rounds(all, o.midway, 3 * o.per_round, o.seed + 1);
    rounds.insert(rounds.end(), more.begin(), more.end());
    if (o.only_every > 1) {
      std::vector<Round> some;
      for (size_t i = o.seed % o.only_every; i < rounds.size(); i += o.only_every)
        some.push_back(std::move(rounds[i]));
      rounds = std::move(some);
    }
    for (size_t at = 0; at < rounds.size(); at += kRoundsPerVolume) {
      auto begin = rounds.begin() + static_cast<ptrdiff_t>(at);
      auto end =
          rounds.begin() + static_cast<ptrdiff_t>(std::min(rounds.size(), at + kRoundsPerVolume));
      jobs.push_back({setup.get(),
                      {std::make_move_iterator(begin), std::make_move_iterator(end)},
                      o.seed * 1'000'003 + jobs.size()});
    }
  }
  return jobs;
}

class Lanes {
 public:
  explicit Lanes(std::vector<Job> jobs) : jobs_(std::move(jobs)) {}

  int run(size_t lanes) {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < lanes; ++i) threads.emplace_back([this] { lane(); });
    for (std::thread& t : threads) t.join();
    return failed_ ? 1 : 0;
  }

 private:
  void lane() {
    for (size_t i; (i = next_++) < jobs_.size();) {
      Job& job = jobs_[i];
      try {
        run_job(job);
      } catch (const std::exception& e) {
        say(fmt::format("{}: {}\n", job.setup->name(), e.what()));
        failed_ = true;
      }
    }
  }

  void run_job(Job& job) {
    auto began = std::chrono::steady_clock::now();
    Machine machine(
        {.backing = job.setup->backing, .power = job.setup->power, .strict = job.setup->strict});
    Runner runner(machine, job.seed);
    size_t shown = 0;
    auto show = [&] {
      for (; shown < runner.problems().size(); ++shown) {
        failed_ = true;
        if (job.setup->problems++ < kMostProblemsShown)
          say(fmt::format("{}: {}\n", job.setup->name(), runner.problems()[shown]));
      }
    };
    for (const Round& round : job.rounds) {
      try {
        runner.run(round);
      } catch (const std::exception&) {
        show();
        throw;
      }
      job.setup->sequences += round.sequences.size();
      show();
    }
    job.setup->crashes += machine.crashes();
    std::string why;
    if (!machine.daemon().unmount(why)) {
      say(fmt::format("{}: {}\n", job.setup->name(), why));
      failed_ = true;
    }
    job.setup->busy_ms += std::chrono::duration_cast<std::chrono::milliseconds>(
                              std::chrono::steady_clock::now() - began)
                              .count();
  }

  void say(const std::string& text) {
    std::lock_guard lock(mutex_);
    fmt::print("{}", text);
    std::fflush(stdout);
  }

  std::vector<Job> jobs_;
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
};

int run_without_crash(const Options& o) {
  Round round;
  round.sequences = plan(o);
  auto problems = Runner::run_without_crash(o.without_crash, round);
  for (const std::string& problem : problems) fmt::print("{}\n", problem);
  fmt::print("{} sequences in {}: {} problems\n", round.sequences.size(), o.without_crash,
             problems.size());
  return problems.empty() ? 0 : 1;
}

int run(const Options& o) {
  ::umask(022);
  if (!o.without_crash.empty()) return run_without_crash(o);
  std::vector<std::unique_ptr<Setup>> setups;
  for (const std::string& crash : o.crashes) {
    for (const std::string& durability : o.durabilities) {
      auto setup = std::make_unique<Setup>();
      setup->power = crash != "kill";
      setup->backing = crash == "xfs" ? BackingKind::xfs : BackingKind::ext4;
      setup->strict = durability == "strict";
      setups.push_back(std::move(setup));
    }
  }
  if (std::string why = cannot_run(); !why.empty()) {
    fmt::print("skipped: {}\n", why);
    return 77;
  }
  Sandbox::get();
  auto began = std::chrono::steady_clock::now();
  int status = Lanes(make_jobs(o, setups)).run(o.lanes);
  for (const auto& s : setups)
    fmt::print("{}: {} crashes, {} sequences, {} problems, {:.1f} crashes/s\n", s->name(),
               s->crashes.load(), s->sequences.load(), s->problems.load(),
               static_cast<double>(s->crashes) * 1000 /
                   static_cast<double>(std::max<int64_t>(1, s->busy_ms)));
  fmt::print("fsck: {}; seed {}; {:.1f} s\n",
             DaemonProcess::has_fsck() ? "after every crash" : "this graftfs has none", o.seed,
             std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
  return status;
}

}  // namespace
}  // namespace graftfs::crash

int main(int argc, char** argv) {
  using namespace graftfs::crash;
  Options o;
  bool no_singles = false;
  CLI::App app("Enumerates short sequences of operations, crashes, recovers and compares");
  app.option_defaults()->always_capture_default();
  app.add_option("--crash", o.crashes, "kill -9, or a power cut on XFS, on ext4")
      ->check(CLI::IsMember({"kill", "xfs", "ext4"}))
      ->delimiter(',');
  app.add_option("--durability", o.durabilities)
      ->check(CLI::IsMember({"posix", "strict"}))
      ->delimiter(',');
  app.add_option("--sample", o.sample, "how many sequences of two operations");
  app.add_flag("--no-singles", no_singles, "leave out the sequences of one operation");
  app.add_option("--midway", o.midway, "rounds that are crashed while they run, for each setup");
  app.add_option("--per-round", o.per_round, "sequences before one power cut");
  app.add_option("--only-every", o.only_every, "run every Nth round, chosen by the seed");
  app.add_option("--seed", o.seed);
  app.add_option("--lanes", o.lanes, "volumes at once");
  app.add_option("--without-crash", o.without_crash,
                 "run in this empty directory of any file system, to check the oracle");
  CLI11_PARSE(app, argc, argv);
  o.singles = !no_singles;
  try {
    return run(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "graftfs-crash-enum: %s\n", e.what());
    return 1;
  }
}
