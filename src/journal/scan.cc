#include "journal/scan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/fault.h"
#include "journal/segment_parse.h"

namespace graftfs {

using journal::frame_size;
using journal::FrameHeader;
using journal::FrameType;
using journal::header_at;
using journal::kNowhere;
using journal::ours;
using journal::Parsed;
using journal::Run;
using journal::SegmentStart;
using journal::whole;

namespace {

// Puts the segments together.
class Assembler {
 public:
  Assembler(std::vector<Parsed> all, const ScanOptions& options, const JournalDevice& device)
      : all_(std::move(all)), options_(options), device_(device) {}

  JournalScan run() {
    if (!all_.empty()) scan_.newest = all_.back().id;
    SegmentId oldest;
    for (const Parsed& p : all_) oldest = std::max(oldest, p.oldest);
    for (const Parsed& p : all_) scan_.commits = std::max(scan_.commits, p.commits);
    // Left by a trim that did not end.
    std::erase_if(all_, [&](const Parsed& p) { return p.id < oldest; });
    for (const Parsed& p : all_) {
      for (const Run& r : p.runs) {
        scan_.epoch = std::max(scan_.epoch, r.epoch);
        if (options_.epoch.v && r.epoch > options_.epoch) newer_owner(p, r);
      }
      if (!p.foreign.empty())
        add(DamageKind::foreign_journal, DamagePlace::durable, p.id, 0, p.foreign);
    }
    size_t at = first_segment(oldest);
    if (at < all_.size()) chain(at);
    unreadable_behind();
    finish();
    return std::move(scan_);
  }

 private:
  JournalDamage& add(DamageKind kind, DamagePlace place, SegmentId id, uint64_t offset,
                     std::string_view what) {
    JournalDamage d;
    d.kind = kind;
    d.place = place;
    d.segment = id;
    d.offset = offset;
    if (!scan_.segments.empty()) {
      d.lsn = scan_.last.next();
      d.wall_sec = scan_.segments.back().wall_sec;
    }
    d.detail = fmt::format("{}, offset {}: {}", device_.name_of(id), offset, what);
    scan_.damage.push_back(std::move(d));
    return scan_.damage.back();
  }

  void newer_owner(const Parsed& p, const Run& r) {
    if (std::exchange(newer_owner_found_, true)) return;
    auto& d =
        add(DamageKind::foreign_epoch, DamagePlace::durable, p.id, r.offset,
            fmt::format("owner {} has written here, newer than {}", r.epoch.v, options_.epoch.v));
    d.lsn = r.first;
  }

  bool any_unreadable() const {
    return std::any_of(all_.begin(), all_.end(),
                       [](const Parsed& p) { return p.unreadable != kNowhere; });
  }

  Lsn newest_seen() const {
    Lsn newest;
    for (const Parsed& p : all_)
      for (const Run& r : p.runs) newest = std::max(newest, r.last);
    return newest;
  }

  // The index of the oldest segment to start from; where the right one is gone, of the next
  // major one.
  size_t first_segment(SegmentId oldest) {
    if (!oldest) {
      // Nothing was ever written, or nothing of it can be read.
      if (options_.must_exist && scan_.damage.empty() && !any_unreadable()) {
        MARK("journal.scan.nothing");
        const SegmentId id = all_.empty() ? SegmentId{1} : all_.front().id;
        add(DamageKind::missing_segment, DamagePlace::front, id, 0,
            all_.empty() ? "the journal's files are missing" : "no file holds a whole frame");
      } else {
        for (const Parsed& p : all_) torn_frame_at(p, 0);
      }
      return all_.size();
    }
    auto can_start = [](const Parsed& p) { return p.starts() && p.major(); };
    size_t at = 0;
    if (all_.empty() || all_.front().id != oldest) {
      MARK("journal.scan.front_missing");
      add(DamageKind::missing_segment, DamagePlace::front, oldest, 0, "the file is missing")
          .newest_lost = newest_seen();
    } else if (!can_start(all_.front())) {
      const Parsed& p = all_.front();
      MARK("journal.scan.front_damaged");
      if (p.unreadable == 0) {
        add(DamageKind::io_error, DamagePlace::front, p.id, 0, p.read_error).newest_lost =
            newest_seen();
        unreadable_told_ = true;
      } else if (p.foreign.empty()) {
        add(DamageKind::damaged_middle, DamagePlace::front, p.id, 0,
            "the start of the journal is not what was written")
            .newest_lost = newest_seen();
      } else {
        scan_.damage.back().place = DamagePlace::front;
      }
    }
    while (at < all_.size() && !can_start(all_[at])) ++at;
    return at;
  }

  void take(Parsed& p) {
    const Run& r = p.runs.front();
    scan_.last = r.last;
    chain_epoch_ = r.epoch;
    scan_.safe = std::max(scan_.safe, r.safe);
    scan_.durable = std::max(scan_.durable, r.durable);
    scan_.clean = r.closed;
    ScannedSegment s;
    s.id = p.id;
    s.major = p.major();
    s.epoch = r.epoch;
    s.wall_sec = p.start->wall_sec;
    s.end = r.end;
    s.first = r.first;
    s.last = r.last;
    scan_.segments.push_back(std::move(s));
    taken_.push_back(&p);
  }

  void chain(size_t at) {
    take(all_[at]);
    size_t next = at + 1;
    while (true) {
      while (next < all_.size() && all_[next].runs.empty()) ++next;
      if (next == all_.size()) break;
      Parsed& p = all_[next];
      if (!p.starts() || p.runs.front().first != scan_.last.next() ||
          p.runs.front().epoch < chain_epoch_)
        break;
      take(p);
      ++next;
    }
    judge_end();
  }

  // The chain ends here. Whatever valid frames lie behind it tell why.
  void judge_end() {
    const Parsed& end = *taken_.back();
    const size_t end_at = static_cast<size_t>(&end - all_.data());
    const Parsed* where = nullptr;  // of the first frame behind
    Lsn newest, proven;
    bool newer_epoch = false;
    for (size_t i = end_at; i < all_.size(); ++i) {
      for (const Run& r : all_[i].runs) {
        if (!r.after(chain_epoch_, scan_.last)) continue;
        if (!where) where = &all_[i];
        newest = std::max(newest, r.last);
        proven = std::max(proven, r.durable);
        // An owner writes nothing after its first segment start before that is durable.
        newer_epoch |= r.epoch > chain_epoch_ && !(all_[i].starts() && r.offset == 0);
      }
    }
    if (!where) {
      torn_frame_at(end, end.runs.front().end);
      for (size_t i = end_at + 1; i < all_.size(); ++i) torn_frame_at(all_[i], 0);
      return;
    }
    const bool durable = options_.unsynced_survived || newer_epoch || proven > scan_.last;
    DamageKind kind = durable ? DamageKind::damaged_middle : DamageKind::torn_tail;
    auto [bad, offset, missing] = bad_place(end_at, *where);
    std::string what = durable ? "bytes that were durable are not what was written"
                               : "the last writes before the power cut are not complete";
    std::string name = device_.name_of(bad);
    if (missing) {
      kind = DamageKind::missing_segment;
      what = "the file is missing";
    } else if (const Parsed* p = find(bad); p && p->unreadable != kNowhere && durable) {
      kind = DamageKind::io_error;
      what = p->read_error;
      offset = std::max(offset, p->unreadable);
      unreadable_told_ = true;
    }
    MARK("journal.scan.frames_behind");
    auto& d =
        add(kind, durable || missing ? DamagePlace::durable : DamagePlace::tail, bad, offset, what);
    d.newest_lost = newest;
  }

  struct BadPlace {
    SegmentId segment;
    uint64_t offset;
    bool missing;
  };
  // Where the frame after the chain should have been, `where` being the segment with the first
  // frame behind it.
  BadPlace bad_place(size_t end_at, const Parsed& where) const {
    const Parsed& end = all_[end_at];
    const BadPlace here{end.id, end.runs.front().end, false};
    if (&where == &end) return here;
    SegmentId expect = end.id.next();
    for (size_t i = end_at + 1; all_[i].id < where.id; ++i) {
      if (all_[i].id != expect) break;
      if (all_[i].runs.empty()) return {all_[i].id, 0, false};
      expect = expect.next();
    }
    if (where.runs.front().epoch != chain_epoch_) {
      return where.starts() ? here : BadPlace{where.id, 0, false};
    }
    if (expect < where.id && !find(expect)) return {expect, 0, true};
    return where.starts() ? here : BadPlace{where.id, 0, false};
  }

  const Parsed* find(SegmentId id) const {
    for (const Parsed& p : all_)
      if (p.id == id) return &p;
    return nullptr;
  }

  // A frame of ours was begun here and did not get whole.
  void torn_frame_at(const Parsed& p, uint64_t offset) {
    if (offset + sizeof(FrameHeader) > p.bytes.size()) return;
    const FrameHeader h = header_at(p.bytes, offset);
    if (!ours(h, p.id, options_) || whole(p.bytes, offset, h)) return;
    MARK("journal.scan.torn");
    add(DamageKind::torn_tail, DamagePlace::tail, p.id, offset, "the last frame is not complete");
  }

  // Bytes at or behind the end of the chain that could not be read may hide frames.
  void unreadable_behind() {
    if (unreadable_told_) return;
    const SegmentId end = scan_.segments.empty() ? SegmentId{} : scan_.segments.back().id;
    for (const Parsed& p : all_) {
      if (p.unreadable == kNowhere || p.id < end) continue;
      add(DamageKind::io_error, DamagePlace::tail, p.id, p.unreadable, p.read_error);
      return;
    }
  }

  void finish() {
    if (!scan_.damage.empty()) scan_.clean = false;
    scan_.safe = std::min(scan_.safe, scan_.last);
    scan_.durable = std::min(scan_.durable, scan_.last);
    for (size_t i = 0; i < taken_.size(); ++i)
      scan_.segments[i].bytes = std::move(taken_[i]->bytes);
  }

  std::vector<Parsed> all_;
  const ScanOptions& options_;
  const JournalDevice& device_;
  JournalScan scan_;
  std::vector<Parsed*> taken_;
  Epoch chain_epoch_;
  bool newer_owner_found_ = false;
  bool unreadable_told_ = false;
};

}  // namespace

Task<Result<JournalScan>> scan_journal(JournalDevice& device, ScanOptions options) {
  std::vector<SegmentInfo> infos;
  CO_TRY_ASSIGN(infos, co_await device.list());
  std::vector<Parsed> all(infos.size());
  for (size_t i = 0; i < infos.size(); ++i) {
    all[i].id = infos[i].id;
    SegmentInfo info = infos[i];
    CO_TRY(co_await journal::load_segment(device, info, all[i]));
  }
  journal::parse_segments(all, options);
  Assembler assembler(std::move(all), options, device);
  co_return assembler.run();
}

void for_each_frame(const JournalScan& scan, SegmentId from,
                    absl::FunctionRef<bool(const Frame&)> visit) {
  for (const ScannedSegment& s : scan.segments) {
    if (s.id < from) continue;
    for (uint64_t at = 0; at < s.end;) {
      Frame frame;
      frame.header = header_at(s.bytes, at);
      frame.payload =
          std::string_view(s.bytes).substr(at + sizeof(FrameHeader), frame.header.length);
      frame.segment = s.id;
      frame.offset = at;
      if (!visit(frame)) return;
      at += frame_size(frame.header.length);
    }
  }
}

void cut_scan(JournalScan& scan, Lsn last) {
  if (scan.last <= last) return;
  MARK("journal.scan.cut");
  while (!scan.segments.empty() && scan.segments.back().first > last) scan.segments.pop_back();
  scan.last = Lsn{};
  scan.clean = false;
  if (!scan.segments.empty()) {
    ScannedSegment& s = scan.segments.back();
    uint64_t at = 0;
    while (at < s.end) {
      const FrameHeader h = header_at(s.bytes, at);
      if (h.lsn > last.v) break;
      s.last = Lsn{h.lsn};
      at += frame_size(h.length);
    }
    s.end = at;
    scan.last = s.last;
  }
  scan.safe = std::min(scan.safe, scan.last);
  scan.durable = std::min(scan.durable, scan.last);
}

std::deque<SegmentState> live_segments(const JournalScan& scan) {
  std::deque<SegmentState> live;
  for (const ScannedSegment& s : scan.segments) live.push_back({s.id, s.major, s.first, s.end});
  return live;
}

SegmentStartView segment_start(const Frame& frame) {
  CHECK(frame.header.type == static_cast<uint8_t>(FrameType::segment_start) &&
            frame.payload.size() >= sizeof(SegmentStart),
        "not a segment start");
  SegmentStartView view;
  std::memcpy(&view.fixed, frame.payload.data(), sizeof view.fixed);
  view.payload = frame.payload.substr(sizeof view.fixed);
  return view;
}

}  // namespace graftfs
