#pragma once
// Rules that the xattr operations share: namespaces, who may, limits.

#include <string>
#include <string_view>

#include "server/op_context.h"

namespace graftfs::ops {

// `pin` is no namespace but one attribute, of directories: where they are to be served.
enum class XattrSpace { user, trusted, security, acl, pin };

// The namespace of a name; ERANGE for a name that is empty or too long, EINVAL for a namespace
// alone, EOPNOTSUPP for one that there is not.
Found<XattrSpace> xattr_space(std::string_view name);

// Whether the caller may read or write the attribute of the inode: 0 or an errno. ACLs: writing
// is left to set_acl(), which has an order of its own.
int may_get_xattr(const OpContext& cx, const Inode& inode, XattrSpace space);
int may_set_xattr(const OpContext& cx, const Inode& inode, XattrSpace space);

// ENOSPC where the attributes of one inode would hold too much.
int check_xattr_total(const InodeExtra& extra);

// Sets, replaces or (value without an entry) removes an ACL.
Outcome set_acl(OpContext& cx, const Target& target, std::string_view name, std::string_view value);

}  // namespace graftfs::ops
