#include "node/balance.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/fault.h"
#include "node/control_ask.h"

namespace graftfs::node {
namespace {

using nlohmann::json;

constexpr Nanos kLoadLimit = 5 * kSecond;
constexpr Nanos kMoveLimit = 30 * kSecond;

RankLoad parse_load(RankId rank, const json& answer) {
  RankLoad load;
  load.rank = rank;
  load.load = answer.value("load", 0.0);
  load.takes = answer.value("takes", true);
  for (const json& s : answer.value("subtrees", json::array())) {
    SubtreeLoad subtree;
    subtree.root = Ino{s.value("root", uint64_t{0})};
    subtree.path = s.value("path", "");
    subtree.load = s.value("load", 0.0);
    subtree.pinned = s.value("pinned", false);
    subtree.here_for_s = s.value("here_for_s", -1.0);
    load.subtrees.push_back(std::move(subtree));
  }
  return load;
}

DialControlFn dial_to(const DialRankFn& dial, RankId rank) {
  return [dial, rank](net::ConnectFn done) { dial(rank, std::move(done)); };
}

}  // namespace

Task<std::vector<RankLoad>> ask_loads(Executor& executor, std::vector<RankId> ranks,
                                      DialRankFn dial, std::string& silent) {
  std::vector<RankLoad> loads;
  for (RankId rank : ranks) {
    json request = {{"ask", "load"}};
    DialControlFn connect = dial_to(dial, rank);
    Result<json> answer =
        co_await ask_control(executor, rank, std::move(connect), std::move(request), kLoadLimit);
    if (answer)
      loads.push_back(parse_load(rank, *answer));
    else
      silent += (silent.empty() ? "" : "; ") + describe(answer.error());
  }
  co_return loads;
}

Task<Result<void>> make_move(Executor& executor, BalanceMove move, DialRankFn dial) {
  json request = {{"ask", "move"}, {"root", move.root.v}, {"to", move.to.v}};
  DialControlFn connect = dial_to(dial, move.from);
  Result<json> answer =
      co_await ask_control(executor, move.from, std::move(connect), std::move(request), kMoveLimit);
  if (!answer) co_return std::unexpected(std::move(answer).error());
  co_return Result<void>{};
}

Task<void> keep_balance(Executor& executor, BalancingOptions options) {
  BalanceState state;
  for (;;) {
    co_await sleep_for(executor, options.window);
    if (!options.is_mine()) {
      state = {};
      continue;
    }
    std::string silent;
    std::vector<RankId> ranks = options.ranks();
    DialRankFn dial = options.dial;
    std::vector<RankLoad> loads =
        co_await ask_loads(executor, std::move(ranks), std::move(dial), silent);
    // Who decides without knowing all moves the wrong thing.
    if (!silent.empty()) continue;
    BalanceDecision decision = decide(loads, options.decision, state);
    if (!decision.move) continue;
    MARK("balancer.moves");
    for (const std::string& reason : decision.reasons) options.log("balancer: " + reason);
    BalanceMove move = *decision.move;
    DialRankFn again = options.dial;
    Result<void> moved = co_await make_move(executor, std::move(move), std::move(again));
    options.log(moved ? fmt::format("balancer: {} is at rank {} now", decision.move->path,
                                    decision.move->to)
                      : fmt::format("balancer: {} was not moved: {}", decision.move->path,
                                    describe(moved.error())));
  }
}

}  // namespace graftfs::node
