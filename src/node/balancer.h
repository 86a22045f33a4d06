#pragma once
// Whether a subtree should go to another rank because one has more to do than the others: when, and
// what. Pure; who asks moves it, or only says why.

#include <optional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/ids.h"

namespace graftfs::node {

// Loads are accesses to directories a second, over one window.
struct SubtreeLoad {
  Ino root;
  std::string path;
  double load = 0;  // of it and all below it, as far as that is the same rank's
  bool pinned = false;
  // Since it, or something in it or around it, came to this rank; negative: not in memory.
  double here_for_s = -1;
  friend bool operator==(const SubtreeLoad&, const SubtreeLoad&) = default;
};
struct RankLoad {
  RankId rank;
  double load = 0;
  bool takes = true;                  // it is not about to go
  std::vector<SubtreeLoad> subtrees;  // that could go
};

struct BalanceOptions {
  // Below that nothing is worth a move: accesses a second of the busiest.
  double least_load = 200;
  // How much the busiest may be above the mean: 0.3 is 30 %.
  double tolerance = 0.3;
  // In how many windows one after the other the same rank has to be the busiest by that much.
  int windows = 3;
  // A subtree that has come to a rank stays there for so long.
  double rest_s = 60;
};

// What is remembered from window to window.
struct BalanceState {
  RankId busiest;
  int windows = 0;
};

struct BalanceMove {
  Ino root;
  std::string path;
  RankId from, to;
  double load = 0;
};
struct BalanceDecision {
  std::optional<BalanceMove> move;
  std::vector<std::string> reasons;  // sentences, in the order of thought
};

// Called once a window with the loads of all ranks that live. A move leaves the pair that it
// concerns closer together than before, so under constant loads it is never undone; under any
// loads a subtree moves at most once in `rest_s`.
BalanceDecision decide(const std::vector<RankLoad>& ranks, const BalanceOptions& options,
                       BalanceState& state);

}  // namespace graftfs::node
