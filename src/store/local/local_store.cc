#include "store/local/local_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/statvfs.h>

#include "store/points.h"

namespace graftfs {
namespace {

using local::Fd;
using local::os_fail;

}  // namespace

Result<std::unique_ptr<LocalStore>> LocalStore::open(Executor& executor, BlockingPool& pool,
                                                     const std::string& path,
                                                     LocalOptions options) {
  std::unique_ptr<LocalStore> store(new LocalStore(executor, pool, options));
  TRY(store->open_parts(path));
  return store;
}

Result<void> LocalStore::open_parts(const std::string& path) {
  TRY_ASSIGN(volume_file_, local::read_volume_file(path));
  volume_ = std::make_shared<local::Volume>();
  volume_->path = path;
  volume_->fd = Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!volume_->fd) return os_fail(errno, "open", path);
  volume_->space.open(volume_->fd.get());
  TRY(volume_->register_open());
  TRY_ASSIGN(lock_, local::open_at(volume_->fd.get(), "lock", O_RDWR | O_CREAT, path + "/lock"));
  if (::flock(lock_.get(), LOCK_SH | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return os_fail(errno, "lock", path + "/lock");
    return fail(EBUSY, path + " is in exclusive use by another process; wait until it is done");
  }
  TRY_ASSIGN(env_, local::LmdbEnv::open(volume_, options_.dirs_map_size, options_.dirs.new_sums));
  writer_ = std::make_unique<BlockingPool>("graftfs-dirs", 1);
  dirs_ = std::make_unique<local::LocalDirs>(executor_, pool_, *writer_, env_, options_.dirs);
  state_ = std::make_unique<local::LocalState>(executor_, *writer_, env_);
  data_ = std::make_unique<local::LocalData>(executor_, pool_, volume_, options_.data,
                                             [this] { distrust_journals(); });
  return data_->open();
}

LocalStore::~LocalStore() {
  writer_.reset();
  owned_.clear();
}

void LocalStore::distrust_journals() {
  for (auto& [rank, journal] : owned_) {
    pool_.submit([files = journal->files()] { files->distrust(); });
  }
}

Task<Result<JournalDevice*>> LocalStore::own_journal(RankId rank) {
  points::OwnJournal::before();
  if (auto it = owned_.find(rank); it != owned_.end()) {
    co_return fail(EBUSY, fmt::format("{}: this process owns the journal of rank {} already",
                                      volume_->path, rank));
  }
  auto files = std::make_shared<local::JournalFiles>(volume_, rank, options_.journal);
  auto done = local::start_job(pool_, executor_, [files] { return files->own(); });
  Result<void> owned = co_await done;
  if (!owned) co_return std::unexpected(std::move(owned).error());
  auto journal = std::make_unique<local::LocalJournal>(executor_, pool_, files, true);
  JournalDevice* device = journal.get();
  owned_[rank] = std::move(journal);
  points::OwnJournal::after();
  co_return device;
}

Task<Result<void>> LocalStore::disown_journal(RankId rank) {
  auto it = owned_.find(rank);
  if (it == owned_.end()) co_return Result<void>();
  former_.push_back(std::move(it->second));
  owned_.erase(it);
  // In line behind the syncs that are under way.
  auto done = former_.back()->release();
  co_await done;
  co_return Result<void>();
}

Task<Result<JournalDevice*>> LocalStore::read_journal(RankId rank) {
  auto it = readers_.find(rank);
  if (it == readers_.end()) {
    auto files = std::make_shared<local::JournalFiles>(volume_, rank, options_.journal);
    auto done = local::start_job(pool_, executor_, [files] { return files->open_for_reading(); });
    Result<void> opened = co_await done;
    if (!opened) co_return std::unexpected(std::move(opened).error());
    auto journal = std::make_unique<local::LocalJournal>(executor_, pool_, files, false);
    it = readers_.insert_or_assign(rank, std::move(journal)).first;
  }
  co_return static_cast<JournalDevice*>(it->second.get());
}

bool LocalStore::unsynced_survived(RankId rank) const {
  auto it = owned_.find(rank);
  if (it != owned_.end()) return it->second->files()->unsynced_survived();
  it = readers_.find(rank);
  return it != readers_.end() && it->second->files()->unsynced_survived();
}

Task<Result<StoreUsage>> LocalStore::usage() {
  CO_TRY(volume_->alive());
  struct statvfs st;
  if (::fstatvfs(volume_->fd.get(), &st) != 0) co_return os_fail(errno, "stat", volume_->path);
  StoreUsage u;
  u.block_size = st.f_frsize;
  u.blocks = st.f_blocks;
  u.blocks_free = st.f_bfree;
  // What file data may still use.
  uint64_t kept = st.f_frsize ? volume_->space.for_data() / st.f_frsize : 0;
  u.blocks_available = st.f_bavail > kept ? st.f_bavail - kept : 0;
  u.files = st.f_files;
  u.files_free = st.f_ffree;
  co_return u;
}

}  // namespace graftfs
