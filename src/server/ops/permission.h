#pragma once
// Who may do what: owner, group and others, access ACLs, root, the sticky bit. Decisions and their
// order are Linux's (fs/namei.c, fs/attr.c describe them best). Functions return 0 or an errno.

#include "server/op_context.h"
#include "types/acl.h"

namespace graftfs::ops {

// As the masks of access(2).
enum Permission : uint32_t { kMayExec = 1, kMayWrite = 2, kMayRead = 4 };

// EACCES where one of the permissions in `mask` is not given. Root may do everything, except
// execute a file that nobody may execute.
int may(const Credentials& cred, const Inode& inode, uint32_t mask);
// Also EROFS for writing to what a read-only mount protects (a device or FIFO is not).
int may(const OpContext& cx, const Inode& inode, uint32_t mask);

bool is_owner(const Credentials& cred, const Inode& inode);  // or root
bool is_member(const Credentials& cred, uint32_t gid);       // or root

// Whether the sticky bit keeps the caller from removing or renaming `victim` in `dir`.
bool is_sticky(const Credentials& cred, const Inode& dir, const Inode& victim);

// The directory in which `name` is to be looked up: ENOTDIR, ESTALE, EACCES (search permission),
// then ENAMETOOLONG, EINVAL.
Found<Dir*> resolve_parent(OpContext& cx, Ino dir, std::string_view name);
// A name may be made in `dir`: ENOENT where the directory was removed, EROFS, EACCES.
int may_add(const OpContext& cx, const Dir& dir);
// A name that leads to `victim` may be taken out of `dir`, as a directory (rmdir) or as a file
// (unlink): EACCES, EPERM, then ENOTDIR, EISDIR.
int may_remove(const OpContext& cx, const Dir& dir, const Inode& victim, bool as_dir);
// open(2) with these flags of what is there already: ELOOP, EISDIR, EROFS, EACCES, EPERM.
int may_open(const OpContext& cx, const Inode& inode, uint32_t flags);
bool truncates(const Inode& inode, uint32_t flags);  // O_TRUNC and a regular file

// What a write, a truncation or a change of owner by `cred` takes from a file: set-uid, set-gid
// and its capabilities.
void clear_privileges_on_write(const Credentials& cred, bool always, Inode& inode);
void clear_privileges_on_chown(const Credentials& cred, Inode& inode);

}  // namespace graftfs::ops
