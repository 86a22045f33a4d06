// Operations on an inode's attributes.

#include "fuse/state.h"

namespace graftfs::fuse {

namespace {

void answer_attr(Req req, fuse_ino_t ino) {
  State& state = req.state();
  Credentials cred = req.cred();
  state.client().call(std::move(cred), GetattrArgs{ino_of(ino)},
                      [req = std::move(req)](Reply reply) mutable {
                        if (reply.err) return req.err(reply.err);
                        req.attr(reply.stat);
                      });
}

// The kernel names a handle where it asks on behalf of a read.
void getattr(fuse_req_t r, fuse_ino_t ino, fuse_file_info* fi) {
  Req req(r);
  if (fi && req.state().open_files().is_void(fi->fh)) return req.err(EIO);
  answer_attr(std::move(req), ino);
}

void setattr(fuse_req_t r, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info* fi) {
  Req req(r);
  State& state = req.state();
  if (fi && state.open_files().is_void(fi->fh)) return req.err(EIO);
  Credentials cred = req.cred();
  if (to_set == 0 && state.precedes_write(ino_of(ino), cred.pid))
    return answer_attr(std::move(req), ino);
  SetattrArgs args;
  args.ino = ino_of(ino);
  args.by_handle = fi != nullptr;
  if (to_set & FUSE_SET_ATTR_MODE) args.valid |= kSetMode;
  if (to_set & FUSE_SET_ATTR_UID) args.valid |= kSetUid;
  if (to_set & FUSE_SET_ATTR_GID) args.valid |= kSetGid;
  if (to_set & FUSE_SET_ATTR_SIZE) args.valid |= kSetSize;
  if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) args.valid |= kSetAtime;
  if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) args.valid |= kSetMtime;
  if (to_set & FUSE_SET_ATTR_ATIME_NOW) args.valid |= kSetAtimeNow;
  if (to_set & FUSE_SET_ATTR_MTIME_NOW) args.valid |= kSetMtimeNow;
  if (to_set & FUSE_SET_ATTR_CTIME) args.valid |= kSetCtime;
  if (state.kill_suidgid()) args.valid |= kKillSuidgid;
  args.mode = attr->st_mode & 07777u;
  args.uid = attr->st_uid;
  args.gid = attr->st_gid;
  args.size = static_cast<uint64_t>(attr->st_size);
  auto time = [](const timespec& t) {
    return Timespec{t.tv_sec, static_cast<uint32_t>(t.tv_nsec)};
  };
  args.atime = time(attr->st_atim);
  args.mtime = time(attr->st_mtim);
  args.ctime = time(attr->st_ctim);
  state.client().call(std::move(cred), args, [req = std::move(req)](Reply reply) mutable {
    if (reply.err) return req.err(reply.err);
    req.attr(reply.stat);
  });
}

void readlink(fuse_req_t r, fuse_ino_t ino) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  state.client().call(std::move(cred), ReadlinkArgs{ino_of(ino)},
                      [req = std::move(req)](Reply reply) mutable {
                        if (reply.err) return req.err(reply.err);
                        req.readlink(reply.data);
                      });
}

void statfs(fuse_req_t r, fuse_ino_t) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  state.client().call(std::move(cred), StatfsArgs{}, [req = std::move(req)](Reply reply) mutable {
    if (reply.err || !reply.statfs) return req.err(reply.err ? reply.err : EIO);
    req.statfs(*reply.statfs);
  });
}

}  // namespace

void add_attr_ops(fuse_lowlevel_ops& ops) {
  ops.getattr = getattr;
  ops.setattr = setattr;
  ops.readlink = readlink;
  ops.statfs = statfs;
  // No access(): the kernel decides with default_permissions.
}

}  // namespace graftfs::fuse
