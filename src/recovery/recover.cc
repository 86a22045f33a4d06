#include "recovery/recover.h"

#include <fmt/format.h>

#include "base/fault.h"
#include "journal/damage.h"
#include "recovery/commit_mark.h"

namespace graftfs {
namespace {

// Whether the directories have everything that the journal says was written back, and so may not
// hold any more. Returns the number to go on from.
Task<Result<uint64_t>> check_commits(DirStore& store, const JournalScan& scan, Recovered& out,
                                     const RecoveryOptions& options) {
  std::string wrong;
  uint64_t commits = 0;
  auto read = co_await read_commit_mark(store, options.rank);
  if (!read && !read.error().is_damage()) co_return std::unexpected(read.error());
  if (!read) {
    wrong = describe(read.error());
  } else {
    commits = *read;
    const auto missing = static_cast<int32_t>(scan.commits - static_cast<uint32_t>(commits));
    if (scan.commits != 0 && missing > 0) {
      MARK("recovery.commits_lost");
      wrong = fmt::format(
          "the directories of the volume have lost the last {} of what the journal "
          "says was written to them (a disk that does not keep what it was asked "
          "to sync)",
          missing);
      commits += static_cast<uint64_t>(missing);
    }
  }
  if (wrong.empty()) co_return commits;
  if (!options.accept_loss)
    co_return damaged(
        fmt::format("{}; run `graftfs fsck {}` to look, or `graftfs mount "
                    "--accept-loss` to go on without it",
                    wrong, options.volume_name));
  out.messages.push_back(fmt::format("{}; run `graftfs fsck {}` next", wrong, options.volume_name));
  co_return std::max<uint64_t>(commits, scan.commits);
}

Task<Result<void>> rewrite_doubtful(JournalDevice& device, const JournalScan& scan) {
  for (const ScannedSegment& segment : scan.segments) {
    if (segment.last <= scan.durable) continue;
    uint64_t from = segment.end;
    for_each_frame(scan, segment.id, [&](const Frame& frame) {
      if (frame.segment != segment.id) return false;
      if (Lsn{frame.header.lsn} <= scan.durable) return true;
      from = frame.offset;
      return false;
    });
    if (from >= segment.end) continue;
    MARK("recovery.rewrote_doubtful");
    KILL_POINT("recovery.rewrite.before");
    std::string_view bytes = std::string_view(segment.bytes).substr(from, segment.end - from);
    CO_TRY(co_await device.write(segment.id, from, bytes));
  }
  co_return Result<void>{};
}

}  // namespace

Task<Result<Recovered>> recover(Executor& executor, JournalDevice& device, DirStore& store,
                                Cache& cache, RankState& state, RecoveryOptions options) {
  Recovered out;
  Nanos began = executor.now();
  ScanOptions scan_options;
  scan_options.volume = options.volume;
  scan_options.rank = options.rank;
  scan_options.unsynced_survived = options.unsynced_survived;
  scan_options.must_exist = options.must_exist;
  CO_TRY_ASSIGN(JournalScan scan, co_await scan_journal(device, scan_options));
  out.epoch = scan.epoch;
  out.newest = scan.newest;
  auto policy = options.accept_loss ? LossPolicy::accept_loss : LossPolicy::refuse;
  DamageDecision decision = decide(scan, policy, options.volume_name);
  if (!decision.start) co_return damaged(decision.message);
  if (decision.loses) {
    MARK("recovery.accepted_loss");
    out.messages.push_back(decision.message);
  }
  if (scan.segments.empty()) {
    out.fresh = true;
    co_return out;
  }
  CO_TRY_ASSIGN(out.commits, co_await check_commits(store, scan, out, options));
  // After a power cut an event may be there whose file data is not: what is kept ends where both
  // surely are.
  out.last = scan.last;
  if (!options.unsynced_survived && scan.safe < scan.last) {
    MARK("recovery.cut_at_safe");
    out.cut = scan.last.v - scan.safe.v;
    cut_scan(scan, scan.safe);
    out.last = scan.last;
  }
  if (!options.unsynced_survived && options.rewrite_doubtful)
    CO_TRY(co_await rewrite_doubtful(device, scan));
  out.live = live_segments(scan);
  for (const SegmentState& segment : out.live) out.bytes += segment.bytes;
  out.scan = executor.now() - began;

  KILL_POINT("recovery.replay.begin");
  Nanos replaying = executor.now();
  CO_TRY_ASSIGN(out.events,
                co_await replay(executor, device, scan, out.last, cache, state, options));
  out.replay = executor.now() - replaying;

  KILL_POINT("recovery.attach.begin");
  Nanos attaching = executor.now();
  CO_TRY(co_await attach(store, cache, state));
  out.attach = executor.now() - attaching;
  co_return out;
}

}  // namespace graftfs
