#include "store/local/local_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/statvfs.h>

#include <future>

#include "base/fault.h"
#include "store/fence.h"
#include "store/local/alone.h"
#include "store/points.h"

namespace graftfs {
namespace {

using local::Fd;
using local::os_fail;

}  // namespace

Result<std::shared_ptr<LocalVolume>> LocalVolume::open(const std::string& path,
                                                       LocalOptions options) {
  std::shared_ptr<LocalVolume> v(new LocalVolume);
  v->options_ = options;
  TRY_ASSIGN(v->file_, local::read_volume_file(path));
  v->volume_ = std::make_shared<local::Volume>();
  local::Volume& volume = *v->volume_;
  volume.path = path;
  volume.fd = Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!volume.fd) return os_fail(errno, "open", path);
  volume.space.open(volume.fd.get());
  TRY(volume.register_open());
  TRY_ASSIGN(v->lock_, local::open_at(volume.fd.get(), "lock", O_RDWR | O_CREAT, path + "/lock"));
  if (!local::Alone::holds(v->lock_) && ::flock(v->lock_.get(), LOCK_SH | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return os_fail(errno, "lock", path + "/lock");
    return fail(EBUSY, path + " is in exclusive use by another process; wait until it is done");
  }
  v->cluster_ = std::make_shared<local::ClusterFiles>(v->volume_);
  TRY(v->cluster_->open());
  TRY_ASSIGN(v->env_,
             local::LmdbEnv::open(v->volume_, options.dirs_map_size, options.dirs.new_sums));
  v->writer_ = std::make_unique<BlockingPool>("graftfs-dirs", 1);
  v->state_ = std::make_unique<BlockingPool>("graftfs-state", 1);
  return v;
}

LocalVolume::~LocalVolume() {
  state_.reset();
  writer_.reset();
}

void LocalVolume::drain() {
  for (BlockingPool* pool : {writer_.get(), state_.get()}) {
    std::promise<void> done;
    pool->submit([&done] { done.set_value(); });
    done.get_future().wait();
  }
}

void LocalVolume::note_owned(std::shared_ptr<local::JournalFiles> files) {
  std::lock_guard lock(mutex_);
  std::erase_if(owned_, [](const auto& known) { return known.expired(); });
  owned_.push_back(std::move(files));
}

void LocalVolume::distrust_journals(BlockingPool& pool) {
  std::lock_guard lock(mutex_);
  for (const auto& known : owned_) {
    auto files = known.lock();
    if (files && files->closed != ESTALE) pool.submit([files] { files->distrust(); });
  }
}

Result<std::unique_ptr<LocalStore>> LocalStore::open(Executor& executor, BlockingPool& pool,
                                                     const std::string& path,
                                                     LocalOptions options) {
  TRY_ASSIGN(auto volume, LocalVolume::open(path, options));
  return on(executor, pool, std::move(volume));
}

Result<std::unique_ptr<LocalStore>> LocalStore::on(Executor& executor, BlockingPool& pool,
                                                   std::shared_ptr<LocalVolume> volume) {
  std::unique_ptr<LocalStore> store(new LocalStore(executor, pool, std::move(volume)));
  TRY(store->open_parts());
  return store;
}

Result<std::unique_ptr<Store>> LocalVolume::use(Executor& executor, BlockingPool& pool) {
  return LocalStore::on(executor, pool, shared_from_this());
}

Result<void> LocalStore::open_parts() {
  LocalVolume& v = *process_;
  dirs_ = std::make_unique<local::LocalDirs>(executor_, pool_, *v.writer_, v.env_, fences_,
                                             v.options_.dirs);
  state_ =
      std::make_unique<local::LocalState>(executor_, *v.writer_, *v.state_, v.env_, v.cluster_);
  data_ = std::make_unique<local::LocalData>(executor_, pool_, volume_, fences_, v.options_.data,
                                             [this] { process_->distrust_journals(pool_); });
  return data_->open();
}

LocalStore::~LocalStore() {
  // The executor may go next, and what was begun for it posts to it, also when nobody waits.
  pool_.drain(executor_);
  process_->drain();
  owned_.clear();
}

Task<Result<JournalDevice*>> LocalStore::own_journal(RankId rank, OwnOptions options) {
  points::OwnJournal::before();
  if (auto it = owned_.find(rank); it != owned_.end()) {
    co_return fail(EBUSY, fmt::format("{}: this process owns the journal of rank {} already",
                                      volume_->path, rank));
  }
  using Files = local::JournalFiles;
  auto files =
      std::make_shared<Files>(volume_, process_->cluster_, rank, process_->options_.journal);
  auto claiming = local::start_job(*process_->state_, executor_,
                                   [files, options] { return files->claim(options); });
  Result<Files::Claim> claimed = co_await claiming;
  if (!claimed) co_return std::unexpected(std::move(claimed).error());
  // What this store commits counts from now on only while the fence is its own.
  fences_->set(rank, claimed->fence);
  const bool proven = claimed->proven;
  if (!proven) {
    MARK("store.local.taken_from_the_living");
    CO_TRY(co_await wait_for_lease(executor_, *state_, options));
  }
  auto done = local::start_job(pool_, executor_, [files, proven] { return files->settle(proven); });
  Result<void> owned = co_await done;
  if (!owned) co_return std::unexpected(std::move(owned).error());
  process_->note_owned(files);
  auto journal = std::make_unique<local::LocalJournal>(executor_, pool_, files, true);
  JournalDevice* device = journal.get();
  owned_[rank] = std::move(journal);
  data_->look_for_unsealed();
  points::OwnJournal::after();
  co_return device;
}

Task<Result<Epoch>> LocalStore::raise_epoch(RankId rank, Epoch at_least) {
  auto it = owned_.find(rank);
  CHECK(it != owned_.end(), "the epoch of a journal that is not owned");
  auto done =
      local::start_job(*process_->state_, executor_,
                       [files = it->second->files(), at_least] { return files->raise(at_least); });
  Result<std::shared_ptr<local::Fence>> fence = co_await done;
  if (!fence) co_return std::unexpected(std::move(fence).error());
  fences_->set(rank, *fence);
  co_return (*fence)->epoch();
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
    auto files = std::make_shared<local::JournalFiles>(volume_, process_->cluster_, rank,
                                                       process_->options_.journal);
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
