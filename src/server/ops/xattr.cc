#include "server/ops/xattr.h"

#include "server/migrate.h"
#include "server/ops/permission.h"

namespace graftfs::ops {
namespace {

// user.* exists for what has data of its own: on a device or a symlink permissions would not
// guard it.
bool has_user_xattrs(const Inode& inode) { return inode.is_regular() || inode.is_dir(); }

}  // namespace

Found<XattrSpace> xattr_space(std::string_view name) {
  if (name.empty() || name.size() > kXattrNameMax || name.find('\0') != name.npos)
    return stop(ERANGE);
  if (name == kAclAccess || name == kAclDefault) return XattrSpace::acl;
  if (name == kPinName) return XattrSpace::pin;
  constexpr struct {
    std::string_view prefix;
    XattrSpace space;
  } spaces[] = {{"user.", XattrSpace::user},
                {"trusted.", XattrSpace::trusted},
                {"security.", XattrSpace::security}};
  for (const auto& s : spaces) {
    if (!name.starts_with(s.prefix)) continue;
    if (name.size() == s.prefix.size()) return stop(EINVAL);
    return s.space;
  }
  return stop(EOPNOTSUPP);
}

int may_get_xattr(const OpContext& cx, const Inode& inode, XattrSpace space) {
  switch (space) {
    case XattrSpace::user:
      return has_user_xattrs(inode) ? may(cx, inode, kMayRead) : ENODATA;
    case XattrSpace::trusted:
      return cx.cred().is_root() ? 0 : ENODATA;
    case XattrSpace::acl:
      return inode.is_symlink() ? EOPNOTSUPP : 0;
    case XattrSpace::security:
    case XattrSpace::pin:
      return 0;
  }
  return EOPNOTSUPP;
}

int may_set_xattr(const OpContext& cx, const Inode& inode, XattrSpace space) {
  if (cx.read_only()) return EROFS;
  switch (space) {
    case XattrSpace::user:
      if (!has_user_xattrs(inode)) return EPERM;
      if (inode.is_dir() && (inode.mode & S_ISVTX) && !is_owner(cx.cred(), inode)) return EPERM;
      return may(cx, inode, kMayWrite);
    case XattrSpace::trusted:
    case XattrSpace::security:
      return cx.cred().is_root() ? 0 : EPERM;
    case XattrSpace::pin:
      if (!inode.is_dir()) return ENOTDIR;
      return cx.cred().is_root() ? 0 : EPERM;
    case XattrSpace::acl:
      return 0;
  }
  return EOPNOTSUPP;
}

int check_xattr_total(const InodeExtra& extra) {
  size_t total = 0, names = 0;
  for (const auto& [name, value] : extra.xattrs) {
    total += name.size() + value.size();
    names += name.size() + 1;
  }
  return total > kXattrTotalMax || names > kXattrNamesMax ? ENOSPC : 0;
}

Outcome set_acl(OpContext& cx, const Target& target, std::string_view name,
                std::string_view value) {
  const Inode& inode = target.inode();
  const bool is_default = name == kAclDefault;
  Acl acl;
  if (int err = decode_acl(value, acl)) return stop(err);
  if (inode.is_symlink()) return stop(EOPNOTSUPP);
  if (is_default && !inode.is_dir()) return acl.empty() ? Outcome{} : stop(EACCES);
  if (!is_owner(cx.cred(), inode)) return stop(EPERM);
  if (!acl.empty() && !is_valid_acl(acl)) return stop(EINVAL);

  Inode changed = inode;
  InodeExtra extra = inode.copy_extra();
  bool keep = !acl.empty();
  if (keep && !is_default) {
    keep = !acl_to_mode(acl, changed.mode);
    if (!is_member(cx.cred(), inode.gid)) changed.mode &= ~uint32_t{S_ISGID};
  }
  if (!keep) {
    if (acl.empty() && !extra.xattrs.contains(std::string(name))) return {};
    extra.xattrs.erase(std::string(name));
  } else {
    extra.xattrs[std::string(name)] = encode_acl(acl);
    if (int err = check_xattr_total(extra)) return stop(err);
    if (cx.out_of_space()) return stop(ENOSPC);
  }
  changed.set_extra(std::move(extra));

  Change change(cx, EventType::inode);
  changed.ctime = change.now();
  change.edit(target) = std::move(changed);
  return change.commit(target.ino());
}

}  // namespace graftfs::ops
