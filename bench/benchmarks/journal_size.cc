// Journal size: bytes that one create in a directory seven levels deep adds to the journal, per
// trace policy, frames and segment starts included. Names have 12 bytes.

#include <fmt/format.h>

#include "harness/embedded.h"

namespace graftfs::bench {
namespace {

struct Measured {
  double bytes_per_create = 0, clean_dirty_ratio = 0;
};

Measured measure(const Context& context, TracePolicy policy, const char* name) {
  const size_t creates = context.quick ? 2'000 : 100'000;
  RankOptions options;
  options.trace = policy;
  options.journal_cap = uint64_t{4} << 30;  // nothing is trimmed while it is measured
  options.write_back_after = 3600 * kSecond;
  Embedded e(context.work / fmt::format("journal-{}", name), options);
  Ino dir = e.make_path(7, "level-");
  e.call(SyncArgs{});
  uint64_t before = e.rank().journal().live_bytes();
  TraceStats stats = e.rank().trace_stats();
  for (size_t i = 0; i < creates; ++i) {
    Reply reply = e.call(MknodArgs{dir, fmt::format("file{:08}", i), S_IFREG | 0644, 0, 0});
    if (reply.err != 0) throw BenchmarkError("a create failed");
  }
  e.call(SyncArgs{});
  const TraceStats& after = e.rank().trace_stats();
  Measured m;
  m.bytes_per_create =
      static_cast<double>(e.rank().journal().live_bytes() - before) / static_cast<double>(creates);
  m.clean_dirty_ratio = static_cast<double>(after.clean_bytes - stats.clean_bytes) /
                        static_cast<double>(after.dirty_bytes - stats.dirty_bytes);
  e.stop();
  return m;
}

Report run_journal_size(const Context& context) {
  Measured full = measure(context, TracePolicy::full, "full");
  Measured chunked = measure(context, TracePolicy::chunked, "chunked");
  Report report;
  report.figures["chunked_bytes_per_create"] = chunked.bytes_per_create;
  report.figures["chunked_clean_to_dirty"] = chunked.clean_dirty_ratio;
  report.figures["levels"] = 7;
  report.figures["name_bytes"] = 12;
  report.reference["full_bytes_per_create"] = full.bytes_per_create;
  report.reference["full_clean_to_dirty"] = full.clean_dirty_ratio;
  report.reference["full_against_chunked"] = full.bytes_per_create / chunked.bytes_per_create;
  report.at_most("journal bytes per create, chunked", chunked.bytes_per_create, 250);
  report.durability = "posix";
  report.cache = "everything cached in the rank; nothing written back meanwhile";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("journal-size", "journal bytes per create, seven levels deep", run_journal_size);

}  // namespace graftfs::bench
