// Operations on names.

#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>

#include "fuse/state.h"

namespace graftfs::fuse {

namespace {

// What makes a name is answered with the inode it stands for.
ReplyFn answer_entry(Req req) {
  return [req = std::move(req)](Reply reply) mutable {
    if (reply.err) return req.err(reply.err);
    req.entry(reply.stat);
  };
}

void lookup(fuse_req_t r, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  Args args;
  // Only whoever re-exports the file system, or opens by handle, looks these up.
  if (std::strcmp(name, ".") == 0) {
    args = GetattrArgs{ino_of(parent)};
  } else if (std::strcmp(name, "..") == 0) {
    args = LookupParentArgs{ino_of(parent)};
  } else {
    args = LookupArgs{ino_of(parent), name};
  }
  state.client().call(std::move(cred), std::move(args),
                      [req = std::move(req)](Reply reply) mutable {
                        if (reply.err == ENOENT) return req.no_entry();
                        if (reply.err) return req.err(reply.err);
                        req.entry(reply.stat);
                      });
}

void forget(fuse_req_t r, fuse_ino_t ino, uint64_t count) {
  State& state = state_of(r);
  fuse_reply_none(r);
  state.forget(ino_of(ino), count);
}

void forget_multi(fuse_req_t r, size_t count, fuse_forget_data* forgets) {
  State& state = state_of(r);
  for (size_t i = 0; i < count; ++i) state.forget(ino_of(forgets[i].ino), forgets[i].nlookup);
  fuse_reply_none(r);
}

void mknod(fuse_req_t r, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  MknodArgs args{ino_of(parent), name, mode, fuse_req_ctx(r)->umask, static_cast<uint32_t>(rdev)};
  state.client().call(std::move(cred), std::move(args), answer_entry(std::move(req)));
}

void mkdir(fuse_req_t r, fuse_ino_t parent, const char* name, mode_t mode) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  MkdirArgs args{ino_of(parent), name, mode & 07777u, fuse_req_ctx(r)->umask};
  state.client().call(std::move(cred), std::move(args),
                      [req = std::move(req), parent](Reply reply) mutable {
                        if (reply.err) return req.err(reply.err);
                        req.entry(reply.stat);
                        req.state().nlink_changed(ino_of(parent));
                      });
}

void symlink(fuse_req_t r, const char* target, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  SymlinkArgs args{ino_of(parent), name, target};
  state.client().call(std::move(cred), std::move(args), answer_entry(std::move(req)));
}

void link(fuse_req_t r, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  LinkArgs args{ino_of(ino), ino_of(parent), name};
  state.client().call(std::move(cred), std::move(args), answer_entry(std::move(req)));
}

void unlink(fuse_req_t r, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  UnlinkArgs args{ino_of(parent), name};
  state.client().call(std::move(cred), std::move(args),
                      [req = std::move(req)](Reply reply) mutable {
                        // Marked before the answer: FORGET may follow at once.
                        req.state().lost_last_name(reply);
                        req.err(reply.err);
                      });
}

void rmdir(fuse_req_t r, fuse_ino_t parent, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  RmdirArgs args{ino_of(parent), name};
  state.client().call(std::move(cred), std::move(args),
                      [req = std::move(req), parent](Reply reply) mutable {
                        req.state().lost_last_name(reply);
                        req.err(reply.err);
                        if (!reply.err) req.state().nlink_changed(ino_of(parent));
                      });
}

void rename(fuse_req_t r, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
            const char* new_name, unsigned flags) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  RenameArgs args{ino_of(parent), name, ino_of(new_parent), new_name, flags};
  state.client().call(
      std::move(cred), std::move(args),
      [req = std::move(req), parent, new_parent](Reply reply) mutable {
        State& state = req.state();
        state.lost_last_name(reply);
        req.err(reply.err);
        if (reply.err) return;
        // A directory may have moved, or been replaced.
        if (parent != new_parent) state.nlink_changed(ino_of(parent));
        if (parent != new_parent || (reply.orphaned && reply.stat.is_dir()))
          state.nlink_changed(ino_of(new_parent));
      });
}

// open(O_CREAT). The file is made as by mknod(2), because nothing needs to be held at the rank
// (KernelRefs). Where the name has appeared meanwhile and may be there, it is opened.
void create(fuse_req_t r, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* fi) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  const uint32_t umask = fuse_req_ctx(r)->umask;
  const uint32_t permissions = mode & 07777u;
  if (fi->flags & O_EXCL) {
    MknodArgs args{ino_of(parent), name, permissions | S_IFREG, umask, 0};
    state.client().call(std::move(cred), std::move(args),
                        [req = std::move(req), info = *fi](Reply reply) mutable {
                          if (reply.err) return req.err(reply.err);
                          req.created(reply.stat, info);
                        });
    return;
  }
  struct Opening {
    Req req;
    fuse_file_info info;
    CreateArgs args;
    Credentials cred;
  };
  MknodArgs args{ino_of(parent), name, permissions | S_IFREG, umask, 0};
  auto opening = std::make_unique<Opening>(
      std::move(req), *fi,
      CreateArgs{ino_of(parent), name, permissions, umask, false,
                 static_cast<uint32_t>(fi->flags)},
      cred);
  state.client().call(
      std::move(cred), std::move(args), [opening = std::move(opening)](Reply reply) mutable {
        Opening& o = *opening;
        if (reply.err == EEXIST) {
          Client& client = o.req.state().client();
          Credentials cred = o.cred;
          CreateArgs args = std::move(o.args);
          client.call(std::move(cred), std::move(args),
                      [opening = std::move(opening)](Reply reply) mutable {
                        Req& req = opening->req;
                        if (reply.err) return req.err(reply.err);
                        req.state().client().call({}, ReleaseArgs{reply.stat.ino}, nullptr);
                        req.created(reply.stat, opening->info);
                      });
          return;
        }
        if (reply.err) return o.req.err(reply.err);
        o.req.created(reply.stat, o.info);
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
  ops.create = create;
}

}  // namespace graftfs::fuse
