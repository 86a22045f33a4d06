#include "tools/journal_view.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "events/registry.h"
#include "events/trace.h"
#include "recovery/recover.h"

namespace graftfs::tools {
namespace {

using journal::FrameType;
using nlohmann::json;

constexpr int kLiveTries = 6;
constexpr Nanos kLivePause = 20 * kMillisecond;

bool has_real_damage(const JournalScan& scan) {
  for (const JournalDamage& d : scan.damage)
    if (outcome_of(d.kind, d.place, LossPolicy::refuse) != DamageOutcome::truncate_here)
      return true;
  return false;
}

bool is_tree_event(uint8_t type) {
  return type >= static_cast<uint8_t>(EventType::ino_release) &&
         type <= static_cast<uint8_t>(EventType::rename);
}

// How much of a payload is trace.
uint64_t clean_bytes(const Frame& frame) {
  if (frame.header.type == static_cast<uint8_t>(FrameType::segment_start)) {
    SegmentStartView start = segment_start(frame);
    ByteReader r(start.payload);
    if (start.fixed.flags & journal::kMajor) r.string();
    return r.remaining();
  }
  if (!is_tree_event(frame.header.type)) return 0;
  ByteReader r(frame.payload);
  if (!decode_traces(r, [](const DirHeader&) {})) return 0;
  return frame.payload.size() - r.remaining();
}

std::string type_name(uint8_t type) {
  if (type == static_cast<uint8_t>(FrameType::segment_start)) return "SegmentStart";
  if (type == static_cast<uint8_t>(FrameType::barrier)) return "Barrier";
  const EventKind* kind = find_event(type);
  return kind ? kind->name : fmt::format("type {}", type);
}

}  // namespace

Task<Result<JournalView>> read_journal(JournalSource source) {
  JournalView view;
  CO_TRY_ASSIGN(view.device, co_await source.store->read_journal(source.rank));
  ScanOptions options;
  options.volume = source.volume;
  options.rank = source.rank;
  options.must_exist = source.must_exist;
  options.unsynced_survived = source.served || source.store->unsynced_survived(source.rank);
  for (int tries = 1;; ++tries) {
    CO_TRY_ASSIGN(view.scan, co_await scan_journal(*view.device, options));
    // Segments come and go while a daemon writes.
    if (!source.served || tries == kLiveTries || !has_real_damage(view.scan)) break;
    co_await sleep_for(*source.executor, kLivePause);
  }
  view.last = view.scan.last;
  if (!options.unsynced_survived && view.scan.safe < view.scan.last) {
    view.cut = view.scan.last.v - view.scan.safe.v;
    view.last = view.scan.safe;
  }
  co_return view;
}

Task<Result<std::unique_ptr<ReplayedJournal>>> replay_journal(JournalSource source,
                                                              bool accept_loss, bool attached) {
  auto out = std::make_unique<ReplayedJournal>();
  CO_TRY_ASSIGN(out->view, co_await read_journal(source));
  auto policy = accept_loss ? LossPolicy::accept_loss : LossPolicy::refuse;
  DamageDecision decision = decide(out->view.scan, policy, source.volume_name);
  if (!decision.start) co_return damaged(decision.message);
  if (out->view.scan.segments.empty()) co_return out;
  RecoveryOptions options;
  options.volume_name = source.volume_name;
  Nanos began = source.executor->now();
  CO_TRY_ASSIGN(out->events, co_await replay(*source.executor, *out->view.device, out->view.scan,
                                             out->view.last, out->cache, out->state, options));
  out->took = source.executor->now() - began;
  if (attached) CO_TRY(co_await attach(source.store->dirs(), out->cache, out->state));
  co_return out;
}

std::vector<SegmentSummary> summarize(const JournalScan& scan) {
  std::vector<SegmentSummary> out;
  for (const ScannedSegment& segment : scan.segments) {
    SegmentSummary s;
    s.id = segment.id;
    s.major = segment.major;
    s.epoch = segment.epoch;
    s.wall_sec = segment.wall_sec;
    s.bytes = segment.end;
    s.first = segment.first;
    s.last = segment.last;
    out.push_back(std::move(s));
  }
  size_t at = 0;
  for_each_frame(scan, SegmentId{0}, [&](const Frame& frame) {
    while (out[at].id != frame.segment) ++at;
    SegmentSummary& s = out[at];
    s.frames++;
    uint64_t clean = clean_bytes(frame);
    s.clean_bytes += clean;
    if (frame.header.type < journal::kFirstPayloadType) return true;
    s.events++;
    s.types[type_name(frame.header.type)]++;
    s.dirty_bytes += frame.payload.size() - clean;
    return true;
  });
  return out;
}

json to_json(const SegmentSummary& s) {
  return {{"segment", s.id.v},
          {"major", s.major},
          {"epoch", s.epoch.v},
          {"begun", s.wall_sec},
          {"bytes", s.bytes},
          {"frames", s.frames},
          {"events", s.events},
          {"first_lsn", s.first.v},
          {"last_lsn", s.last.v},
          {"types", s.types},
          {"clean_bytes", s.clean_bytes},
          {"dirty_bytes", s.dirty_bytes}};
}

bool frame_json(const Frame& frame, json& out) {
  out = {{"lsn", frame.header.lsn},
         {"segment", frame.segment.v},
         {"offset", frame.offset},
         {"epoch", frame.header.epoch},
         {"type", type_name(frame.header.type)},
         {"bytes", frame.payload.size()}};
  bool sound = true;
  if (frame.header.type == static_cast<uint8_t>(FrameType::segment_start)) {
    SegmentStartView start = segment_start(frame);
    bool major = start.fixed.flags & journal::kMajor;
    out["major"] = major;
    out["resumes_after"] = start.fixed.resumes_after;
    out["begun"] = start.fixed.wall_sec;
    out["oldest"] = start.fixed.oldest;
    sound = describe_segment_payload(major, start.payload, out);
  } else if (frame.header.type == static_cast<uint8_t>(FrameType::barrier)) {
    journal::Barrier barrier{};
    sound = frame.payload.size() >= sizeof barrier;
    if (sound) std::memcpy(&barrier, frame.payload.data(), sizeof barrier);
    out["oldest"] = barrier.oldest;
    out["closed"] = (barrier.flags & journal::kClosed) != 0;
  } else {
    const EventKind* kind = find_event(frame.header.type);
    sound = kind && kind->describe(frame.payload, out);
  }
  if (!sound) out["error"] = "the payload makes no sense";
  return sound;
}

std::vector<FoundDamage> find_damage(const JournalView& view, const std::string& volume_name) {
  std::vector<FoundDamage> out;
  for (const JournalDamage& d : view.scan.damage) {
    FoundDamage found;
    DamageOutcome outcome = outcome_of(d.kind, d.place, LossPolicy::refuse);
    found.kind = name_of(d.kind);
    found.place = name_of(d.place);
    found.outcome = name_of(outcome);
    found.file = view.device->name_of(d.segment);
    found.segment = d.segment.v;
    found.offset = d.offset;
    found.lsn = d.lsn.v;
    found.harmless = outcome == DamageOutcome::truncate_here;
    found.sentence = damage_message(d, LossPolicy::refuse, volume_name);
    out.push_back(std::move(found));
  }
  for_each_frame(view.scan, SegmentId{0}, [&](const Frame& frame) {
    json ignored;
    if (frame_json(frame, ignored)) return true;
    FoundDamage found{.kind = "senseless event",
                      .place = "durable",
                      .outcome = "refuse",
                      .file = view.device->name_of(frame.segment),
                      .segment = frame.segment.v,
                      .offset = frame.offset,
                      .lsn = frame.header.lsn};
    found.sentence = fmt::format(
        "{}, offset {}: event {} has a good checksum but makes no sense; it was written by a newer "
        "GraftFS, so use that one, or there is a bug",
        found.file, found.offset, found.lsn);
    out.push_back(std::move(found));
    return true;
  });
  return out;
}

json to_json(const FoundDamage& d) {
  return {{"kind", d.kind}, {"place", d.place},       {"outcome", d.outcome},
          {"file", d.file}, {"segment", d.segment},   {"offset", d.offset},
          {"lsn", d.lsn},   {"harmless", d.harmless}, {"message", d.sentence}};
}

}  // namespace graftfs::tools
