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
      run.torn.push_back(run.states.back().torn(op, effect, when));
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
                                        describe(*run.sequence), describe(op), std::strerror(err)));
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

// Compares one sequence with each of its states. agrees[p]: it is as after the first p operations
// of the round.
Runner::Verdict Runner::judge(const Run& run, const Progress& progress, size_t limit) const {
  Verdict v;
  v.agrees.assign(limit + 1, false);
  v.kept.dir = run.dir;
  v.kept.what = describe(*run.sequence);
  Observed seen = observe(run.dir);
  auto matches = [&](const Oracle& state, const std::vector<Patch>& loose, size_t first,
                     size_t last) {
    std::string differs = difference(state, seen, loose);
    if (!differs.empty()) return differs;
    std::fill(v.agrees.begin() + static_cast<ptrdiff_t>(first),
              v.agrees.begin() + static_cast<ptrdiff_t>(last) + 1, true);
    v.kept.states.push_back(state);
    v.kept.loose.push_back(loose);
    return differs;
  };
  for (size_t k = 0; k < run.states.size(); ++k) {
    const auto loose = loose_patches(run, k, progress);
    size_t first = k == 0 ? 0 : run.before + k;
    size_t last = k + 1 == run.states.size() ? limit : run.before + k;
    std::string differs = matches(run.states[k], loose, first, last);
    v.reasons +=
        fmt::format("    state after {} operations: {}\n", k, differs.empty() ? "agrees" : differs);
    if (k >= run.torn.size()) continue;
    for (const Oracle& torn : run.torn[k]) matches(torn, loose, run.before + k, run.before + k);
  }
  return v;
}

void Runner::check(const std::vector<Run>& runs, const Progress& progress) {
  const size_t limit = progress.acked + (progress.in_flight ? 1 : 0);
  // possible[p]: everything seen agrees with the first p operations of the round.
  std::vector<bool> possible(limit + 1, true);
  std::fill_n(possible.begin(), progress.floor, false);
  std::string impossible, all;
  kept_.clear();
  for (const Run& run : runs) {
    Verdict v = judge(run, progress, limit);
    std::string text = fmt::format("  operations {} to {}: {}\n{}", run.before + 1,
                                   run.before + run.patches.size(), v.kept.what, v.reasons);
    all += text;
    auto promised = v.agrees.begin() + static_cast<ptrdiff_t>(progress.floor);
    if (std::find(promised, v.agrees.end(), true) == v.agrees.end()) impossible += text;
    for (size_t p = 0; p <= limit; ++p) possible[p] = possible[p] && v.agrees[p];
    kept_.push_back(std::move(v.kept));
  }
  if (std::find(possible.begin(), possible.end(), true) != possible.end()) return;
  kept_.clear();
  if (impossible.empty())
    impossible = "each sequence agrees with a prefix, but not with one:\n" + all;
  problems_.push_back(
      fmt::format("{} operations answered, {} promised, {}:\n{}", progress.acked, progress.floor,
                  progress.in_flight ? "one more under way" : "none under way", impossible));
}

void Runner::check_kept() {
  for (const Kept& kept : kept_) {
    Observed seen = observe(kept.dir);
    std::string differs;
    for (size_t k = 0; k < kept.states.size(); ++k) {
      differs = difference(kept.states[k], seen, kept.loose[k]);
      if (differs.empty()) break;
    }
    if (!differs.empty())
      problems_.push_back(
          fmt::format("what was recovered once is not there after the next crash: "
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
