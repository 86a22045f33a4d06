#include "sim/parallel/store.h"

#include <fmt/format.h>

namespace graftfs::sim {

TimedStore::TimedStore(ParallelQueue& queue, NodeExecutor& executor,
                       std::shared_ptr<MemoryDisk> disk, const Costs& costs)
    : queue_(queue),
      executor_(executor),
      costs_(costs),
      memory_(executor, std::move(disk), nullptr) {}

Task<void> TimedStore::call(uint64_t bytes_written) {
  queue_.charge(2 * (costs_.message + costs_.batch));
  Nanos time = 2 * costs_.network;
  if (bytes_written > 0)
    time += costs_.sync + static_cast<Nanos>(bytes_written) * costs_.mib / (1 << 20);
  co_await sleep_for(executor_, time);
}

Task<Result<JournalDevice*>> TimedStore::own_journal(RankId rank, OwnOptions options) {
  co_await call(1);
  CO_TRY(co_await memory_.own_journal(rank, std::move(options)));
  auto& device = devices_[rank];
  if (!device) device = std::make_unique<Device>(*this, rank);
  co_return device.get();
}

// -- directories ----------------------------------------------------------------------------------

Task<Result<std::optional<std::string>>> TimedStore::Dirs::read_header(Ino dir) {
  co_await store_.call();
  co_return co_await inner().read_header(dir);
}

Task<Result<std::vector<std::optional<std::string>>>> TimedStore::Dirs::read_headers(
    std::vector<Ino> dirs) {
  co_await store_.call();
  co_return co_await inner().read_headers(std::move(dirs));
}

Task<Result<std::optional<std::string>>> TimedStore::Dirs::read_entry(Ino dir, EntryKey key) {
  co_await store_.call();
  co_return co_await inner().read_entry(dir, std::move(key));
}

Task<Result<std::vector<DirEntryBytes>>> TimedStore::Dirs::read_entries(Ino dir, EntryKey from,
                                                                        size_t max) {
  co_await store_.call();
  co_return co_await inner().read_entries(dir, std::move(from), max);
}

Task<Result<std::optional<Location>>> TimedStore::Dirs::locate(Ino ino) {
  co_await store_.call();
  co_return co_await inner().locate(ino);
}

// What it costs is a part of each operation's cost.
Task<Result<void>> TimedStore::Dirs::commit(std::vector<DirUpdate> updates) {
  uint64_t bytes = 1;
  for (const DirUpdate& update : updates)
    for (const auto& [key, value] : update.put) bytes += key.size() + value.size();
  co_await store_.call(bytes);
  co_return co_await inner().commit(std::move(updates));
}

Task<Result<std::vector<Ino>>> TimedStore::Dirs::list_dirs(Ino from, size_t max) {
  co_await store_.call();
  co_return co_await inner().list_dirs(from, max);
}

// -- state ----------------------------------------------------------------------------------------

Task<Result<StateValue>> TimedStore::State::get(std::string key) {
  co_await store_.call();
  co_return co_await inner().get(std::move(key));
}

Task<Result<uint64_t>> TimedStore::State::set(std::string key, uint64_t expected,
                                              std::string value) {
  co_await store_.call(value.size() + 1);
  co_return co_await inner().set(std::move(key), expected, std::move(value));
}

Task<Result<std::vector<std::pair<std::string, StateValue>>>> TimedStore::State::list(
    std::string prefix) {
  co_await store_.call();
  auto list = co_await inner().list(std::move(prefix));
  if (list) store_.queue_.charge(static_cast<Nanos>(list->size()) * store_.costs_.record);
  co_return list;
}

Task<Result<void>> TimedStore::State::remove(std::string key) {
  co_await store_.call(1);
  co_return co_await inner().remove(std::move(key));
}

// -- a journal ------------------------------------------------------------------------------------

std::string TimedStore::Device::name_of(SegmentId id) const {
  return fmt::format("simulated/journal/rank-{}/{:016x}", rank_, id.v);
}

Task<Result<std::vector<SegmentInfo>>> TimedStore::Device::list() {
  co_await store_.call();
  std::vector<SegmentInfo> list;
  for (SegmentId id : segments_) list.push_back({id, segment_capacity()});
  co_return list;
}

Task<Result<void>> TimedStore::Device::create(SegmentId id) {
  co_await store_.call(1);
  segments_.insert(id);
  co_return Result<void>{};
}

// What the rank's thread spends on it is a part of each operation's cost.
Task<Result<void>> TimedStore::Device::write(SegmentId, uint64_t, std::string_view bytes) {
  const Costs& c = store_.costs_;
  const Nanos time = 2 * c.network + c.sync + static_cast<Nanos>(bytes.size()) * c.mib / (1 << 20);
  co_await sleep_for(store_.executor_, time);
  co_return Result<void>{};
}

Task<Result<void>> TimedStore::Device::sync(SegmentId) {
  co_await sleep_for(store_.executor_, 0);
  co_return Result<void>{};
}

Task<Result<std::string>> TimedStore::Device::read(SegmentId id, uint64_t, uint64_t) {
  co_return fail(EIO, name_of(id) + ": nothing is kept of a simulated journal");
}

Task<Result<void>> TimedStore::Device::remove(SegmentId id) {
  co_await store_.call(1);
  segments_.erase(id);
  co_return Result<void>{};
}

}  // namespace graftfs::sim
