#include "recovery/recover.h"

#include <fmt/format.h>

#include "base/fault.h"

namespace graftfs {

Task<Result<Recovered>> recover(Executor& executor, JournalDevice& device, DirStore& store,
                                Cache& cache, RankState& state, RecoveryOptions options) {
  Recovered out;
  Nanos began = executor.now();
  ScanOptions scan_options{options.volume, options.rank, options.unsynced_survived};
  CO_TRY_ASSIGN(JournalScan scan, co_await scan_journal(device, scan_options));
  out.epoch = scan.epoch;
  out.newest = scan.newest;
  for (const JournalDamage& damage : scan.damage) {
    if (damage.kind == DamageKind::torn_tail) {
      MARK("recovery.torn_tail");
      continue;
    }
    if (!options.accept_loss) co_return damaged(damage.detail);
    MARK("recovery.accepted_loss");
    out.messages.push_back(damage.detail);
  }
  if (scan.segments.empty()) {
    out.fresh = true;
    co_return out;
  }
  // After a power cut an event may be there whose file data is not: what is kept ends where both
  // surely are.
  out.last = scan.last;
  if (!options.unsynced_survived && scan.safe < scan.last) {
    MARK("recovery.cut_at_safe");
    out.last = scan.safe;
    out.cut = scan.last.v - scan.safe.v;
  }
  for (const ScannedSegment& segment : scan.segments) {
    if (segment.first > out.last) break;
    out.live.push_back({segment.id, segment.major, segment.first, segment.end});
    out.bytes += segment.end;
  }
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
