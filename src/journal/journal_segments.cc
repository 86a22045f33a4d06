// The writer's segments: made ahead, begun by a new owner, given back.

#include <algorithm>

#include "base/check.h"
#include "base/fault.h"
#include "journal/journal_impl.h"

namespace graftfs {

namespace {
constexpr Nanos kCreateRetry = 100 * kMillisecond;
// So many segments are there behind the current one. One is for the events while another is made;
// with the other, a full disk leaves one to begin with a checkpoint, and so to trim.
constexpr uint64_t kAhead = 2;
}  // namespace

bool Journal::Impl::is_ahead() const { return created.v + 1 >= next_segment.v + kAhead; }

void Journal::Impl::create_ahead() {
  if (create_running || broken || is_ahead()) return;
  create_running = true;
  scope.spawn(create_loop());
}

Task<void> Journal::Impl::create_loop() {
  while (!broken && !closed && !is_ahead()) {
    const SegmentId id = created.next();
    KILL_POINT("journal.create.before");
    Result<void> made = co_await device.create(id);
    if (!made && made.error().code == ENOSPC) {
      MARK("journal.create.no_space");
      if (!std::exchange(no_space, true)) hooks.journal_progress();
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
    hooks.journal_progress();
  }
  create_running = false;
}

Task<Result<void>> Journal::Impl::start() {
  CHECK(!started, "start() is called once");
  // What recovery kept may be only in the page cache; the first frame says that it is durable.
  for (const SegmentState& s : live) CO_TRY(co_await device.sync(s.id));
  CO_TRY(co_await data.sync_all());
  const SegmentId first = next_segment;
  KILL_POINT("journal.start.create");
  Result<void> made = co_await device.create(first);
  if (!made && made.error().code == ENOSPC) {
    // What a dead owner left, and does not count, may be the space that is needed.
    MARK("journal.start.no_space");
    CO_TRY(co_await remove_strays(first));
    made = co_await device.create(first);
  }
  CO_TRY(std::move(made));
  created = first;
  started = true;
  begin_segment(true);
  CO_TRY(co_await until_durable(last_event));
  KILL_POINT("journal.start.durable");
  last_activity = executor.now();
  say_durable();
  create_ahead();
  co_return co_await remove_strays(first);
}

// What a crashed owner left: segments made ahead, cut off by recovery, or trimmed in part. From
// the newest on, so that a crash leaves no gap before one that is left.
Task<Result<void>> Journal::Impl::remove_strays(SegmentId first) {
  std::vector<SegmentInfo> all;
  CO_TRY_ASSIGN(all, co_await device.list());
  std::reverse(all.begin(), all.end());
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

Task<Result<void>> Journal::Impl::trim(SegmentId keep_from) {
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

Task<Result<void>> Journal::Impl::trim_now(SegmentId keep_from) {
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

Task<Result<void>> Journal::Impl::close() {
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

}  // namespace graftfs
