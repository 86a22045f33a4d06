#pragma once
// `cluster/table`: which ranks exist and who runs them (docs/protocols/cluster.md).

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"

namespace graftfs::cluster {

using NodeId = uint64_t;  // 0: none

enum class RankState : uint8_t {
  serving,
  vacant,   // given up in good order, or not begun: whoever has a place for it takes it
  leaving,  // hands its subtrees over, and then goes
};
const char* name_of(RankState state);

struct TableRank {
  Epoch epoch;  // of the fence, when it was taken
  NodeId node = 0;
  RankState state = RankState::vacant;
  friend bool operator==(const TableRank&, const TableRank&) = default;
};

// A value; changes are made to a copy, which then takes the place of the old one by
// compare-and-set.
struct Table {
  RankId root;  // the authority for /
  std::map<RankId, TableRank> ranks;
  // Ranks that were removed, and who has their hidden directories since; the number is not used
  // again, because those go on to be called after it.
  std::map<RankId, RankId> heirs;
  friend bool operator==(const Table&, const Table&) = default;

  const TableRank* find(RankId rank) const {
    auto it = ranks.find(rank);
    return it == ranks.end() ? nullptr : &it->second;
  }
  size_t run_by(NodeId node) const;

  // The rank was taken under this epoch. False where the table knows a newer one, or where it was
  // removed. One that was leaving goes on to leave.
  bool take(RankId rank, Epoch epoch, NodeId node);
  // Its node gives it up. False where it is not this node's.
  bool give_up(RankId rank, NodeId node);
  // A new rank, of the lowest number that was never used; it is taken as any other. Nothing where
  // there are as many as there can be.
  std::optional<RankId> add();
  // ENOENT where there is none; EINVAL for the last one.
  Result<void> leave(RankId rank);
  // It has handed everything over to `heir`. False where it is not leaving.
  bool remove(RankId rank, RankId heir);
  // The rank itself, or who has what was its.
  RankId heir_of(RankId rank) const {
    auto it = heirs.find(rank);
    return it == heirs.end() ? rank : it->second;
  }
};

inline constexpr char kTableKey[] = "cluster/table";
inline constexpr uint16_t kMaxRanks = 1024;  // at a time

std::string encode(const Table& table);
// EUCLEAN with a sentence. Empty text: a volume that no cluster has served: no ranks.
Result<Table> decode_table(std::string_view text);

}  // namespace graftfs::cluster
