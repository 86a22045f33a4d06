// Phase 1: the journal, and nothing else.
#include <fmt/format.h>

#include "base/fault.h"
#include "events/registry.h"
#include "recovery/recover.h"

namespace graftfs {
namespace {

struct Walk {
  ReplayContext context;
  Lsn last;
  uint64_t events = 0;
  bool first_segment = true;
  const Frame* bad = nullptr;
};

// Applies one frame. False: it makes no sense.
bool apply_frame(Walk& walk, const Frame& frame) {
  using journal::FrameType;
  Lsn lsn{frame.header.lsn};
  if (frame.header.type == static_cast<uint8_t>(FrameType::barrier)) return true;
  if (frame.header.type == static_cast<uint8_t>(FrameType::segment_start)) {
    journal::SegmentStart start;
    if (frame.payload.size() < sizeof start) return false;
    std::memcpy(&start, frame.payload.data(), sizeof start);
    bool major = start.flags & journal::kMajor;
    bool use_checkpoint = walk.first_segment;
    walk.first_segment = false;
    return replay_segment_payload(walk.context, major, use_checkpoint, lsn,
                                  frame.payload.substr(sizeof start));
  }
  const EventKind* kind = find_event(frame.header.type);
  if (!kind) return false;
  KILL_POINT("recovery.replay.event");
  walk.events++;
  return kind->replay(walk.context, lsn, frame.payload);
}

}  // namespace

Task<Result<uint64_t>> replay(Executor& executor, JournalDevice& device, const JournalScan& scan,
                              Lsn last, Cache& cache, RankState& state,
                              const RecoveryOptions& options) {
  Walk walk{.context = {cache, state, {}}, .last = last};
  uint64_t total = 0;
  for (const ScannedSegment& segment : scan.segments) total += segment.end;
  uint64_t done = 0;
  Nanos began = executor.now();
  Nanos told = began;
  for (const ScannedSegment& segment : scan.segments) {
    if (segment.id < options.from) continue;
    std::string bad;
    for_each_frame(scan, segment.id, [&](const Frame& frame) {
      if (frame.segment != segment.id || Lsn{frame.header.lsn} > walk.last) return false;
      if (apply_frame(walk, frame)) return true;
      bad = fmt::format(
          "{}: event {} at offset {} has a good checksum but makes no sense; it was written by a "
          "newer GraftFS or there is a bug; 'graftfs journal inspect' shows it",
          device.name_of(frame.segment), frame.header.lsn, frame.offset);
      return false;
    });
    if (!bad.empty()) co_return damaged(bad);
    done += segment.end;
    Nanos now = executor.now();
    if (options.progress && now - told >= 100 * kMillisecond) {
      told = now;
      Nanos elapsed = now - began;
      RecoveryProgress progress{
          walk.events, done, total, elapsed,
          done ? static_cast<Nanos>(static_cast<double>(elapsed) *
                                    static_cast<double>(total - done) / static_cast<double>(done))
               : 0};
      options.progress(progress);
    }
    // Other work of this loop gets its turn between segments.
    Promised<bool> turn(executor);
    executor.post([turn] { turn.set(true); });
    co_await turn;
  }
  cache.attach_all();
  co_return walk.events;
}

}  // namespace graftfs
