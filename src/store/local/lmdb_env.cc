#include "store/local/lmdb_env.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstring>

#include "base/crc32c.h"
#include "base/fault.h"
#include "store/local/lmdb_lock.h"

namespace graftfs::local {
namespace {

constexpr size_t kMinMapSize = size_t{64} << 20;
constexpr size_t kChecksumSize = 4;
// Of all processes together.
constexpr int kMaxReaders = 1022;
constexpr uint64_t kLargeCommit = 256 << 10;
// How long opening waits for another process that commits; without its answer, pages are not
// checked against their sums until this process writes.
constexpr int kOpenWaitMs = 2000;
constexpr Nanos kStuckAfter = 2 * kSecond;  // unless somebody says otherwise
const char* const kNames[] = {"dirs", "locations", "state"};

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

Result<std::shared_ptr<LmdbEnv>> LmdbEnv::open(std::shared_ptr<Volume> volume, size_t map_size,
                                               bool new_sums) {
  install_guard();
  std::shared_ptr<LmdbEnv> env(new LmdbEnv(std::move(volume)));
  Result<void> opened = fail(EIO);
  if (!env->guarded([&] { opened = env->open_env(map_size, new_sums); })) {
    return env->fail_damaged("its pages cannot be read");
  }
  if (!opened) return std::unexpected(std::move(opened).error());
  return env;
}

Result<void> LmdbEnv::map_file(size_t size) {
  map_.reset();
  for (;; size /= 2) {
    auto map = mdb::Map::open(file_name_, size);
    if (!map && map.error().code == ENOMEM && size / 2 >= kMinMapSize) continue;
    TRY_ASSIGN(map_, std::move(map));
    break;
  }
  if (!sums_) {
    sums_ = make_sums();
    shown_ = sums_;
    no_sums_ = std::make_shared<PageSums>(dir_.get(), "", 0);
  }
  sums_->resize(most_pages());
  return {};
}

// At least pages of the smallest size; where they are larger, less of it is used.
size_t LmdbEnv::most_pages() const {
  return map_->size() / static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

Result<void> LmdbEnv::open_env(size_t map_size, bool new_sums) {
  std::string dir = volume_->path + "/dirs";
  file_name_ = dir + "/data.mdb";
  TRY_ASSIGN(dir_, open_at(volume_->fd.get(), "dirs", O_RDONLY | O_DIRECTORY, dir));
  DirLock lock(dir_.get(), kOpenWaitMs);
  struct stat st = {};
  const bool exists = ::stat(file_name_.c_str(), &st) == 0 && st.st_size > 0;
  if (exists) {
    // Before LMDB sees it.
    TRY(map_file(std::max<size_t>(map_size, st.st_size)));
    map_size = map_->size();
    if (lock) TRY(catch_up(new_sums));
  }
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
  TRY(open_dbs());
  if (exists && !lock) return {};
  if (!exists) TRY(map_file(map_size));
  if (!exists || mdb::newest_meta(*map_)->txn != written_.txn) return catch_up(new_sums);
  return {};
}

Result<void> LmdbEnv::open_dbs() {
  // Only a volume that is opened for the first time is written to.
  for (unsigned flags : {unsigned{MDB_RDONLY}, 0u}) {
    MDB_txn* txn = nullptr;
    if (int e = mdb_txn_begin(env_, nullptr, flags, &txn)) return fail_with(e, "open");
    int e = 0;
    for (int i = 0; i < 3 && e == 0; ++i) {
      e = mdb_dbi_open(txn, kNames[i], flags ? 0 : MDB_CREATE, &dbi_[i]);
    }
    if (e) {
      mdb_txn_abort(txn);
      if (e == MDB_NOTFOUND && flags) continue;
      return fail_with(e, "open");
    }
    if ((e = mdb_txn_commit(txn))) return fail_with(e, "open");
    return {};
  }
  return {};
}

LmdbEnv::~LmdbEnv() {
  if (!env_ || leak_) return;
  for (const Reader& reader : readers_) mdb_txn_abort(reader.txn);
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
  if (code < 0)
    return fail(EIO, fmt::format("cannot {} {}: {}", verb, file_name_, mdb_strerror(code)));
  return os_fail(code, verb, file_name_);
}

std::unexpected<Error> LmdbEnv::fail_damaged(const std::string& what) {
  MARK("store.local.dirs.damaged");
  return damaged(fmt::format("{} is damaged: {}; stop the file system and run 'graftfs fsck {}'",
                             file_name_, what, volume_->path));
}

std::unexpected<Error> LmdbEnv::tell(Error error) {
  if (error.is_damage()) return fail_damaged(error.message);
  return std::unexpected(std::move(error));
}

void LmdbEnv::break_with(Error why) {
  std::lock_guard lock(broken_mutex_);
  why_ = std::move(why);
  broken_ = true;
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
    leak_ = true;
    break_with(fail_damaged("its pages cannot be read").error());
    return false;
  }
  jump_target = &target;
  fn();
  jump_target = nullptr;
  return true;
}

Result<LmdbEnv::Reader> LmdbEnv::take_reader(bool& grown) {
  Reader reader;
  {
    std::lock_guard lock(readers_mutex_);
    if (!readers_.empty()) {
      reader = readers_.back();
      readers_.pop_back();
    }
  }
  int e = reader.txn ? mdb_txn_renew(reader.txn)
                     : mdb_txn_begin(env_, nullptr, MDB_RDONLY, &reader.txn);
  grown = e == MDB_MAP_RESIZED;
  if (e && reader.txn) mdb_txn_abort(reader.txn);
  if (e) return fail_with(e, "read");
  return reader;
}

void LmdbEnv::give_reader(Reader reader) {
  mdb_txn_reset(reader.txn);
  std::lock_guard lock(readers_mutex_);
  readers_.push_back(reader);
}

Result<LmdbEnv::View> LmdbEnv::view_of(const mdb::Snapshot& snapshot) {
  View view;
  view.snapshot = snapshot;
  // The sums of one transaction hold for the next as well, since nothing is known of what that
  // may write; and for all that this process writes. Beyond, another process writes.
  view.sums = shown_.load();
  if (snapshot.txn > view.sums->txn() + 1) view.sums = no_sums_;
  for (int i = 0; i < 3; ++i) {
    auto db = mdb::find_db(*map_, *view.sums, snapshot, kNames[i]);
    if (!db) return tell(std::move(db).error());
    view.dbs[i] = *db;
  }
  return view;
}

// Finds the roots of the reader's transaction.
Result<void> LmdbEnv::look(Reader& reader) {
  for (;;) {
    uint64_t txn = mdb_txn_id(reader.txn);
    if (reader.view.sums && reader.view.snapshot.txn == txn) return {};
    auto snapshot = mdb::read_meta(*map_, static_cast<int>(txn % 2));
    // Two transactions later that meta page is written anew; not before the one in between is
    // there.
    MDB_envinfo info;
    mdb_env_info(env_, &info);
    if (info.me_last_txnid <= txn) {
      if (!snapshot) return tell(std::move(snapshot).error());
      if (snapshot->txn != txn) return fail_damaged(fmt::format("transaction {} is gone", txn));
      TRY_ASSIGN(reader.view, view_of(*snapshot));
      return {};
    }
    mdb_txn_reset(reader.txn);
    if (int e = mdb_txn_renew(reader.txn)) return fail_with(e, "read");
  }
}

Result<void> LmdbEnv::read(const ReadBody& body) {
  for (;;) {
    TRY(usable());
    bool grown = false;
    {
      std::shared_lock lock(resize_);
      auto reader = take_reader(grown);
      if (reader) {
        Result<void> result;
        if (!guarded([&] {
              result = look(*reader);
              if (result) result = body(reader->view);
            })) {
          return usable();
        }
        give_reader(*reader);
        return result;
      }
      if (!grown) return std::unexpected(std::move(reader).error());
    }
    TRY(follow_growth());
  }
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

Result<void> LmdbEnv::try_write(const WriteBody& body, bool& full) {
  Write write{nullptr, {}};
  TRY_ASSIGN(write.before, view_of(written_));
  if (int e = mdb_txn_begin(env_, nullptr, 0, &write.txn)) return fail_with(e, "write");
  put_bytes_ = 0;
  Result<void> result = body(write);
  if (result) result = volume_->alive();
  if (result) result = room_for(put_bytes_);
  if (!result) {
    mdb_txn_abort(write.txn);
    full = result.error().code == MDB_MAP_FULL;
    return result;
  }
  int e = mdb_txn_commit(write.txn);
  if (e == 0) return note_written();
  full = e == MDB_MAP_FULL;
  if (full) return fail(MDB_MAP_FULL);
  return fail_with(e, "write");
}

Result<void> LmdbEnv::write(const WriteBody& body) {
  TRY(usable());
  DirLock lock(dir_.get());
  if (!lock) wait_for(lock);
  for (;;) {
    TRY(usable());
    bool full = false;
    Result<void> result;
    struct stat st = {};
    if (::stat(file_name_.c_str(), &st) == 0 && static_cast<size_t>(st.st_size) > map_->size())
      TRY(follow_growth());
    bool finished = guarded([&] {
      // Another process may have written.
      auto newest = mdb::newest_meta(*map_);
      bool behind = !newest || newest->txn != written_.txn || !sums_->is_current();
      result = behind ? catch_up(false) : sums_->add_pending();
      if (result) result = try_write(body, full);
    });
    if (!finished) return usable();
    if (full) {
      TRY(grow());
      continue;
    }
    // What the page cache holds of the file is not what the disk holds.
    if (!result && result.error().code == EIO && !volume_->shut_down) {
      break_with(Error{EIO, file_name_ + ": an earlier write failed; mount the volume again"});
    }
    return result;
  }
}

void LmdbEnv::wait_for(DirLock& lock) {
  for (;;) {
    Nanos after;
    std::function<void()> stuck;
    {
      std::lock_guard guard(stuck_mutex_);
      after = stuck_after_ > 0 ? stuck_after_ : kStuckAfter;
      stuck = stuck_;
    }
    if (lock.wait(static_cast<int>(after / kMillisecond))) return;
    MARK("store.local.dirs.stuck");
    if (stuck) stuck();
  }
}

void LmdbEnv::when_stuck(Nanos after, std::function<void()> fn) {
  std::lock_guard guard(stuck_mutex_);
  stuck_after_ = after;
  stuck_ = std::move(fn);
}

void LmdbEnv::clear_dead_readers() {
  int dead = 0;
  mdb_reader_check(env_, &dead);
  if (dead > 0) MARK("store.local.dirs.dead_readers");
}

Result<void> LmdbEnv::follow_growth() {
  MARK("store.local.dirs.map_followed");
  std::unique_lock lock(resize_);
  if (int e = mdb_env_set_mapsize(env_, 0)) return fail_with(e, "extend");
  MDB_envinfo info;
  mdb_env_info(env_, &info);
  if (info.me_mapsize <= map_->size()) return {};
  return map_file(info.me_mapsize);
}

Result<void> LmdbEnv::grow() {
  MARK("store.local.dirs.map_grown");
  std::unique_lock lock(resize_);
  MDB_envinfo info;
  mdb_env_info(env_, &info);
  if (int e = mdb_env_set_mapsize(env_, info.me_mapsize * 2)) return fail_with(e, "extend");
  return map_file(info.me_mapsize * 2);
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

Result<std::optional<std::string_view>> LmdbEnv::get(const View& view, Db db,
                                                     std::string_view key) {
  std::string_view found;
  Result<bool> there = tree(view, db).find(key, found);
  if (!there) return tell(std::move(there).error());
  if (!*there) return std::nullopt;
  TRY_ASSIGN(std::string_view value, unwrap(key, found));
  return value;
}

Result<void> LmdbEnv::scan(
    const View& view, Db db, std::string_view from,
    const std::function<bool(std::string_view key, std::string_view value)>& fn) {
  Result<void> result;
  auto each = [&](std::string_view key, std::string_view wrapped) {
    auto value = unwrap(key, wrapped);
    if (value) return fn(key, *value);
    result = std::unexpected(std::move(value).error());
    return false;
  };
  Result<void> scanned = tree(view, db).scan(from, each);
  if (!scanned) return tell(std::move(scanned).error());
  return result;
}

LmdbEnv::Batch::Batch(LmdbEnv& env, const Write& write, Db db)
    : env_(env), tree_(env.tree(write.before, db)) {
  opened_ = mdb_cursor_open(write.txn, env.dbi_[db], &cursor_);
}

LmdbEnv::Batch::~Batch() {
  if (cursor_) mdb_cursor_close(cursor_);
}

Result<void> LmdbEnv::Batch::check(std::string_view key, bool erase) {
  if (opened_) return env_.fail_with(opened_, "write");
  const bool near = path_.covers(key);
  Result<void> found = near ? tree_.seek_near(key, path_) : tree_.seek(key, path_);
  if (found) found = tree_.check_for_write(path_, erase && !(near && neighbours_checked_));
  if (!found) return env_.tell(std::move(found).error());
  neighbours_checked_ = (near && neighbours_checked_) || erase;
  return {};
}

Result<void> LmdbEnv::Batch::put(std::string_view key, std::string_view value) {
  TRY(check(key, false));
  wrap(buffer_, key, value);
  env_.put_bytes_ += key.size() + buffer_.size();
  MDB_val k = val(key), v = val(buffer_);
  int e = mdb_cursor_put(cursor_, &k, &v, 0);
  if (e == MDB_MAP_FULL) return fail(MDB_MAP_FULL);
  if (e) return env_.fail_with(e, "write");
  return {};
}

Result<void> LmdbEnv::Batch::erase(std::string_view key) {
  TRY(check(key, true));
  MDB_val k = val(key), v;
  int e = mdb_cursor_get(cursor_, &k, &v, MDB_SET);
  if (e == 0) e = mdb_cursor_del(cursor_, 0);
  if (e == MDB_MAP_FULL) return fail(MDB_MAP_FULL);
  if (e && e != MDB_NOTFOUND) return env_.fail_with(e, "write");
  return {};
}

Result<void> LmdbEnv::Batch::erase_prefix(std::string_view prefix) {
  std::string next(prefix);
  for (;;) {
    TRY(check(next, true));
    MDB_val k = val(next), v;
    int e = mdb_cursor_get(cursor_, &k, &v, MDB_SET_RANGE);
    if (e == MDB_NOTFOUND || (e == 0 && !view(k).starts_with(prefix))) return {};
    if (e == 0) {
      next = view(k);
      TRY(check(next, true));
      e = mdb_cursor_del(cursor_, 0);
    }
    if (e == MDB_MAP_FULL) return fail(MDB_MAP_FULL);
    if (e) return env_.fail_with(e, "write");
  }
}

}  // namespace graftfs::local
