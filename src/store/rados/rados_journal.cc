#include "store/rados/rados_journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/fault.h"
#include "store/points.h"

namespace graftfs::rados {
namespace {

constexpr char kToken[] = "owner";
constexpr char kOwnerKey[] = "owner";
constexpr char kSegment = 's';
constexpr uint32_t kWatchTimeout = 10;  // seconds of silence until the OSD forgets a watcher
constexpr uint64_t kKeysInAnswer = 1024;
constexpr Nanos kWatchAgain = kSecond;
constexpr size_t kUnderWay = 4, kBytesInOperation = 1 << 20, kMostQueued = 16 << 20;

std::string segment_key(SegmentId id) {
  uint64_t v = std::byteswap(id.v);
  return kSegment + std::string(reinterpret_cast<const char*>(&v), sizeof v);
}
std::string segment_value(uint64_t capacity, bool live) {
  return std::string(reinterpret_cast<const char*>(&capacity), sizeof capacity) +
         (live ? "live" : "gone");
}
bufferlist token_text(uint64_t token) { return to_buffer(fmt::format("{}", token)); }

struct IndexRead {
  std::map<std::string, bufferlist> owner, segments;
  bool more = false;
};

}  // namespace

RadosJournal::~RadosJournal() {
  tasks_.cancel_all();
  if (watch_) watch_->end();
}

std::string RadosJournal::name_of(SegmentId id) const {
  return session_->name().shown() + "/" + segment_object(rank_, id);
}

std::unexpected<Error> RadosJournal::failed(int code, std::string_view verb,
                                            std::string_view object) {
  auto error = session_->failed(code, verb, object);
  if (error.error().code == ESTALE && token_) closed_ = ESTALE;
  return error;
}

// A segment that is not there any more: removed from under us, or trimmed by whoever has the rank
// by now; the index tells. What it is asked changes nothing.
Task<Error> RadosJournal::write_failed(int code, SegmentId id) {
  if (code == -ENOENT) {
    WriteOp op = guarded();
    std::map<std::string, bufferlist> put;
    put[kOwnerKey] = to_buffer(encode(me_));
    op.omap_set(put);
    int asked = co_await session_->write(index_object(rank_), std::move(op));
    if (asked == -ECANCELED) {
      MARK("store.rados.segment_trimmed_by_another");
      code = asked;
    }
  }
  co_return failed(code, "write", segment_object(rank_, id)).error();
}

Result<void> RadosJournal::writable(SegmentId id, bool must_exist) const {
  TRY(session_->alive());
  if (token_ == 0) return fail(EROFS, fmt::format("{} is open for reading only", name_of(id)));
  if (closed_) return fail(closed_, fmt::format("{} is another owner's now", name_of(id)));
  if (must_exist && !segments_.contains(id))
    return fail(ENOENT, fmt::format("{} does not exist", name_of(id)));
  return {};
}

WriteOp RadosJournal::guarded() const {
  WriteOp op;
  op.cmpxattr(kToken, Compare::equal, token_);
  return op;
}

// -- the index ----------------------------------------------------------------------------------

Task<Result<JournalIndex>> RadosJournal::read_index() {
  CO_TRY(session_->alive());
  const std::string object = index_object(rank_);
  JournalIndex index;
  std::string after;
  for (;;) {
    auto out = std::make_shared<IndexRead>();
    ReadOp op;
    op.omap_get_vals_by_keys({kOwnerKey}, &out->owner);
    op.omap_get_vals2(after, std::string(1, kSegment), kKeysInAnswer, &out->segments, &out->more);
    Answer<IndexRead> answer = co_await session_->read(object, std::move(op), out);
    if (answer.code == -ENOENT) co_return index;
    if (answer.code < 0) co_return failed(answer.code, "read", object);
    index.exists = true;
    if (!out->owner.empty()) {
      CO_TRY_ASSIGN(index.owner, decode_owner(to_text(out->owner.begin()->second),
                                              session_->name().shown() + "/" + object));
    }
    for (const auto& [key, bytes] : out->segments) {
      std::string value = to_text(bytes);
      uint64_t id = 0, capacity = 0;
      if (key.size() != 1 + sizeof id || value.size() != sizeof capacity + 4)
        co_return damaged(fmt::format("{}/{} makes no sense; restore it from a backup",
                                      session_->name().shown(), object));
      std::memcpy(&id, key.data() + 1, sizeof id);
      std::memcpy(&capacity, value.data(), sizeof capacity);
      SegmentId segment{std::byteswap(id)};
      if (value.ends_with("live"))
        index.segments[segment] = capacity;
      else
        index.gone.insert(segment);
    }
    if (!out->more || out->segments.empty()) co_return index;
    after = out->segments.rbegin()->first;
  }
}

Task<Result<bool>> RadosJournal::is_watched_by(uint64_t client) {
  const std::string object = index_object(rank_);
  auto out = std::make_shared<std::vector<uint64_t>>();
  ReadOp op;
  op.list_watchers(out.get());
  auto answer = co_await session_->read(object, std::move(op), out);
  if (answer.code == -ENOENT) co_return false;
  if (answer.code < 0) co_return failed(answer.code, "read", object);
  co_return std::find(out->begin(), out->end(), client) != out->end();
}

Task<Result<void>> RadosJournal::begin_watch() {
  const std::string object = index_object(rank_);
  WriteOp make;
  make.create(false);
  int code = co_await session_->write(object, std::move(make));
  if (code < 0) co_return failed(code, "create", object);
  watch_ = std::make_shared<Watch>(executor_, [this](int) { tasks_.spawn(watch_again()); });
  code = co_await session_->watch(object, watch_, kWatchTimeout);
  if (code < 0) co_return failed(code, "watch", object);
  co_return Result<void>{};
}

Task<void> RadosJournal::end_watch() {
  if (!watch_) co_return;
  watch_->end();
  (void)co_await session_->unwatch(*watch_);
  watch_.reset();
}

// The OSD has forgotten us; it may have been away, or this process was stopped.
Task<void> RadosJournal::watch_again() {
  if (std::exchange(watching_again_, true)) co_return;
  while (!closed_) {
    MARK("store.rados.watch_again");
    (void)co_await session_->unwatch(*watch_);
    int code = co_await session_->watch(index_object(rank_), watch_, kWatchTimeout);
    if (code >= 0) break;
    (void)failed(code, "watch", index_object(rank_));
    co_await sleep_for(executor_, kWatchAgain);
  }
  watching_again_ = false;
}

Task<Result<void>> RadosJournal::seize(uint64_t token, JournalIndex index) {
  const std::string object = index_object(rank_);
  me_ = session_->me();
  me_.early = early_;
  WriteOp op;
  op.cmpxattr(kToken, Compare::greater, token);
  op.setxattr(kToken, token_text(token));
  std::map<std::string, bufferlist> put;
  put[kOwnerKey] = to_buffer(encode(me_));
  op.omap_set(put);
  int code = co_await session_->write(object, std::move(op));
  if (code < 0) co_return failed(code, "take", object);
  token_ = token;
  closed_ = 0;
  // Whoever had it may have changed it until now.
  CO_TRY_ASSIGN(index, co_await read_index());
  segments_ = std::move(index.segments);
  gone_ = std::move(index.gone);
  for (SegmentId id : gone_) {
    WriteOp remove;
    remove.remove();
    code = co_await session_->write(segment_object(rank_, id), std::move(remove));
    if (code < 0 && code != -ENOENT) co_return failed(code, "remove", segment_object(rank_, id));
  }
  for (const auto& [id, capacity] : segments_) {
    SegmentId segment = id;
    CO_TRY(co_await seal(segment));
  }
  co_return Result<void>{};
}

Task<Result<void>> RadosJournal::seal(SegmentId id) {
  const std::string object = segment_object(rank_, id);
  for (;;) {
    WriteOp op;
    op.assert_exists();
    op.cmpxattr(kToken, Compare::greater_or_equal, token_);
    op.setxattr(kToken, token_text(token_));
    int code = co_await session_->write(object, std::move(op));
    if (code >= 0) co_return Result<void>{};
    if (code != -ENOENT) co_return failed(code, "seal", object);
    MARK("store.rados.segment_without_object");
    WriteOp make;
    make.create(true);
    make.setxattr(kToken, token_text(token_));
    code = co_await session_->write(object, std::move(make));
    if (code >= 0) co_return Result<void>{};
    if (code != -EEXIST) co_return failed(code, "seal", object);
  }
}

Task<Result<void>> RadosJournal::release() {
  if (token_ == 0 || closed_) co_return Result<void>{};
  closed_ = ESTALE;
  OwnerRecord nobody = me_;
  nobody.address.clear();
  WriteOp op = guarded();
  std::map<std::string, bufferlist> put;
  put[kOwnerKey] = to_buffer(encode(nobody));
  op.omap_set(put);
  int code = co_await session_->write(index_object(rank_), std::move(op));
  co_await end_watch();
  if (code < 0 && code != -ECANCELED && code != -ESHUTDOWN)
    co_return failed(code, "give up", index_object(rank_));
  co_return Result<void>{};
}

void RadosJournal::release_now() {
  if (token_ == 0) return;
  if (watch_) watch_->end();
  if (!closed_) {
    OwnerRecord nobody = me_;
    nobody.address.clear();
    WriteOp op = guarded();
    std::map<std::string, bufferlist> put;
    put[kOwnerKey] = to_buffer(encode(nobody));
    op.omap_set(put);
    (void)session_->write_now(index_object(rank_), std::move(op));
    // While it is asked for again nobody may take it back; it ends with the client.
    if (!watching_again_) (void)session_->unwatch_now(*watch_);
  }
  closed_ = ESTALE;
}

// -- segments -----------------------------------------------------------------------------------

Task<Result<std::vector<SegmentInfo>>> RadosJournal::list() {
  CO_TRY_ASSIGN(JournalIndex index, co_await read_index());
  std::vector<SegmentInfo> all;
  for (const auto& [id, capacity] : index.segments) all.push_back({id, capacity});
  co_return all;
}

Task<Result<void>> RadosJournal::create(SegmentId id) {
  points::JournalCreate::before();
  CO_TRY(writable(id, false));
  if (segments_.contains(id))
    co_return fail(EEXIST, fmt::format("{} is there already", name_of(id)));
  WriteOp op = guarded();
  std::map<std::string, bufferlist> put;
  put[segment_key(id)] = to_buffer(segment_value(capacity_, true));
  op.omap_set(put);
  // Of segments whose objects are removed.
  std::set<std::string> names;
  for (SegmentId old : gone_)
    if (old != id) names.insert(segment_key(old));
  if (!names.empty()) op.omap_rm_keys(names);
  std::set<SegmentId> forgotten = std::exchange(gone_, {});
  int code = co_await session_->write(index_object(rank_), std::move(op));
  if (code < 0) {
    gone_.merge(forgotten);
    co_return failed(code, "create", segment_object(rank_, id));
  }
  segments_[id] = capacity_;
  KILL_POINT("store.rados.segment_named");
  WriteOp make;
  make.create(true);
  make.setxattr(kToken, token_text(token_));
  make.set_alloc_hint(capacity_);
  code = co_await session_->write(segment_object(rank_, id), std::move(make));
  // An older one of that name whose removal did not come about.
  if (code == -EEXIST) {
    Result<void> sealed = co_await seal(id);
    if (!sealed) co_return sealed;
    code = 0;
  }
  if (code < 0) {
    segments_.erase(id);
    co_return failed(code, "create", segment_object(rank_, id));
  }
  points::JournalCreate::after();
  co_return Result<void>{};
}

Task<Result<void>> RadosJournal::write(SegmentId id, uint64_t offset, std::string_view bytes) {
  points::JournalWrite::before();
  CO_TRY(writable(id, true));
  if (offset + bytes.size() > segments_[id])
    co_return fail(EINVAL, fmt::format("{}: a write of {} bytes at offset {} passes its end",
                                       name_of(id), bytes.size(), offset));
  if (early_) {
    if (lost_) co_return std::unexpected(*lost_);
    enqueue(id, offset, bytes);
    pump();
    while (queued_bytes_ > kMostQueued && !lost_) co_await progress_.next();
    points::JournalWrite::after();
    co_return Result<void>{};
  }
  WriteOp op = guarded();
  op.write(offset, to_buffer(bytes));
  int code = co_await session_->write(segment_object(rank_, id), std::move(op));
  if (code < 0) co_return std::unexpected(co_await write_failed(code, id));
  points::JournalWrite::after();
  co_return Result<void>{};
}

// -- early writes -------------------------------------------------------------------------------

void RadosJournal::enqueue(SegmentId id, uint64_t offset, std::string_view bytes) {
  ++accepted_;
  queued_bytes_ += bytes.size();
  if (!queue_.empty()) {
    Queued& last = queue_.back();
    if (last.id == id && last.offset + last.bytes.size() == offset &&
        last.bytes.size() + bytes.size() <= kBytesInOperation) {
      last.bytes += bytes;
      return;
    }
  }
  queue_.push_back({id, offset, std::string(bytes), accepted_});
}

void RadosJournal::pump() {
  while (under_way_ < kUnderWay && !queue_.empty() && !lost_) {
    Queued next = std::move(queue_.front());
    queue_.pop_front();
    ++under_way_;
    unfinished_.insert(next.first);
    tasks_.spawn(send(next.id, next.offset, std::move(next.bytes), next.first));
  }
}

Task<void> RadosJournal::send(SegmentId id, uint64_t offset, std::string bytes, uint64_t first) {
  WriteOp op = guarded();
  op.write(offset, to_buffer(bytes));
  int code = co_await session_->write(segment_object(rank_, id), std::move(op));
  if (code < 0) {
    MARK("store.rados.early_write_lost");
    Error error = co_await write_failed(code, id);
    if (!lost_) lost_ = std::move(error);
  } else {
    unfinished_.erase(first);
  }
  --under_way_;
  queued_bytes_ -= bytes.size();
  pump();
  progress_.ring();
}

// The acknowledgements count in the order of the writes, whichever comes first. What is still
// queued waits behind others that are under way.
Task<Result<void>> RadosJournal::until_written(uint64_t count) {
  auto is_written = [&] { return unfinished_.empty() || *unfinished_.begin() > count; };
  while (!lost_ && !is_written()) co_await progress_.next();
  if (lost_) co_return std::unexpected(*lost_);
  co_return Result<void>{};
}

Task<Result<void>> RadosJournal::sync(SegmentId id) {
  points::JournalSync::before();
  CO_TRY(writable(id, true));
  if (early_) CO_TRY(co_await until_written(accepted_));
  CO_TRY(writable(id, true));
  points::JournalSync::after();
  co_return Result<void>{};
}

Task<Result<std::string>> RadosJournal::read(SegmentId id, uint64_t offset, uint64_t length) {
  CO_TRY(session_->alive());
  uint64_t capacity = capacity_;
  if (auto it = segments_.find(id); it != segments_.end()) capacity = it->second;
  std::string bytes(offset >= capacity ? 0 : std::min(length, capacity - offset), '\0');
  if (bytes.empty()) co_return bytes;
  auto out = std::make_shared<bufferlist>();
  ReadOp op;
  op.read(offset, bytes.size(), out.get());
  auto answer = co_await session_->read(segment_object(rank_, id), std::move(op), out);
  if (answer.code == -ENOENT && !segments_.contains(id) && token_)
    co_return fail(ENOENT, fmt::format("{} does not exist", name_of(id)));
  if (answer.code < 0 && answer.code != -ENOENT)
    co_return failed(answer.code, "read", segment_object(rank_, id));
  // What was never written reads as zeros.
  std::string got = to_text(*out);
  std::memcpy(bytes.data(), got.data(), std::min(got.size(), bytes.size()));
  co_return bytes;
}

Task<Result<void>> RadosJournal::remove(SegmentId id) {
  points::JournalRemove::before();
  CO_TRY(writable(id, true));
  WriteOp op = guarded();
  std::map<std::string, bufferlist> put;
  put[segment_key(id)] = to_buffer(segment_value(segments_[id], false));
  op.omap_set(put);
  int code = co_await session_->write(index_object(rank_), std::move(op));
  if (code < 0) co_return failed(code, "remove", segment_object(rank_, id));
  segments_.erase(id);
  KILL_POINT("store.rados.segment_gone");
  WriteOp object = guarded();
  object.remove();
  code = co_await session_->write(segment_object(rank_, id), std::move(object));
  if (code < 0 && code != -ENOENT) co_return failed(code, "remove", segment_object(rank_, id));
  gone_.insert(id);
  points::JournalRemove::after();
  co_return Result<void>{};
}

}  // namespace graftfs::rados
