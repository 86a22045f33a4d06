// Link: a new name, with a new inode (create, mkdir, mknod, symlink) or for one
// that exists (link).
#include <nlohmann/json.hpp>

#include "events/registry.h"

namespace graftfs {

const EventKind kLinkEvent = {EventType::link, "Link",
                              [](ReplayContext& context, Lsn lsn, std::string_view payload) {
                                return replay_tree(context, EventType::link, lsn, payload);
                              },
                              [](std::string_view payload, nlohmann::json& out) {
                                return describe_tree(EventType::link, payload, out);
                              }};

}  // namespace graftfs
