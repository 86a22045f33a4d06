#pragma once
// Asks all ranks for their loads, decides (balancer.h), and has the move made.

#include <functional>
#include <string>
#include <vector>

#include "base/task.h"
#include "net/net.h"
#include "node/balancer.h"

namespace graftfs::node {

using DialRankFn = std::function<void(RankId, net::ConnectFn)>;

// Begins a new window at every rank; what was counted since the last one is the load. A rank that
// does not answer is left out and named in `silent`.
Task<std::vector<RankLoad>> ask_loads(Executor& executor, std::vector<RankId> ranks,
                                      DialRankFn dial, std::string& silent);
// Asks the rank that has it. Errors: those of Migrations::start().
Task<Result<void>> make_move(Executor& executor, BalanceMove move, DialRankFn dial);

struct BalancingOptions {
  Nanos window = 10 * kSecond;
  BalanceOptions decision;
  std::function<bool()> is_mine;               // one node at a time: the one that serves /
  std::function<std::vector<RankId>()> ranks;  // that live and stay
  DialRankFn dial;
  std::function<void(const std::string&)> log;
};
// Goes on until it is destroyed. Logs what it moves and why; a move that fails is tried again when
// it is decided again. Remembers nothing over a crash: the count of windows begins anew.
Task<void> keep_balance(Executor& executor, BalancingOptions options);

}  // namespace graftfs::node
