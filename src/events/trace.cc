#include "events/trace.h"

#include <algorithm>

#include "base/check.h"
#include "base/fault.h"

namespace graftfs {
namespace {

// A summary holds at most this many of the last segment's directories (their ancestors come on
// top): enough for the working set of a few clients, small against a segment.
constexpr size_t kSummaryDirs = 64;
// A trace is at most this long, however deep the tree is and however long the extended attributes
// of its directories are: an event has to fit into a segment.
constexpr size_t kTraceBytes = 32 << 10;

// At least what the header takes when it is encoded.
size_t size_in_trace(const DirHeader& header) {
  size_t bytes = 128 + header.at.name.size();
  for (const auto& [name, value] : header.inode.xattrs()) bytes += name.size() + value.size() + 8;
  return bytes;
}

}  // namespace

bool TraceEncoder::is_named(const Dir* dir) const {
  return policy_ == TracePolicy::chunked
             ? dir->traced == segment_
             : std::find(trace_.begin(), trace_.end(), dir) != trace_.end();
}

// The nearest first. What does not fit is left out: a directory whose change is not in the store is
// named in full by that change's own event, and one that is in the store is found there when the
// fragment is attached. So a trace is a matter of speed, except for the directory itself.
void TraceEncoder::add_trace(Dir* dir) {
  const auto begin = static_cast<ptrdiff_t>(trace_.size());
  size_t bytes = 0;
  for (Dir* d = dir; d; d = d->parent) {
    if (is_named(d)) {
      if (policy_ == TracePolicy::chunked) d->trace_uses++;
      break;
    }
    bytes += size_in_trace(d->header);
    if (d != dir && bytes > kTraceBytes) {
      MARK("events.trace.cut");
      break;
    }
    trace_.push_back(d);
    d->traced = segment_;
    d->trace_uses = 1;
    if (policy_ == TracePolicy::chunked) named_.push_back(d->ino());
  }
  std::reverse(trace_.begin() + begin, trace_.end());
}

// What naming `dir` would take now: itself and the ancestors that are not named yet.
size_t TraceEncoder::bytes_to_name(const Dir* dir) const {
  size_t bytes = 0;
  for (const Dir* d = dir; d && d->traced != segment_; d = d->parent) {
    size_t more = size_in_trace(d->header);
    if (d != dir && bytes + more > kTraceBytes) break;
    bytes += more;
  }
  return bytes;
}

void TraceEncoder::begin_segment(SegmentId id, size_t most, std::string& out) {
  std::vector<Dir*> used;
  for (Ino ino : named_)
    if (Dir* d = cache_.find_dir(ino); d && !d->is_foreign()) used.push_back(d);
  std::sort(used.begin(), used.end(), [](Dir* a, Dir* b) {
    return a->trace_uses != b->trace_uses ? a->trace_uses > b->trace_uses : a->ino() < b->ino();
  });
  if (used.size() > kSummaryDirs) used.resize(kSummaryDirs);
  segment_ = id;
  named_.clear();
  trace_.clear();
  // One that does not fit is named by the first event that needs it.
  size_t bytes = 0;
  for (Dir* d : used) {
    size_t more = bytes_to_name(d);
    if (bytes + more > most) {
      MARK("events.summary.cut");
      continue;
    }
    bytes += more;
    add_trace(d);
  }
  size_t before = out.size();
  ByteWriter w(out);
  w.varint(trace_.size());
  for (Dir* d : trace_) encode_header_body(w, d->header);
  stats_.clean_bytes += out.size() - before;
}

void TraceEncoder::encode(const TreeEvent& event, std::string& out) {
  trace_.clear();
  for (const DirItem& item : event.dirs) {
    Dir* d = cache_.find_dir(item.header.inode.ino);
    // A new directory hangs below one that the event names, too.
    if (d) add_trace(d);
  }
  size_t before = out.size();
  ByteWriter w(out);
  w.varint(trace_.size());
  for (Dir* d : trace_) encode_header_body(w, d->header);
  size_t middle = out.size();
  encode_tree_event(w, event);
  stats_.events++;
  stats_.clean_bytes += middle - before;
  stats_.dirty_bytes += out.size() - middle;
}

void TraceEncoder::note_named(const TreeEvent& event) {
  if (policy_ != TracePolicy::chunked) return;
  for (const DirItem& item : event.dirs) {
    if (!item.full) continue;
    Dir* d = cache_.find_dir(item.header.inode.ino);
    if (!d || d->traced == segment_) continue;
    d->traced = segment_;
    d->trace_uses = 0;
    named_.push_back(d->ino());
  }
}

}  // namespace graftfs
