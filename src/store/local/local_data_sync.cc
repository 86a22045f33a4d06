#include <fcntl.h>
#include <fmt/format.h>

#include <absl/container/flat_hash_set.h>

#include <algorithm>

#include "base/fault.h"
#include "store/local/local_data.h"
#include "store/points.h"

namespace graftfs::local {
namespace {

constexpr int kParallelSyncs = 6;

}  // namespace

std::unexpected<Error> LocalData::poisoned_error(Ino ino) const {
  return fail(EIO, files_->name_of(ino) +
                       ": an earlier sync failed, so some writes may be lost; check the disk, then "
                       "mount the volume again");
}

void LocalData::poison(Ino ino) {
  poisoned_.insert(ino);
  on_sync_failure_();
}

void LocalData::synced(const SyncItem& item) {
  auto it = unsynced_.find(item.ino);
  if (it == unsynced_.end() || it->second.generation != item.generation) return;
  unsynced_.erase(it);
}

Task<Result<void>> LocalData::sync(Ino ino) {
  points::DataSync::before();
  CO_TRY(alive());
  if (all_poisoned() || poisoned_.contains(ino)) co_return poisoned_error(ino);
  auto it = unsynced_.find(ino);
  if (it == unsynced_.end() && !inherited_) {
    points::DataSync::after();
    co_return Result<void>();
  }
  SyncItem item;
  item.ino = ino;
  item.created = true;
  if (it != unsynced_.end()) {
    item.generation = it->second.generation;
    item.created = it->second.created || inherited_;
  }
  CO_TRY_ASSIGN(item.file, open_file(ino, Make::no));
  if (item.file) {
    std::vector<SyncItem> items;
    items.push_back(std::move(item));
    Result<void> result = co_await sync_files(std::move(items));
    if (!result) co_return result;
  }
  points::DataSync::after();
  co_return Result<void>();
}

// Each file by itself, a few at a time, then the directories that hold new names. First all are
// handed to the disk: what the first one waits for (on ext4 the commit that they are all part of)
// the others need not wait for again.
Task<Result<void>> LocalData::sync_files(std::vector<SyncItem> items) {
  struct Work {
    std::vector<SyncItem> items;
    std::vector<int> errors;
    std::atomic<size_t> next{0};
  };
  auto work = std::make_shared<Work>();
  work->items = std::move(items);
  work->errors.resize(work->items.size());
  if (work->items.size() > 1) {
    auto handed = start_job(pool_, executor_, [work] {
      for (const SyncItem& item : work->items)
        (void)::sync_file_range(item.file->fd.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
      return true;
    });
    co_await handed;
  }
  auto some = [files = files_, work] {
    for (;;) {
      size_t i = work->next.fetch_add(1);
      if (i >= work->items.size()) return true;
      if (!files->volume().alive())
        work->errors[i] = EIO;
      else if (::fdatasync(work->items[i].file->fd.get()) != 0)
        work->errors[i] = errno;
    }
  };
  std::vector<Promised<bool>> jobs;
  size_t n = std::min<size_t>(kParallelSyncs, work->items.size());
  for (size_t i = 0; i < n; ++i) jobs.push_back(start_job(pool_, executor_, some));
  for (const Promised<bool>& job : jobs) co_await job;
  const auto& all = work->items;
  const bool named = std::any_of(all.begin(), all.end(), [](auto& item) { return item.created; });
  auto sync_names = [files = files_, work] {
    std::map<int, bool> synced;
    for (size_t i = 0; i < work->items.size(); ++i) {
      const SyncItem& item = work->items[i];
      if (!item.created || work->errors[i]) continue;
      const int fan = DataFiles::fan_of(item.ino);
      auto [at, fresh] = synced.try_emplace(fan, false);
      if (fresh) at->second = files->volume().alive() && files->sync_dir(fan);
      if (!at->second) work->errors[i] = EIO;
    }
    return true;
  };
  if (named) {
    auto names = start_job(pool_, executor_, sync_names);
    co_await names;
  }
  Result<void> result = alive();
  if (!result) co_return result;
  for (size_t i = 0; i < work->items.size(); ++i) {
    const SyncItem& item = work->items[i];
    if (work->errors[i] == 0) {
      synced(item);
      continue;
    }
    MARK("store.local.data.sync_failed");
    if (result) result = os_fail(work->errors[i], "sync", files_->name_of(item.ino));
    poison(item.ino);
  }
  co_return result;
}

Task<Result<void>> LocalData::sync_volume(std::vector<SyncItem> items) {
  MARK("store.local.data.syncfs");
  auto done = start_job(pool_, executor_, [files = files_]() -> Result<void> {
    TRY(files->volume().alive());
    if (::syncfs(files->volume().fd.get()) != 0)
      return os_fail(errno, "sync", files->volume().path);
    return {};
  });
  Result<void> result = co_await done;
  if (result) {
    for (const SyncItem& item : items) synced(item);
  } else if (alive()) {
    // Which file it was is not known.
    MARK("store.local.data.syncfs_failed");
    files_->volume().lost_data = true;
    on_sync_failure_();
  }
  co_return result;
}

void LocalData::removals_synced(const std::vector<std::pair<int, uint64_t>>& fans) {
  for (auto [fan, generation] : fans) {
    auto it = removed_from_.find(fan);
    if (it != removed_from_.end() && it->second == generation) removed_from_.erase(it);
  }
}

// An InoRelease must not be durable before the removal of the data is.
Task<Result<void>> LocalData::sync_removals(std::vector<std::pair<int, uint64_t>> fans) {
  auto done = start_job(pool_, executor_, [files = files_, fans]() -> Result<void> {
    for (auto [fan, generation] : fans) {
      TRY(files->volume().alive());
      Result<void> synced = files->sync_dir(fan);
      // Where there is no such directory, no file was removed from it.
      if (!synced && synced.error().code != ENOENT) return synced;
    }
    return {};
  });
  Result<void> result = co_await done;
  if (result) {
    removals_synced(fans);
  } else if (alive()) {
    MARK("store.local.data.sync_failed");
    files_->volume().lost_data = true;
    on_sync_failure_();
  }
  co_return result;
}

Task<Result<void>> LocalData::sync_all() {
  points::DataSyncAll::before();
  CO_TRY(alive());
  if (all_poisoned() || !poisoned_.empty()) {
    Ino ino = poisoned_.empty() ? Ino{} : *std::min_element(poisoned_.begin(), poisoned_.end());
    co_return poisoned_error(ino);
  }
  std::vector<SyncItem> items;
  for (const auto& [ino, u] : unsynced_) items.push_back({ino, u.generation, u.created, nullptr});
  std::sort(items.begin(), items.end(), [](auto& a, auto& b) { return a.ino < b.ino; });
  std::vector<std::pair<int, uint64_t>> fans(removed_from_.begin(), removed_from_.end());
  if (inherited_ || items.size() + fans.size() > options_.sync_files_max) {
    Result<void> result = co_await sync_volume(std::move(items));
    if (!result) co_return result;
    inherited_ = false;
    start_looking();
    removals_synced(fans);
    points::DataSyncAll::after();
    co_return Result<void>();
  }
  if (!fans.empty()) CO_TRY(co_await sync_removals(std::move(fans)));
  if (!items.empty()) CO_TRY(co_await sync_present(std::move(items)));
  points::DataSyncAll::after();
  co_return Result<void>();
}

Task<Result<void>> LocalData::sync_present(std::vector<SyncItem> items) {
  std::vector<SyncItem> present;
  for (SyncItem& item : items) {
    CO_TRY_ASSIGN(item.file, open_file(item.ino, Make::no));
    if (item.file) {
      present.push_back(std::move(item));
    } else {
      synced(item);  // removed meanwhile
    }
  }
  if (present.empty()) co_return Result<void>();
  co_return co_await sync_files(std::move(present));
}

}  // namespace graftfs::local
