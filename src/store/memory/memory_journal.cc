#include "store/memory/memory_store.h"
#include "store/points.h"

namespace graftfs {

std::string MemoryJournal::name_of(SegmentId id) const {
  return fmt::format("memory/journal/rank-{}/{:016x}.seg", rank_, id.v);
}

std::string MemoryJournal::what(const char* verb, SegmentId id) const {
  return fmt::format("cannot {} {}", verb, name_of(id));
}

uint64_t MemoryJournal::segment_capacity() const { return node_.disk().options_.segment_capacity; }

Result<MemoryDisk::Journal*> MemoryJournal::writable(MemoryDisk& disk, RankId rank, uint64_t owner,
                                                     const std::string& name) {
  if (owner == 0) return fail(EROFS, name + ": the journal was opened for reading only");
  MemoryDisk::Journal& journal = disk.journals_[rank];
  if (journal.owner != owner) {
    return fail(ESTALE, name + ": another owner has taken over this journal");
  }
  return &journal;
}

Task<Result<std::vector<SegmentInfo>>> MemoryJournal::list() {
  using List = std::vector<SegmentInfo>;
  MemoryNode::Apply<List> apply = [&disk = node_.disk(),
                                   rank = rank_](const Effect&) -> Result<List> {
    List list;
    for (SegmentId id : disk.segments(rank)) list.push_back({id, disk.options_.segment_capacity});
    return list;
  };
  auto done = node_.start<List>(StoreCall::journal_list, "list the journal", 0, std::move(apply));
  Result<List> result = co_await done;
  co_return result;
}

Task<Result<void>> MemoryJournal::create(SegmentId id) {
  points::JournalCreate::before();
  std::string name = what("create", id);
  MemoryNode::Apply<void> apply = [&disk = node_.disk(), rank = rank_, owner = owner_, id,
                                   name](const Effect&) -> Result<void> {
    TRY_ASSIGN(MemoryDisk::Journal * journal, writable(disk, rank, owner, name));
    if (journal->segments.contains(id)) return fail(EEXIST, name + ": it exists");
    if (!disk.fits(disk.options_.segment_capacity)) {
      return fail(ENOSPC, name + ": No space left on device");
    }
    journal->segments[id];
    if (!journal->made) journal->made = id;
    return {};
  };
  auto done = node_.start<void>(StoreCall::journal_create, name, 0, std::move(apply));
  Result<void> result = co_await done;
  if (result) points::JournalCreate::after();
  co_return result;
}

Task<Result<void>> MemoryJournal::write(SegmentId id, uint64_t offset, std::string_view bytes) {
  points::JournalWrite::before();
  std::string name = what("write", id);
  MemoryNode::Apply<void> apply = [&disk = node_.disk(), rank = rank_, owner = owner_, id, offset,
                                   bytes = std::string(bytes),
                                   name](const Effect& e) -> Result<void> {
    TRY_ASSIGN(MemoryDisk::Journal * journal, writable(disk, rank, owner, name));
    auto it = journal->segments.find(id);
    if (it == journal->segments.end()) return fail(ENOENT, name + ": there is no such segment");
    uint64_t capacity = disk.options_.segment_capacity;
    if (offset + bytes.size() > capacity) return fail(EINVAL, name + ": beyond its capacity");
    uint64_t seq = disk.next_seq();
    switch (e.fault) {
      case FaultKind::lost:
        return {};
      case FaultKind::torn:
        if (e.random && e.in_order) {
          it->second.write_start(offset, bytes, seq, *e.random);
        } else if (e.random) {
          it->second.write_torn(offset, bytes, seq, *e.random);
        }
        return {};
      case FaultKind::eio:
        if (e.random) it->second.write_torn(offset, bytes, seq, *e.random);
        journal->in_doubt = journal->sync_failed = true;
        return fail(EIO, fmt::format("{} at offset {}: Input/output error", name, offset));
      case FaultKind::misdirected: {
        // Where an address bit went wrong: the neighbouring sector, or another segment.
        auto other =
            std::next(it) == journal->segments.end() ? journal->segments.begin() : std::next(it);
        if (other == it || (e.random && e.random->below(2) == 0)) {
          uint64_t wrong = offset ^ kSectorSize;
          std::string_view part(bytes);
          if (wrong >= capacity) wrong = 0;
          part = part.substr(0, std::min<uint64_t>(part.size(), capacity - wrong));
          it->second.write(wrong, part, seq);
        } else {
          other->second.write(offset, bytes, seq);
        }
        return {};
      }
      default:
        it->second.write(offset, bytes, seq);
        return {};
    }
  };
  auto done = node_.start<void>(StoreCall::journal_write, name, 0, std::move(apply), true);
  Result<void> result = co_await done;
  if (result) points::JournalWrite::after();
  co_return result;
}

Task<Result<void>> MemoryJournal::sync(SegmentId id) {
  points::JournalSync::before();
  std::string name = what("sync", id);
  uint64_t up_to = node_.disk().seq_;
  MemoryNode::Apply<void> apply = [&disk = node_.disk(), rank = rank_, owner = owner_, id, up_to,
                                   name](const Effect& e) -> Result<void> {
    TRY_ASSIGN(MemoryDisk::Journal * journal, writable(disk, rank, owner, name));
    auto it = journal->segments.find(id);
    if (it == journal->segments.end()) return fail(ENOENT, name + ": there is no such segment");
    if (e.fault == FaultKind::eio) {
      it->second.sync_failed(up_to, e.random);
      journal->in_doubt = journal->sync_failed = true;
      return fail(EIO, name + ": Input/output error");
    }
    if (e.fault != FaultKind::lost) it->second.synced(up_to);
    if (journal->made && id >= *journal->made && !journal->sync_failed) journal->in_doubt = false;
    return {};
  };
  auto done = node_.start<void>(StoreCall::journal_sync, name, 0, std::move(apply), true);
  Result<void> result = co_await done;
  if (result) points::JournalSync::after();
  co_return result;
}

Task<Result<std::string>> MemoryJournal::read(SegmentId id, uint64_t offset, uint64_t length) {
  std::string name = what("read", id);
  MemoryNode::Apply<std::string> apply = [&disk = node_.disk(), rank = rank_, id, offset, length,
                                          name](const Effect&) -> Result<std::string> {
    auto& segments = disk.journals_[rank].segments;
    auto it = segments.find(id);
    if (it == segments.end()) return fail(ENOENT, name + ": there is no such segment");
    uint64_t capacity = disk.options_.segment_capacity;
    std::string bytes(offset >= capacity ? 0 : std::min(length, capacity - offset), '\0');
    it->second.read(offset, bytes.data(), bytes.size());
    return bytes;
  };
  auto done = node_.start<std::string>(StoreCall::journal_read, name, 0, std::move(apply));
  Result<std::string> result = co_await done;
  co_return result;
}

Task<Result<void>> MemoryJournal::remove(SegmentId id) {
  points::JournalRemove::before();
  std::string name = what("remove", id);
  MemoryNode::Apply<void> apply = [&disk = node_.disk(), rank = rank_, owner = owner_, id,
                                   name](const Effect&) -> Result<void> {
    TRY_ASSIGN(MemoryDisk::Journal * journal, writable(disk, rank, owner, name));
    if (journal->segments.erase(id) == 0) {
      return fail(ENOENT, name + ": there is no such segment");
    }
    return {};
  };
  auto done = node_.start<void>(StoreCall::journal_remove, name, 0, std::move(apply));
  Result<void> result = co_await done;
  if (result) points::JournalRemove::after();
  co_return result;
}

}  // namespace graftfs
