#include "cluster/table.h"

#include "cluster/records.h"

namespace graftfs::cluster {

namespace {
constexpr uint16_t kLastNumber = 0xfffe;
}

const char* name_of(RankState state) {
  switch (state) {
    case RankState::serving:
      return "serving";
    case RankState::vacant:
      return "vacant";
    case RankState::leaving:
      return "leaving";
  }
  return "?";
}

size_t Table::run_by(NodeId node) const {
  size_t n = 0;
  for (const auto& [rank, line] : ranks) n += line.node == node;
  return n;
}

bool Table::take(RankId rank, Epoch epoch, NodeId node) {
  auto it = ranks.find(rank);
  if (it == ranks.end() || it->second.epoch >= epoch) return false;
  TableRank& line = it->second;
  line.epoch = epoch;
  line.node = node;
  if (line.state == RankState::vacant) line.state = RankState::serving;
  return true;
}

bool Table::give_up(RankId rank, NodeId node) {
  auto it = ranks.find(rank);
  if (it == ranks.end() || it->second.node != node) return false;
  it->second.node = 0;
  if (it->second.state == RankState::serving) it->second.state = RankState::vacant;
  return true;
}

std::optional<RankId> Table::add() {
  if (ranks.size() >= kMaxRanks) return std::nullopt;
  for (uint16_t number = 0; number < kLastNumber; ++number) {
    if (heirs.contains(RankId{number})) continue;
    if (ranks.try_emplace(RankId{number}).second) return RankId{number};
  }
  return std::nullopt;
}

Result<void> Table::leave(RankId rank) {
  auto it = ranks.find(rank);
  if (it == ranks.end())
    return fail(ENOENT, fmt::format("there is no rank {}; see 'graftfs rank list'", rank));
  size_t staying = 0;
  for (const auto& [other, line] : ranks)
    staying += other != rank && line.state != RankState::leaving;
  if (staying == 0)
    return fail(EINVAL,
                fmt::format("rank {} is the last one and cannot be removed; add another one "
                            "first with 'graftfs rank add'",
                            rank));
  it->second.state = RankState::leaving;
  return {};
}

bool Table::remove(RankId rank, RankId heir) {
  auto it = ranks.find(rank);
  if (it == ranks.end() || it->second.state != RankState::leaving) return false;
  ranks.erase(it);
  for (auto& [gone, now] : heirs)
    if (now == rank) now = heir;
  heirs[rank] = heir;
  return true;
}

std::string encode(const Table& table) {
  std::string text = fmt::format("root = {}\n", table.root);
  for (const auto& [rank, line] : table.ranks) {
    text +=
        fmt::format("rank = {} {} {:016x} {}\n", rank, line.epoch, line.node, name_of(line.state));
  }
  for (const auto& [gone, heir] : table.heirs) text += fmt::format("gone = {} {}\n", gone, heir);
  return text;
}

Result<Table> decode_table(std::string_view text) {
  Table table;
  if (text.empty()) return table;
  auto bad = [](std::string_view line) {
    return damaged(
        fmt::format("the cluster's table has a line that makes no sense: '{}'; restore "
                    "the volume's file cluster/table.* from a backup",
                    line));
  };
  bool rooted = false;
  for (LineReader lines(text); lines.next();) {
    Words words(lines.value());
    if (lines.name() == "root") {
      if (!words.number(table.root.v, 10) || !words.end()) return bad(lines.line());
      rooted = true;
    } else if (lines.name() == "rank") {
      RankId rank;
      TableRank line;
      std::string_view state;
      if (!words.number(rank.v, 10) || !words.number(line.epoch.v, 10) ||
          !words.number(line.node, 16) || !words.word(state) || !words.end() ||
          table.ranks.contains(rank)) {
        return bad(lines.line());
      }
      bool known = false;
      for (RankState s : {RankState::serving, RankState::vacant, RankState::leaving}) {
        if (state != name_of(s)) continue;
        line.state = s;
        known = true;
      }
      if (!known) return bad(lines.line());
      table.ranks[rank] = line;
    } else if (lines.name() == "gone") {
      RankId rank, heir;
      if (!words.number(rank.v, 10) || !words.number(heir.v, 10) || !words.end() ||
          !table.heirs.emplace(rank, heir).second)
        return bad(lines.line());
    } else {
      return bad(lines.line());
    }
  }
  if (!rooted) return bad("");
  return table;
}

}  // namespace graftfs::cluster
