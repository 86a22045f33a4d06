// Phase 2: fragments that still dangle are hung where the store says they are.
#include <fmt/format.h>

#include "base/fault.h"
#include "recovery/recover.h"

namespace graftfs {

Task<Result<void>> attach(DirStore& store, Cache& cache, const RankState& state) {
  std::vector<Ino> dangling;
  cache.for_each_dir([&](Dir& dir) {
    if (!dir.parent && !state.is_root(dir.ino())) dangling.push_back(dir.header.at.parent);
  });
  while (!dangling.empty()) {
    Ino ino = dangling.back();
    dangling.pop_back();
    if (!ino || cache.find_dir(ino)) continue;
    MARK("recovery.attach.asked_store");
    KILL_POINT("recovery.attach.ask");
    CO_TRY_ASSIGN(auto bytes, co_await store.read_header(ino));
    if (!bytes)
      co_return damaged(
          fmt::format("directory {:#x} is named as a parent in the journal, but the "
                      "store has no such directory; run 'graftfs fsck'",
                      ino.v));
    CO_TRY_ASSIGN(DirHeader header, decode_dir_header(ino, *bytes));
    Dir* dir = cache.merge_header(header);
    if (!dir->parent && !state.is_root(ino)) dangling.push_back(header.at.parent);
  }
  cache.attach_all();
  co_return Result<void>{};
}

}  // namespace graftfs
