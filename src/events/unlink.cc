// Unlink: a name goes (unlink, rmdir): a null entry. Where it was the inode's
// last one, the inode is in the same event's ~orphans entry.
#include <nlohmann/json.hpp>

#include "events/registry.h"

namespace graftfs {

const EventKind kUnlinkEvent = {EventType::unlink, "Unlink",
                                [](ReplayContext& context, Lsn lsn, std::string_view payload) {
                                  return replay_tree(context, EventType::unlink, lsn, payload);
                                },
                                [](std::string_view payload, nlohmann::json& out) {
                                  return describe_tree(EventType::unlink, payload, out);
                                }};

}  // namespace graftfs
