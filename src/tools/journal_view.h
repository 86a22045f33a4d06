#pragma once
// A rank's journal for people: what is in it, what is wrong with it, why a file is what it is.
//
// Everything here only reads, also while the volume is mounted.

#include <absl/functional/function_ref.h>

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "cache/cache.h"
#include "events/rank_state.h"
#include "journal/damage.h"
#include "journal/scan.h"
#include "store/store.h"

namespace graftfs::tools {

struct JournalSource {
  Executor* executor = nullptr;
  Store* store = nullptr;
  RankId rank;
  uint64_t volume = 0;
  bool must_exist = true;
  bool served = false;  // a daemon writes it meanwhile: what looks torn is looked at again
  std::string volume_name;
};

struct JournalView {
  JournalDevice* device = nullptr;
  JournalScan scan;
  Lsn last;          // what a mount would keep
  uint64_t cut = 0;  // events behind it that it would not
};
// Reads the whole journal. Fails only where the device does; damage is in the scan.
Task<Result<JournalView>> read_journal(JournalSource source);

// A cache and a state as a mount would have them, made of the journal and, where directories
// dangle and `attached` is asked for, of the store.
struct ReplayedJournal {
  JournalView view;
  Cache cache;
  RankState state;
  uint64_t events = 0;
  Nanos took = 0;
};
// EUCLEAN where a mount would refuse.
Task<Result<std::unique_ptr<ReplayedJournal>>> replay_journal(JournalSource source,
                                                              bool accept_loss, bool attached);

struct SegmentSummary {
  SegmentId id;
  bool major = false;
  Epoch epoch;
  uint64_t wall_sec = 0;
  uint64_t bytes = 0;
  uint64_t frames = 0, events = 0;
  Lsn first, last;
  std::map<std::string, uint64_t> types;      // events of each type
  uint64_t clean_bytes = 0, dirty_bytes = 0;  // traces and summaries; the rest of the events
};
std::vector<SegmentSummary> summarize(const JournalScan& scan);
nlohmann::json to_json(const SegmentSummary& summary);

// One frame as a JSON object. False: the payload makes no sense (said in "error").
bool frame_json(const Frame& frame, nlohmann::json& out);

struct FoundDamage {
  std::string kind, place, outcome, file;
  uint64_t segment = 0, offset = 0, lsn = 0;
  bool harmless = false;  // the volume mounts and nothing durable is lost
  std::string sentence;
};
// All of it: what the scan found, and events that make no sense.
std::vector<FoundDamage> find_damage(const JournalView& view, const std::string& volume_name);
nlohmann::json to_json(const FoundDamage& damage);

}  // namespace graftfs::tools
