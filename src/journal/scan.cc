#include "journal/scan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

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

constexpr uint64_t kReadPiece = 64 << 10;  // after an error, what can be read is read so
constexpr uint64_t kNowhere = UINT64_MAX;

// Valid frames, each right behind the one before it, with LSNs that count up.
struct Run {
  uint64_t offset = 0, end = 0;
  Lsn first, last;
  Epoch epoch;
  Lsn safe, durable;  // the most that its frames say
  bool closed = false;
  bool after(Epoch e, Lsn lsn) const {
    return epoch > e || (epoch == e && last > lsn);
  }
};

struct Parsed {
  SegmentId id;
  std::string name;
  std::string bytes;
  uint64_t unreadable = kNowhere;  // the first offset that could not be read
  std::string read_error;
  std::string foreign;  // what is foreign about it
  std::optional<SegmentStart> start;
  Epoch start_epoch;
  std::vector<Run> runs;
  SegmentId oldest;  // the most that its frames say

  // Begins with a segment start that counts.
  bool starts() const { return start && !runs.empty() && runs.front().offset == 0; }
  bool major() const { return start && (start->flags & journal::kMajor); }
};

FrameHeader header_at(std::string_view bytes, uint64_t offset) {
  FrameHeader h;
  std::memcpy(&h, bytes.data() + offset, sizeof h);
  return h;
}

// Whose frame it may be.
bool ours(const FrameHeader& h, SegmentId id, const ScanOptions& options) {
  return h.magic == journal::kFrameMagic && h.volume == options.volume &&
         h.rank == options.rank.v && h.segment == static_cast<uint32_t>(id.v);
}

// `bytes` holds a header at `offset`.
bool whole(std::string_view bytes, uint64_t offset, const FrameHeader& h) {
  if (h.magic != journal::kFrameMagic || h.length > bytes.size()) return false;
  const uint64_t size = frame_size(h.length);
  if (size > bytes.size() - offset) return false;
  if (h.type == static_cast<uint8_t>(FrameType::segment_start) && h.length < sizeof(SegmentStart))
    return false;
  if (h.type == static_cast<uint8_t>(FrameType::barrier) && h.length < sizeof(Barrier))
    return false;
  return crc32c(bytes.substr(offset + 8, size - 8)) == h.crc;
}

template <class T>
T payload_at(std::string_view bytes, uint64_t offset) {
  T t;
  std::memcpy(&t, bytes.data() + offset + sizeof(FrameHeader), sizeof t);
  return t;
}

Lsn behind(uint64_t lsn, uint32_t back) {
  return Lsn{back == UINT32_MAX || back > lsn ? 0 : lsn - back};
}

Task<Result<void>> load(JournalDevice& device, SegmentInfo info, Parsed& out) {
  Result<std::string> all = co_await device.read(info.id, 0, info.capacity);
  if (all) {
    out.bytes = std::move(*all);
    co_return Result<void>{};
  }
  MARK("journal.scan.read_failed");
  for (uint64_t at = 0; at < info.capacity; at += kReadPiece) {
    const uint64_t length = std::min(kReadPiece, info.capacity - at);
    Result<std::string> piece = co_await device.read(info.id, at, length);
    if (piece) {
      out.bytes += *piece;
    } else if (out.unreadable == kNowhere) {
      out.unreadable = at;
      out.read_error = describe(piece.error());
    }
    out.bytes.resize(at + length, '\0');
  }
  co_return Result<void>{};
}

// Looks at the start of the segment only.
void parse_start(Parsed& p, const ScanOptions& options) {
  const std::string_view bytes = p.bytes;
  if (bytes.size() < sizeof(FrameHeader)) return;
  const FrameHeader h = header_at(bytes, 0);
  if (!whole(bytes, 0, h)) return;
  if (h.volume != options.volume) {
    p.foreign = "the segment is another volume's";
  } else if (h.rank != options.rank.v) {
    p.foreign = fmt::format("the segment is rank {}'s", h.rank);
  } else if (h.segment == static_cast<uint32_t>(p.id.v) &&
             h.type == static_cast<uint8_t>(FrameType::segment_start)) {
    const auto start = payload_at<SegmentStart>(bytes, 0);
    if (start.format > journal::kFormat) {
      p.foreign = fmt::format("its format is {}, this program knows up to {}", start.format,
                              journal::kFormat);
    } else if (start.segment == p.id.v) {
      p.start = start;
      p.start_epoch = Epoch{h.epoch};
    }
  }
}

// For each epoch that began: the last LSN of older epochs that counts.
using Cuts = std::map<Epoch, Lsn>;

Lsn limit_for(const Cuts& cuts, Epoch epoch) {
  Lsn limit{UINT64_MAX};
  for (auto it = cuts.upper_bound(epoch); it != cuts.end(); ++it)
    limit = std::min(limit, it->second);
  return limit;
}

void note_cut(Cuts& cuts, Epoch epoch, Lsn lsn) {
  auto [it, added] = cuts.emplace(epoch, lsn);
  if (!added) it->second = std::min(it->second, lsn);
}

// Finds all frames of the segment that are not void. Behind a bad place it looks at every
// multiple of 8 bytes for the next one.
void parse_runs(Parsed& p, const ScanOptions& options, const Cuts& cuts) {
  p.runs.clear();
  p.oldest = {};
  if (!p.foreign.empty()) return;
  const std::string_view bytes = p.bytes;
  Epoch limit_epoch;
  Lsn limit{0};
  bool limit_known = false;
  bool open = false;  // runs.back() ends at `at`
  uint64_t at = 0;
  while (at + sizeof(FrameHeader) <= bytes.size()) {
    uint32_t magic;
    std::memcpy(&magic, bytes.data() + at, sizeof magic);
    if (magic != journal::kFrameMagic) [[unlikely]] {
      open = false;
      at += journal::kFrameAlign;
      continue;
    }
    const FrameHeader h = header_at(bytes, at);
    if (!ours(h, p.id, options) || !whole(bytes, at, h)) {
      open = false;
      at += journal::kFrameAlign;
      continue;
    }
    const uint64_t size = frame_size(h.length);
    const Epoch epoch{h.epoch};
    if (!limit_known || epoch != limit_epoch) {
      limit = limit_for(cuts, epoch);
      limit_epoch = epoch;
      limit_known = true;
    }
    if (h.lsn > limit.v) {  // cut off by a later owner's recovery
      MARK("journal.scan.void");
      open = false;
      at += size;
      continue;
    }
    if (!open || p.runs.back().last.v + 1 != h.lsn || p.runs.back().epoch != epoch) {
      p.runs.push_back({at, at, Lsn{h.lsn}, Lsn{h.lsn}, epoch, Lsn{}, Lsn{}, false});
      open = true;
    }
    Run& run = p.runs.back();
    run.last = Lsn{h.lsn};
    run.end = at + size;
    run.safe = std::max(run.safe, behind(h.lsn, h.safe_back));
    run.durable = std::max(run.durable, behind(h.lsn, h.durable_back));
    run.closed = false;
    if (h.type == static_cast<uint8_t>(FrameType::segment_start)) {
      p.oldest = std::max(p.oldest, SegmentId{payload_at<SegmentStart>(bytes, at).oldest});
    } else if (h.type == static_cast<uint8_t>(FrameType::barrier)) {
      const auto barrier = payload_at<Barrier>(bytes, at);
      p.oldest = std::max(p.oldest, SegmentId{barrier.oldest});
      run.closed = barrier.flags & journal::kClosed;
    }
    at += size;
  }
}

void parse_all(std::vector<Parsed>& all, const ScanOptions& options) {
  Cuts cuts;
  for (Parsed& p : all) {
    parse_start(p, options);
    if (p.start) note_cut(cuts, p.start_epoch, Lsn{p.start->resumes_after});
  }
  for (Parsed& p : all) parse_runs(p, options, cuts);
  // Where an owner's segment start is damaged, its other frames still say that older frames with
  // their LSNs are void.
  bool more = false;
  for (const Parsed& p : all) {
    if (p.start || p.runs.empty()) continue;
    const Run& run = p.runs.front();
    const Lsn before{run.first.v >= 2 ? run.first.v - 2 : 0};
    auto it = cuts.find(run.epoch);
    if (it != cuts.end() && it->second <= before) continue;
    note_cut(cuts, run.epoch, before);
    more = true;
  }
  if (!more) return;
  MARK("journal.scan.start_lost");
  for (Parsed& p : all) parse_runs(p, options, cuts);
}

// Puts the segments together.
class Assembler {
 public:
  Assembler(std::vector<Parsed> all, const ScanOptions& options, const JournalDevice& device)
      : all_(std::move(all)), options_(options), device_(device) {}

  JournalScan run() {
    if (!all_.empty()) scan_.newest = all_.back().id;
    SegmentId oldest;
    for (const Parsed& p : all_) oldest = std::max(oldest, p.oldest);
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
    auto& d = add(DamageKind::foreign_epoch, DamagePlace::durable, p.id, r.offset,
                  fmt::format("owner {} has written here, newer than {}", r.epoch.v,
                              options_.epoch.v));
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
    auto& d = add(kind, durable || missing ? DamagePlace::durable : DamagePlace::tail, bad, offset,
                  what);
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
    CO_TRY(co_await load(device, info, all[i]));
  }
  parse_all(all, options);
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
      frame.payload = std::string_view(s.bytes).substr(at + sizeof(FrameHeader), frame.header.length);
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
