#pragma once
// Who serves what (docs/protocols/subtrees.md): pure functions over the cache and the rank's state.

#include "cache/cache.h"
#include "events/rank_state.h"
#include "types/request.h"

namespace graftfs {

// What is known of a directory, or of the inode that was asked for.
struct Place {
  enum What : uint8_t {
    ours,
    other,   // `rank` serves it, or knows more; kNobody: it is not known who
    absent,  // it is nowhere
    frozen,  // in the import `import`, which is not settled yet
  } what = other;
  RankId rank = kNobody;
  Ino import;  // ours, frozen: the root of the import that holds it
};

// The root of the import that holds a cached directory; 0: it hangs nowhere.
Ino import_of(const RankState& state, const Dir& dir);
// By what is cached. `other`, kNobody: the way up from it is not cached.
Place place_of(const Cache& cache, const RankState& state, Ino dir);
// The rank whose hidden directory it is, as it was made; kNobody: it is none.
RankId rank_of_hidden_dir(Ino ino);
// From "/", as far as the path of its import is known.
std::string full_path(const RankState& state, const Dir& dir);
// The inos from the directory up to its import's root, both included.
std::vector<Ino> way_up(const RankState& state, const Dir& dir);
// The bounds of the import that lie at or below the directory.
std::vector<Ino> bounds_below(const Cache& cache, const Import& import, const Dir& dir);

}  // namespace graftfs
