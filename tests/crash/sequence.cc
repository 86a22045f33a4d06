#include "sequence.h"

#include <algorithm>
#include <random>
#include <set>

namespace graftfs::crash {

std::string describe(const Sequence& sequence) {
  static const char* const kNames[] = {"", "; fsync file", "; fsync parent", "; sync all"};
  std::string text;
  for (size_t i = 0; i < sequence.ops.size(); ++i) {
    if (i) text += "; ";
    text += describe(sequence.ops[i]) + kNames[static_cast<int>(sequence.after[i])];
  }
  return text;
}

std::vector<Sequence> single_operations() {
  std::vector<Sequence> all;
  for (const Operation& op : all_operations())
    for (int sync = 0; sync < kSyncKinds; ++sync)
      all.push_back({{op}, {static_cast<SyncKind>(sync)}});
  return all;
}

std::vector<Sequence> pairs(size_t count, uint64_t seed) {
  const auto& ops = all_operations();
  const uint64_t total = ops.size() * ops.size() * kSyncKinds * kSyncKinds;
  std::mt19937_64 random(seed);
  std::vector<Sequence> chosen;
  std::set<uint64_t> numbers;
  while (chosen.size() < std::min<uint64_t>(count, total)) {
    uint64_t n = random() % total;
    if (!numbers.insert(n).second) continue;
    Sequence s;
    s.after = {static_cast<SyncKind>(n % kSyncKinds),
               static_cast<SyncKind>(n / kSyncKinds % kSyncKinds)};
    n /= kSyncKinds * kSyncKinds;
    s.ops = {ops[n % ops.size()], ops[n / ops.size()]};
    chosen.push_back(std::move(s));
  }
  return chosen;
}

std::vector<Round> make_rounds(std::vector<Sequence> sequences, bool lossy, size_t per_round) {
  // Those that a round may end with, and the others, which go in front of them.
  auto may_end = [&](const Sequence& s) { return lossy == s.ends_synced(); };
  std::vector<Sequence> ends, others;
  for (Sequence& s : sequences) (may_end(s) ? ends : others).push_back(std::move(s));
  std::vector<Round> rounds;
  const size_t room = std::max<size_t>(per_round, 2) - 1;
  for (size_t i = 0; i < std::max(ends.size(), (others.size() + room - 1) / room); ++i) {
    Round round;
    for (size_t k = 0; k < room && !others.empty(); ++k) {
      // Enough is kept back that every round has one.
      if (k > 0 && others.size() + i < ends.size()) break;
      round.sequences.push_back(std::move(others.back()));
      others.pop_back();
    }
    if (i < ends.size()) round.sequences.push_back(std::move(ends[i]));
    if (!round.sequences.empty()) rounds.push_back(std::move(round));
  }
  return rounds;
}

std::vector<Round> midway_rounds(const std::vector<Sequence>& sequences, size_t count,
                                 size_t per_round, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Round> rounds(sequences.empty() ? 0 : count);
  for (Round& round : rounds) {
    round.midway = true;
    for (size_t k = 0; k < per_round; ++k)
      round.sequences.push_back(sequences[random() % sequences.size()]);
  }
  return rounds;
}

}  // namespace graftfs::crash
