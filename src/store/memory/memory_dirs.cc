#include "store/memory/memory_store.h"
#include "store/points.h"

namespace graftfs {

using Header = std::optional<std::string>;

Task<Result<Header>> MemoryDirs::read_header(Ino dir) {
  MemoryNode::Apply<Header> apply = [&disk = node_.disk(), dir](const Effect&) -> Result<Header> {
    auto it = disk.dirs_.find(dir);
    return it == disk.dirs_.end() ? std::nullopt : it->second.header;
  };
  auto done = node_.start<Header>(StoreCall::dirs_read, fmt::format("read directory {}", dir), 0,
                                  std::move(apply));
  Result<Header> result = co_await done;
  co_return result;
}

Task<Result<std::vector<Header>>> MemoryDirs::read_headers(std::vector<Ino> dirs) {
  using Headers = std::vector<Header>;
  MemoryNode::Apply<Headers> apply = [&disk = node_.disk(),
                                      dirs = std::move(dirs)](const Effect&) -> Result<Headers> {
    Headers headers;
    for (Ino dir : dirs) {
      auto it = disk.dirs_.find(dir);
      headers.push_back(it == disk.dirs_.end() ? std::nullopt : it->second.header);
    }
    return headers;
  };
  auto done =
      node_.start<Headers>(StoreCall::dirs_read, "read directory headers", 0, std::move(apply));
  Result<Headers> result = co_await done;
  co_return result;
}

Task<Result<Header>> MemoryDirs::read_entry(Ino dir, EntryKey key) {
  MemoryNode::Apply<Header> apply = [&disk = node_.disk(), dir,
                                     key = std::move(key)](const Effect&) -> Result<Header> {
    auto it = disk.dirs_.find(dir);
    if (it == disk.dirs_.end()) return std::nullopt;
    auto entry = it->second.entries.find(key);
    if (entry == it->second.entries.end()) return std::nullopt;
    return entry->second;
  };
  auto done = node_.start<Header>(
      StoreCall::dirs_read, fmt::format("read an entry of directory {}", dir), 0, std::move(apply));
  Result<Header> result = co_await done;
  co_return result;
}

Task<Result<std::vector<DirEntryBytes>>> MemoryDirs::read_entries(Ino dir, EntryKey from,
                                                                  size_t max) {
  using Entries = std::vector<DirEntryBytes>;
  MemoryNode::Apply<Entries> apply = [&disk = node_.disk(), dir, from = std::move(from),
                                      max](const Effect&) -> Result<Entries> {
    Entries entries;
    auto it = disk.dirs_.find(dir);
    if (it == disk.dirs_.end()) return entries;
    for (auto e = it->second.entries.lower_bound(from);
         e != it->second.entries.end() && entries.size() < max; ++e) {
      entries.push_back({e->first, e->second});
    }
    return entries;
  };
  auto done = node_.start<Entries>(StoreCall::dirs_read, fmt::format("list directory {}", dir), 0,
                                   std::move(apply));
  Result<Entries> result = co_await done;
  co_return result;
}

Task<Result<std::optional<Location>>> MemoryDirs::locate(Ino ino) {
  using Found = std::optional<Location>;
  MemoryNode::Apply<Found> apply = [&disk = node_.disk(), ino](const Effect&) -> Result<Found> {
    auto it = disk.locations_.find(ino);
    if (it == disk.locations_.end()) return std::nullopt;
    return it->second;
  };
  auto done =
      node_.start<Found>(StoreCall::dirs_read, fmt::format("locate {}", ino), 0, std::move(apply));
  Result<Found> result = co_await done;
  co_return result;
}

Task<Result<void>> MemoryDirs::commit(std::vector<DirUpdate> updates) {
  points::DirsCommit::before();
  auto shared = std::make_shared<std::vector<DirUpdate>>(std::move(updates));
  MemoryNode::Apply<void> apply = [&disk = node_.disk(), shared,
                                   owned = node_.owned()](const Effect& e) -> Result<void> {
    TRY(MemoryNode::hold(disk, *owned));
    uint64_t more = 0;
    for (const auto& u : *shared) more += MemoryDisk::bytes_of(u);
    if (more > 0 && !disk.fits(more)) {
      return fail(ENOSPC, "commit directories: No space left on device");
    }
    if (e.fault == FaultKind::lost) return {};
    if (e.fault != FaultKind::not_durable)
      disk.durable_dirs_.reset();
    else if (!disk.durable_dirs_)
      disk.durable_dirs_.emplace(disk.dirs_, disk.locations_, disk.dir_bytes_);
    for (auto& u : *shared) disk.apply_update(u);
    return {};
  };
  auto done = node_.start<void>(StoreCall::dirs_commit, "commit directories", 0, std::move(apply),
                                false, shared);
  Result<void> result = co_await done;
  if (result) points::DirsCommit::after();
  co_return result;
}

Task<Result<std::vector<Ino>>> MemoryDirs::list_dirs(Ino from, size_t max) {
  using Inos = std::vector<Ino>;
  MemoryNode::Apply<Inos> apply = [&disk = node_.disk(), from, max](const Effect&) -> Result<Inos> {
    Inos inos;
    for (auto it = disk.dirs_.lower_bound(from); it != disk.dirs_.end() && inos.size() < max;
         ++it) {
      if (it->second.header) inos.push_back(it->first);
    }
    return inos;
  };
  auto done = node_.start<Inos>(StoreCall::dirs_read, "list directories", 0, std::move(apply));
  Result<Inos> result = co_await done;
  co_return result;
}

}  // namespace graftfs
