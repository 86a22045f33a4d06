#include "node/balancer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/fault.h"

namespace graftfs::node {
namespace {

// A move that closes less of the gap than this is not worth its cost, and one that closes more than
// it leaves makes the other rank the busier one.
constexpr double kLeastPart = 0.1;
constexpr double kMostPart = 0.9;

}  // namespace

BalanceDecision decide(const std::vector<RankLoad>& ranks, const BalanceOptions& options,
                       BalanceState& state) {
  BalanceDecision out;
  auto say = [&](std::string sentence) { out.reasons.push_back(std::move(sentence)); };
  auto calm = [&](std::string sentence) {
    state.windows = 0;
    say(std::move(sentence));
    return out;
  };
  if (ranks.size() < 2) return calm("There is one rank, so nothing can go anywhere.");
  double sum = 0;
  for (const RankLoad& r : ranks) sum += r.load;
  const double mean = sum / static_cast<double>(ranks.size());
  const RankLoad& busy = *std::max_element(
      ranks.begin(), ranks.end(), [](const auto& a, const auto& b) { return a.load < b.load; });
  const RankLoad* idle = nullptr;
  for (const RankLoad& r : ranks)
    if (r.rank != busy.rank && r.takes && (!idle || r.load < idle->load)) idle = &r;
  if (!idle) return calm("No other rank takes anything.");
  say(
      fmt::format("Rank {} has the most to do, {:.0f} accesses a second, and rank {} the least, "
                  "{:.0f}; the mean of {} ranks is {:.0f}.",
                  busy.rank, busy.load, idle->rank, idle->load, ranks.size(), mean));
  if (busy.load < options.least_load)
    return calm(
        fmt::format("That is less than {:.0f}, so nothing is worth a move.", options.least_load));
  if (busy.load <= mean * (1 + options.tolerance))
    return calm(fmt::format("That is within {:.0f} % of the mean, so nothing is worth a move.",
                            100 * options.tolerance));
  if (state.windows == 0 || state.busiest != busy.rank) state = {busy.rank, 0};
  state.windows++;
  if (state.windows < options.windows) {
    say(fmt::format("It was so in {} of the {} windows that are waited for, because it may pass.",
                    state.windows, options.windows));
    return out;
  }

  const double gap = busy.load - idle->load;
  const SubtreeLoad* best = nullptr;
  size_t pinned = 0, resting = 0, small = 0, large = 0;
  for (const SubtreeLoad& s : busy.subtrees) {
    if (s.pinned)
      ++pinned;
    else if (s.here_for_s >= 0 && s.here_for_s < options.rest_s)
      ++resting;
    else if (s.load < kLeastPart * gap)
      ++small;
    else if (s.load > kMostPart * gap)
      ++large;
    else if (!best || std::abs(gap / 2 - s.load) < std::abs(gap / 2 - best->load))
      best = &s;
  }
  if (!best) {
    MARK("balancer.nothing_fits");
    say(fmt::format(
        "No directory fits the gap of {:.0f}: {} would close too little of it, {} would "
        "make the other one the busier, {} came a moment ago and rest, {} are pinned.",
        gap, small, large, resting, pinned));
    return out;
  }
  say(fmt::format("{} has {:.0f} accesses a second: at rank {} it leaves {:.0f} and {:.0f}.",
                  best->path, best->load, idle->rank, busy.load - best->load,
                  idle->load + best->load));
  out.move = BalanceMove{best->root, best->path, busy.rank, idle->rank, best->load};
  state.windows = 0;
  return out;
}

}  // namespace graftfs::node
