// Rename: a name moves within this rank's authority: a null entry and a new
// one (or two new ones for an exchange); a directory that moves has a new backpointer.
#include <nlohmann/json.hpp>

#include "events/registry.h"

namespace graftfs {

const EventKind kRenameEvent = {EventType::rename, "Rename",
                                [](ReplayContext& context, Lsn lsn, std::string_view payload) {
                                  return replay_tree(context, EventType::rename, lsn, payload);
                                },
                                [](std::string_view payload, nlohmann::json& out) {
                                  return describe_tree(EventType::rename, payload, out);
                                }};

}  // namespace graftfs
