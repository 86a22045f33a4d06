#include "runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <exception>
#include <thread>

#include "sandbox.h"

namespace graftfs::crash {
namespace {

int64_t wall_now() {
  timespec t;
  ::clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

// What operations fail with once the file system is gone.
bool means_crashed(int err) {
  return err == EIO || err == ENOTCONN || err == ECONNABORTED || err == EINTR;
}

int fsync_path(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return errno;
  int err = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return err;
}

// What the operation was about, where it is now.
int sync_after(const std::string& root, const std::string& dir, const Oracle& state,
               const Operation& op, SyncKind kind) {
  const std::string& name = !op.to.empty() && state.find(op.to) >= 0 ? op.to : op.path;
  size_t slash = name.rfind('/');
  std::string parent = slash == std::string::npos ? "" : "/" + name.substr(0, slash);
  if (!parent.empty() && state.find(parent.substr(1)) < 0) parent.clear();
  if (kind == SyncKind::all) return fsync_path(root);
  int id = state.find(name);
  uint32_t type = id < 0 ? 0 : state.node(id).mode & S_IFMT;
  if (kind == SyncKind::file && (type == S_IFREG || type == S_IFDIR))
    return fsync_path(dir + "/" + name);
  return fsync_path(dir + parent);
}

}  // namespace

std::vector<Runner::Run> Runner::prepare(const Round& round, const std::string& root,
                                         const std::string& prefix) {
  std::vector<Run> runs;
  for (size_t i = 0; i < round.sequences.size(); ++i) {
    Run run;
    run.sequence = &round.sequences[i];
    run.dir = fmt::format("{}/{}-{}", root, prefix, i);
    Interval when;
    when.from = wall_now();
    if (::mkdir(run.dir.c_str(), 0755) != 0) give_up("cannot make " + run.dir);
    if (int err = crash::prepare(run.dir)) {
      errno = err;
      give_up("cannot prepare " + run.dir);
    }
    when.to = wall_now();
    run.states.push_back(Oracle::prepared(when));
    runs.push_back(std::move(run));
  }
  if (int err = fsync_path(root)) {
    errno = err;
    give_up("cannot sync " + root);
  }
  return runs;
}

Runner::Progress Runner::carry_out(std::vector<Run>& runs, const std::string& root, bool may_crash,
                                   bool all_promised) {
  Progress p;
  for (Run& run : runs) {
    run.before = p.acked;
    if (p.crashed) continue;
    for (size_t k = 0; k < run.sequence->ops.size(); ++k) {
      const Operation& op = run.sequence->ops[k];
      Oracle next = run.states.back();
      Interval when;
      when.from = wall_now();
      int err = crash::carry_out(run.dir, op);
      when.to = wall_now();
      Effect effect = next.apply(op, when);
      run.states.push_back(std::move(next));
      run.patches.push_back(std::move(effect.patches));
      if (may_crash && err != effect.err && means_crashed(err)) {
        p.in_flight = p.crashed = true;
        break;
      }
      if (err != effect.err)
        problems_.push_back(fmt::format("{}: {} answers '{}', not '{}'", describe(*run.sequence),
                                        describe(op), std::strerror(err),
                                        std::strerror(effect.err)));
      p.acked++;
      if (all_promised || (op.kind == OpKind::append_sync && err == 0)) p.floor = p.acked;
      SyncKind sync = run.sequence->after[k];
      if (sync == SyncKind::none) continue;
      err = sync_after(root, run.dir, run.states.back(), op, sync);
      if (err == 0) {
        p.floor = p.acked;
      } else if (may_crash && means_crashed(err)) {
        p.crashed = true;
        break;
      } else {
        problems_.push_back(fmt::format("{}: the sync after {} answers '{}'",
                                        describe(*run.sequence), describe(op),
                                        std::strerror(err)));
      }
    }
  }
  return p;
}

void Runner::run(const Round& round) {
  std::vector<Run> runs = prepare(round, machine_.dir(), fmt::format("round-{}", ++round_));
  const bool all_promised = !machine_.is_power() || machine_.options().strict;
  Progress progress;
  if (round.midway) {
    std::atomic<bool> go = false;
    std::exception_ptr failed;
    auto delay = static_cast<int64_t>(random_() % static_cast<uint64_t>(usual_duration_ns_));
    std::thread crasher([&] {
      go.wait(false);
      timespec t{delay / 1'000'000'000, delay % 1'000'000'000};
      ::nanosleep(&t, nullptr);
      try {
        machine_.crash();
      } catch (...) {
        failed = std::current_exception();
      }
    });
    go = true;
    go.notify_all();
    int64_t began = wall_now();
    progress = carry_out(runs, machine_.dir(), true, all_promised);
    int64_t took = wall_now() - began;
    crasher.join();
    if (failed) std::rethrow_exception(failed);
    // Crashes spread over the whole round, however fast the machine is.
    usual_duration_ns_ = progress.crashed ? std::max(usual_duration_ns_, delay * 3 / 2)
                                          : std::max<int64_t>(took, 200'000);
  } else {
    progress = carry_out(runs, machine_.dir(), false, all_promised);
    machine_.crash();
  }
  machine_.recover(random_, random_() % 4 == 0 ? 1 : 0, problems_);
  check_kept();
  check(runs, progress);
}

// Data that is overwritten in place may be on disk although the operation is not in the prefix:
// after a power cut, of any operation since; after the death of the process, of the one that was
// under way.
std::vector<Patch> Runner::loose_patches(const Run& run, size_t state,
                                         const Progress& progress) const {
  std::vector<Patch> loose;
  for (size_t k = state; k < run.patches.size(); ++k) {
    bool unanswered = progress.in_flight && run.before + k == progress.acked;
    if (!machine_.is_power() && !unanswered) continue;
    loose.insert(loose.end(), run.patches[k].begin(), run.patches[k].end());
  }
  return loose;
}

void Runner::check(const std::vector<Run>& runs, const Progress& progress) {
  kept_.clear();
  const size_t limit = progress.acked + (progress.in_flight ? 1 : 0);
  // possible[p]: everything seen agrees with the first p operations of the round.
  std::vector<bool> possible(limit + 1, true);
  std::fill_n(possible.begin(), progress.floor, false);
  std::vector<std::vector<std::string>> differences;
  std::string reasons;
  for (const Run& run : runs) {
    Observed seen = observe(run.dir);
    std::vector<std::string> differs;
    std::vector<bool> agrees(limit + 1, false);
    for (size_t k = 0; k < run.states.size(); ++k) {
      differs.push_back(difference(run.states[k], seen, loose_patches(run, k, progress)));
      if (!differs.back().empty()) continue;
      size_t first = k == 0 ? 0 : run.before + k;
      size_t last = k + 1 == run.states.size() ? limit : run.before + k;
      for (size_t p = first; p <= last; ++p) agrees[p] = true;
    }
    bool any = false;
    for (size_t p = progress.floor; p <= limit; ++p) any |= agrees[p];
    if (!any) {
      reasons += fmt::format("  {}\n", describe(*run.sequence));
      for (size_t k = 0; k < differs.size(); ++k)
        reasons += fmt::format("    state after {} operations: {}\n", k,
                               differs[k].empty() ? "agrees, but more was promised" : differs[k]);
    }
    for (size_t p = 0; p <= limit; ++p) possible[p] = possible[p] && agrees[p];
    differences.push_back(std::move(differs));
  }
  if (std::find(possible.begin(), possible.end(), true) == possible.end()) {
    if (reasons.empty()) {
      reasons = "  each sequence agrees with a prefix, but not all with the same one:\n";
      for (size_t i = 0; i < runs.size(); ++i) {
        std::string states;
        for (size_t k = 0; k < differences[i].size(); ++k)
          if (differences[i][k].empty()) states += fmt::format(" {}", k);
        reasons += fmt::format("    {} (operations {} to {}): states{}\n",
                               describe(*runs[i].sequence), runs[i].before + 1,
                               runs[i].before + runs[i].patches.size(), states);
      }
    }
    problems_.push_back(fmt::format("after {} on {} ({}), {} operations answered, {} promised:\n{}",
                                    machine_.is_power() ? "a power cut" : "kill -9",
                                    name_of(machine_.options().backing),
                                    machine_.options().strict ? "strict" : "posix",
                                    progress.acked, progress.floor, reasons));
    return;
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    Kept kept{runs[i].dir, describe(*runs[i].sequence), {}, {}};
    for (size_t k = 0; k < runs[i].states.size(); ++k) {
      if (!differences[i][k].empty()) continue;
      kept.states.push_back(runs[i].states[k]);
      kept.loose.push_back(loose_patches(runs[i], k, progress));
    }
    kept_.push_back(std::move(kept));
  }
}

void Runner::check_kept() {
  for (const Kept& kept : kept_) {
    Observed seen = observe(kept.name);
    std::string differs;
    for (size_t k = 0; k < kept.states.size(); ++k) {
      differs = difference(kept.states[k], seen, kept.loose[k]);
      if (differs.empty()) break;
    }
    if (!differs.empty())
      problems_.push_back(fmt::format("what was recovered once is not there after the next crash: "
                                      "{}: {}",
                                      kept.what, differs));
  }
}

std::vector<std::string> Runner::run_without_crash(const std::string& dir, const Round& round) {
  std::vector<std::string> problems;
  for (size_t i = 0; i < round.sequences.size(); ++i) {
    const Sequence& sequence = round.sequences[i];
    std::string at = fmt::format("{}/sequence-{}", dir, i);
    Interval when{wall_now(), 0};
    if (::mkdir(at.c_str(), 0755) != 0) give_up("cannot make " + at);
    int err = crash::prepare(at);
    if (err) {
      errno = err;
      give_up("cannot prepare " + at);
    }
    when.to = wall_now();
    Oracle oracle = Oracle::prepared(when);
    for (const Operation& op : sequence.ops) {
      when.from = wall_now();
      err = crash::carry_out(at, op);
      when.to = wall_now();
      Effect effect = oracle.apply(op, when);
      if (err != effect.err)
        problems.push_back(fmt::format("{}: {} answers '{}', not '{}'", describe(sequence),
                                       describe(op), std::strerror(err),
                                       std::strerror(effect.err)));
    }
    std::string differs = difference(oracle, observe(at), {});
    if (!differs.empty()) problems.push_back(describe(sequence) + ": " + differs);
  }
  return problems;
}

}  // namespace graftfs::crash
