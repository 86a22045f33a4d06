#pragma once
// Every log entry type: its name, how it is replayed, how it is shown to people.

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "events/event.h"
#include "events/rank_state.h"

namespace graftfs {

struct ReplayContext {
  Cache& cache;
  RankState& state;
  TreeEvent scratch;  // reused from event to event
};

struct EventKind {
  EventType type;
  const char* name;
  // Decodes and applies. False: the payload makes no sense (damage that the checksum did not
  // find, or a programmer's error).
  bool (*replay)(ReplayContext& context, Lsn lsn, std::string_view payload);
  // Adds what the payload says to a JSON object. False: it makes no sense.
  bool (*describe)(std::string_view payload, nlohmann::json& out);
};

extern const EventKind kImportPathEvent, kImportEvent, kExportEvent, kInoAllocEvent,
    kInoReleaseEvent, kInodeEvent, kLinkEvent, kUnlinkEvent, kRenameEvent, kSessionEvent,
    kPrepareEvent, kCommitEvent, kAbortEvent, kCloseEvent, kImportPartEvent, kImportEndEvent,
    kExportEndEvent;

std::span<const EventKind* const> event_kinds();
const EventKind* find_event(uint8_t type);

// Live: what replay does with a decoded tree event. Also applies what is special to the type.
bool apply_tree_event(Cache& cache, RankState& state, Lsn lsn, const TreeEvent& event);

// For the event files: replay and description of a payload that is traces and a tree event.
bool replay_tree(ReplayContext& context, EventType type, Lsn lsn, std::string_view payload);
bool describe_tree(EventType type, std::string_view payload, nlohmann::json& out);

// The payload of a segment's start: checkpoint (major segments), then the trace summary.
void encode_segment_payload(const RankState* checkpoint, std::string& out);
bool replay_segment_payload(ReplayContext& context, bool major, bool use_checkpoint, Lsn lsn,
                            std::string_view payload);
bool describe_segment_payload(bool major, std::string_view payload, nlohmann::json& out);

}  // namespace graftfs
