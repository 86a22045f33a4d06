#include "tools/subtree_map.h"

#include <fmt/format.h>

#include <algorithm>

namespace graftfs::tools {

SubtreeMap::SubtreeMap(const FsckModel& model, const std::map<RankId, RankState*>& states,
                       const std::set<Ino>& unsettled)
    : model_(model), states_(states), unsettled_(unsettled) {
  for (const auto& [rank, state] : states_)
    for (auto& [root, import] : state->imports) owners_[root].push_back({rank, &import});
}

Ino SubtreeMap::parent_of(Ino dir) const {
  auto it = model_.dirs.find(dir);
  return it == model_.dirs.end() || it->second.links.empty() ? Ino{} : it->second.links.front().dir;
}

bool SubtreeMap::is_there(Ino dir) const {
  auto it = model_.dirs.find(dir);
  return it != model_.dirs.end() && (it->second.has_header || it->second.damaged);
}

Around SubtreeMap::around(Ino dir) const {
  Around out;
  std::set<Ino> seen;
  for (Ino at = dir; at && seen.insert(at).second; at = parent_of(at)) {
    out.unsettled = out.unsettled || unsettled_.contains(at);
    if (!owners_.contains(at)) continue;
    out.root = at;
    return out;
  }
  return out;
}

Problem SubtreeMap::problem(ProblemKind kind, Ino ino, std::string sentence,
                            std::string repair) const {
  Problem p{kind, ino, model_.path_of(ino), std::move(sentence), std::move(repair)};
  p.note = unsettled_.contains(ino) || around(parent_of(ino)).unsettled;
  return p;
}

void SubtreeMap::check_root(Ino root, const std::vector<Owner>& owners,
                            std::vector<Problem>& out) const {
  const std::string path = model_.path_of(root);
  if (owners.size() > 1)
    out.push_back(problem(ProblemKind::two_authorities, root,
                          fmt::format("directory {} belongs to rank {} and to rank {}", path,
                                      owners[0].rank, owners[1].rank),
                          "it stays with the one that got it last"));
  if (root == kRootIno || is_hidden_dir(root)) return;
  if (!is_there(root)) {
    out.push_back(problem(ProblemKind::lost_subtree, root,
                          fmt::format("rank {} has a subtree that begins at directory {}, which is "
                                      "not there",
                                      owners[0].rank, root.v),
                          "the rank forgets it"));
    return;
  }
  const Ino outer = around(parent_of(root)).root;
  if (!outer) return;  // it hangs nowhere, which is said elsewhere
  for (const Owner& has : owners_.at(outer)) {
    if (has.rank == owners[0].rank || has.import->bounds.contains(root)) continue;
    out.push_back(problem(ProblemKind::two_authorities, root,
                          fmt::format("directory {} belongs to rank {}, and rank {} takes it for "
                                      "a part of its {}",
                                      path, owners[0].rank, has.rank, model_.path_of(outer)),
                          "it stays with the one whose subtree it is"));
  }
}

void SubtreeMap::check_bounds(RankId rank, const Import& import, std::vector<Problem>& out) const {
  for (const auto& [ino, bound] : import.bounds) {
    const std::string path = model_.path_of(ino);
    auto owners = owners_.find(ino);
    if (owners == owners_.end()) {
      out.push_back(problem(ProblemKind::no_authority, ino,
                            fmt::format("directory {} belongs to no rank: rank {} takes it for one "
                                        "of rank {}'s",
                                        path, rank, bound.rank),
                            "it becomes a part of what it hangs in"));
    } else if (around(parent_of(ino)).root != import.root) {
      out.push_back(problem(ProblemKind::bound, ino,
                            fmt::format("rank {} says that its subtree {} ends at {}, which does "
                                        "not hang in it",
                                        rank, model_.path_of(import.root), path),
                            "the rank forgets it"));
    }
  }
}

std::vector<Problem> SubtreeMap::check() const {
  std::vector<Problem> out;
  if (owners_.empty()) return out;  // no rank has served the volume yet
  std::set<Ino> tops{kRootIno};
  for (const auto& [ino, dir] : model_.dirs)
    if (is_hidden_dir(ino) && is_there(ino)) tops.insert(ino);
  for (Ino top : tops)
    if (!owners_.contains(top))
      out.push_back(problem(ProblemKind::no_authority, top,
                            fmt::format("directory {} belongs to no rank", model_.path_of(top)),
                            "it becomes the lowest rank's"));
  for (const auto& [root, owners] : owners_) {
    check_root(root, owners, out);
    for (const Owner& owner : owners) check_bounds(owner.rank, *owner.import, out);
  }
  return out;
}

void SubtreeMap::repair() {
  if (owners_.empty()) return;
  auto add = [&](Ino top) {
    Import& import = states_.begin()->second->imports[top];
    import.root = top;
    import.path = model_.path_of(top);
    owners_[top] = {{states_.begin()->first, &import}};
  };
  if (!owners_.contains(kRootIno)) add(kRootIno);
  for (const auto& [ino, dir] : model_.dirs)
    if (is_hidden_dir(ino) && is_there(ino) && !owners_.contains(ino)) add(ino);
  // One owner each, and none where nothing is.
  for (auto it = owners_.begin(); it != owners_.end();) {
    auto& [root, owners] = *it;
    const bool top = root == kRootIno || is_hidden_dir(root);
    std::stable_sort(owners.begin(), owners.end(), [](const Owner& a, const Owner& b) {
      return a.import->moves > b.import->moves;
    });
    const size_t keep = top || is_there(root) ? 1 : 0;
    for (size_t i = keep; i < owners.size(); ++i) states_.at(owners[i].rank)->imports.erase(root);
    owners.resize(std::min(owners.size(), keep));
    it = owners.empty() ? owners_.erase(it) : std::next(it);
  }
  // What nobody has any more has gone nowhere.
  for (const auto& [rank, state] : states_)
    std::erase_if(state->forwards, [&](const auto& f) { return !owners_.contains(f.first); });
  for (auto& [root, owners] : owners_) owners[0].import->bounds.clear();
  std::vector<std::pair<RankId, Ino>> inner;  // subtrees that hang in one of the same rank
  for (auto& [root, owners] : owners_) {
    if (root == kRootIno || is_hidden_dir(root)) continue;
    Owner& mine = owners[0];
    mine.import->parent = parent_of(root);
    const Ino outer = around(mine.import->parent).root;
    if (!outer) continue;
    Owner& has = owners_.at(outer)[0];
    has.import->bounds[root] = {mine.import->parent, mine.rank, mine.import->moves};
    if (has.rank == mine.rank) inner.emplace_back(mine.rank, root);
  }
  for (const auto& [rank, root] : inner) states_.at(rank)->dissolve(root);
}

}  // namespace graftfs::tools
