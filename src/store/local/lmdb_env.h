#pragma once
// The LMDB environment below VOLUME/dirs: transactions, errors, damage.

#include <lmdb.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/local/local_common.h"

namespace graftfs::local {

// Shared by the parts of a LocalStore and by the jobs it started. read() from any thread,
// write() from one thread at a time. A crash leaves the last transaction whose write() returned,
// or the one that was under way, whole. An error leaves nothing of the transaction; after EIO
// from a write, and after damage was found, every later call fails the same way until the volume
// is opened again, because what the disk holds is not known any more.
//
// LMDB maps its file and trusts its pages. A page that is damaged may send it anywhere, so it
// runs guarded: an access that faults, or one of its own assertions, becomes EUCLEAN. Values
// carry a checksum over their key and their bytes, so a page that is intact but in the wrong
// place is found as well.
class LmdbEnv {
 public:
  // `map_size`: of the address space to reserve; halved until the system grants it.
  static Result<std::shared_ptr<LmdbEnv>> open(std::shared_ptr<Volume> volume, size_t map_size);
  ~LmdbEnv();

  enum Db { dirs, locations, state };

  using Body = std::function<Result<void>(MDB_txn*)>;
  Result<void> read(const Body& body);
  // Completion: durable.
  Result<void> write(const Body& body);

  // To be used inside a body. `get`: nullopt where there is none. The views live as long as the
  // transaction.
  Result<std::optional<std::string_view>> get(MDB_txn* txn, Db db, std::string_view key);
  Result<void> put(MDB_txn* txn, Db db, std::string_view key, std::string_view value);
  Result<void> erase(MDB_txn* txn, Db db, std::string_view key);
  // Calls `fn` for each record with key >= from, in order, until it returns false.
  Result<void> scan(MDB_txn* txn, Db db, std::string_view from,
                    const std::function<bool(std::string_view key, std::string_view value)>& fn);
  // One cursor for a batch of puts and erases in key order, which is what makes them fast.
  class Batch;

  const std::string& file_name() const { return file_name_; }

 private:
  friend class Batch;
  LmdbEnv(std::shared_ptr<Volume> volume) : volume_(std::move(volume)) {}
  Result<void> open_env(size_t map_size);
  std::unexpected<Error> fail_with(int code, const char* verb);
  std::unexpected<Error> fail_damaged(const std::string& what);
  Result<std::string_view> unwrap(std::string_view key, std::string_view wrapped);
  Result<void> usable() const;
  // Runs `fn`; false if it was left by a fault or by LMDB's assertion.
  bool guarded(const std::function<void()>& fn);
  Result<MDB_txn*> take_reader();
  void give_reader(MDB_txn* txn);
  Result<void> room_for(uint64_t bytes);
  Result<void> try_write(const Body& body, bool& full);
  Result<void> grow();

  std::shared_ptr<Volume> volume_;
  std::string file_name_;
  uint64_t put_bytes_ = 0;  // by the transaction that is open
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_[3] = {};
  std::shared_mutex resize_;  // exclusive: the map is being moved
  std::mutex readers_mutex_;
  std::vector<MDB_txn*> readers_;  // reset, to be renewed
  mutable std::mutex broken_mutex_;
  std::atomic<bool> broken_{false};
  bool leak_ = false;  // LMDB was left in the middle of something; it is not touched again
  Error why_;
};

// A cursor over one database inside a write body.
class LmdbEnv::Batch {
 public:
  Batch(LmdbEnv& env, MDB_txn* txn, Db db);
  ~Batch();
  Result<void> put(std::string_view key, std::string_view value);
  Result<void> erase(std::string_view key);
  // Every record whose key starts with the prefix.
  Result<void> erase_prefix(std::string_view prefix);

 private:
  LmdbEnv& env_;
  MDB_cursor* cursor_ = nullptr;
  int opened_;
  std::string buffer_;
};

}  // namespace graftfs::local
