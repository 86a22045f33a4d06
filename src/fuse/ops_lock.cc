// Locks, in shared mounts: the rank knows who has which.

#include <fcntl.h>
#include <sys/file.h>

#include <memory>

#include "fuse/state.h"

namespace graftfs::fuse {

namespace {

LockRange range_of(fuse_ino_t ino, const fuse_file_info* fi, const struct flock& lock) {
  LockRange range{.ino = ino_of(ino), .owner = fi->lock_owner};
  range.start = static_cast<uint64_t>(lock.l_start);
  range.end = lock.l_len ? range.start + static_cast<uint64_t>(lock.l_len) - 1 : UINT64_MAX;
  range.exclusive = lock.l_type == F_WRLCK;
  range.pid = lock.l_pid;
  return range;
}

void getlk(fuse_req_t r, fuse_ino_t ino, fuse_file_info* fi, struct flock* lock) {
  Req req(r);
  if (req.state().open_files().is_void(fi->fh)) return req.err(EIO);
  State& state = req.state();
  LockArgs args{LockOp::test, range_of(ino, fi, *lock)};
  state.client().call({}, args, [req = std::move(req)](Reply reply) mutable {
    if (reply.err) return req.err(reply.err);
    struct flock answer{};
    answer.l_type = F_UNLCK;
    if (const auto& held = reply.lock) {
      answer.l_type = held->exclusive ? F_WRLCK : F_RDLCK;
      answer.l_whence = SEEK_SET;
      answer.l_start = static_cast<off_t>(held->start);
      answer.l_len = held->end == UINT64_MAX ? 0 : static_cast<off_t>(held->end - held->start + 1);
      answer.l_pid = held->pid;
    }
    fuse_reply_lock(req.get(), &answer);
    req.answered();
  });
}

// What an interrupted request asks to be given up.
struct Waiting {
  State* state;
  LockArgs args;
};

void interrupted(fuse_req_t, void* data) {
  auto* waiting = static_cast<Waiting*>(data);
  LockArgs cancel = waiting->args;
  cancel.op = LockOp::cancel;
  waiting->state->client().call({}, cancel, nullptr);
}

void take(Req req, LockOp op, LockRange range) {
  State& state = req.state();
  auto waiting = std::make_unique<Waiting>(Waiting{&state, {op, range}});
  LockArgs& args = waiting->args;
  if (op == LockOp::wait) {
    args.number = state.new_lock_number();
    fuse_req_interrupt_func(req.get(), interrupted, waiting.get());
  }
  const LockArgs asked = args;
  // It lives until the answer: then libfuse does not know the request any more.
  state.client().call({}, asked,
                      [req = std::move(req), waiting = std::move(waiting)](Reply reply) mutable {
                        req.err(reply.err);
                      });
}

void setlk(fuse_req_t r, fuse_ino_t ino, fuse_file_info* fi, struct flock* lock, int sleep) {
  LockOp op = sleep ? LockOp::wait : LockOp::set;
  if (lock->l_type == F_UNLCK) op = LockOp::unlock;
  Req req(r);
  if (req.state().open_files().is_void(fi->fh)) return req.err(EIO);
  take(std::move(req), op, range_of(ino, fi, *lock));
}

void flock(fuse_req_t r, fuse_ino_t ino, fuse_file_info* fi, int how) {
  LockRange range{.ino = ino_of(ino), .owner = fi->lock_owner, .kind = LockKind::flock};
  range.exclusive = how & LOCK_EX;
  LockOp op = how & LOCK_NB ? LockOp::set : LockOp::wait;
  if (how & LOCK_UN) op = LockOp::unlock;
  Req req(r);
  if (req.state().open_files().is_void(fi->fh)) return req.err(EIO);
  take(std::move(req), op, range);
}

// close(2) gives back what the process has locked in the file by fcntl.
void flush(fuse_req_t r, fuse_ino_t ino, fuse_file_info* fi) {
  Req req(r);
  if (!req.state().client().has_lock(ino_of(ino), fi->lock_owner, LockKind::posix))
    return req.err(0);
  take(std::move(req), LockOp::unlock, {.ino = ino_of(ino), .owner = fi->lock_owner});
}

// The last close of an open file, what it has locked by flock.
void release(fuse_req_t r, fuse_ino_t ino, fuse_file_info* fi) {
  Req req(r);
  req.state().open_files().close(ino_of(ino), fi->fh);
  const LockRange range{.ino = ino_of(ino), .owner = fi->lock_owner, .kind = LockKind::flock};
  if (!fi->flock_release || !req.state().client().has_lock(range.ino, range.owner, range.kind))
    return req.err(0);
  take(std::move(req), LockOp::unlock, range);
}

}  // namespace

void add_lock_ops(fuse_lowlevel_ops& ops) {
  ops.getlk = getlk;
  ops.setlk = setlk;
  ops.flock = flock;
  ops.flush = flush;
  ops.release = release;
}

}  // namespace graftfs::fuse
