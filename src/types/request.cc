#include "types/request.h"

namespace graftfs {

const char* op_name(const Args& args) {
  static constexpr const char* names[] = {
      "lookup", "lookup_parent", "getattr", "setattr", "mknod", "mkdir", "create", "symlink",
      "readlink", "link", "unlink", "rmdir", "rename", "open", "release", "wrote", "read",
      "readdir", "getxattr", "listxattr", "setxattr", "removexattr", "access", "statfs", "sync"};
  static_assert(std::size(names) == std::variant_size_v<Args>);
  return names[args.index()];
}

}  // namespace graftfs
