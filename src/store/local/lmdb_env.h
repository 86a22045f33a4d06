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

#include "base/executor.h"
#include "base/result.h"
#include "store/local/local_common.h"
#include "store/local/mdb_tree.h"
#include "store/local/page_sums.h"

namespace graftfs::local {

// Shared by the parts of a LocalStore and by the jobs it started. read() from any thread,
// write() from one thread at a time. A crash leaves the last transaction whose write() returned,
// or the one that was under way, whole. An error leaves nothing of the transaction; after EIO
// from a write, and after damage was found, every later call fails the same way until the volume
// is opened again, because what the disk holds is not known any more.
//
// LMDB has no checksums and believes its pages: a damaged one may send it anywhere. So it is not
// shown any. Reads do not go through it, but through Tree, which believes nothing and checks each
// page against its checksum; LMDB only keeps the pages of what is being read. Writes do go
// through it, once everything that it may look at has been checked in the same way. Values carry
// a checksum of their own over key and bytes. What is left, an error of the disk while a mapped
// page is read (SIGBUS), a damaged page right after it was written, one of LMDB's assertions,
// ends in EUCLEAN as well: all of it runs guarded.
class LmdbEnv {
 public:
  // `map_size`: of the address space to reserve; halved until the system grants it.
  // `new_sums`: makes the checksums of all pages anew, believing what makes sense.
  static Result<std::shared_ptr<LmdbEnv>> open(std::shared_ptr<Volume> volume, size_t map_size,
                                               bool new_sums);
  ~LmdbEnv();

  enum Db { dirs, locations, state };

  // The trees as of one transaction.
  struct View {
    mdb::Snapshot snapshot;
    mdb::Db dbs[3];
    std::shared_ptr<PageSums> sums;
  };
  // A transaction that writes; `before` is what it found.
  struct Write {
    MDB_txn* txn;
    View before;
  };

  using ReadBody = std::function<Result<void>(const View&)>;
  using WriteBody = std::function<Result<void>(const Write&)>;
  Result<void> read(const ReadBody& body);
  // Completion: durable.
  Result<void> write(const WriteBody& body);

  // To be used inside a body. `get`: nullopt where there is none. The views live as long as the
  // transaction.
  Result<std::optional<std::string_view>> get(const View& view, Db db, std::string_view key);
  // Calls `fn` for each record with key >= from, in order, until it returns false.
  Result<void> scan(const View& view, Db db, std::string_view from,
                    const std::function<bool(std::string_view key, std::string_view value)>& fn);
  // Puts and erases; in key order they are fast.
  class Batch;

  const std::string& file_name() const { return file_name_; }

  // Called, on the thread that writes, each time a write has waited for so long for another
  // process.
  void when_stuck(Nanos after, std::function<void()> fn);
  // Frees what readers hold whose process has died in a transaction.
  void clear_dead_readers();

 private:
  friend class Batch;
  struct Reader {
    MDB_txn* txn = nullptr;
    View view;
  };

  LmdbEnv(std::shared_ptr<Volume> volume) : volume_(std::move(volume)) {}
  Result<void> open_env(size_t map_size, bool new_sums);
  Result<void> open_dbs();
  Result<void> map_file(size_t size);
  size_t most_pages() const;
  std::unexpected<Error> fail_with(int code, const char* verb);
  std::unexpected<Error> fail_damaged(const std::string& what);
  // With the name of the file and what to do, where pages were found damaged.
  std::unexpected<Error> tell(Error error);
  Result<std::string_view> unwrap(std::string_view key, std::string_view wrapped);
  Result<void> usable() const;
  void break_with(Error why);
  // Runs `fn`; false if it was left by a fault or by LMDB's assertion.
  bool guarded(const std::function<void()>& fn);
  Result<Reader> take_reader(bool& grown);
  Result<void> look(Reader& reader);
  Result<View> view_of(const mdb::Snapshot& snapshot);
  void give_reader(Reader reader);
  Result<void> room_for(uint64_t bytes);
  Result<void> try_write(const WriteBody& body, bool& full);
  Result<void> grow();
  // Another process has made the map larger.
  Result<void> follow_growth();
  mdb::Tree tree(const View& view, Db db) {
    return mdb::Tree(*map_, *view.sums, view.snapshot, view.dbs[db]);
  }

  // Against other processes; for all that changes the sums.
  class DirLock;
  void wait_for(DirLock& lock);
  std::shared_ptr<PageSums> make_sums() const;
  Result<void> catch_up(bool new_sums);
  Result<void> load_sums(bool new_sums);
  Result<void> note_written();
  Result<std::vector<PageSums::Sum>> sums_of(const mdb::Snapshot& snapshot,
                                             const std::function<bool(mdb::PageNo)>& wanted);
  Result<void> settle(const mdb::Snapshot& newest);

  std::shared_ptr<Volume> volume_;
  std::string file_name_;
  Fd dir_;
  uint64_t put_bytes_ = 0;  // by the transaction that is open
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_[3] = {};
  std::unique_ptr<mdb::Map> map_;
  std::shared_ptr<PageSums> sums_;                // of who writes
  std::atomic<std::shared_ptr<PageSums>> shown_;  // what readers get: not while it is being read
  std::shared_ptr<PageSums> no_sums_;             // knows of no page
  mdb::Snapshot written_;                         // the newest whose sums are known
  std::vector<bool> free_;                        // its free pages
  std::shared_mutex resize_;                      // exclusive: the map is being moved
  std::mutex readers_mutex_;
  std::vector<Reader> readers_;  // reset, to be renewed
  std::mutex stuck_mutex_;
  Nanos stuck_after_ = 0;
  std::function<void()> stuck_;
  mutable std::mutex broken_mutex_;
  std::atomic<bool> broken_{false};
  bool leak_ = false;  // LMDB was left in the middle of something; it is not touched again
  Error why_;
};

// A cursor over one database inside a write body.
class LmdbEnv::Batch {
 public:
  Batch(LmdbEnv& env, const Write& write, Db db);
  ~Batch();
  Result<void> put(std::string_view key, std::string_view value);
  Result<void> erase(std::string_view key);
  // Every record whose key starts with the prefix.
  Result<void> erase_prefix(std::string_view prefix);

 private:
  // Before LMDB looks for the key: what it will look at, as the transaction found it. What the
  // transaction itself has written is in memory of LMDB's own, or known to be good.
  Result<void> check(std::string_view key, bool erase);

  LmdbEnv& env_;
  mdb::Tree tree_;
  mdb::Tree::Path path_;
  bool neighbours_checked_ = false;  // of the path's leaf
  MDB_cursor* cursor_ = nullptr;
  int opened_;
  std::string buffer_;
};

}  // namespace graftfs::local
