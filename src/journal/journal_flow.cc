// The writer's moving parts: one write under way, syncs, and the timers of posix durability.

#include <algorithm>

#include "base/fault.h"
#include "journal/journal_impl.h"

namespace graftfs {

namespace {
constexpr size_t kSpareBytes = 4 << 20;  // a bigger buffer is not kept for reuse
}

bool Journal::Impl::can_write() {
  while (chunks.size() > 1 && chunks.front().bytes.empty()) chunks.pop_front();
  if (broken || chunks.empty() || chunks.front().bytes.empty()) return false;
  if (chunks.front().segment > created) {
    MARK("journal.create.waited");
    return false;
  }
  return true;
}

void Journal::Impl::start_write() {
  if (!write_running && can_write()) {
    write_running = true;
    scope.spawn(write_loop());
  }
}

Task<void> Journal::Impl::write_loop() {
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

void Journal::Impl::start_sync() {
  if (sync_running || broken || wanted <= durable_lsn) return;
  sync_running = true;
  scope.spawn(sync_loop());
}

Task<void> Journal::Impl::sync_loop() {
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

void Journal::Impl::release_waiters() {
  std::erase_if(waiters, [&](const Waiter& w) {
    if (w.target > durable_lsn) return false;
    w.done.set(Result<void>{});
    return true;
  });
}

Task<Result<void>> Journal::Impl::until_durable(Lsn target) {
  if (broken) co_return std::unexpected(*broken);
  if (durable_lsn >= target) co_return Result<void>{};
  Promised<Result<void>> done(executor);
  waiters.push_back({target, done});
  want(target);
  start_sync();
  Result<void> result = co_await done;
  co_return result;
}

void Journal::Impl::fail_with(const Error& error) {
  if (broken) return;
  broken = error;
  MARK("journal.failed");
  for (Waiter& w : std::exchange(waiters, {})) w.done.set(std::unexpected(error));
  hooks.journal_failed(error);
}

void Journal::Impl::flush() {
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

bool Journal::Impl::something_to_time() const {
  if (broken || closed || !started) return false;
  return last_event > durable_lsn || stated_durable < last_event;
}

void Journal::Impl::arm_timer() {
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

void Journal::Impl::timer_fired() {
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

void Journal::Impl::say_durable() {
  MARK("journal.barrier.lazy");
  append_barrier(0);
  start_write();
}

}  // namespace graftfs
