// Operations on a file's bytes.

#include <fcntl.h>

#include <algorithm>

#include "fuse/state.h"

namespace graftfs::fuse {

namespace {

// The kernel checks permissions of an open itself (default_permissions, with modes and ACLs that
// came from the rank), and keeps the inode while it is open. So there is nothing to ask, and it
// is told never to send OPEN and RELEASE; the page cache is kept over opens then. FLUSH, which
// close(2) sends, is refused by libfuse in the same way.
//
// In a shared mount it drops the pages that it has kept at each open: others may have written the
// file. Who appends does so past the page cache, because the kernel does not know where the file
// ends.
void open(fuse_req_t r, fuse_ino_t ino, fuse_file_info* fi) {
  State& state = state_of(r);
  if (!state.options().shared) {
    fuse_reply_err(r, ENOSYS);
    return;
  }
  fi->keep_cache = 0;
  fi->direct_io = fi->flags & O_APPEND ? 1 : 0;
  fi->fh = state.open_files().open(ino_of(ino));
  // An open that was interrupted meanwhile is never released.
  if (fuse_reply_open(r, fi) == -ENOENT) state.open_files().close(ino_of(ino), fi->fh);
}

// A lock on the file was lost while it was open: what it is used for rests on nothing.
bool refused(Req& req, const fuse_file_info* fi) {
  if (!req.state().open_files().is_void(fi->fh)) return false;
  req.err(EIO);
  return true;
}

void read(fuse_req_t r, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* fi) {
  Req req(r);
  if (refused(req, fi)) return;
  State& state = req.state();
  Credentials cred = req.cred();
  Buffer buffer = state.new_buffer(size);
  char* out = buffer.data();
  state.client().read(
      std::move(cred), ino_of(ino), static_cast<uint64_t>(offset), out, size,
      [req = std::move(req), buffer = std::move(buffer)](Result<uint64_t> n) mutable {
        if (!n) return req.err(n.error().code);
        req.bytes(buffer.data(), *n);
      });
}

void write(fuse_req_t r, fuse_ino_t ino, const char* bytes, size_t size, off_t offset,
           fuse_file_info* fi) {
  Req req(r);
  if (refused(req, fi)) return;
  State& state = req.state();
  Credentials cred = req.cred();
  WriteOptions options;
  options.kill_suidgid = state.kill_suidgid();
  options.append = state.options().shared && fi->flags & O_APPEND && !fi->writepage;
  options.durable = fi->flags & O_DSYNC && !fi->writepage;  // O_SYNC includes it
  // `bytes` lies in the buffer of the request, which must outlive the write.
  Buffer buffer = state.take_request_buffer(size);
  const bool tell = options.kill_suidgid && state.refs().privileged(ino_of(ino));
  state.client().write(
      std::move(cred), ino_of(ino), static_cast<uint64_t>(offset), std::string_view(bytes, size),
      options,
      [req = std::move(req), buffer = std::move(buffer), ino, tell](Result<uint64_t> n) mutable {
        if (!n) return req.err(n.error().code);
        if (tell) req.state().mode_changed(ino_of(ino));
        req.written(*n);
      });
}

DataFn answer_done(Req req) {
  return [req = std::move(req)](Result<uint64_t> n) mutable { req.err(n ? 0 : n.error().code); };
}

void fallocate(fuse_req_t r, fuse_ino_t ino, int mode, off_t offset, off_t length,
               fuse_file_info* fi) {
  Req req(r);
  if (refused(req, fi)) return;
  if (offset < 0 || length <= 0) return req.err(EINVAL);
  State& state = req.state();
  Credentials cred = req.cred();
  const bool tell = state.refs().privileged(ino_of(ino));
  state.client().allocate(std::move(cred), ino_of(ino), mode, static_cast<uint64_t>(offset),
                          static_cast<uint64_t>(length),
                          [req = std::move(req), ino, tell](Result<uint64_t> n) mutable {
                            if (n && tell) req.state().mode_changed(ino_of(ino));
                            req.err(n ? 0 : n.error().code);
                          });
}

void lseek(fuse_req_t r, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* fi) {
  Req req(r);
  if (refused(req, fi)) return;
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return req.err(EINVAL);
  if (offset < 0) return req.err(ENXIO);
  State& state = req.state();
  Credentials cred = req.cred();
  state.client().seek(std::move(cred), ino_of(ino), static_cast<uint64_t>(offset),
                      whence == SEEK_DATA, [req = std::move(req)](Result<uint64_t> n) mutable {
                        if (!n) return req.err(n.error().code);
                        req.offset(*n);
                      });
}

void copy_file_range(fuse_req_t r, fuse_ino_t from, off_t from_offset, fuse_file_info* source,
                     fuse_ino_t to, off_t to_offset, fuse_file_info* target, size_t length,
                     int flags) {
  Req req(r);
  if (refused(req, source) || refused(req, target)) return;
  if (flags || from_offset < 0 || to_offset < 0) return req.err(EINVAL);
  State& state = req.state();
  Credentials cred = req.cred();
  CopyRange range{ino_of(from), static_cast<uint64_t>(from_offset), ino_of(to),
                  static_cast<uint64_t>(to_offset), length};
  const bool tell = state.refs().privileged(ino_of(to));
  state.client().copy(std::move(cred), range,
                      [req = std::move(req), to, tell](Result<uint64_t> n) mutable {
                        if (!n) return req.err(n.error().code);
                        if (tell) req.state().mode_changed(ino_of(to));
                        req.written(*n);
                      });
}

void fsync(fuse_req_t r, fuse_ino_t ino, int, fuse_file_info* fi) {
  Req req(r);
  if (refused(req, fi)) return;
  State& state = req.state();
  Credentials cred = req.cred();
  state.client().sync(std::move(cred), ino_of(ino), answer_done(std::move(req)));
}

// Of a directory: everything. syncfs(2) is not sent to file systems like this one, so this is
// what a program can do instead.
void fsyncdir(fuse_req_t r, fuse_ino_t, int, fuse_file_info*) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  state.client().sync_all(std::move(cred), answer_done(std::move(req)));
}

}  // namespace

void add_data_ops(fuse_lowlevel_ops& ops) {
  ops.open = open;
  ops.read = read;
  ops.write = write;
  ops.fallocate = fallocate;
  ops.lseek = lseek;
  ops.copy_file_range = copy_file_range;
  ops.fsync = fsync;
  ops.fsyncdir = fsyncdir;
}

}  // namespace graftfs::fuse
