#pragma once
// The journals of all ranks of a volume, replayed, and settled among each other as far as the
// journals alone say how: what is left is the tree that the next start finds.

#include <map>
#include <memory>
#include <set>
#include <string>

#include "cluster/table.h"
#include "tools/fsck_model.h"
#include "tools/journal_view.h"

namespace graftfs::tools {

struct VolumeView {
  std::map<RankId, std::unique_ptr<ReplayedJournal>> journals;
  // Committed by their coordinator and not yet carried out by everybody: how many, and which
  // files and directories they are about. The ranks finish them when they meet.
  size_t unfinished = 0;
  std::set<Ino> unsettled;

  std::map<RankId, RankState*> states() const;
  // Only what a rank has is taken from its cache: what it knew of others' directories is old.
  KnownDirs known_dirs() const;
};

// The ranks that the volume's table names, and those that ever owned a journal and were not
// removed; rank 0 always.
Task<Result<std::set<RankId>>> ranks_of(Store& store);
// `source.rank` is not looked at. EUCLEAN where a mount or a start of one of the ranks would
// refuse. Reads only.
Task<Result<VolumeView>> replay_volume(JournalSource source);

}  // namespace graftfs::tools
