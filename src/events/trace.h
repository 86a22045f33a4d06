#pragma once
// How an event names the directories it stands in.
//
// Replay must not read the store, so every directory that an event touches is named, with its
// whole header, before it: the directory and its ancestors up to the import point (the note's
// "trace"). The policy decides how often.

#include <string>
#include <vector>

#include "cache/cache.h"
#include "events/event.h"

namespace graftfs {

enum class TracePolicy : uint8_t {
  full,     // every event carries its whole trace
  chunked,  // every trace once a segment; a segment opens with those the last one used most
};

// What went into the journal, in bytes.
struct TraceStats {
  uint64_t events = 0;
  uint64_t clean_bytes = 0;  // traces, summaries included
  uint64_t dirty_bytes = 0;
};

// Owned by its rank. Knows which directories the current segment has named (Dir::traced).
class TraceEncoder {
 public:
  TraceEncoder(Cache& cache, TracePolicy policy) : cache_(cache), policy_(policy) {}

  // A segment begins; appends the summary: the most used traces of the last segment, in `most`
  // bytes or a little more.
  void begin_segment(SegmentId id, size_t most, std::string& out);
  // Appends the traces that `event` still needs, then the event.
  void encode(const TreeEvent& event, std::string& out);
  // Of the event just encoded and applied: the directories it named in full itself.
  void note_named(const TreeEvent& event);
  const TraceStats& stats() const { return stats_; }

 private:
  bool is_named(const Dir* dir) const;
  void add_trace(Dir* dir);
  size_t bytes_to_name(const Dir* dir) const;

  Cache& cache_;
  TracePolicy policy_;
  SegmentId segment_;
  std::vector<Ino> named_;   // in this segment
  std::vector<Dir*> trace_;  // of the event being encoded, ancestors first
  TraceStats stats_;
};

// The reading side: hands over the traces of a payload (clean headers) and leaves the reader at
// the event behind them.
template <class F>
bool decode_traces(ByteReader& r, F&& header) {
  uint64_t n = r.varint();
  if (n > r.remaining()) return false;
  DirHeader h;
  for (uint64_t k = 0; k < n; ++k) {
    decode_header_body(r, h);
    if (!r.ok()) return false;
    header(h);
  }
  return true;
}

}  // namespace graftfs
