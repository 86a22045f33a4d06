// Operations on names.

#include <sys/stat.h>

#include <cstring>

#include "fuse/state.h"

namespace graftfs::fuse {

namespace {

// What makes a name is answered with the inode it stands for.
ReplyFn answer_entry(Req req, NodeName at) {
  return [req = std::move(req), at](Reply reply) mutable {
    if (reply.err) return req.err(reply.err);
    req.entry(reply.stat, at);
  };
}

NodeName name_in(fuse_ino_t parent, const char* name) { return {parent, name_hash(name)}; }

// What may take an inode's last name. The kernel itself marks the attributes of both directories,
// of what moved and of what lost a name as stale.
ReplyFn answer_removal(Req req) {
  return [req = std::move(req)](Reply reply) mutable {
    // Marked before the answer: FORGET may follow at once.
    req.state().lost_last_name(reply);
    req.err(reply.err);
  };
}

void lookup(fuse_req_t r, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  Args args;
  // Only whoever re-exports the file system, or opens by handle, looks these up. "." is asked for
  // what the kernel does not know, so nobody has it open: without a name it is gone, although the
  // rank may not have come to remove it yet.
  const bool by_handle = std::strcmp(name, ".") == 0;
  NodeName at;
  if (by_handle) {
    args = GetattrArgs{ino_of(parent)};
  } else if (std::strcmp(name, "..") == 0) {
    args = LookupParentArgs{ino_of(parent)};
  } else {
    args = LookupArgs{ino_of(parent), name};
    at = name_in(parent, name);
  }
  state.client().call(std::move(cred), std::move(args),
                      [req = std::move(req), by_handle, parent, at](Reply reply) mutable {
                        if (by_handle && reply.err == 0 && reply.stat.nlink == 0)
                          return req.err(ESTALE);
                        if (reply.err == ENOENT) return req.no_entry();
                        if (reply.err) return req.err(reply.err);
                        if (by_handle && reply.stat.is_dir())
                          req.state().dir_nodes().asked_for(parent);
                        req.entry(reply.stat, at);
                      });
}

void forget(fuse_req_t r, fuse_ino_t ino, uint64_t count) {
  State& state = state_of(r);
  fuse_reply_none(r);
  state.forget(ino_of(ino), count);
}

void forget_multi(fuse_req_t r, size_t count, fuse_forget_data* forgets) {
  State& state = state_of(r);
  state.forget_later(forgets, count);
  fuse_reply_none(r);
}

void mknod(fuse_req_t r, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  MknodArgs args{ino_of(parent), name, mode, fuse_req_ctx(r)->umask, static_cast<uint32_t>(rdev)};
  state.client().call(std::move(cred), std::move(args),
                      answer_entry(std::move(req), name_in(parent, name)));
}

void mkdir(fuse_req_t r, fuse_ino_t parent, const char* name, mode_t mode) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  MkdirArgs args{ino_of(parent), name, mode & 07777u, fuse_req_ctx(r)->umask};
  state.client().call(std::move(cred), std::move(args),
                      answer_entry(std::move(req), name_in(parent, name)));
}

void symlink(fuse_req_t r, const char* target, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  SymlinkArgs args{ino_of(parent), name, target};
  state.client().call(std::move(cred), std::move(args),
                      answer_entry(std::move(req), name_in(parent, name)));
}

void link(fuse_req_t r, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  LinkArgs args{ino_of(ino), ino_of(parent), name};
  state.client().call(std::move(cred), std::move(args),
                      answer_entry(std::move(req), name_in(parent, name)));
}

void unlink(fuse_req_t r, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  UnlinkArgs args{ino_of(parent), name};
  state.client().call(std::move(cred), std::move(args), answer_removal(std::move(req)));
}

void rmdir(fuse_req_t r, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  RmdirArgs args{ino_of(parent), name};
  state.client().call(std::move(cred), std::move(args), answer_removal(std::move(req)));
}

void rename(fuse_req_t r, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
            const char* new_name, unsigned flags) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  RenameArgs args{ino_of(parent), name, ino_of(new_parent), new_name, flags};
  const NodeName from = name_in(parent, name), to = name_in(new_parent, new_name);
  state.client().call(std::move(cred), std::move(args),
                      [req = std::move(req), from, to, flags](Reply reply) mutable {
                        if (reply.err == 0)
                          req.state().dir_nodes().moved(from, to, flags & RENAME_EXCHANGE);
                        answer_removal(std::move(req))(std::move(reply));
                      });
}

}  // namespace

void add_name_ops(fuse_lowlevel_ops& ops) {
  ops.lookup = lookup;
  ops.forget = forget;
  ops.forget_multi = forget_multi;
  ops.mknod = mknod;
  ops.mkdir = mkdir;
  ops.symlink = symlink;
  ops.link = link;
  ops.unlink = unlink;
  ops.rmdir = rmdir;
  ops.rename = rename;
  // No create(): libfuse refuses it, and the kernel sends MKNOD for open(O_CREAT) from then on, and
  // then OPEN (see add_data_ops). CREATE would make it send RELEASE for each file until the first
  // OPEN told it not to.
}

}  // namespace graftfs::fuse
