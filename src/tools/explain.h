#pragma once
// Why a file is what it is: every event of the journal that had to do with it.

#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "events/event.h"
#include "tools/journal_view.h"

namespace graftfs::tools {

// An entry as a mount would find it: the newer of what the journal and the store say. Kind null:
// there is none.
Task<Result<EntryValue>> find_entry(const Cache& cache, DirStore& store, Ino dir, std::string name);
// "/a/b" to its ino. A name that is gone is looked for in the journal.
struct FoundPath {
  Ino ino;
  bool gone = false;  // the name is not there any more
};
Task<Result<FoundPath>> resolve_path(const ReplayedJournal& journal, DirStore& store,
                                     std::string path);

struct Explanation {
  Lsn lsn;
  SegmentId segment;
  uint64_t offset = 0;
  std::string type;
  std::string words;  // one sentence without a full stop
};
// In the order of the journal. Paths are those that directories have at the end of it.
std::vector<Explanation> explain(const ReplayedJournal& journal, Ino ino);
// What is known of it now: a sentence.
std::string describe_now(const ReplayedJournal& journal, Ino ino);
nlohmann::json to_json(const Explanation& explanation);

}  // namespace graftfs::tools
