#pragma once
// Which rank has which subtree, as all ranks say it together (docs/protocols/subtrees.md).

#include <map>
#include <set>
#include <vector>

#include "tools/fsck.h"

namespace graftfs::tools {

// Where a directory lies: the nearest root of a subtree on the way up.
struct Around {
  Ino root;  // 0: the way does not lead to one
  bool unsettled = false;
};

class SubtreeMap {
 public:
  SubtreeMap(const FsckModel& model, const std::map<RankId, RankState*>& states,
             const std::set<Ino>& unsettled);

  // Every directory has exactly one authority; where one rank's subtree ends another one's begins.
  std::vector<Problem> check() const;
  // Gives every root one owner, drops those that are not there, and draws all bounds anew.
  void repair();

 private:
  struct Owner {
    RankId rank;
    Import* import = nullptr;
  };
  Around around(Ino dir) const;
  Ino parent_of(Ino dir) const;
  bool is_there(Ino dir) const;
  void check_root(Ino root, const std::vector<Owner>& owners, std::vector<Problem>& out) const;
  void check_bounds(RankId rank, const Import& import, std::vector<Problem>& out) const;
  Problem problem(ProblemKind kind, Ino ino, std::string sentence, std::string repair) const;

  const FsckModel& model_;
  const std::map<RankId, RankState*>& states_;
  const std::set<Ino>& unsettled_;
  std::map<Ino, std::vector<Owner>> owners_;
};

}  // namespace graftfs::tools
