#pragma once
// Directories and cluster state in LMDB.

#include <memory>

#include "store/local/cluster_files.h"
#include "store/local/lmdb_env.h"
#include "store/store.h"

namespace graftfs::local {

struct DirsOptions {
  // Reads that may take long go to the pool; with this, single gets do as well.
  bool all_reads_on_pool = false;
  // Believe every page that makes sense, and make the pages' checksums anew (fsck --repair).
  bool new_sums = false;
};

// Owned by the LocalStore, used from the executor's thread. Commits run one after another on a
// thread of their own, each a transaction: all of the batch or nothing, durable at completion.
// Gets run inline: they cost a microsecond when their pages are in memory, and a page fault
// otherwise. Where this store's ranks are fenced, a commit fails with ESTALE: that is asked inside
// its transaction.
class LocalDirs final : public DirStore {
 public:
  LocalDirs(Executor& executor, BlockingPool& pool, BlockingPool& writer,
            std::shared_ptr<LmdbEnv> env, std::shared_ptr<Fences> fences, DirsOptions options)
      : executor_(executor),
        pool_(pool),
        writer_(writer),
        env_(std::move(env)),
        fences_(std::move(fences)),
        options_(options) {}

  Task<Result<std::optional<std::string>>> read_header(Ino dir) override;
  Task<Result<std::vector<std::optional<std::string>>>> read_headers(
      std::vector<Ino> dirs) override;
  Task<Result<std::optional<std::string>>> read_entry(Ino dir, EntryKey key) override;
  Task<Result<std::vector<DirEntryBytes>>> read_entries(Ino dir, EntryKey from,
                                                        size_t max) override;
  Task<Result<std::optional<Location>>> locate(Ino ino) override;
  Task<Result<void>> commit(std::vector<DirUpdate> updates) override;
  Task<Result<std::vector<Ino>>> list_dirs(Ino from, size_t max) override;

 private:
  Executor& executor_;
  BlockingPool& pool_;
  BlockingPool& writer_;
  std::shared_ptr<LmdbEnv> env_;
  std::shared_ptr<Fences> fences_;
  DirsOptions options_;
};

// Keys of "cluster/" are files, on a thread that never waits for LMDB; the others are in LMDB.
class LocalState final : public StateStore {
 public:
  LocalState(Executor& executor, BlockingPool& writer, BlockingPool& files,
             std::shared_ptr<LmdbEnv> env, std::shared_ptr<const ClusterFiles> cluster)
      : executor_(executor),
        writer_(writer),
        files_(files),
        env_(std::move(env)),
        cluster_(std::move(cluster)) {}
  Task<Result<StateValue>> get(std::string key) override;
  Task<Result<uint64_t>> set(std::string key, uint64_t expected, std::string value) override;
  Task<Result<std::vector<std::pair<std::string, StateValue>>>> list(std::string prefix) override;
  Task<Result<void>> remove(std::string key) override;

 private:
  Executor& executor_;
  BlockingPool& writer_;
  BlockingPool& files_;
  std::shared_ptr<LmdbEnv> env_;
  std::shared_ptr<const ClusterFiles> cluster_;
};

}  // namespace graftfs::local
