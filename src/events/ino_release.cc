// InoRelease: inodes without names were purged: their data and
// directory objects are gone from the store, and their ~orphans entries go. Their inos come back as
// purged, never to be used again.
#include <nlohmann/json.hpp>

#include "events/registry.h"

namespace graftfs {

const EventKind kInoReleaseEvent = {EventType::ino_release, "InoRelease",
                                    [](ReplayContext& context, Lsn lsn, std::string_view payload) {
                                      return replay_tree(context, EventType::ino_release, lsn,
                                                         payload);
                                    },
                                    [](std::string_view payload, nlohmann::json& out) {
                                      return describe_tree(EventType::ino_release, payload, out);
                                    }};

}  // namespace graftfs
