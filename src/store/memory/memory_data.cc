#include <algorithm>

#include "base/fault.h"
#include "store/memory/memory_store.h"
#include "store/points.h"
#include "store/seal.h"

namespace graftfs {

std::string MemoryData::what(const char* verb, Ino ino) {
  return fmt::format("cannot {} the data of {}", verb, ino);
}

namespace {

class Sealed final : public SealedFile {
 public:
  Sealed(Ino ino, const SectorFile& bytes, std::vector<std::string>* seals)
      : ino_(ino), bytes_(bytes), seals_(seals) {}
  Result<void> read(uint64_t offset, char* out, size_t length) const override {
    bytes_.read(offset, out, length);
    return {};
  }
  uint64_t next_data(uint64_t offset) const override { return bytes_.next_data(offset); }
  Result<void> write_seal(std::string_view bytes, bool durable) override {
    constexpr size_t kMostVersions = 4;
    // A file system keeps its own order: the seal of a file that is cut to nothing goes first.
    if (durable || bytes.empty()) seals_->clear();
    if (seals_->size() == kMostVersions) seals_->erase(seals_->begin() + 1);
    seals_->emplace_back(bytes);
    return {};
  }
  std::string name() const override { return fmt::format("the data of {}", ino_); }

 private:
  Ino ino_;
  const SectorFile& bytes_;
  std::vector<std::string>* seals_;
};

}  // namespace

Result<DataInfo> MemoryData::change(MemoryDisk& disk, Ino ino, uint64_t valid_size, Range range,
                                    const std::function<Result<void>(SectorFile&, uint64_t)>& fn) {
  MemoryDisk::Data& data = disk.data_[ino];
  SectorFile& file = data.bytes;
  Sealed sealed(ino, file, &data.seals);
  Seal seal(ino);
  TRY(seal.load(data.seals.back(), sealed.name()));
  TRY(seal.before_cut(sealed, valid_size));
  uint64_t seq = disk.next_seq();
  disk.unsynced_.insert(ino);
  disk.data_sectors_ -= file.sectors();
  file.truncate(valid_size, seq);
  data.size = std::min(data.size, valid_size);
  disk.data_sectors_ += file.sectors();
  TRY(seal.before_change(sealed, range.offset, range.length));
  uint64_t before = file.sectors();
  Result<void> changed = fn(file, seq);
  disk.data_sectors_ += file.sectors() - before;
  // What is kept of it beyond the end reads as zeros, and needs no seal.
  if (range.length) data.size = std::max(data.size, range.offset + range.length);
  data.size = std::min(data.size, file.end());
  if (!changed) return std::unexpected(std::move(changed).error());
  return DataInfo{file.sectors()};
}

Result<void> MemoryData::check(MemoryDisk& disk, Ino ino, Range range) {
  auto it = disk.data_.find(ino);
  if (it == disk.data_.end()) return {};
  Sealed sealed(ino, it->second.bytes, nullptr);
  Seal seal(ino);
  TRY(seal.load(it->second.seals.back(), sealed.name()));
  return seal.check(sealed, range.offset, range.length);
}

void MemoryData::rests(MemoryDisk& disk, Ino ino, const Effect& effect) {
  if (effect.random && effect.random->below(2) == 0) return;
  MemoryDisk::Data& data = disk.data_[ino];
  // A sync that lies is believed.
  if (data.bytes.unsynced() && effect.fault != FaultKind::lost) return;
  Sealed sealed(ino, data.bytes, &data.seals);
  Seal seal(ino);
  if (!seal.load(data.seals.back(), sealed.name())) return;
  if (data.size == 0 || seal.is_whole(data.size)) return;
  Resealing work(seal, data.size);
  while (!work.done())
    if (!work.step(sealed)) return;  // damaged: whoever reads it is told
  MARK("store.memory.data.sealed");
  (void)sealed.write_seal(work.seal().encode(), false);
}

Result<void> MemoryData::room(MemoryDisk& disk, Ino ino, const SectorFile& file, uint64_t offset,
                              uint64_t length) {
  uint64_t missing = file.missing(offset, length);
  if (missing == 0 || disk.fits(missing * kSectorSize)) return {};
  return fail(ENOSPC, what("extend", ino) + ": No space left on device");
}

Task<Result<DataInfo>> MemoryData::write(Ino ino, uint64_t offset, std::string_view bytes,
                                         uint64_t valid_size) {
  points::DataWrite::before();
  MemoryNode::Apply<DataInfo> apply = [&disk = node_.disk(), ino, offset,
                                       bytes = std::string(bytes),
                                       valid_size](const Effect& e) -> Result<DataInfo> {
    const Range range{offset, bytes.size()};
    auto write = [&](SectorFile& file, uint64_t seq) -> Result<void> {
      TRY(room(disk, ino, file, offset, bytes.size()));
      if (e.fault == FaultKind::eio || (e.fault == FaultKind::torn && e.crash)) {
        if (e.random) file.write_torn(offset, bytes, seq, *e.random);
      } else if (e.fault == FaultKind::torn || e.fault == FaultKind::lost) {
        file.write_lost(offset, bytes, seq, e.fault == FaultKind::torn ? e.random : nullptr);
      } else {
        file.write(offset, bytes, seq);
      }
      if (e.fault == FaultKind::eio) return fail(EIO, what("write", ino) + ": Input/output error");
      return {};
    };
    return change(disk, ino, valid_size, range, write);
  };
  auto done = node_.start<DataInfo>(StoreCall::data_write, what("write", ino), ino.v,
                                    std::move(apply), true);
  Result<DataInfo> result = co_await done;
  if (result) points::DataWrite::after();
  co_return result;
}

Task<Result<void>> MemoryData::read(Ino ino, uint64_t offset, char* out, size_t length) {
  // Into a buffer of the operation's own: the caller may be gone when it takes effect.
  MemoryNode::Apply<std::string> apply = [&disk = node_.disk(), ino, offset,
                                          length](const Effect&) -> Result<std::string> {
    TRY(check(disk, ino, {offset, length}));
    std::string bytes(length, '\0');
    if (auto it = disk.data_.find(ino); it != disk.data_.end()) {
      it->second.bytes.read(offset, bytes.data(), length);
    }
    return bytes;
  };
  auto done =
      node_.start<std::string>(StoreCall::data_read, what("read", ino), ino.v, std::move(apply));
  Result<std::string> bytes = co_await done;
  if (!bytes) co_return std::unexpected(std::move(bytes).error());
  std::copy(bytes->begin(), bytes->end(), out);
  co_return Result<void>();
}

Task<Result<DataInfo>> MemoryData::truncate(Ino ino, uint64_t size) {
  points::DataTruncate::before();
  MemoryNode::Apply<DataInfo> apply = [&disk = node_.disk(), ino,
                                       size](const Effect&) -> Result<DataInfo> {
    if (!disk.data_.contains(ino)) return DataInfo{};
    return change(disk, ino, size, {}, [](SectorFile&, uint64_t) -> Result<void> { return {}; });
  };
  auto done = node_.start<DataInfo>(StoreCall::data_truncate, what("truncate", ino), ino.v,
                                    std::move(apply));
  Result<DataInfo> result = co_await done;
  if (result) points::DataTruncate::after();
  co_return result;
}

Task<Result<DataInfo>> MemoryData::allocate(Ino ino, AllocateMode mode, uint64_t offset,
                                            uint64_t length, uint64_t valid_size) {
  points::DataAllocate::before();
  MemoryNode::Apply<DataInfo> apply = [&disk = node_.disk(), ino, mode, offset, length,
                                       valid_size](const Effect&) -> Result<DataInfo> {
    if (mode == AllocateMode::punch_hole && !disk.data_.contains(ino)) return DataInfo{};
    const Range range = mode == AllocateMode::allocate ? Range{} : Range{offset, length};
    return change(disk, ino, valid_size, range,
                  [&](SectorFile& file, uint64_t seq) -> Result<void> {
                    if (mode == AllocateMode::punch_hole) {
                      file.zero(offset, length, false, seq);
                      return {};
                    }
                    TRY(room(disk, ino, file, offset, length));
                    if (mode == AllocateMode::zero_range) {
                      file.zero(offset, length, true, seq);
                    } else {
                      file.allocate(offset, length, seq);
                    }
                    return {};
                  });
  };
  auto done = node_.start<DataInfo>(StoreCall::data_allocate, what("allocate", ino), ino.v,
                                    std::move(apply));
  Result<DataInfo> result = co_await done;
  if (result) points::DataAllocate::after();
  co_return result;
}

Task<Result<uint64_t>> MemoryData::seek(Ino ino, uint64_t offset, bool data, uint64_t size) {
  MemoryNode::Apply<uint64_t> apply = [&disk = node_.disk(), ino, offset, data,
                                       size](const Effect&) -> Result<uint64_t> {
    if (offset >= size) return fail(ENXIO);
    auto it = disk.data_.find(ino);
    if (!data) {
      return it == disk.data_.end() ? offset : std::min(size, it->second.bytes.next_hole(offset));
    }
    uint64_t at = it == disk.data_.end() ? UINT64_MAX : it->second.bytes.next_data(offset);
    // A hole is what was written only where the data says so.
    TRY(check(disk, ino, {offset, std::min(at, size) - offset}));
    if (at >= size) return fail(ENXIO);
    return at;
  };
  auto done =
      node_.start<uint64_t>(StoreCall::data_seek, what("seek in", ino), ino.v, std::move(apply));
  Result<uint64_t> result = co_await done;
  co_return result;
}

Task<Result<DataInfo>> MemoryData::copy(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                        uint64_t length, uint64_t valid_size) {
  points::DataCopy::before();
  MemoryNode::Apply<DataInfo> apply = [&disk = node_.disk(), from, from_offset, to, to_offset,
                                       length, valid_size](const Effect&) -> Result<DataInfo> {
    TRY(check(disk, from, {from_offset, length}));
    // A copy of the source: it may be the same file, and change() may void bytes of it.
    std::optional<SectorFile> source;
    if (auto it = disk.data_.find(from); it != disk.data_.end()) source = it->second.bytes;
    const Range range{to_offset, length};
    return change(disk, to, valid_size, range, [&](SectorFile& file, uint64_t seq) -> Result<void> {
      file.zero(to_offset, length, false, seq);
      for (uint64_t done = 0; source && done < length;) {
        uint64_t at = source->next_data(from_offset + done);
        if (at >= from_offset + length) break;
        uint64_t n = std::min(kSectorSize - at % kSectorSize, from_offset + length - at);
        uint64_t target = to_offset + (at - from_offset);
        TRY(room(disk, to, file, target, n));
        char buffer[kSectorSize];
        source->read(at, buffer, n);
        file.write(target, std::string_view(buffer, n), seq);
        done = at + n - from_offset;
      }
      return {};
    });
  };
  auto done =
      node_.start<DataInfo>(StoreCall::data_copy, what("copy", from), to.v, std::move(apply));
  Result<DataInfo> result = co_await done;
  if (result) points::DataCopy::after();
  co_return result;
}

Task<Result<void>> MemoryData::sync(Ino ino) {
  points::DataSync::before();
  uint64_t up_to = node_.disk().seq_;
  MemoryNode::Apply<void> apply = [&disk = node_.disk(), ino,
                                   up_to](const Effect& e) -> Result<void> {
    auto it = disk.data_.find(ino);
    if (it == disk.data_.end()) {
      if (e.fault == FaultKind::eio) return fail(EIO, what("sync", ino) + ": Input/output error");
      return {};
    }
    if (e.fault == FaultKind::eio) {
      it->second.bytes.sync_failed(up_to, e.random);
      it->second.poisoned = true;
      disk.distrust_journals();
    }
    if (it->second.poisoned) {
      return fail(EIO, what("sync", ino) + ": an earlier sync failed and its writes are lost");
    }
    if (e.fault != FaultKind::lost) synced(disk, ino, up_to);
    rests(disk, ino, e);
    return {};
  };
  auto done =
      node_.start<void>(StoreCall::data_sync, what("sync", ino), ino.v, std::move(apply), true);
  Result<void> result = co_await done;
  if (result) points::DataSync::after();
  co_return result;
}

Task<Result<void>> MemoryData::sync_all() {
  points::DataSyncAll::before();
  uint64_t up_to = node_.disk().seq_;
  MemoryNode::Apply<void> apply = [&disk = node_.disk(), up_to](const Effect& e) -> Result<void> {
    Ino poisoned;
    disk.removed_.clear();
    std::vector<Ino> inos(disk.unsynced_.begin(), disk.unsynced_.end());
    for (Ino ino : inos) {
      MemoryDisk::Data& data = disk.data_[ino];
      if (e.fault == FaultKind::eio) {
        data.bytes.sync_failed(up_to, e.random);
        data.poisoned = true;
        disk.distrust_journals();
      }
      if (data.poisoned) {
        poisoned = ino;
        continue;
      }
      if (e.fault != FaultKind::lost) synced(disk, ino, up_to);
      rests(disk, ino, e);
    }
    if (poisoned) return fail(EIO, what("sync", poisoned) + ": a sync failed and writes are lost");
    if (e.fault == FaultKind::eio) return fail(EIO, "cannot sync file data: Input/output error");
    return {};
  };
  auto done = node_.start<void>(StoreCall::data_sync_all, "cannot sync file data", 0,
                                std::move(apply), true);
  Result<void> result = co_await done;
  if (result) points::DataSyncAll::after();
  co_return result;
}

bool MemoryData::has_unsynced() const {
  return !node_.disk().unsynced_.empty() || !node_.disk().removed_.empty();
}

void MemoryData::synced(MemoryDisk& disk, Ino ino, uint64_t up_to) {
  MemoryDisk::Data& data = disk.data_[ino];
  data.bytes.synced(up_to);
  data.seals = {data.seals.back()};
  if (!data.bytes.unsynced()) disk.unsynced_.erase(ino);
}

Task<Result<void>> MemoryData::believe(Ino ino) {
  if (auto it = node_.disk().data_.find(ino); it != node_.disk().data_.end())
    it->second.seals = {std::string()};
  co_return Result<void>{};
}

Task<Result<void>> MemoryData::remove(Ino ino) {
  points::DataRemove::before();
  MemoryNode::Apply<void> apply = [&disk = node_.disk(), ino,
                                   owned = node_.owned()](const Effect&) -> Result<void> {
    TRY(MemoryNode::hold(disk, *owned));
    auto it = disk.data_.find(ino);
    if (it == disk.data_.end()) return {};
    disk.data_sectors_ -= it->second.bytes.sectors();
    disk.removed_.insert_or_assign(ino, std::move(it->second));
    disk.data_.erase(it);
    disk.unsynced_.erase(ino);
    return {};
  };
  auto done =
      node_.start<void>(StoreCall::data_remove, what("remove", ino), ino.v, std::move(apply));
  Result<void> result = co_await done;
  if (result) points::DataRemove::after();
  co_return result;
}

Task<Result<std::vector<Ino>>> MemoryData::list(Ino from, size_t max) {
  using Inos = std::vector<Ino>;
  MemoryNode::Apply<Inos> apply = [&disk = node_.disk(), from, max](const Effect&) -> Result<Inos> {
    Inos inos;
    for (auto it = disk.data_.lower_bound(from); it != disk.data_.end() && inos.size() < max;
         ++it) {
      inos.push_back(it->first);
    }
    return inos;
  };
  auto done = node_.start<Inos>(StoreCall::data_list, "list file data", 0, std::move(apply));
  Result<Inos> result = co_await done;
  co_return result;
}

}  // namespace graftfs
