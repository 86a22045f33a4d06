#include "events/trace.h"

#include <algorithm>

#include "base/check.h"
#include "base/fault.h"

namespace graftfs {
namespace {

// A summary holds at most this many of the last segment's directories (their ancestors come on
// top): enough for the working set of a few clients, small against a segment.
constexpr size_t kSummaryDirs = 64;

}  // namespace

void TraceEncoder::add_trace(Dir* dir) {
  if (policy_ == TracePolicy::chunked && dir->traced == segment_) {
    dir->trace_uses++;
    return;
  }
  if (std::find(trace_.begin(), trace_.end(), dir) != trace_.end()) return;
  if (dir->parent) add_trace(dir->parent);
  trace_.push_back(dir);
  dir->traced = segment_;
  dir->trace_uses = 1;
  if (policy_ == TracePolicy::chunked) named_.push_back(dir->ino());
}

// What naming `dir` would take now: itself and the ancestors that are not named yet.
size_t TraceEncoder::bytes_to_name(const Dir* dir) {
  size_t bytes = 0;
  for (; dir && dir->traced != segment_; dir = dir->parent) {
    scratch_.clear();
    ByteWriter w(scratch_);
    encode_header_body(w, dir->header);
    bytes += scratch_.size();
  }
  return bytes;
}

void TraceEncoder::begin_segment(SegmentId id, size_t most, std::string& out) {
  std::vector<Dir*> used;
  for (Ino ino : named_)
    if (Dir* d = cache_.find_dir(ino)) used.push_back(d);
  std::sort(used.begin(), used.end(), [](Dir* a, Dir* b) {
    return a->trace_uses != b->trace_uses ? a->trace_uses > b->trace_uses : a->ino() < b->ino();
  });
  if (used.size() > kSummaryDirs) used.resize(kSummaryDirs);
  segment_ = id;
  named_.clear();
  trace_.clear();
  // Directories can have long extended attributes: one that does not fit is named by the first
  // event that needs it.
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
