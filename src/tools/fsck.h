#pragma once
// Checks a whole volume, and repairs what can be repaired (docs/operations.md).

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/fsck_model.h"
#include "tools/journal_view.h"
#include "tools/volume_view.h"

namespace graftfs::tools {

enum class ProblemKind : uint8_t {
  unreadable,    // the store does not give a record
  damaged_dir,   // a directory with values that are damaged
  missing_root,  // the root or a hidden directory is not there
  missing_dir,   // a name leads to a directory that is not there
  dir_named_twice,
  lost_dir,          // no name leads to a directory, or only in a circle
  backpointer,       // a directory says it hangs elsewhere
  entry_count,       // its size is not the number of its entries
  dir_links,         // its link count is not two and its subdirectories
  missing_file,      // a name leads to a file that is not there
  file_named_twice,  // two entries embed the same inode, or one is named and embedded
  ino_twice,         // a file and a directory have the same number
  file_links,        // the link count is not the number of names
  lost_file,         // kept for other names, and there are none
  orphan,            // waits to be purged and has names
  location,          // the index leads elsewhere
  free_ino,          // the number would be given to a new file, too
  lost_data,         // data that no file claims
  damaged_data,      // the contents of a file are not what was written
  two_authorities,   // a directory belongs to two ranks
  no_authority,      // a directory belongs to no rank
  lost_subtree,      // a rank's subtree begins at a directory that is not there
  bound,             // a rank's subtree ends where it does not lead to
  ino_range,         // two ranks would give the same numbers to new files
  unfinished,        // operations between ranks that the next start finishes
};

struct Problem {
  ProblemKind kind{};
  Ino ino;
  std::string path;
  std::string sentence;  // what is wrong
  std::string repair;    // what --repair does about it
  bool note = false;     // normal after a crash; nothing is wrong
  NameRef name;          // the entry concerned, where there is one
};
const char* name_of(ProblemKind kind);
nlohmann::json to_json(const Problem& problem);

struct FsckReport {
  std::vector<Problem> problems;
  uint64_t ranks = 0, dirs = 0, files = 0, names = 0;
  bool clean() const {
    for (const Problem& p : problems)
      if (!p.note) return false;
    return true;
  }
};

// Looks only. `states`: of the replayed journals. `unsettled`: what is about these inos is only
// noted, because an operation between ranks that concerns them is not finished.
std::vector<Problem> check_model(const FsckModel& model, const std::map<RankId, RankState*>& states,
                                 const std::set<Ino>& unsettled);
// The index of a store against what it indexes; of entries that the journal still holds nothing
// is expected.
Task<Result<std::vector<Problem>>> check_locations(const FsckModel& model, DirStore& store);
// Reads all file data that is stored. Fails only where the medium does.
Task<Result<std::vector<Problem>>> check_data(const FsckModel& model, DataStore& data);
// What is there counts from now on, where one of these says that it is damaged.
Task<Result<void>> believe_data(const std::vector<Problem>& problems, DataStore& data);
// Of the volume, with the journals of all its ranks: `source.rank` is not looked at. `data`: the
// contents of files, too.
Task<Result<FsckReport>> check_volume(JournalSource source, bool data = false);

// Owns the journals of all ranks, writes everything they hold to the store, repairs, and begins
// the journals anew. Nothing that has data is dropped: what has no place is named in /lost+found. A
// crash in the middle leaves a volume that can be mounted as before or repaired again. EBUSY while
// operations between ranks are not finished.
struct RepairResult {
  FsckReport before, after;
};
Task<Result<RepairResult>> repair_volume(JournalSource source, bool data = false);

}  // namespace graftfs::tools
