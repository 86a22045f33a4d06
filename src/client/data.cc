// The data path: how each operation on a file's bytes orders the store, the rank and the answer.

#include <linux/falloc.h>

#include <algorithm>

#include "base/fault.h"
#include "client/client.h"

namespace graftfs {

// Keeps a file's state alive.
class Client::FileRef {
 public:
  FileRef(Client& client, Ino ino) : client_(client), ino_(ino) {
    auto& state = client.files_[ino];
    if (!state) {
      state = std::make_unique<FileState>(client.executor_);
      if (OwnLocks* locks = client.options_.locks)
        if (auto size = locks->size_of(ino)) state->set_size(size->size, size->blocks);
    }
    state_ = state.get();
    ++state_->users;
    losses_ = losses();
  }
  FileRef(const FileRef&) = delete;
  FileRef& operator=(const FileRef&) = delete;
  ~FileRef() {
    if (--state_->users > 0) return;
    if (OwnLocks* locks = client_.options_.locks) {
      std::optional<FileSize> size;
      if (state_->known) size = FileSize{state_->size, state_->blocks};
      locks->note_size(ino_, size);
    }
    client_.files_.erase(ino_);
  }
  FileState* operator->() const { return state_; }
  FileState& operator*() const { return *state_; }
  Ino ino() const { return ino_; }
  // Since this was called its caller has lost a lock on the file, and counts on it.
  bool lost_lock() const { return losses() != losses_; }

 private:
  uint64_t losses() const {
    return client_.options_.locks ? client_.options_.locks->losses(ino_) : 0;
  }
  Client& client_;
  Ino ino_;
  FileState* state_;
  uint64_t losses_;
};

// Holds the size lock, once taken, until dropped or destroyed.
class Client::Held {
 public:
  Held() = default;
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() { drop(); }
  Task<void> take(FileState& state, bool exclusive) {
    co_await state.lock.lock(exclusive);
    state_ = &state;
    exclusive_ = exclusive;
  }
  void drop() {
    if (FileState* state = std::exchange(state_, nullptr)) state->lock.unlock(exclusive_);
  }

 private:
  FileState* state_ = nullptr;
  bool exclusive_ = false;
};

namespace {

// An operating error as a caller of the file system sees it: damage is an I/O error, and so is a
// disk that has become read-only below a mount that is not (ext4 after an error or a shutdown).
int visible(const Error& error) {
  return error.is_damage() || error.code == EROFS ? EIO : error.code;
}

bool past_end_of_sizes(uint64_t offset, uint64_t length) {
  return offset > static_cast<uint64_t>(kMaxFileSize) ||
         length > static_cast<uint64_t>(kMaxFileSize) - offset;
}

}  // namespace

Promised<Reply> Client::ask(Credentials cred, Args args) {
  Promised<Reply> answer(executor_);
  session_->call(std::move(cred), std::move(args),
                 [answer](Reply reply) { answer.set(std::move(reply)); });
  return answer;
}

// With the size lock, exclusive: gets the right to write, where others may have it. 0 or an errno.
Task<int> Client::own(FileRef& file, const Credentials& cred) {
  if (!is_others(file.ino())) co_return 0;
  MARK("client.data.asked");
  Args args = LockArgs{LockOp::wait, LockRange::to_write(file.ino())};
  auto answer = ask(cred, std::move(args));
  Reply reply = co_await answer;
  KILL_POINT("client.data.granted");
  file->known = false;
  if (file.lost_lock()) co_return EIO;
  if (reply.err == 0 && reply.stat.is_regular()) learn(file, reply.stat);
  co_return reply.err;
}

// What was begun ends first, and its events are at the rank. An unlock of what it does not have
// does no harm: the question may have come before the answer that grants it.
Task<void> Client::run_give_back(Ino ino) {
  FileRef file(*this, ino);
  Held held;
  co_await held.take(*file, true);
  file->known = false;
  Args args = LockArgs{LockOp::unlock, LockRange::to_write(ino)};
  auto answer = ask(Credentials{}, std::move(args));
  co_await answer;
}

void Client::learn(FileRef& file, const Stat& stat) {
  file->set_size(stat.size, stat.blocks);
  file->atime_due = atime_due(stat);
}

// Makes the size known, and for a read whether atime is due. 0 or an errno.
Task<int> Client::load(FileRef& file, const Credentials& cred, bool for_read) {
  if (file->known && !is_others(file.ino()) && (file->atime_due.has_value() || !for_read))
    co_return 0;
  auto answer = ask(cred, GetattrArgs{file.ino()});
  Reply reply = co_await answer;
  if (reply.err) co_return reply.err;
  if (file.lost_lock()) co_return EIO;
  if (reply.stat.is_dir()) co_return EISDIR;
  if (!reply.stat.is_regular()) co_return EINVAL;
  // Else somebody was faster, and may have written since.
  if (!file->known || is_others(file.ino()))
    learn(file, reply.stat);
  else if (!file->atime_due)
    file->atime_due = atime_due(reply.stat);
  co_return 0;
}

// Takes the lock that a write up to `end` needs: shared within the file, exclusive beyond it.
Task<int> Client::lock_for_end(FileRef& file, const Credentials& cred, uint64_t end, Held& held) {
  for (;;) {
    if (is_others(file.ino())) {
      // Once it has the right it uses it, whoever else wants it by then.
      co_await held.take(*file, true);
      if (int err = co_await own(file, cred)) co_return err;
      co_return co_await load(file, cred);
    }
    if (int err = co_await load(file, cred)) co_return err;
    bool exclusive = end > file->size;
    co_await held.take(*file, exclusive);
    // While it waited, the file may have been cut, or an error may have made its size unknown.
    if (file->known && !is_others(file.ino()) && (exclusive || end <= file->size)) co_return 0;
    MARK("client.write.size_changed_while_waiting");
    held.drop();
  }
}

Task<int> Client::make_durable(const Credentials& cred, Ino ino) {
  Result<void> synced;
  if (ino) {
    synced = co_await data_.sync(ino);
  } else {
    synced = co_await data_.sync_all();
  }
  if (!synced) co_return visible(synced.error());
  auto answer = ask(cred, SyncArgs{});
  Reply reply = co_await answer;
  co_return reply.err;
}

Task<void> Client::run_read(Credentials cred, Ino ino, uint64_t offset, char* out, size_t length,
                            DataFn done) {
  FileRef file(*this, ino);
  if (int err = co_await load(file, cred, true)) {
    done(fail(err));
    co_return;
  }
  if (offset >= file->size || length == 0) {
    done(0);
    co_return;
  }
  if (file->atime_due.value_or(false)) {
    file->atime_due = false;
    Args touch = ReadArgs{ino};
    session_->call(cred, std::move(touch), nullptr);
  }
  size_t n = std::min<uint64_t>(length, file->size - offset);
  auto result = co_await data_.read(ino, offset, out, n);
  if (!result) {
    done(fail(visible(result.error()), std::move(result.error().message)));
    co_return;
  }
  // A truncate meanwhile: its zeros were never in the file.
  if (file->known) n = std::min<uint64_t>(n, file->size > offset ? file->size - offset : 0);
  done(n);
}

Task<void> Client::run_write(Credentials cred, Ino ino, uint64_t offset, std::string_view bytes,
                             WriteOptions options, DataFn done) {
  FileRef file(*this, ino);
  Held held;
  if (past_end_of_sizes(offset, bytes.size())) {
    done(fail(EFBIG));
    co_return;
  }
  uint64_t end = options.append ? UINT64_MAX : offset + bytes.size();
  if (int err = co_await lock_for_end(file, cred, end, held)) {
    done(fail(err));
    co_return;
  }
  if (options.append) {
    offset = file->size;
    if (past_end_of_sizes(offset, bytes.size())) {
      done(fail(EFBIG));
      co_return;
    }
    end = offset + bytes.size();
  }
  if (bytes.empty()) {
    done(0);
    co_return;
  }
  auto written = co_await data_.write(ino, offset, bytes, file->size);
  if (!written) {
    done(fail(visible(written.error()), std::move(written.error().message)));
    co_return;
  }
  KILL_POINT("client.write.data_written");
  file->size = std::max(file->size, end);
  file->blocks = written->blocks;
  WroteArgs wrote{ino, end, written->blocks, options.kill_suidgid};
  auto answer = ask(cred, wrote);
  // The event is in the rank's hands, in order; but where it waits there for what was leased to
  // others, the right to write may be given back before it is carried out.
  if (!options_.locks) held.drop();
  Reply reply = co_await answer;
  if (reply.err) {
    file->known = false;
    done(fail(reply.err));
    co_return;
  }
  if (options.durable) {
    if (int err = co_await make_durable(cred, ino)) {
      done(fail(err));
      co_return;
    }
  }
  done(bytes.size());
}

// Bytes beyond the size may be left from a write whose event was lost, or from a cut that a crash
// interrupted. So a file that grows is cut to its old size *before* its size reveals them; one
// that shrinks is cut after the rank has said so.
Task<void> Client::run_truncate(Credentials cred, SetattrArgs args, ReplyFn done) {
  FileRef file(*this, args.ino);
  Held held;
  auto refuse = [&](int err) {
    Reply reply;
    reply.err = err;
    done(std::move(reply));
  };
  if (args.size > static_cast<uint64_t>(kMaxFileSize)) {
    refuse(EFBIG);
    co_return;
  }
  co_await held.take(*file, true);
  int err = co_await own(file, cred);
  if (!err) err = co_await load(file, cred);
  if (err) {
    refuse(err);
    co_return;
  }
  const uint64_t old_size = file->size;
  if (args.size > old_size) {
    auto cut = co_await data_.truncate(args.ino, old_size);
    if (!cut) {
      refuse(visible(cut.error()));
      co_return;
    }
    args.blocks = cut->blocks;
  } else {
    constexpr uint64_t kBlock = 4096;
    uint64_t most = (args.size + kBlock - 1) / kBlock * (kBlock / 512);
    args.blocks = std::min(file->blocks, most);
  }
  auto answer = ask(cred, args);
  Reply reply = co_await answer;
  if (reply.err) {
    file->known = false;
    done(std::move(reply));
    co_return;
  }
  KILL_POINT("client.truncate.size_changed");
  file->size = args.size;
  file->blocks = args.blocks;
  // The caller need not wait for the cut, but whoever writes the file must: until the event is
  // durable a power cut brings the old size back, and what was behind the new one.
  done(std::move(reply));
  if (args.size >= old_size) co_return;
  Args sync_args = SyncArgs{};
  auto synced = ask(cred, std::move(sync_args));
  Reply after = co_await synced;
  if (after.err) co_return;  // the bytes are void, here or gone
  KILL_POINT("client.truncate.before_cut");
  auto cut = co_await data_.truncate(args.ino, args.size);
  if (cut && cut->blocks != args.blocks) {  // it was sparse
    MARK("client.truncate.blocks_corrected");
    file->blocks = cut->blocks;
    WroteArgs wrote{.ino = args.ino, .blocks = cut->blocks, .only_blocks = true};
    session_->call(cred, wrote, [this, ino = args.ino](Reply corrected) {
      if (corrected.err == 0 && on_corrected_) on_corrected_(ino);
    });
  }
}

Task<void> Client::run_allocate(Credentials cred, Ino ino, int mode, uint64_t offset,
                                uint64_t length, DataFn done) {
  FileRef file(*this, ino);
  Held held;
  const bool keep_size = mode & FALLOC_FL_KEEP_SIZE;
  AllocateMode how = AllocateMode::allocate;
  switch (mode) {
    case 0:
    case FALLOC_FL_KEEP_SIZE:
      break;
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
      how = AllocateMode::punch_hole;
      break;
    case FALLOC_FL_ZERO_RANGE:
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
      how = AllocateMode::zero_range;
      break;
    default:
      done(fail(EOPNOTSUPP));
      co_return;
  }
  if (length == 0) {
    done(fail(EINVAL));
    co_return;
  }
  if (past_end_of_sizes(offset, length)) {
    done(fail(EFBIG));
    co_return;
  }
  co_await held.take(*file, true);
  int err = co_await own(file, cred);
  if (!err) err = co_await load(file, cred);
  if (err) {
    done(fail(err));
    co_return;
  }
  auto result = co_await data_.allocate(ino, how, offset, length, file->size);
  if (!result) {
    done(fail(visible(result.error()), std::move(result.error().message)));
    co_return;
  }
  WroteArgs wrote{ino, 0, result->blocks, !cred.is_root()};
  file->blocks = result->blocks;
  if (!keep_size && offset + length > file->size) wrote.end = file->size = offset + length;
  auto answer = ask(cred, wrote);
  if (!options_.locks) held.drop();
  Reply reply = co_await answer;
  if (reply.err) {
    file->known = false;
    done(fail(reply.err));
    co_return;
  }
  done(0);
}

Task<void> Client::run_seek(Credentials cred, Ino ino, uint64_t offset, bool data, DataFn done) {
  FileRef file(*this, ino);
  if (int err = co_await load(file, cred)) {
    done(fail(err));
    co_return;
  }
  if (offset >= file->size) {
    done(fail(ENXIO));
    co_return;
  }
  auto result = co_await data_.seek(ino, offset, data, file->size);
  if (!result) {
    done(fail(visible(result.error())));
    co_return;
  }
  done(*result);
}

Task<void> Client::run_copy(Credentials cred, CopyRange range, DataFn done) {
  FileRef from(*this, range.from);
  FileRef to(*this, range.to);
  Held held;
  if (int err = co_await load(from, cred)) {
    done(fail(err));
    co_return;
  }
  uint64_t length = std::min(range.length, kMaxCopy);
  auto clip = [&] {
    length = range.from_offset >= from->size ? 0 : std::min(length, from->size - range.from_offset);
  };
  clip();
  if (past_end_of_sizes(range.to_offset, length)) {
    done(fail(EFBIG));
    co_return;
  }
  if (int err = co_await lock_for_end(to, cred, range.to_offset + length, held)) {
    done(fail(err));
    co_return;
  }
  if (from->known) clip();  // it may have been cut meanwhile
  if (range.from == range.to && range.from_offset < range.to_offset + length &&
      range.to_offset < range.from_offset + length) {
    done(fail(EINVAL));
    co_return;
  }
  if (length == 0) {
    done(0);
    co_return;
  }
  const uint64_t end = range.to_offset + length;
  auto copied = co_await data_.copy(range.from, range.from_offset, range.to, range.to_offset,
                                    length, to->size);
  if (!copied) {
    done(fail(visible(copied.error()), std::move(copied.error().message)));
    co_return;
  }
  to->size = std::max(to->size, end);
  to->blocks = copied->blocks;
  WroteArgs wrote{range.to, end, copied->blocks, !cred.is_root()};
  auto answer = ask(cred, wrote);
  if (!options_.locks) held.drop();
  Reply reply = co_await answer;
  if (reply.err) {
    to->known = false;
    done(fail(reply.err));
    co_return;
  }
  done(length);
}

Task<void> Client::run_sync(Credentials cred, Ino ino, DataFn done) {
  if (int err = co_await make_durable(cred, ino)) {
    done(fail(err));
    co_return;
  }
  done(0);
}

}  // namespace graftfs
