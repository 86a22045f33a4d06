#pragma once
// The exporter's side of a migration, without a subtree, a journal or a clock: what it is told
// becomes what is to be done. The table is that of docs/protocols/migration.md.
//
// Whoever drives it carries the actions out in their order and comes back with what came of them,
// as the next input. A crash forgets the state; after_export() says what recovery makes of the
// journal. Until `committing` every ending leaves the subtree with the exporter and nothing in the
// journal; from `committing` on there is no way back.

#include <absl/container/inlined_vector.h>

#include <optional>

#include "base/executor.h"
#include "migration/points.h"
#include "types/wire.h"

namespace graftfs::migration {

inline constexpr uint32_t kWindow = 4;      // parts that are sent and not acknowledged
inline constexpr uint64_t kFewItems = 512;  // so few may go over while it is frozen
inline constexpr uint32_t kMaxRounds = 8;   // of copying
inline constexpr uint32_t kMaxThaws = 16;   // then it is too busy to be moved
inline constexpr Nanos kOfferLimit = 2 * kSecond;
inline constexpr Nanos kCopyLimit = 10 * kSecond;  // without any progress
inline constexpr Nanos kFreezeLimit = 15 * kMillisecond;
inline constexpr Nanos kThawPause = 20 * kMillisecond;
inline constexpr Nanos kImportedLimit = 100 * kMillisecond;
inline constexpr Nanos kRepeatAfter = 50 * kMillisecond;

enum class ExportPhase : uint8_t {
  offered,
  copying,
  freezing,
  waiting,
  committing,
  finishing,
  ended,
};
inline constexpr int kExportPhases = static_cast<int>(ExportPhase::ended) + 1;

enum class ExportEnding : uint8_t { none, exported, refused, aborted, too_busy };

struct ExportState {
  ExportPhase phase = ExportPhase::offered;
  ExportEnding ending = ExportEnding::none;
  uint32_t sent = 0, taken = 0;  // parts: sent, and acknowledged
  uint32_t thaws = 0;
  bool pausing = false;      // copying: after a thaw; requests have their turn first
  bool finished = false;     // the importer said so
  bool bound_known = false;  // the authority of the root's parent knows the new place
  friend auto operator<=>(const ExportState&, const ExportState&) = default;
};

struct ExportInput {
  enum Kind : uint8_t {
    accepted,
    refused,
    part_taken,  // MigratePartDone
    progress,    // how much is left: `unsent`, `rounds`, `leases`
    quiet,       // frozen, and nothing is under way in the subtree any more
    imported,
    export_durable,
    finished,
    bound_known,  // BoundMovedDone
    aborted,      // by the importer
    disconnected,
    connected,
    asked,      // MigrateAsk
    timeout,    // of the timer that was set last
    cancelled,  // an operator, or the end of this rank
  } kind = accepted;
  uint32_t part = 0;
  uint64_t unsent = 0;  // items that the importer does not have as they are now
  uint32_t rounds = 0;  // times that the whole subtree was gone through
  bool leases = false;  // some are still out
};
inline constexpr int kExportInputs = ExportInput::cancelled + 1;

struct ExportAction {
  enum Kind : uint8_t {
    send_offer,
    recall,     // the leases below the root, and give none
    send_part,  // the next one; then tell `progress`
    freeze,     // park what touches the subtree; tell `quiet` when nothing is under way in it
    thaw,
    send_final,  // what is still unsent, as parts, then MigrateFinal
    log_export,  // and write it at once
    drop,        // the directories; parked requests and waiting locks are answered kAskRank
    send_finish,
    send_bound_moved,
    log_end,
    send_abort,
    tell,       // MigrateTell with `fate`
    set_timer,  // to `delay`, in place of the last one; 0: none
    pass,       // the kill point `point`
    gone,       // forget it; `ending` of the state says how it went
  } kind = send_offer;
  msg::MigrateFate fate = msg::MigrateFate::undecided;
  Nanos delay = 0;
  Point point = Point::export_offered;
  friend bool operator==(const ExportAction&, const ExportAction&) = default;
};
using ExportActions = absl::InlinedVector<ExportAction, 8>;

struct ExportStep {
  ExportState next;
  ExportActions actions;
};

// `tell_parent`: another rank is the authority of the root's parent.
ExportStep begin_export(bool tell_parent);
ExportStep step(const ExportState& state, const ExportInput& input);

// What recovery finds in the exporter's journal makes the state that it goes on from; nullopt: the
// subtree is this rank's, as if nothing had been.
struct ExportJournal {
  bool exported = false;  // Export survived
  bool ended = false;     // and ExportEnd
};
std::optional<ExportStep> after_export(const ExportJournal& journal, bool tell_parent);

// What an exporter answers about an id that it has no state of: it has given up, or a crash has
// made it forget. `forward_has_id`: its journal says that it has exported.
enum class LostAnswer : uint8_t { none, abort, not_exported, exported };
LostAnswer answer_without_state(const Body& message, bool forward_has_id);

}  // namespace graftfs::migration
