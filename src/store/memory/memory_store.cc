#include "store/memory/memory_store.h"

#include <algorithm>

#include "store/fence.h"
#include "store/points.h"

namespace graftfs {

MemoryStore::MemoryStore(Executor& executor, std::shared_ptr<MemoryDisk> disk, Random* random)
    : node_(executor, std::move(disk), random), dirs_(node_), data_(node_), state_(node_) {
  // Opening the volume again is what ends the memory of a failed sync.
  for (auto& [ino, file] : node_.disk().data_) file.poisoned = false;
}

Result<void> MemoryNode::hold(MemoryDisk& disk, const std::map<RankId, uint64_t>& owned) {
  for (auto [rank, token] : owned) {
    if (disk.journals_[rank].owner == token) continue;
    return fail(ESTALE, fmt::format("another owner has taken rank {} from this one", rank));
  }
  return {};
}

Task<Result<JournalDevice*>> MemoryStore::own_journal(RankId rank, OwnOptions options) {
  points::OwnJournal::before();
  struct Owned {
    uint64_t token;
    bool proven;
    Ownership ownership;
  };
  MemoryNode::Apply<Owned> apply = [&disk = node_.disk(), rank, options,
                                    alive = node_.alive()](const Effect&) -> Result<Owned> {
    MemoryDisk::Journal& journal = disk.journals_[rank];
    StateValue& fence = disk.state_[fence_key(rank)];
    TRY_ASSIGN(FenceRecord record, decode_fence(fence.value, rank));
    if (options.mode == OwnMode::take && options.from && *options.from != record.epoch)
      return fail(ESTALE, fmt::format("rank {} has a new owner already", rank));
    auto owner = journal.owner ? journal.owner_node.lock() : nullptr;
    if (owner && owner != alive && options.mode == OwnMode::if_free)
      return fail(EBUSY, fmt::format("rank {} is served by another process", rank));
    record = {record.epoch.next(), options.node};
    fence = {fence.version + 1, encode_fence(record)};
    bool survived = journal.ever_owned && !journal.in_doubt;
    journal.ever_owned = true;
    if (journal.segments.empty()) journal.in_doubt = false;
    journal.made.reset();
    journal.sync_failed = false;
    journal.owner = disk.next_owner_++;
    journal.owner_node = alive;
    return Owned{journal.owner,
                 owner == nullptr || owner == alive,
                 {survived, record.epoch, fence.version, options.node}};
  };
  auto done = node_.start<Owned>(StoreCall::own_journal, fmt::format("own journal rank-{}", rank),
                                 0, std::move(apply));
  Result<Owned> owned = co_await done;
  if (!owned) co_return std::unexpected(std::move(owned).error());
  ownerships_[rank] = owned->ownership;
  (*node_.owned())[rank] = owned->token;
  auto& device = owned_[rank];
  if (!device) device = std::make_unique<MemoryJournal>(node_, rank, 0);
  device->set_owner(owned->token);
  if (!owned->proven) CO_TRY(co_await wait_for_lease(node_.executor(), state_, options));
  points::OwnJournal::after();
  co_return device.get();
}

Task<Result<Epoch>> MemoryStore::raise_epoch(RankId rank, Epoch at_least) {
  Ownership& mine = ownerships_[rank];
  if (mine.epoch < at_least) {
    FenceRecord record{at_least, mine.node};
    std::string key = fence_key(rank), value = encode_fence(record);
    CO_TRY_ASSIGN(uint64_t version, co_await state_.set(key, mine.fence, value));
    mine.fence = version;
    mine.epoch = at_least;
  }
  co_return mine.epoch;
}

Task<Result<void>> MemoryStore::disown_journal(RankId rank) {
  auto it = owned_.find(rank);
  uint64_t token = it == owned_.end() ? 0 : it->second->owner();
  MemoryNode::Apply<void> apply = [&disk = node_.disk(), rank,
                                   token](const Effect&) -> Result<void> {
    MemoryDisk::Journal& journal = disk.journals_[rank];
    if (token && journal.owner == token) journal.owner = 0;
    return {};
  };
  auto done = node_.start<void>(StoreCall::own_journal,
                                fmt::format("give up journal rank-{}", rank), 0, std::move(apply));
  Result<void> result = co_await done;
  co_return result;
}

Task<Result<JournalDevice*>> MemoryStore::read_journal(RankId rank) {
  MemoryNode::Apply<void> apply = [](const Effect&) -> Result<void> { return {}; };
  auto done = node_.start<void>(StoreCall::own_journal, fmt::format("open journal rank-{}", rank),
                                0, std::move(apply));
  Result<void> opened = co_await done;
  if (!opened) co_return std::unexpected(std::move(opened).error());
  auto& device = readers_[rank];
  if (!device) device = std::make_unique<MemoryJournal>(node_, rank, 0);
  co_return device.get();
}

bool MemoryStore::unsynced_survived(RankId rank) const {
  auto it = ownerships_.find(rank);
  return it != ownerships_.end() && it->second.survived;
}

Task<Result<StoreUsage>> MemoryStore::usage() {
  MemoryNode::Apply<StoreUsage> apply = [&disk =
                                             node_.disk()](const Effect&) -> Result<StoreUsage> {
    StoreUsage u;
    uint64_t capacity = std::min<uint64_t>(disk.capacity(), uint64_t{1} << 50);
    uint64_t used = std::min(disk.used(), capacity);
    u.blocks = capacity / u.block_size;
    u.blocks_free = u.blocks_available = (capacity - used) / u.block_size;
    u.files = u.blocks;
    u.files_free = u.blocks_free;
    return u;
  };
  auto done = node_.start<StoreUsage>(StoreCall::usage, "statfs", 0, std::move(apply));
  Result<StoreUsage> result = co_await done;
  co_return result;
}

// ---------------------------------------------------------------------------------------------

Task<Result<StateValue>> MemoryState::get(std::string key) {
  std::string what = "read state '" + key + "'";
  MemoryNode::Apply<StateValue> apply =
      [&disk = node_.disk(), key = std::move(key)](const Effect&) -> Result<StateValue> {
    auto it = disk.state_.find(key);
    return it == disk.state_.end() ? StateValue{} : it->second;
  };
  auto done = node_.start<StateValue>(StoreCall::state_get, std::move(what), 0, std::move(apply));
  Result<StateValue> result = co_await done;
  co_return result;
}

Task<Result<uint64_t>> MemoryState::set(std::string key, uint64_t expected, std::string value) {
  points::StateSet::before();
  std::string what = "write state '" + key + "'";
  MemoryNode::Apply<uint64_t> apply = [&disk = node_.disk(), key = std::move(key), expected,
                                       value =
                                           std::move(value)](const Effect& e) -> Result<uint64_t> {
    auto it = disk.state_.find(key);
    uint64_t version = it == disk.state_.end() ? 0 : it->second.version;
    if (version != expected) {
      return fail(ESTALE,
                  fmt::format("state '{}' is at version {}, not {}", key, version, expected));
    }
    if (e.fault == FaultKind::lost) return version + 1;
    disk.state_[key] = StateValue{version + 1, value};
    return version + 1;
  };
  auto done = node_.start<uint64_t>(StoreCall::state_set, std::move(what), 0, std::move(apply));
  Result<uint64_t> result = co_await done;
  if (result) points::StateSet::after();
  co_return result;
}

Task<Result<std::vector<std::pair<std::string, StateValue>>>> MemoryState::list(
    std::string prefix) {
  using List = std::vector<std::pair<std::string, StateValue>>;
  MemoryNode::Apply<List> apply = [&disk = node_.disk(),
                                   prefix = std::move(prefix)](const Effect&) -> Result<List> {
    List list;
    for (auto it = disk.state_.lower_bound(prefix);
         it != disk.state_.end() && it->first.starts_with(prefix); ++it) {
      list.emplace_back(it->first, it->second);
    }
    return list;
  };
  auto done = node_.start<List>(StoreCall::state_get, "list state", 0, std::move(apply));
  Result<List> result = co_await done;
  co_return result;
}

Task<Result<void>> MemoryState::remove(std::string key) {
  std::string what = "remove state '" + key + "'";
  MemoryNode::Apply<void> apply = [&disk = node_.disk(),
                                   key = std::move(key)](const Effect&) -> Result<void> {
    disk.state_.erase(key);
    return {};
  };
  auto done = node_.start<void>(StoreCall::state_set, std::move(what), 0, std::move(apply));
  Result<void> result = co_await done;
  co_return result;
}

}  // namespace graftfs
