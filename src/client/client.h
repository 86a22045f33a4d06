#pragma once
// The client library: metadata calls and file data of one session.

#include <sys/types.h>

#include <absl/container/flat_hash_map.h>

#include <memory>
#include <optional>
#include <string_view>

#include "base/executor.h"
#include "base/result.h"
#include "base/task.h"
#include "client/file_state.h"
#include "client/session.h"
#include "store/store.h"
#include "types/service.h"

namespace graftfs {

// The answer of a data operation: bytes moved, or an offset, or 0.
using DataFn = std::move_only_function<void(Result<uint64_t>)>;

struct WriteOptions {
  bool append = false;        // at the end of the file, whatever the offset says
  bool kill_suidgid = false;  // the writer may not keep setuid and setgid bits
  bool durable = false;       // O_SYNC, O_DSYNC: answered when data and size are durable
};

struct CopyRange {
  Ino from;
  uint64_t from_offset = 0;
  Ino to;
  uint64_t to_offset = 0;
  uint64_t length = 0;
};

struct FileSize {
  uint64_t size = 0;    // bytes
  uint64_t blocks = 0;  // of 512 bytes
};

// What this client has locked, where others share the volume: the Router knows.
class OwnLocks {
 public:
  virtual ~OwnLocks() = default;
  // Of a file that it may write to: nobody else changes it.
  virtual std::optional<FileSize> size_of(Ino ino) = 0;
  // Nothing: it is not known (any more).
  virtual void note_size(Ino ino, std::optional<FileSize> size) = 0;
  // It has the right to write to the file for itself (LockKind::data), and its rank is not silent.
  virtual bool may_write(Ino ino) = 0;
  virtual bool has_lock(Ino ino, uint64_t owner, LockKind kind) const = 0;
  // How often locks of the file were lost, by an eviction.
  virtual uint64_t losses(Ino ino) const = 0;
};

struct ClientOptions {
  bool atime = true;          // false: reads never change atime (noatime, a read-only mount)
  OwnLocks* locks = nullptr;  // null: nobody else writes to the files
};

// One session with a metadata service, and the data path beside it. Data goes to the store
// first, then its event to the rank, then the caller is answered; so a size never reveals bytes
// that are not there.
//
// Owner and thread: whoever mounts or tests, on the executor's thread. Lifetime: ends after the
// data store's jobs that it started; the service may live longer. Completion: each callback is
// called exactly once, inside the call or later, unless the client is destroyed first. A crash of
// the service leaves every unanswered request here, for reconnect(). An error is in the answer,
// and leaves the file as the rank and the store say.
class Client {
 public:
  Client(Executor& executor, MetadataService& service, DataStore& data, Random& random,
         ClientOptions options = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Any request. SetattrArgs with kSetSize cuts the data, too.
  void call(Credentials cred, Args args, ReplyFn done);

  // Reads up to `length` bytes, fewer at the end of the file. `out` lives until `done`.
  void read(Credentials cred, Ino ino, uint64_t offset, char* out, size_t length, DataFn done);
  // `bytes` lives until `done`. All or nothing is written.
  void write(Credentials cred, Ino ino, uint64_t offset, std::string_view bytes,
             WriteOptions options, DataFn done);
  // fallocate(2): mode 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE with or without KEEP_SIZE;
  // EOPNOTSUPP for others.
  void allocate(Credentials cred, Ino ino, int mode, uint64_t offset, uint64_t length, DataFn done);
  // lseek(2) with SEEK_DATA or SEEK_HOLE.
  void seek(Credentials cred, Ino ino, uint64_t offset, bool data, DataFn done);
  // copy_file_range(2); at most kMaxCopy bytes at once.
  void copy(Credentials cred, CopyRange range, DataFn done);
  // fsync(2): the file's data and everything this session was answered before.
  void sync(Credentials cred, Ino ino, DataFn done);
  // syncfs(2).
  void sync_all(Credentials cred, DataFn done);

  // Others want to write to the file: when what is under way here is done, they may.
  void give_back(Ino ino);
  // Nothing is under way on the file's data.
  bool is_idle(Ino ino) const { return !files_.contains(ino); }
  bool has_lock(Ino ino, uint64_t owner, LockKind kind) const {
    return options_.locks && options_.locks->has_lock(ino, owner, kind);
  }
  // `fn` hears of files whose attributes changed after the change was answered: a sparse file that
  // was cut holds less than was said.
  void on_corrected(std::move_only_function<void(Ino)> fn) { on_corrected_ = std::move(fn); }

  // The service died and another one has recovered what it left.
  void reconnect(MetadataService& service) { session_->reconnect(service); }

  // Whether a read of a file with these times must change its atime (relatime): it is not newer
  // than a change, or a day old.
  bool atime_due(const Stat& stat) const;

  SessionId session() const { return session_->id(); }
  size_t unanswered() const { return session_->unanswered(); }
  size_t active_files() const { return files_.size(); }
  Executor& executor() { return executor_; }

  static constexpr uint64_t kMaxCopy = 1ull << 30;

 private:
  class FileRef;
  class Held;

  Promised<Reply> ask(Credentials cred, Args args);
  ReplyFn forget_size(ReplyFn done);
  // Others may write to it meanwhile; so its size is not known for long.
  bool is_others(Ino ino) const { return options_.locks && !options_.locks->may_write(ino); }
  Task<int> own(FileRef& file, const Credentials& cred);
  Task<void> run_give_back(Ino ino);
  Task<int> load(FileRef& file, const Credentials& cred, bool for_read = false);
  void learn(FileRef& file, const Stat& stat);
  Task<int> lock_for_end(FileRef& file, const Credentials& cred, uint64_t end, Held& held);
  Task<int> make_durable(const Credentials& cred, Ino ino);

  Task<void> run_read(Credentials cred, Ino ino, uint64_t offset, char* out, size_t length,
                      DataFn done);
  Task<void> run_write(Credentials cred, Ino ino, uint64_t offset, std::string_view bytes,
                       WriteOptions options, DataFn done);
  Task<void> run_truncate(Credentials cred, SetattrArgs args, ReplyFn done);
  Task<void> run_allocate(Credentials cred, Ino ino, int mode, uint64_t offset, uint64_t length,
                          DataFn done);
  Task<void> run_seek(Credentials cred, Ino ino, uint64_t offset, bool data, DataFn done);
  Task<void> run_copy(Credentials cred, CopyRange range, DataFn done);
  Task<void> run_sync(Credentials cred, Ino ino, DataFn done);

  Executor& executor_;
  DataStore& data_;
  ClientOptions options_;
  Session::Ref session_;
  absl::flat_hash_map<Ino, std::unique_ptr<FileState>> files_;
  std::move_only_function<void(Ino)> on_corrected_;
  TaskScope tasks_;  // last: its frames use everything above
};

}  // namespace graftfs
