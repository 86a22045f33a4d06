// Memory: resident bytes of the process per cached entry and inode, after a million creates with
// names of 12 bytes. The reference is the size of the same facts in a std::map of structs.

#include <fmt/format.h>

#include <map>
#include <memory>

#include "harness/embedded.h"

namespace graftfs::bench {
namespace {

double map_bytes_per_entry(size_t n) {
  uint64_t before = resident_bytes().own;
  auto map = std::make_unique<std::map<std::string, Stat>>();
  for (size_t i = 0; i < n; ++i) (*map)[fmt::format("file{:08}", i)] = Stat{};
  return static_cast<double>(resident_bytes().own - before) / static_cast<double>(n);
}

Report run_memory(const Context& context) {
  const size_t entries = context.quick ? 20'000 : 1'000'000;
  RankOptions options;
  options.memory_limit = size_t{4} << 30;
  Embedded e(context.work / "memory", options);
  Ino dir = e.make_path(2, "d");
  e.call(SyncArgs{});
  Resident before = resident_bytes();
  for (size_t i = 0; i < entries; ++i) {
    Reply reply = e.call(MknodArgs{dir, fmt::format("file{:08}", i), S_IFREG | 0644, 0, 0});
    if (reply.err != 0) throw BenchmarkError("a create failed");
  }
  // Everything is in the store, and clean, and still cached.
  auto written = e.wait(e.rank().write_back_all());
  if (!written) throw BenchmarkError(describe(written.error()));
  Resident after = resident_bytes();
  double cached = static_cast<double>(e.rank().cache().usage().entries);
  if (cached < static_cast<double>(entries)) throw BenchmarkError("entries were evicted");
  Report report;
  double bytes = static_cast<double>(after.own - before.own) / cached;
  report.figures["entries"] = entries;
  report.figures["resident_bytes_per_entry"] = bytes;
  report.figures["mapped_store_pages_bytes_per_entry"] =
      (static_cast<double>(after.mapped) - static_cast<double>(before.mapped)) / cached;
  report.figures["estimate_bytes_per_entry"] =
      static_cast<double>(e.rank().cache().usage().bytes) / cached;
  report.at_most("resident bytes per cached entry and inode", bytes, 400);
  report.durability = "posix";
  report.cache = "all entries cached in the rank, clean";
  e.stop();
  // Last, so that nothing of it is left lying about to be used again.
  report.reference["std_map_bytes_per_entry"] = map_bytes_per_entry(entries);
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("memory", "resident memory per cached entry and inode", run_memory);

}  // namespace graftfs::bench
