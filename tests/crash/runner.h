#pragma once
// Runs rounds on a machine and compares what was recovered with what is promised.

#include <string>
#include <vector>

#include "machine.h"
#include "observe.h"
#include "sequence.h"

namespace graftfs::crash {

// Runs rounds one after the other on one machine. What a recovery has shown must still be there
// after the next crash. Used from one thread.
class Runner {
 public:
  // The machine outlives it.
  Runner(Machine& machine, uint64_t seed) : machine_(machine), random_(seed) {}
  void run(const Round& round);
  const std::vector<std::string>& problems() const { return problems_; }

  // Runs the sequences of a round in `dir`, on any file system, without a crash: checks the
  // oracle. What differs is returned.
  static std::vector<std::string> run_without_crash(const std::string& dir, const Round& round);

 private:
  // A sequence as far as it was run.
  struct Run {
    const Sequence* sequence = nullptr;
    std::string dir;
    std::vector<Oracle> states;               // before and after each operation that was begun
    std::vector<std::vector<Patch>> patches;  // of each operation
    std::vector<std::vector<Oracle>> torn;    // each operation done in part
    size_t before = 0;                        // operations of the round before its first
  };
  struct Kept {  // a sequence of the round before: the states that it was recovered in
    std::string dir, what;
    std::vector<Oracle> states;
    std::vector<std::vector<Patch>> loose;
  };
  struct Progress {
    size_t acked = 0, floor = 0;  // operations of the round: answered, promised
    bool in_flight = false;       // one more was begun
    bool crashed = false;
  };

  std::vector<Run> prepare(const Round& round, const std::string& dir, const std::string& prefix);
  Progress carry_out(std::vector<Run>& runs, const std::string& root, bool may_crash,
                     bool all_promised);
  struct Verdict {
    std::vector<bool> agrees;
    std::string reasons;
    Kept kept;
  };
  Verdict judge(const Run& run, const Progress& progress, size_t limit) const;
  void check(const std::vector<Run>& runs, const Progress& progress);
  void check_kept();
  std::vector<Patch> loose_patches(const Run& run, size_t state, const Progress& progress) const;

  Machine& machine_;
  Random random_;
  std::vector<std::string> problems_;
  std::vector<Kept> kept_;
  int64_t usual_duration_ns_ = 3'000'000;  // of the operations of a midway round
  int round_ = 0;
};

}  // namespace graftfs::crash
