#include "journal/journal.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/fault.h"
#include "journal/journal_impl.h"

namespace graftfs {

using journal::Barrier;
using journal::frame_size;
using journal::FrameHeader;
using journal::FrameType;
using journal::SegmentStart;

namespace {

uint32_t back(uint64_t lsn, uint64_t earlier) {
  return static_cast<uint32_t>(std::min<uint64_t>(lsn - earlier, UINT32_MAX));
}

}  // namespace

void Journal::Impl::seal(size_t at, uint8_t type) {
  Chunk& c = current();
  const size_t payload = c.bytes.size() - at - sizeof(FrameHeader);
  c.bytes.resize(at + frame_size(payload), '\0');
  const Lsn lsn = last.next();
  const bool is_barrier = type == static_cast<uint8_t>(FrameType::barrier);
  // A barrier reveals no data, and an event reveals none that is not synced if there is none.
  if ((is_barrier && safe == last) || !data.has_unsynced()) safe = lsn;
  FrameHeader h{};
  h.magic = journal::kFrameMagic;
  h.length = static_cast<uint32_t>(payload);
  h.type = type;
  h.rank = options.rank.v;
  h.epoch = options.epoch.v;
  h.segment = static_cast<uint32_t>(c.segment.v);
  h.safe_back = back(lsn.v, safe.v);
  h.durable_back = back(lsn.v, durable_lsn.v);
  h.lsn = lsn.v;
  h.volume = options.volume;
  char* frame = c.bytes.data() + at;
  std::memcpy(frame, &h, sizeof h);
  h.crc = crc32c({frame + 8, c.bytes.size() - at - 8});
  std::memcpy(frame + offsetof(FrameHeader, crc), &h.crc, sizeof h.crc);

  const uint64_t added = c.bytes.size() - at;
  live.back().bytes += added;
  live_bytes += added;
  last = lsn;
  if (!is_barrier) last_event = lsn;
  c.last = last;
  stated_safe = c.stated_safe = safe;
  stated_durable = durable_lsn;
}

size_t Journal::Impl::open_frame() {
  std::string& bytes = current().bytes;
  const size_t at = bytes.size();
  bytes.append(sizeof(FrameHeader), '\0');
  return at;
}

Lsn Journal::Impl::append(uint8_t type, absl::FunctionRef<void(std::string&)> encode) {
  CHECK(started && !closed, "append outside start() and close()");
  CHECK(type >= journal::kFirstPayloadType, "frame type {} is the journal's own", type);
  if (broken) return last_event;
  if (events_here >= options.segment_events) roll(false);
  const uint64_t limit = capacity - kBarrierReserve;
  for (bool again = false;; again = true) {
    const size_t at = open_frame();
    encode(current().bytes);
    const size_t payload = current().bytes.size() - at - sizeof(FrameHeader);
    if (current().offset + at + frame_size(payload) <= limit) [[likely]] {
      seal(at, type);
      break;
    }
    CHECK(!again && payload <= capacity / 2, "an event of {} bytes, segments of {}", payload,
          capacity);
    MARK("journal.append.rolled");
    current().bytes.resize(at);
    roll(false);
  }
  ++events_here;
  return last;
}

void Journal::Impl::roll(bool major) {
  if (broken) return;
  CHECK(started && !closed, "roll outside start() and close()");
  begin_segment(major || since_major + 1 >= options.segments_per_major);
  create_ahead();
}

void Journal::Impl::begin_segment(bool major) {
  const SegmentId id = next_segment;
  next_segment = id.next();
  since_major = major ? 0 : since_major + 1;
  events_here = 0;
  Chunk c;
  c.segment = id;
  c.last = last;
  c.stated_safe = stated_safe;
  c.bytes = std::exchange(spare, {});
  chunks.push_back(std::move(c));
  live.push_back({id, major, last.next(), 0});

  SegmentStart start{};
  start.format = journal::kFormat;
  start.flags = major ? journal::kMajor : 0;
  start.segment = id.v;
  start.resumes_after = resumes_after.v;
  start.wall_sec = static_cast<uint64_t>(executor.wall_now().sec);
  start.oldest = oldest.v;
  const size_t at = open_frame();
  current().bytes.append(reinterpret_cast<const char*>(&start), sizeof start);
  hooks.begin_segment(id, major, current().bytes);
  CHECK(current().bytes.size() - at <= capacity / 4, "a segment start of {} bytes, segments of {}",
        current().bytes.size() - at, capacity);
  seal(at, static_cast<uint8_t>(FrameType::segment_start));
}

Lsn Journal::Impl::append_barrier(uint32_t flags) {
  if (current().offset + current().bytes.size() + frame_size(sizeof(Barrier)) > capacity) {
    MARK("journal.barrier.rolled");
    roll(false);
  }
  KILL_POINT("journal.barrier");
  const Barrier barrier{oldest.v, flags, commits};
  const size_t at = open_frame();
  current().bytes.append(reinterpret_cast<const char*>(&barrier), sizeof barrier);
  seal(at, static_cast<uint8_t>(FrameType::barrier));
  return last;
}
Journal::Journal(Executor& executor, JournalDevice& device, DataStore& data, JournalHooks& hooks,
                 JournalOptions options, Lsn resumes_after, SegmentId next_segment,
                 std::deque<SegmentState> live)
    : impl_(std::make_unique<Impl>(executor, device, data, hooks, options, resumes_after,
                                   next_segment, std::move(live))) {}
Journal::~Journal() = default;

Task<Result<void>> Journal::start() { return impl_->start(); }
Lsn Journal::append(uint8_t type, absl::FunctionRef<void(std::string&)> encode) {
  return impl_->append(type, encode);
}
void Journal::flush() { impl_->flush(); }
Task<Result<void>> Journal::sync() { return impl_->until_durable(impl_->last_event); }
void Journal::set_commits(uint64_t commits) { impl_->commits = static_cast<uint32_t>(commits); }
void Journal::want_sync() {
  impl_->want(impl_->last_event);
  impl_->start_sync();
}
Lsn Journal::appended() const { return impl_->last_event; }
Lsn Journal::written() const { return impl_->written_lsn; }
Lsn Journal::durable() const { return impl_->durable_lsn; }
bool Journal::failed() const { return impl_->broken.has_value(); }
bool Journal::out_of_space() const { return impl_->no_space; }
bool Journal::can_roll() const { return impl_->created >= impl_->next_segment; }
bool Journal::awaits_segment(double share) const {
  const auto capacity = static_cast<double>(impl_->capacity);
  return !can_roll() && capacity - static_cast<double>(impl_->live.back().bytes) < share * capacity;
}
const std::deque<SegmentState>& Journal::segments() const { return impl_->live; }
SegmentId Journal::current_segment() const {
  CHECK(!impl_->live.empty(), "before start()");
  return impl_->live.back().id;
}
uint64_t Journal::live_bytes() const { return impl_->live_bytes; }
void Journal::roll(bool major) { impl_->roll(major); }
Task<Result<void>> Journal::trim(SegmentId keep_from) { return impl_->trim(keep_from); }
Task<Result<void>> Journal::close() { return impl_->close(); }

}  // namespace graftfs
