#include "journal/journal.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/fault.h"

namespace graftfs {

using journal::Barrier;
using journal::frame_size;
using journal::FrameHeader;
using journal::FrameType;
using journal::SegmentStart;

namespace {

constexpr Nanos kCreateRetry = 100 * kMillisecond;
// Events leave so much of a segment to the barriers, which should not need a new one.
constexpr uint64_t kBarrierReserve = 4096;
constexpr size_t kSpareBytes = 4 << 20;  // a bigger buffer is not kept for reuse

uint32_t back(uint64_t lsn, uint64_t earlier) {
  return static_cast<uint32_t>(std::min<uint64_t>(lsn - earlier, UINT32_MAX));
}

}  // namespace

// Three coroutines at most run at a time: the writer (one write under way), the syncer, and the
// creator of segments. Each ends when it finds nothing to do and is started again by whoever
// makes work for it, so nothing has to be woken.
struct Journal::Impl {
  // Frames of one segment, in order, not yet handed to the device.
  struct Chunk {
    SegmentId segment;
    uint64_t offset = 0;  // of bytes[0] in the segment
    std::string bytes;
    Lsn last;         // the newest frame in it; the one before it while it is empty
    Lsn stated_safe;  // what that frame says is safe
  };
  struct Waiter {
    Lsn target;
    Promised<Result<void>> done;
  };

  Executor& executor;
  JournalDevice& device;
  DataStore& data;
  JournalHooks& hooks;
  const JournalOptions options;
  const Lsn resumes_after;
  const uint64_t capacity;

  std::deque<SegmentState> live;
  uint64_t live_bytes = 0;
  SegmentId oldest;          // what frames say is the oldest segment that counts
  SegmentId next_segment;    // the id of the next one to begin
  SegmentId created;         // newest that exists on the device
  uint32_t events_here = 0;  // in the current segment
  uint32_t since_major = 0;  // segments begun since the last major one

  std::deque<Chunk> chunks;  // the last one is appended to
  std::string writing;       // bytes of the write under way
  std::string spare;

  Lsn last;               // newest frame appended
  Lsn last_event;         // ... that is not a barrier
  Lsn safe;               // newest whose file data is known to be on disk, with all before it
  Lsn stated_safe;        // what the newest frame says about that
  Lsn stated_durable;     // what the newest frame says is durable
  Lsn written_lsn;        // newest frame written
  Lsn written_safe;       // what it says is safe
  Lsn durable_lsn;
  Lsn wanted;             // to be made durable now
  std::set<SegmentId> unsynced;  // segments with writes completed since their last sync began
  std::vector<Waiter> waiters;
  std::vector<Promised<bool>> trim_queue;

  bool started = false, closed = false, broken = false, no_space = false;
  bool write_running = false, sync_running = false, create_running = false;
  bool data_syncing = false, trim_running = false, timer_armed = false;
  Nanos last_activity = 0, first_unsynced = 0;
  Lsn flushed;  // last_event at the last flush()

  std::shared_ptr<Impl*> self;  // timers hold it weakly
  TaskScope scope;              // destroyed first: the coroutines use everything above

  Impl(Executor& e, JournalDevice& dev, DataStore& d, JournalHooks& h, JournalOptions o, Lsn after,
       SegmentId next, std::deque<SegmentState> alive)
      : executor(e), device(dev), data(d), hooks(h), options(o), resumes_after(after),
        capacity(dev.segment_capacity()), live(std::move(alive)), next_segment(next),
        created(next.v ? next.v - 1 : 0), last(after), last_event(after), safe(after),
        stated_safe(after), stated_durable(after), written_lsn(after), written_safe(after),
        durable_lsn(after), wanted(after), flushed(after),
        self(std::make_shared<Impl*>(this)) {
    CHECK(next.v > 0, "segment ids start at 1");
    CHECK(live.empty() || live.back().id < next, "segment {} is above next {}",
          live.back().id, next);
    CHECK(capacity >= 8 * kBarrierReserve, "a segment of {} bytes is too small", capacity);
    for (const SegmentState& s : live) live_bytes += s.bytes;
    oldest = live.empty() ? next : live.front().id;
  }

  // --- appending -----------------------------------------------------------------------------

  Chunk& current() { return chunks.back(); }

  // Seals the frame that starts at `at` in the current chunk.
  void seal(size_t at, uint8_t type) {
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

  size_t open_frame() {
    std::string& bytes = current().bytes;
    const size_t at = bytes.size();
    bytes.append(sizeof(FrameHeader), '\0');
    return at;
  }

  Lsn append(uint8_t type, absl::FunctionRef<void(std::string&)> encode) {
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

  void roll(bool major) {
    if (broken) return;
    CHECK(started && !closed, "roll outside start() and close()");
    begin_segment(major || since_major + 1 >= options.segments_per_major);
    create_ahead();
  }

  void begin_segment(bool major) {
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
    CHECK(current().bytes.size() - at <= capacity / 2 - kBarrierReserve,
          "a segment start of {} bytes, segments of {}", current().bytes.size() - at, capacity);
    seal(at, static_cast<uint8_t>(FrameType::segment_start));
  }

  // Returns its LSN. Where it does not fit, a segment start goes before it.
  Lsn append_barrier(uint32_t flags) {
    if (current().offset + current().bytes.size() + frame_size(sizeof(Barrier)) > capacity) {
      MARK("journal.barrier.rolled");
      roll(false);
    }
    KILL_POINT("journal.barrier");
    const Barrier barrier{oldest.v, flags, 0};
    const size_t at = open_frame();
    current().bytes.append(reinterpret_cast<const char*>(&barrier), sizeof barrier);
    seal(at, static_cast<uint8_t>(FrameType::barrier));
    return last;
  }

  // --- writing -------------------------------------------------------------------------------

  bool can_write() {
    while (chunks.size() > 1 && chunks.front().bytes.empty()) chunks.pop_front();
    if (broken || chunks.empty() || chunks.front().bytes.empty()) return false;
    if (chunks.front().segment > created) {
      MARK("journal.create.waited");
      return false;
    }
    return true;
  }

  void start_write() {
    if (!write_running && can_write()) {
      write_running = true;
      scope.spawn(write_loop());
    }
  }

  Task<void> write_loop() {
    while (can_write()) {
      Chunk& c = chunks.front();
      const SegmentId segment = c.segment;
      const uint64_t offset = c.offset;
      const Lsn upto = c.last, says_safe = c.stated_safe;
      writing.clear();
      if (writing.capacity() > kSpareBytes) writing = {};
      writing.swap(c.bytes);
      c.offset += writing.size();
      if (chunks.size() > 1) {
        if (c.bytes.capacity() > spare.capacity()) spare.swap(c.bytes);
        chunks.pop_front();
      }
      KILL_POINT("journal.write.before");
      std::string_view bytes = writing;
      Result<void> wrote = co_await device.write(segment, offset, bytes);
      if (!wrote) {
        MARK("journal.write.failed");
        fail_with(wrote.error());
        break;
      }
      KILL_POINT("journal.write.after");
      if (broken) break;
      unsynced.insert(segment);
      written_lsn = upto;
      written_safe = says_safe;
      if (options.durability == Durability::strict) want(std::min(upto, last_event));
      start_sync();
      hooks.journal_progress();
    }
    write_running = false;
    arm_timer();
  }

  // --- syncing -------------------------------------------------------------------------------

  void want(Lsn lsn) { wanted = std::max(wanted, lsn); }

  void start_sync() {
    if (sync_running || broken || wanted <= durable_lsn) return;
    sync_running = true;
    scope.spawn(sync_loop());
  }

  Task<void> sync_loop() {
    while (!broken && wanted > durable_lsn) {
      if (stated_safe < wanted) {
        // No frame says yet that the data is on disk. First make it true, then say it.
        const Lsn covers = last;
        if (data.has_unsynced()) {
          KILL_POINT("journal.data_sync.before");
          data_syncing = true;
          Result<void> synced = co_await data.sync_all();
          data_syncing = false;
          if (!synced) {
            MARK("journal.data_sync.failed");
            fail_with(synced.error());
            break;
          }
          KILL_POINT("journal.data_sync.after");
        }
        if (broken) break;
        safe = std::max(safe, covers);
        append_barrier(0);
      }
      start_write();
      if (stated_safe < wanted) continue;  // more was wanted during the data's sync
      if (written_lsn < wanted || written_safe < wanted) break;  // the writer starts us again

      const Nanos began = executor.now();
      const Lsn reached = std::min(written_lsn, written_safe);
      const std::set<SegmentId> segments = std::exchange(unsynced, {});
      KILL_POINT("journal.sync.before");
      for (SegmentId segment : segments) {
        Result<void> synced = co_await device.sync(segment);
        if (!synced) {
          MARK("journal.sync.failed");
          fail_with(synced.error());
          break;
        }
      }
      if (broken) break;
      KILL_POINT("journal.sync.after");
      durable_lsn = std::max(durable_lsn, reached);
      first_unsynced = began;
      release_waiters();
      hooks.journal_progress();
    }
    sync_running = false;
    arm_timer();
  }

  void release_waiters() {
    std::erase_if(waiters, [&](const Waiter& w) {
      if (w.target > durable_lsn) return false;
      w.done.set(Result<void>{});
      return true;
    });
  }

  Task<Result<void>> until_durable(Lsn target) {
    if (broken) co_return fail(EIO, "the journal has failed");
    if (durable_lsn >= target) co_return Result<void>{};
    Promised<Result<void>> done(executor);
    waiters.push_back({target, done});
    want(target);
    start_sync();
    Result<void> result = co_await done;
    co_return result;
  }

  void fail_with(const Error& error) {
    if (std::exchange(broken, true)) return;
    MARK("journal.failed");
    for (Waiter& w : std::exchange(waiters, {})) w.done.set(std::unexpected(error));
    hooks.journal_failed(error);
  }

  // --- time ----------------------------------------------------------------------------------

  void flush() {
    if (broken || !started) return;
    if (last_event > flushed) {
      last_activity = executor.now();
      if (flushed <= durable_lsn) first_unsynced = last_activity;
      flushed = last_event;
    }
    if (options.durability == Durability::strict) {
      // Where data must be synced first, the write waits, and takes the barrier along.
      if (stated_safe < last_event) {
        want(last_event);
        start_sync();
      }
      if (data_syncing) return;
    }
    start_write();
    arm_timer();
  }

  bool something_to_time() const {
    if (broken || closed || !started) return false;
    return last_event > durable_lsn || stated_durable < last_event;
  }

  // One timer at a time. It syncs what posix durability left unsynced, and afterwards lets the
  // journal say what is durable.
  void arm_timer() {
    if (timer_armed || write_running || sync_running || !something_to_time()) return;
    if (wanted > durable_lsn) return;  // waits for a segment; its write starts the sync
    Nanos due = last_activity + options.idle_sync;
    if (last_event > durable_lsn) due = std::min(due, first_unsynced + options.longest_unsynced);
    timer_armed = true;
    const Nanos delay = std::max<Nanos>(due - executor.now(), 0);
    executor.post_after(delay, [weak = std::weak_ptr<Impl*>(self)] {
      if (auto impl = weak.lock()) (*impl)->timer_fired();
    });
  }

  void timer_fired() {
    timer_armed = false;
    if (!something_to_time()) return;
    const Nanos now = executor.now();
    const bool idle = now - last_activity >= options.idle_sync;
    if (last_event > durable_lsn) {
      if (idle || now - first_unsynced >= options.longest_unsynced) {
        want(last_event);
        start_sync();
      }
    } else if (idle) {
      say_durable();
    }
    arm_timer();
  }

  // A barrier that is written but not synced: it lets the scanner tell a flipped bit in the last
  // synced frame from a torn tail.
  void say_durable() {
    MARK("journal.barrier.lazy");
    append_barrier(0);
    start_write();
  }

  // --- segments ------------------------------------------------------------------------------

  void create_ahead() {
    if (create_running || broken || created >= next_segment) return;
    create_running = true;
    scope.spawn(create_loop());
  }

  Task<void> create_loop() {
    // One more than the current segment, so that rolling need not wait.
    while (!broken && !closed && created < next_segment) {
      const SegmentId id = created.next();
      KILL_POINT("journal.create.before");
      Result<void> made = co_await device.create(id);
      if (!made && made.error().code == ENOSPC) {
        MARK("journal.create.no_space");
        no_space = true;
        co_await sleep_for(executor, kCreateRetry);
        continue;
      }
      if (!made) {
        MARK("journal.create.failed");
        fail_with(made.error());
        break;
      }
      KILL_POINT("journal.create.after");
      no_space = false;
      created = id;
      start_write();
    }
    create_running = false;
  }

  Task<Result<void>> start() {
    CHECK(!started, "start() is called once");
    // What recovery kept may be only in the page cache; the first frame says that it is durable.
    for (const SegmentState& s : live) CO_TRY(co_await device.sync(s.id));
    CO_TRY(co_await data.sync_all());
    const SegmentId first = next_segment;
    KILL_POINT("journal.start.create");
    CO_TRY(co_await device.create(first));
    created = first;
    started = true;
    begin_segment(true);
    CO_TRY(co_await until_durable(last_event));
    KILL_POINT("journal.start.durable");
    last_activity = executor.now();
    say_durable();
    create_ahead();
    // What a crashed owner left: segments made ahead, cut off by recovery, or trimmed in part.
    std::vector<SegmentInfo> all;
    CO_TRY_ASSIGN(all, co_await device.list());
    for (const SegmentInfo& info : all) {
      const SegmentId id = info.id;
      if (id >= first) continue;
      if (std::any_of(live.begin(), live.end(), [&](auto& s) { return s.id == id; })) continue;
      MARK("journal.start.stray");
      KILL_POINT("journal.start.remove");
      CO_TRY(co_await device.remove(id));
    }
    co_return Result<void>{};
  }

  Task<Result<void>> trim(SegmentId keep_from) {
    CHECK(started && !closed, "trim outside start() and close()");
    while (trim_running) {
      Promised<bool> turn(executor);
      trim_queue.push_back(turn);
      co_await turn;
    }
    trim_running = true;
    Result<void> result = co_await trim_now(keep_from);
    trim_running = false;
    for (auto& turn : std::exchange(trim_queue, {})) turn.set(true);
    co_return result;
  }

  Task<Result<void>> trim_now(SegmentId keep_from) {
    SegmentState keeper;
    for (const SegmentState& s : live)
      if (s.major && s.id <= keep_from) keeper = s;
    if (!keeper.id.v || keeper.id <= live.front().id) co_return Result<void>{};
    // Nothing may say that it is the oldest before it is durable.
    CO_TRY(co_await until_durable(keeper.first));
    if (keeper.id > oldest) {
      oldest = keeper.id;
      const Lsn said = append_barrier(0);
      CO_TRY(co_await until_durable(said));
    }
    while (live.front().id < oldest) {
      KILL_POINT("journal.trim.before");
      CO_TRY(co_await device.remove(live.front().id));
      live_bytes -= live.front().bytes;
      live.pop_front();
      KILL_POINT("journal.trim.after");
    }
    co_return Result<void>{};
  }

  Task<Result<void>> close() {
    CHECK(started && !closed, "close() is called once, after start()");
    CO_TRY(co_await until_durable(last_event));
    if (data.has_unsynced()) CO_TRY(co_await data.sync_all());
    safe = std::max(safe, last);
    const Lsn end = append_barrier(journal::kClosed);
    closed = true;
    KILL_POINT("journal.close.barrier");
    CO_TRY(co_await until_durable(end));
    co_return Result<void>{};
  }
};

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
void Journal::want_sync() {
  impl_->want(impl_->last_event);
  impl_->start_sync();
}
Lsn Journal::appended() const { return impl_->last_event; }
Lsn Journal::written() const { return impl_->written_lsn; }
Lsn Journal::durable() const { return impl_->durable_lsn; }
bool Journal::failed() const { return impl_->broken; }
bool Journal::out_of_space() const { return impl_->no_space; }
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
