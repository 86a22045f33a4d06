// Inode: new attributes, xattrs, size or times of inodes (chown, chmod, utime,
// truncate, setxattr, a write's new size); the tree's shape stays. Also what is logged again.
#include <nlohmann/json.hpp>

#include "events/registry.h"

namespace graftfs {

const EventKind kInodeEvent = {EventType::inode, "Inode",
                               [](ReplayContext& context, Lsn lsn, std::string_view payload) {
                                 return replay_tree(context, EventType::inode, lsn, payload);
                               },
                               [](std::string_view payload, nlohmann::json& out) {
                                 return describe_tree(EventType::inode, payload, out);
                               }};

}  // namespace graftfs
