#include "types/request.h"

namespace graftfs {

const char* op_name(const Args& args) {
  static constexpr const char* names[] = {
      "lookup",      "lookup_parent", "getattr", "setattr", "mknod",    "mkdir",     "create",
      "symlink",     "readlink",      "link",    "unlink",  "rmdir",    "rename",    "open",
      "release",     "wrote",         "read",    "readdir", "getxattr", "listxattr", "setxattr",
      "removexattr", "access",        "statfs",  "sync",    "lock"};
  static_assert(std::size(names) == std::variant_size_v<Args>);
  return names[args.index()];
}

Ino key_ino(const Args& args) {
  struct Key {
    Ino operator()(const LookupArgs& a) const { return a.dir; }
    Ino operator()(const LookupParentArgs& a) const { return a.dir; }
    Ino operator()(const GetattrArgs& a) const { return a.ino; }
    Ino operator()(const SetattrArgs& a) const { return a.ino; }
    Ino operator()(const MknodArgs& a) const { return a.dir; }
    Ino operator()(const MkdirArgs& a) const { return a.dir; }
    Ino operator()(const CreateArgs& a) const { return a.dir; }
    Ino operator()(const SymlinkArgs& a) const { return a.dir; }
    Ino operator()(const ReadlinkArgs& a) const { return a.ino; }
    Ino operator()(const LinkArgs& a) const { return a.dir; }
    Ino operator()(const UnlinkArgs& a) const { return a.dir; }
    Ino operator()(const RmdirArgs& a) const { return a.dir; }
    Ino operator()(const RenameArgs& a) const { return a.new_dir; }
    Ino operator()(const OpenArgs& a) const { return a.ino; }
    Ino operator()(const ReleaseArgs& a) const { return a.ino; }
    Ino operator()(const WroteArgs& a) const { return a.ino; }
    Ino operator()(const ReadArgs& a) const { return a.ino; }
    Ino operator()(const ReaddirArgs& a) const { return a.dir; }
    Ino operator()(const GetxattrArgs& a) const { return a.ino; }
    Ino operator()(const ListxattrArgs& a) const { return a.ino; }
    Ino operator()(const SetxattrArgs& a) const { return a.ino; }
    Ino operator()(const RemovexattrArgs& a) const { return a.ino; }
    Ino operator()(const AccessArgs& a) const { return a.ino; }
    Ino operator()(const StatfsArgs&) const { return {}; }
    Ino operator()(const SyncArgs&) const { return {}; }
    Ino operator()(const LockArgs& a) const { return a.range.ino; }
  };
  return std::visit(Key{}, args);
}

}  // namespace graftfs
