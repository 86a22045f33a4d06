#pragma once
// Inside the writer; nothing else includes it.

#include <absl/functional/function_ref.h>

#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "journal/journal.h"

namespace graftfs {

// Events leave so much of a segment to the barriers, which should not need a new one.
inline constexpr uint64_t kBarrierReserve = 4096;

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
  uint32_t commits = 0;      // for barriers
  SegmentId oldest;          // what frames say is the oldest segment that counts
  SegmentId next_segment;    // the id of the next one to begin
  SegmentId created;         // newest that exists on the device
  uint32_t events_here = 0;  // in the current segment
  uint32_t since_major = 0;  // segments begun since the last major one

  std::deque<Chunk> chunks;  // the last one is appended to
  std::string writing;       // bytes of the write under way
  std::string spare;

  Lsn last;            // newest frame appended
  Lsn last_event;      // ... that is not a barrier
  Lsn safe;            // newest whose file data is known to be on disk, with all before it
  Lsn stated_safe;     // what the newest frame says about that
  Lsn stated_durable;  // what the newest frame says is durable
  Lsn written_lsn;     // newest frame written
  Lsn written_safe;    // what it says is safe
  Lsn durable_lsn;
  Lsn wanted;                    // to be made durable now
  std::set<SegmentId> unsynced;  // segments with writes completed since their last sync began
  std::vector<Waiter> waiters;
  std::vector<Promised<bool>> trim_queue;

  bool started = false, closed = false, no_space = false;
  std::optional<Error> broken;  // why nothing is written any more
  bool write_running = false, sync_running = false, create_running = false;
  bool data_syncing = false, trim_running = false, timer_armed = false;
  Nanos last_activity = 0, first_unsynced = 0;
  Lsn flushed;  // last_event at the last flush()

  std::shared_ptr<Impl*> self;  // timers hold it weakly
  TaskScope scope;              // destroyed first: the coroutines use everything above

  Impl(Executor& e, JournalDevice& dev, DataStore& d, JournalHooks& h, JournalOptions o, Lsn after,
       SegmentId next, std::deque<SegmentState> alive)
      : executor(e),
        device(dev),
        data(d),
        hooks(h),
        options(o),
        resumes_after(after),
        capacity(dev.segment_capacity()),
        live(std::move(alive)),
        next_segment(next),
        created(next.v ? next.v - 1 : 0),
        last(after),
        last_event(after),
        safe(after),
        stated_safe(after),
        stated_durable(after),
        written_lsn(after),
        written_safe(after),
        durable_lsn(after),
        wanted(after),
        flushed(after),
        self(std::make_shared<Impl*>(this)) {
    CHECK(next.v > 0, "segment ids start at 1");
    CHECK(live.empty() || live.back().id < next, "segment {} is above next {}", live.back().id,
          next);
    CHECK(capacity >= 8 * kBarrierReserve, "a segment of {} bytes is too small", capacity);
    for (const SegmentState& s : live) live_bytes += s.bytes;
    oldest = live.empty() ? next : live.front().id;
  }

  // journal.cc: appending
  Chunk& current() { return chunks.back(); }
  // Seals the frame that starts at `at` in the current chunk.
  void seal(size_t at, uint8_t type);
  size_t open_frame();
  Lsn append(uint8_t type, absl::FunctionRef<void(std::string&)> encode);
  void roll(bool major);
  void begin_segment(bool major);
  // Returns its LSN. Where it does not fit, a segment start goes before it.
  Lsn append_barrier(uint32_t flags);

  // journal_flow.cc: writing, syncing, time
  bool can_write();
  void start_write();
  Task<void> write_loop();
  void want(Lsn lsn) { wanted = std::max(wanted, lsn); }
  void start_sync();
  Task<void> sync_loop();
  void release_waiters();
  Task<Result<void>> until_durable(Lsn target);
  void fail_with(const Error& error);
  void flush();
  bool something_to_time() const;
  // One timer at a time. It syncs what posix durability left unsynced, and afterwards lets the
  // journal say what is durable.
  void arm_timer();
  void timer_fired();
  // A barrier that is written but not synced: it lets the scanner tell a flipped bit in the last
  // synced frame from a torn tail.
  void say_durable();

  // journal_segments.cc: creating, starting, trimming, closing
  bool is_ahead() const;
  void create_ahead();
  Task<void> create_loop();
  Task<Result<void>> start();
  Task<Result<void>> remove_strays(SegmentId first);
  Task<Result<void>> trim(SegmentId keep_from);
  Task<Result<void>> trim_now(SegmentId keep_from);
  Task<Result<void>> close();
};

}  // namespace graftfs
