#include "server/authority.h"

namespace graftfs {

Ino import_of(const RankState& state, const Dir& dir) {
  for (const Dir* d = &dir; d; d = d->parent)
    if (state.is_root(d->ino())) return d->ino();
  return {};
}

Place place_of(const Cache& cache, const RankState& state, Ino ino) {
  const Dir* dir = cache.find_dir(ino);
  if (dir && dir->is_foreign()) return {Place::other, dir->foreign, {}};
  if (dir) {
    Ino root = import_of(state, *dir);
    if (!root) return {};
    return {state.imports.at(root).settled ? Place::ours : Place::frozen, kNobody, root};
  }
  auto import = state.imports.find(ino);
  if (import != state.imports.end())
    return {import->second.settled ? Place::ours : Place::frozen, kNobody, ino};
  if (const Bound* bound = state.find_bound(ino)) return {Place::other, bound->rank, {}};
  auto forward = state.forwards.find(ino);
  if (forward != state.forwards.end()) return {Place::other, forward->second.to, {}};
  return {Place::other, rank_of_hidden_dir(ino), {}};
}

std::string full_path(const RankState& state, const Dir& dir) {
  std::string below;
  for (const Dir* d = &dir; d; d = d->parent) {
    auto import = state.imports.find(d->ino());
    if (import != state.imports.end()) {
      const std::string& path = import->second.path;
      return path == "/" && !below.empty() ? below : path + below;
    }
    below = "/" + d->header.at.name + below;
  }
  return below;
}

RankId rank_of_hidden_dir(Ino ino) {
  if (!is_hidden_dir(ino)) return kNobody;
  return RankId{static_cast<uint16_t>((ino.v - kHiddenInoBase) / 2)};
}

std::vector<Ino> way_up(const RankState& state, const Dir& dir) {
  std::vector<Ino> way;
  for (const Dir* d = &dir; d; d = d->parent) {
    way.push_back(d->ino());
    if (state.is_root(d->ino())) break;
  }
  return way;
}

std::vector<Ino> bounds_below(const Cache& cache, const Import& import, const Dir& dir) {
  std::vector<Ino> below;
  for (const auto& [ino, bound] : import.bounds) {
    const Dir* stub = cache.find_dir(ino);
    if (stub && Cache::is_below(stub, &dir)) below.push_back(ino);
  }
  return below;
}

}  // namespace graftfs
