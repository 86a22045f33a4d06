#include "store/rados/rados_store.h"

#include <fmt/format.h>

#include <cstring>

#include "base/fault.h"
#include "store/fence.h"
#include "store/points.h"
#include "store/rados/librados_session.h"

namespace graftfs {
namespace {

using rados::OwnerRecord;
using rados::RadosJournal;
using rados::Session;

// Clients that the cluster has not answered in time; their operations may still come back.
void leave_behind(std::shared_ptr<Session> session) {
  static std::mutex mutex;
  static auto* left = new std::vector<std::shared_ptr<Session>>;
  std::lock_guard lock(mutex);
  left->push_back(std::move(session));
}

}  // namespace

RadosStore::RadosStore(Executor& executor, std::shared_ptr<Session> session, RadosOptions options)
    : executor_(executor), options_(options), session_(std::move(session)) {
  dirs_ = std::make_unique<rados::RadosDirs>(*session_, tokens_, options_.big_directory);
  state_ = std::make_unique<rados::RadosState>(*session_);
  data_ = std::make_unique<rados::RadosData>(executor_, session_);
}

Result<std::unique_ptr<RadosStore>> RadosStore::on(Executor& executor, BlockingPool& pool,
                                                   std::shared_ptr<RadosVolume> volume) {
  TRY_ASSIGN(auto session, rados::LibradosSession::connect(volume->full_name()));
  session->bind(executor, pool);
  return std::make_unique<RadosStore>(executor, std::move(session), volume->options());
}

Result<std::unique_ptr<Store>> RadosVolume::use(Executor& executor, BlockingPool& pool) {
  return RadosStore::on(executor, pool, shared_from_this());
}

RadosStore::~RadosStore() {
  for (auto& [rank, owned] : owned_)
    if (owned.journal) owned.journal->release_now();
  bool idle = session_->close();
  owned_.clear();
  readers_.clear();
  former_.clear();
  data_.reset();
  dirs_.reset();
  state_.reset();
  if (!idle) leave_behind(session_);
}

Task<Result<JournalDevice*>> RadosStore::own_journal(RankId rank, OwnOptions options) {
  points::OwnJournal::before();
  CO_TRY(session_->alive());
  if (owned_.contains(rank))
    co_return fail(
        EBUSY, fmt::format("{}: this process owns the journal of rank {} already", name(), rank));
  Owned owned;
  owned.node = options.node;
  owned.journal = std::make_unique<RadosJournal>(executor_, session_, rank,
                                                 options_.segment_capacity, options_.early_journal);
  Result<void> taken = co_await take(rank, options, owned);
  if (!taken) {
    co_await owned.journal->end_watch();
    co_return std::unexpected(std::move(taken).error());
  }
  JournalDevice* device = owned.journal.get();
  owned_[rank] = std::move(owned);
  if (options_.early_journal) answer_early();
  points::OwnJournal::after();
  co_return device;
}

// The steps of docs/formats/store-rados.md, "Who may write".
Task<Result<void>> RadosStore::take(RankId rank, OwnOptions options, Owned& owned) {
  RadosJournal& journal = *owned.journal;
  std::string key = fence_key(rank);
  CO_TRY_ASSIGN(StateValue fence, co_await state_->get(key));
  CO_TRY_ASSIGN(FenceRecord record, decode_fence(fence.value, rank));
  if (options.mode == OwnMode::take && options.from && *options.from != record.epoch)
    co_return fail(ESTALE, fmt::format("rank {} has a new owner already", rank));
  CO_TRY_ASSIGN(rados::JournalIndex index, co_await journal.read_index());
  const OwnerRecord& old = index.owner;
  owned.all_survived = index.exists && record.epoch != Epoch{} && !old.early;
  bool proven = old.address.empty() || session_->has_ended_here(old);
  if (!proven) {
    uint64_t client = old.client;
    CO_TRY_ASSIGN(bool lives, co_await journal.is_watched_by(client));
    if (lives && options.mode == OwnMode::if_free)
      co_return fail(EBUSY,
                     fmt::format("rank {} of {} is served by process {} of {}; if that has just "
                                 "died, try again in a few seconds",
                                 rank, name(), old.pid, old.host));
    proven = !lives;
  }
  if (!old.address.empty()) {
    std::string address = old.address;
    CO_TRY(co_await shut_out(address));
    KILL_POINT("store.rados.shut_out");
  }
  CO_TRY(co_await journal.begin_watch());
  record.epoch = record.epoch.next();
  record.node = options.node;
  std::string value = encode_fence(record);
  auto set = co_await state_->set(key, fence.version, value);
  if (!set && set.error().code == ESTALE)
    co_return fail(options.mode == OwnMode::take ? ESTALE : EBUSY,
                   fmt::format("another process is taking rank {} of {}", rank, name()));
  if (!set) co_return std::unexpected(std::move(set).error());
  owned.fence = *set;
  owned.epoch = record.epoch;
  KILL_POINT("store.rados.fenced");
  uint64_t token = record.epoch.v;
  (*tokens_)[rank] = token;
  CO_TRY(co_await journal.seize(token, std::move(index)));
  KILL_POINT("store.rados.seized");
  if (!proven) CO_TRY(co_await wait_for_lease(executor_, *state_, options));
  co_return Result<void>{};
}

// Completion: whatever serves us from here on refuses that client.
Task<Result<void>> RadosStore::shut_out(std::string address) {
  MARK("store.rados.shut_out");
  auto done = session_->shut_out(address);
  int code = co_await done;
  if (code == -EACCES || code == -EPERM)
    co_return fail(EACCES,
                   fmt::format("the key may not shut out the owner before; its caps need mon "
                               "'allow r, allow command \"osd blocklist\"'"));
  if (code < 0)
    co_return fail(-code, fmt::format("cannot shut out the owner before, {}: {}; see 'ceph -s'",
                                      address, std::strerror(-code)));
  co_return Result<void>{};
}

Task<Result<Epoch>> RadosStore::raise_epoch(RankId rank, Epoch at_least) {
  auto it = owned_.find(rank);
  CHECK(it != owned_.end(), "the epoch of a journal that is not owned");
  Owned& mine = it->second;
  if (mine.epoch < at_least) {
    FenceRecord record{at_least, mine.node};
    std::string key = fence_key(rank), value = encode_fence(record);
    CO_TRY_ASSIGN(uint64_t version, co_await state_->set(key, mine.fence, value));
    mine.fence = version;
    mine.epoch = at_least;
  }
  co_return mine.epoch;
}

Task<Result<void>> RadosStore::disown_journal(RankId rank) {
  auto it = owned_.find(rank);
  if (it == owned_.end()) co_return Result<void>{};
  former_.push_back(std::move(it->second.journal));
  owned_.erase(it);
  RadosJournal& journal = *former_.back();
  co_return co_await journal.release();
}

Task<Result<JournalDevice*>> RadosStore::read_journal(RankId rank) {
  CO_TRY(session_->alive());
  auto& reader = readers_[rank];
  if (!reader)
    reader = std::make_unique<RadosJournal>(executor_, session_, rank, options_.segment_capacity);
  CO_TRY_ASSIGN(rados::JournalIndex index, co_await reader->read_index());
  if (!index.exists)
    co_return fail(ENOENT, fmt::format("{} has no journal of rank {}", name(), rank));
  co_return static_cast<JournalDevice*>(reader.get());
}

bool RadosStore::unsynced_survived(RankId rank) const {
  auto it = owned_.find(rank);
  return it == owned_.end() ? readers_.contains(rank) : it->second.all_survived;
}

Task<Result<StoreUsage>> RadosStore::usage() {
  CO_TRY(session_->alive());
  auto done = session_->usage();
  Result<StoreUsage> usage = co_await done;
  co_return usage;
}

}  // namespace graftfs
