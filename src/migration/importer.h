#pragma once
// The importer's side of a migration, as pure as the exporter's (migration/exporter.h).
//
// Before `logging` every ending is nothing, but for the end of parts that were logged. From
// `logging` on the subtree is ambiguous for this rank, whatever happens to it, until the exporter
// (or whoever has its journal) has said what became of it.

#include <absl/container/inlined_vector.h>

#include <optional>

#include "base/executor.h"
#include "migration/points.h"
#include "types/wire.h"

namespace graftfs::migration {

inline constexpr Nanos kAskAgain = 10 * kMillisecond;

enum class ImportPhase : uint8_t {
  accepted,
  receiving,
  logging,
  imported,
  ending,
  dropping,
  ended,
};
inline constexpr int kImportPhases = static_cast<int>(ImportPhase::ended) + 1;

struct ImportState {
  ImportPhase phase = ImportPhase::accepted;
  uint32_t received = 0;  // parts
  bool logged = false;    // one of them has an event in the journal
  bool asking = false;    // logging, imported: the connection was lost since
  bool settled = false;   // ending, ended: it is this rank's
  friend auto operator<=>(const ImportState&, const ImportState&) = default;
};

struct ImportInput {
  enum Kind : uint8_t {
    part,          // MigratePart `number`; `dirty`: with something that is not in the store
    part_durable,  // ImportPart `number`
    final,         // MigrateFinal; `number`: parts that there are
    import_durable,
    finish,   // MigrateFinish
    aborted,  // MigrateAbort
    told,     // MigrateTell: `fate`
    end_durable,
    disconnected,
    connected,
    timeout,
    cancelled,  // this rank does not want it any more
  } kind = part;
  uint32_t number = 0;
  bool dirty = false;
  msg::MigrateFate fate = msg::MigrateFate::undecided;
};
inline constexpr int kImportInputs = ImportInput::cancelled + 1;

struct ImportAction {
  enum Kind : uint8_t {
    send_accept,
    keep_part,       // `number`: what is clean in it, aside
    log_part,        // `number`: what is dirty in it, as ImportPart
    send_part_done,  // `number`
    log_import,      // and write it at once
    send_imported,
    absorb,   // staging joins the cache, together with the end: it is served from now on
    log_end,  // `settled`, and write it at once
    discard,  // forget staging
    send_finished,
    send_abort,
    send_ask,
    set_timer,  // to `delay`; 0: none
    pass,       // the kill point `point`
    gone,
  } kind = send_accept;
  uint32_t number = 0;
  bool settled = false;
  Nanos delay = 0;
  Point point = Point::import_offered;
  friend bool operator==(const ImportAction&, const ImportAction&) = default;
};
using ImportActions = absl::InlinedVector<ImportAction, 8>;

struct ImportStep {
  ImportState next;
  ImportActions actions;
};

ImportStep begin_import();
ImportStep step(const ImportState& state, const ImportInput& input);

// Whether an offer is taken; nullptr: it is, else why not, for people.
struct Willingness {
  bool leaving = false;    // the rank is retiring or stopping
  bool full = false;       // its cache is over its limit
  bool throttled = false;  // its journal is at its cap
  bool overlaps = false;   // it imports or exports a part of this, or around it, at the moment
};
const char* why_not(const Willingness& willingness);

// What recovery finds in the importer's journal makes the state that it goes on from; nullopt:
// nothing is open (parts without an Import are void).
struct ImportJournal {
  bool imported = false;  // Import survived
  bool ended = false;     // and ImportEnd
};
std::optional<ImportStep> after_import(const ImportJournal& journal);

// What an importer without state answers: it has ended, and said so maybe to nobody.
enum class StrayAnswer : uint8_t { none, finished, abort };
StrayAnswer answer_without_state(const Body& message);

}  // namespace graftfs::migration
