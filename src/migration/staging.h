#pragma once
// A part of a subtree on its way: what of it goes into the importer's journal, and what of it joins
// the cache without.

#include <string>

#include "cache/cache.h"
#include "types/wire.h"

namespace graftfs::migration {

// The last word about a directory that has left the subtree while it was copied: it hangs nowhere.
DirHeader tombstone(Ino ino, Version last);

// The dirty items of a part as ImportPart holds them; "": there are none.
std::string dirty_items(const msg::MigratePart& part);
// The rest of it, what the store has as well, into the cache of what is on its way.
void merge_clean(Cache& cache, const msg::MigratePart& part);

}  // namespace graftfs::migration
