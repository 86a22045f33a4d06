#include "store/local/local_data.h"

#include <deque>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/fault.h"
#include "store/points.h"

namespace graftfs::local {

LocalData::LocalData(Executor& executor, BlockingPool& pool, std::shared_ptr<Volume> volume,
                     std::shared_ptr<Fences> fences, DataOptions options,
                     std::function<void()> on_sync_failure)
    : executor_(executor),
      pool_(pool),
      options_(options),
      files_(std::make_shared<DataFiles>(std::move(volume), options.max_open_files)),
      fences_(std::move(fences)),
      on_sync_failure_(std::move(on_sync_failure)),
      gates_(executor) {}

Result<void> LocalData::open() { return files_->open_dirs(); }

void LocalData::changed(const DataFile& file, bool created) {
  Unsynced& u = unsynced_[file.ino];
  u.generation = ++generation_;
  u.created |= created;
  rests(file.ino);
}

// The file may not be open here, nor have been; its name may be new.
void LocalData::note_written(Ino ino) {
  Unsynced& u = unsynced_[ino];
  u.generation = ++generation_;
  u.created = true;
  rests(ino);
}

void LocalData::removed(Ino ino) { removed_from_[DataFiles::fan_of(ino)] = ++generation_; }

Result<std::shared_ptr<DataFile>> LocalData::open_file(Ino ino, Make make) {
  TRY(alive());
  auto opened = files_->open(ino, make);
  if (!opened) return std::unexpected(told(ino, std::move(opened).error()));
  auto& file = *opened;
  if (file && file->created) {
    file->created = false;
    changed(*file, true);
  }
  return file;
}

Task<Result<DataInfo>> LocalData::write(Ino ino, uint64_t offset, std::string_view bytes,
                                        uint64_t valid_size) {
  points::DataWrite::before();
  Nanos start = executor_.now();
  if (bytes.size() <= options_.inline_write_bytes && start >= slow_until_ &&
      !gates_.busy(ino, true)) [[likely]] {
    CO_TRY_ASSIGN(auto file, open_file(ino, valid_size ? Make::yes : Make::likely_new));
    if (free_to_write(*file, offset, bytes.size(), valid_size)) [[likely]] {
      Result<DataInfo> result = write_file(*file, offset, bytes, valid_size, *files_);
      changed(*file, false);
      if (executor_.now() - start > options_.slow_write) {
        MARK("store.local.data.slow_write");
        slow_until_ = executor_.now() + options_.slow_pause;
      }
      if (result) points::DataWrite::after();
      co_return result;
    }
  }
  MARK("store.local.data.write_on_pool");
  // Copied: the caller's bytes may go while the job still runs.
  auto copy = std::make_shared<std::string>(bytes);
  Gates::Hold hold(gates_, ino, true);
  if (hold.must_wait()) co_await hold.entered();
  CO_TRY_ASSIGN(auto file, open_file(ino, valid_size ? Make::yes : Make::likely_new));
  auto done = start_job(pool_, executor_, [files = files_, file, offset, copy, valid_size] {
    return write_file(*file, offset, *copy, valid_size, *files);
  });
  Result<DataInfo> result = co_await done;
  if (!result) result = std::unexpected(told(ino, result.error()));
  changed(*file, false);
  if (result) points::DataWrite::after();
  co_return result;
}

bool LocalData::free_to_write(DataFile& file, uint64_t offset, uint64_t length,
                              uint64_t valid_size) {
  return lock_to_change(file, false, *files_) && !breaks_seal(file, offset, length, valid_size);
}

Task<Result<void>> LocalData::read(Ino ino, uint64_t offset, char* out, size_t length) {
  if (!gates_.busy(ino, false)) [[likely]] {
    CO_TRY_ASSIGN(auto file, open_file(ino, Make::no));
    if (!file) {
      std::memset(out, 0, length);
      co_return Result<void>();
    }
    const bool checked = file->seal.bytes_to_check(offset, length) <= options_.inline_write_bytes &&
                         check_file(*file, offset, length, false, *files_);
    size_t got = checked ? read_cached(*file, offset, out, length) : 0;
    offset += got, out += got, length -= got;
    if (length == 0) co_return Result<void>();
  }
  MARK("store.local.data.read_on_pool");
  auto buffer = std::make_shared<std::string>(length, '\0');
  for (int tries = 0;; ++tries) {
    Gates::Hold hold(gates_, ino, false);
    if (hold.must_wait()) co_await hold.entered();
    CO_TRY_ASSIGN(auto file, open_file(ino, Make::no));
    if (!file) break;
    auto done =
        start_job(pool_, executor_, [files = files_, file, offset, buffer]() -> Result<void> {
          TRY(check_file(*file, offset, buffer->size(), true, *files));
          return read_file(*file, offset, buffer->data(), buffer->size(), *files);
        });
    Result<void> result = co_await done;
    if (result) break;
    if (!is_stale(result.error(), ino, tries)) co_return std::unexpected(told(ino, result.error()));
  }
  std::memcpy(out, buffer->data(), length);
  co_return Result<void>();
}

// Another process has changed the file since it was opened here: it is to be opened again.
bool LocalData::is_stale(const Error& error, Ino ino, int tries) {
  constexpr int kMostTries = 20;
  if (error.code != ESTALE || tries >= kMostTries) return false;
  MARK("store.local.data.seal_stale");
  files_->forget(ino);
  return true;
}

Task<Result<DataInfo>> LocalData::truncate(Ino ino, uint64_t size) {
  points::DataTruncate::before();
  Gates::Hold hold(gates_, ino, true);
  if (hold.must_wait()) co_await hold.entered();
  CO_TRY_ASSIGN(auto file, open_file(ino, Make::no));
  Result<DataInfo> result;
  if (file) {
    // Giving back a lot of space takes long.
    if (file->size <= options_.inline_write_bytes && free_to_write(*file, 0, 0, size)) {
      result = truncate_file(*file, size, *files_);
    } else {
      auto done = start_job(pool_, executor_, [files = files_, file, size] {
        return truncate_file(*file, size, *files);
      });
      result = co_await done;
    }
    if (!result) result = std::unexpected(told(ino, result.error()));
    changed(*file, false);
  }
  if (result) points::DataTruncate::after();
  co_return result;
}

Task<Result<DataInfo>> LocalData::allocate(Ino ino, AllocateMode mode, uint64_t offset,
                                           uint64_t length, uint64_t valid_size) {
  points::DataAllocate::before();
  Gates::Hold hold(gates_, ino, true);
  if (hold.must_wait()) co_await hold.entered();
  CO_TRY_ASSIGN(auto file, open_file(ino, mode == AllocateMode::punch_hole ? Make::no : Make::yes));
  if (!file) co_return DataInfo{};
  auto done = start_job(pool_, executor_, [files = files_, file, mode, offset, length, valid_size] {
    return allocate_file(*file, mode, offset, length, valid_size, *files);
  });
  Result<DataInfo> result = co_await done;
  if (!result) result = std::unexpected(told(ino, result.error()));
  changed(*file, false);
  if (result) points::DataAllocate::after();
  co_return result;
}

Task<Result<uint64_t>> LocalData::seek(Ino ino, uint64_t offset, bool data, uint64_t size) {
  if (offset >= size) co_return fail(ENXIO);
  Gates::Hold hold(gates_, ino, false);
  if (hold.must_wait()) co_await hold.entered();
  CO_TRY_ASSIGN(auto file, open_file(ino, Make::no));
  if (!file) {
    if (data) co_return fail(ENXIO);
    co_return offset;
  }
  Result<uint64_t> found = seek_file(*file, offset, data, size, *files_);
  // A hole is what was written only where the data says so.
  const uint64_t end = found ? *found : size;
  if (!data || !file->seal.needs_check(offset, end - offset)) co_return found;
  auto done = start_job(pool_, executor_, [files = files_, file, offset, end] {
    return check_file(*file, offset, end - offset, true, *files);
  });
  Result<void> checked = co_await done;
  if (!checked && !is_stale(checked.error(), ino, 0))
    co_return std::unexpected(told(ino, checked.error()));
  co_return found;
}

Task<Result<DataInfo>> LocalData::copy(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                       uint64_t length, uint64_t valid_size) {
  points::DataCopy::before();
  // In the order of inos, so that two copies never wait for each other.
  Ino first = std::min(from, to), second = std::max(from, to);
  Gates::Hold hold(gates_, first, first == to);
  if (hold.must_wait()) co_await hold.entered();
  std::optional<Gates::Hold> other;
  if (second != first) {
    other.emplace(gates_, second, second == to);
    if (other->must_wait()) co_await other->entered();
  }
  Result<DataInfo> result;
  for (int tries = 0;; ++tries) {
    CO_TRY_ASSIGN(auto source, open_file(from, Make::no));
    CO_TRY_ASSIGN(auto target, open_file(to, Make::yes));
    auto done =
        start_job(pool_, executor_,
                  [files = files_, source, from_offset, target, to_offset, length, valid_size] {
                    return copy_file(source.get(), from_offset, *target, to_offset, length,
                                     valid_size, *files);
                  });
    result = co_await done;
    changed(*target, false);
    if (result || !is_stale(result.error(), from, tries)) break;
  }
  if (!result) result = std::unexpected(told(from, result.error()));
  if (result) points::DataCopy::after();
  co_return result;
}

void LocalData::forget_all_of(Ino ino) {
  unsynced_.erase(ino);
  poisoned_.erase(ino);
  to_seal_.erase(ino);
  told_.erase(ino);
}

Task<Result<void>> LocalData::remove(Ino ino) {
  points::DataRemove::before();
  Gates::Hold hold(gates_, ino, true);
  if (hold.must_wait()) co_await hold.entered();
  CO_TRY(alive());
  files_->forget(ino);
  auto done =
      start_job(pool_, executor_, [files = files_, fences = fences_, ino]() -> Result<void> {
        TRY(fences->hold());
        return files->unlink(ino);
      });
  Result<void> result = co_await done;
  removed(ino);
  if (!result) co_return result;
  forget_all_of(ino);
  points::DataRemove::after();
  co_return result;
}

Task<Result<void>> LocalData::remove_many(std::vector<Ino> inos) {
  points::DataRemove::before();
  std::deque<Gates::Hold> holds;
  for (Ino ino : inos) {
    auto& hold = holds.emplace_back(gates_, ino, true);
    if (hold.must_wait()) co_await hold.entered();
  }
  CO_TRY(alive());
  for (Ino ino : inos) files_->forget(ino);
  auto done =
      start_job(pool_, executor_, [files = files_, fences = fences_, inos]() -> Result<void> {
        for (Ino ino : inos) {
          TRY(fences->hold());
          TRY(files->unlink(ino));
        }
        return {};
      });
  Result<void> result = co_await done;
  for (Ino ino : inos) removed(ino);
  if (!result) co_return result;
  for (Ino ino : inos) forget_all_of(ino);
  points::DataRemove::after();
  co_return result;
}

Task<Result<std::vector<Ino>>> LocalData::list(Ino from, size_t max) {
  // One scan of the directories serves the calls that go on where the last one ended.
  if (from != listed_from_ || listed_.empty()) {
    auto done = start_job(pool_, executor_, [files = files_] { return files->list_all(); });
    Result<std::vector<Ino>> all = co_await done;
    if (!all) co_return all;
    listed_ = std::move(*all);
  }
  auto begin = std::lower_bound(listed_.begin(), listed_.end(), from);
  auto end = begin + std::min<ptrdiff_t>(listed_.end() - begin, max);
  std::vector<Ino> inos(begin, end);
  if (end == listed_.end()) {
    listed_.clear();
  } else {
    listed_from_ = Ino{inos.empty() ? from.v : inos.back().v + 1};
  }
  co_return inos;
}

}  // namespace graftfs::local
