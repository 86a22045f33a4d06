#include "store/local/lmdb_env.h"

#include <fmt/format.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstring>

#include "base/crc32c.h"
#include "base/fault.h"

namespace graftfs::local {
namespace {

constexpr size_t kMinMapSize = size_t{64} << 20;
constexpr size_t kChecksumSize = 4;
constexpr int kMaxReaders = 126;
constexpr uint64_t kLargeCommit = 256 << 10;

// ---- The guard around LMDB. A fault inside it jumps back to guarded(); others go where they
// went before.

thread_local sigjmp_buf* jump_target = nullptr;
struct sigaction old_segv, old_bus;

void on_fault(int signal, siginfo_t* info, void* context) {
  if (jump_target) siglongjmp(*std::exchange(jump_target, nullptr), signal);
  const struct sigaction& old = signal == SIGBUS ? old_bus : old_segv;
  if (old.sa_flags & SA_SIGINFO) {
    old.sa_sigaction(signal, info, context);
  } else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) {
    old.sa_handler(signal);
  } else {
    ::sigaction(signal, &old, nullptr);  // the access faults again and ends the process
  }
}

void on_lmdb_assert(MDB_env*, const char*) {
  if (jump_target) siglongjmp(*std::exchange(jump_target, nullptr), SIGABRT);
}

void install_guard() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGSEGV, &action, &old_segv);
    ::sigaction(SIGBUS, &action, &old_bus);
  });
}

MDB_val val(std::string_view s) { return {s.size(), const_cast<char*>(s.data())}; }
std::string_view view(const MDB_val& v) { return {static_cast<char*>(v.mv_data), v.mv_size}; }

uint32_t checksum(std::string_view key, std::string_view value) {
  return crc32c(value, crc32c(key));
}

void wrap(std::string& out, std::string_view key, std::string_view value) {
  uint32_t sum = checksum(key, value);
  out.assign(reinterpret_cast<const char*>(&sum), sizeof sum);
  out.append(value);
}

}  // namespace

Result<std::shared_ptr<LmdbEnv>> LmdbEnv::open(std::shared_ptr<Volume> volume, size_t map_size) {
  install_guard();
  std::shared_ptr<LmdbEnv> env(new LmdbEnv(std::move(volume)));
  Result<void> opened = fail(EIO);
  if (!env->guarded([&] { opened = env->open_env(map_size); })) {
    return env->fail_damaged("its pages lead nowhere");
  }
  if (!opened) return std::unexpected(std::move(opened).error());
  return env;
}

Result<void> LmdbEnv::open_env(size_t map_size) {
  std::string dir = volume_->path + "/dirs";
  file_name_ = dir + "/data.mdb";
  for (;; map_size /= 2) {
    if (int e = mdb_env_create(&env_)) return fail_with(e, "open");
    mdb_env_set_maxdbs(env_, 8);
    mdb_env_set_maxreaders(env_, kMaxReaders);
    mdb_env_set_mapsize(env_, map_size);
    mdb_env_set_assert(env_, on_lmdb_assert);
    int e = mdb_env_open(env_, dir.c_str(), MDB_NOTLS, 0600);
    if (e == 0) break;
    mdb_env_close(env_);
    env_ = nullptr;
    if (e == ENOMEM && map_size / 2 >= kMinMapSize) continue;
    return fail_with(e, "open");
  }
  int dead = 0;
  mdb_reader_check(env_, &dead);
  MDB_envinfo info;
  MDB_stat stat;
  mdb_env_info(env_, &info);
  mdb_env_stat(env_, &stat);
  struct stat st;
  if (::stat(file_name_.c_str(), &st) == 0 && info.me_last_txnid > 0 &&
      static_cast<uint64_t>(st.st_size) < (info.me_last_pgno + 1) * stat.ms_psize) {
    return fail_damaged(fmt::format("it ends at offset {} and should have {} bytes", st.st_size,
                                    (info.me_last_pgno + 1) * stat.ms_psize));
  }
  MDB_txn* txn = nullptr;
  if (int e = mdb_txn_begin(env_, nullptr, 0, &txn)) return fail_with(e, "open");
  const char* names[] = {"dirs", "locations", "state"};
  for (int i = 0; i < 3; ++i) {
    if (int e = mdb_dbi_open(txn, names[i], MDB_CREATE, &dbi_[i])) {
      mdb_txn_abort(txn);
      return fail_with(e, "open");
    }
  }
  if (int e = mdb_txn_commit(txn)) return fail_with(e, "open");
  return {};
}

LmdbEnv::~LmdbEnv() {
  if (!env_ || leak_) return;
  for (MDB_txn* txn : readers_) mdb_txn_abort(txn);
  mdb_env_close(env_);
}

std::unexpected<Error> LmdbEnv::fail_with(int code, const char* verb) {
  switch (code) {
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_BAD_TXN:
    case MDB_CURSOR_FULL:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE:
      return fail_damaged(mdb_strerror(code));
    case MDB_VERSION_MISMATCH:
      return fail(EINVAL, file_name_ + " was made by another version of LMDB; use that version");
    case MDB_PANIC:
      return fail(EIO, file_name_ + ": an earlier write failed; mount the volume again");
    case MDB_TXN_FULL:
      return fail(EFBIG, file_name_ + ": the batch is too large for one transaction");
    case MDB_READERS_FULL:
      return fail(EAGAIN, file_name_ + ": too many readers at once");
  }
  if (code < 0) return fail(EIO, fmt::format("cannot {} {}: {}", verb, file_name_, mdb_strerror(code)));
  return os_fail(code, verb, file_name_);
}

std::unexpected<Error> LmdbEnv::fail_damaged(const std::string& what) {
  MARK("store.local.dirs.damaged");
  return damaged(fmt::format("{} is damaged: {}; stop the file system and run 'graftfs fsck {}'",
                             file_name_, what, volume_->path));
}

Result<void> LmdbEnv::usable() const {
  TRY(volume_->alive());
  if (!broken_.load(std::memory_order_acquire)) [[likely]]
    return {};
  std::lock_guard lock(broken_mutex_);
  return std::unexpected(why_);
}

bool LmdbEnv::guarded(const std::function<void()>& fn) {
  sigjmp_buf target;
  if (sigsetjmp(target, 0) != 0) {
    std::lock_guard lock(broken_mutex_);
    leak_ = true;
    why_ = fail_damaged("its pages lead nowhere").error();
    broken_ = true;
    return false;
  }
  jump_target = &target;
  fn();
  jump_target = nullptr;
  return true;
}

Result<MDB_txn*> LmdbEnv::take_reader() {
  MDB_txn* txn = nullptr;
  {
    std::lock_guard lock(readers_mutex_);
    if (!readers_.empty()) {
      txn = readers_.back();
      readers_.pop_back();
    }
  }
  int e = txn ? mdb_txn_renew(txn) : mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn);
  if (e) return fail_with(e, "read");
  return txn;
}

void LmdbEnv::give_reader(MDB_txn* txn) {
  mdb_txn_reset(txn);
  std::lock_guard lock(readers_mutex_);
  readers_.push_back(txn);
}

Result<void> LmdbEnv::read(const Body& body) {
  TRY(usable());
  std::shared_lock lock(resize_);
  TRY_ASSIGN(MDB_txn * txn, take_reader());
  Result<void> result;
  if (!guarded([&] { result = body(txn); })) return usable();
  give_reader(txn);
  return result;
}

// LMDB takes a write that ends in the middle of a full disk for a broken disk, so it is not let
// near it. What it overwrites lies in pages of its own, twice what was put is ample.
Result<void> LmdbEnv::room_for(uint64_t bytes) {
  const Space& space = volume_->space;
  const bool large = bytes > kLargeCommit;
  if (space.has(2 * bytes, large ? space.for_large_commits() : space.for_small_commits()))
    return {};
  MARK("store.local.dirs.reserve_reached");
  return os_fail(ENOSPC, "write", file_name_);
}

Result<void> LmdbEnv::try_write(const Body& body, bool& full) {
  MDB_txn* txn = nullptr;
  if (int e = mdb_txn_begin(env_, nullptr, 0, &txn)) return fail_with(e, "write");
  put_bytes_ = 0;
  Result<void> result = body(txn);
  if (result) result = volume_->alive();
  if (result) result = room_for(put_bytes_);
  if (!result) {
    mdb_txn_abort(txn);
    full = result.error().code == MDB_MAP_FULL;
    return result;
  }
  int e = mdb_txn_commit(txn);
  if (e == 0) return {};
  full = e == MDB_MAP_FULL;
  if (full) return fail(MDB_MAP_FULL);
  return fail_with(e, "write");
}

Result<void> LmdbEnv::write(const Body& body) {
  for (;;) {
    TRY(usable());
    bool full = false;
    Result<void> result;
    if (!guarded([&] { result = try_write(body, full); })) return usable();
    if (full) {
      TRY(grow());
      continue;
    }
    if (!result && result.error().code == EIO && !volume_->shut_down) {
      // What the page cache holds of the file is not what the disk holds.
      std::lock_guard lock(broken_mutex_);
      why_ = Error{EIO, file_name_ + ": an earlier write failed; mount the volume again"};
      broken_ = true;
    }
    return result;
  }
}

Result<void> LmdbEnv::grow() {
  MARK("store.local.dirs.map_grown");
  std::unique_lock lock(resize_);
  MDB_envinfo info;
  mdb_env_info(env_, &info);
  if (int e = mdb_env_set_mapsize(env_, info.me_mapsize * 2)) return fail_with(e, "extend");
  return {};
}

Result<std::string_view> LmdbEnv::unwrap(std::string_view key, std::string_view wrapped) {
  uint32_t sum = 0;
  if (wrapped.size() >= kChecksumSize) {
    std::memcpy(&sum, wrapped.data(), sizeof sum);
    std::string_view value = wrapped.substr(kChecksumSize);
    if (sum == checksum(key, value)) return value;
  }
  std::string hex;
  for (char c : key.substr(0, 17)) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return fail_damaged(fmt::format("the record with key {}{} has a wrong checksum", hex,
                                  key.size() > 17 ? "..." : ""));
}

Result<std::optional<std::string_view>> LmdbEnv::get(MDB_txn* txn, Db db, std::string_view key) {
  MDB_val k = val(key), v;
  int e = mdb_get(txn, dbi_[db], &k, &v);
  if (e == MDB_NOTFOUND) return std::nullopt;
  if (e) return fail_with(e, "read");
  TRY_ASSIGN(std::string_view value, unwrap(key, view(v)));
  return value;
}

Result<void> LmdbEnv::put(MDB_txn* txn, Db db, std::string_view key, std::string_view value) {
  std::string wrapped;
  wrap(wrapped, key, value);
  put_bytes_ += key.size() + wrapped.size();
  MDB_val k = val(key), v = val(wrapped);
  int e = mdb_put(txn, dbi_[db], &k, &v, 0);
  if (e == MDB_MAP_FULL) return fail(MDB_MAP_FULL);
  if (e) return fail_with(e, "write");
  return {};
}

Result<void> LmdbEnv::erase(MDB_txn* txn, Db db, std::string_view key) {
  MDB_val k = val(key);
  int e = mdb_del(txn, dbi_[db], &k, nullptr);
  if (e == MDB_MAP_FULL) return fail(MDB_MAP_FULL);
  if (e && e != MDB_NOTFOUND) return fail_with(e, "write");
  return {};
}

Result<void> LmdbEnv::scan(
    MDB_txn* txn, Db db, std::string_view from,
    const std::function<bool(std::string_view key, std::string_view value)>& fn) {
  MDB_cursor* cursor = nullptr;
  if (int e = mdb_cursor_open(txn, dbi_[db], &cursor)) return fail_with(e, "read");
  MDB_val k = val(from), v;
  Result<void> result;
  int e = mdb_cursor_get(cursor, &k, &v, from.empty() ? MDB_FIRST : MDB_SET_RANGE);
  for (; e == 0; e = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
    auto value = unwrap(view(k), view(v));
    if (!value) {
      result = std::unexpected(std::move(value).error());
      break;
    }
    if (!fn(view(k), *value)) break;
  }
  mdb_cursor_close(cursor);
  if (e && e != MDB_NOTFOUND) return fail_with(e, "read");
  return result;
}

LmdbEnv::Batch::Batch(LmdbEnv& env, MDB_txn* txn, Db db) : env_(env) {
  opened_ = mdb_cursor_open(txn, env.dbi_[db], &cursor_);
}

LmdbEnv::Batch::~Batch() {
  if (cursor_) mdb_cursor_close(cursor_);
}

Result<void> LmdbEnv::Batch::put(std::string_view key, std::string_view value) {
  if (opened_) return env_.fail_with(opened_, "write");
  wrap(buffer_, key, value);
  env_.put_bytes_ += key.size() + buffer_.size();
  MDB_val k = val(key), v = val(buffer_);
  int e = mdb_cursor_put(cursor_, &k, &v, 0);
  if (e == MDB_MAP_FULL) return fail(MDB_MAP_FULL);
  if (e) return env_.fail_with(e, "write");
  return {};
}

Result<void> LmdbEnv::Batch::erase(std::string_view key) {
  if (opened_) return env_.fail_with(opened_, "write");
  MDB_val k = val(key), v;
  int e = mdb_cursor_get(cursor_, &k, &v, MDB_SET);
  if (e == 0) e = mdb_cursor_del(cursor_, 0);
  if (e == MDB_MAP_FULL) return fail(MDB_MAP_FULL);
  if (e && e != MDB_NOTFOUND) return env_.fail_with(e, "write");
  return {};
}

Result<void> LmdbEnv::Batch::erase_prefix(std::string_view prefix) {
  if (opened_) return env_.fail_with(opened_, "write");
  for (;;) {
    MDB_val k = val(prefix), v;
    int e = mdb_cursor_get(cursor_, &k, &v, MDB_SET_RANGE);
    if (e == MDB_NOTFOUND || (e == 0 && !view(k).starts_with(prefix))) return {};
    if (e == 0) e = mdb_cursor_del(cursor_, 0);
    if (e == MDB_MAP_FULL) return fail(MDB_MAP_FULL);
    if (e) return env_.fail_with(e, "write");
  }
}

}  // namespace graftfs::local
