// On Ceph: GraftFS and CephFS on the same cluster of this machine (one monitor, two OSDs), in
// turns. Both answer before their journal is durable (durability posix), which is what CephFS does.
// The cluster, with its OSDs, is as fast for one as for the other; how many cores they were busy
// with stands beside each rate.

#include <fmt/format.h>

#include <cstdlib>

#include "benchmarks/rados_rows.h"
#include "harness/statistics.h"

namespace graftfs::bench {
namespace {

struct Bar {
  const char* row;
  double ratio;  // of GraftFS to CephFS, at least; with less_is_better the other way round
  bool less_is_better;
};
constexpr Bar kBars[] = {
    {"create", 20, false},
    {"mkdir", 10, false},
    {"rename", 10, false},
    {"unlink", 10, false},
    {"stat", 10, false},
    {"fuse create", 6, false},
    {"untar", 8, true},
    {"rm", 8, true},
    {"find", 2, true},
    {"journal bytes", 12, true},
    {"memory", 6, true},
    {"restart", 3, true},
    {"stall", 50, true},
    {"sequential write", 1, false},
    {"sequential read", 1, false},
};

Json as_json(const Row& row) {
  Json out = Json::object();
  for (const auto& [name, m] : row)
    out[name] = {{"value", rounded(m.value)}, {"osd_cores", rounded(m.osd_cores, 2)}};
  return out;
}

RadosSizes sizes_of(const Context& context) {
  RadosSizes sizes;
  // Sustained: long enough that what is written back is a part of it.
  sizes.files = context.quick ? 400 : 500'000;
  if (const char* files = std::getenv("GRAFTFS_RADOS_FILES")) sizes.files = std::stoull(files);
  sizes.bytes = (context.quick ? 16ull : 2048ull) << 20;
  sizes.events = context.quick ? 800 : 100'000;
  sizes.cached = context.quick ? 800 : 100'000;
  sizes.deep = context.quick ? 400 : 20'000;
  sizes.moving = context.quick ? 240 : 12'000;
  return sizes;
}

Report run_rados(const Context& context) {
  const RadosSizes sizes = sizes_of(context);
  CephCluster ceph(context);
  const RealTree tree = make_real_tree(context.work, context.quick ? 100 : 25'000);
  Report report;
  std::map<std::string, std::vector<double>> ratios;
  // Nobody pays for what another one has left to be written.
  auto add = [&](Row& column, Row row) {
    column.merge(std::move(row));
    ceph.settle();
  };
  for (int round = 0; round < context.rounds_or(1); ++round) {
    Row ours, theirs, tuned, strict;
    if (context.wants("servers")) {
      add(theirs, servers_of_cephfs(context, ceph, sizes, round));
      add(ours, servers_of_graftfs(context, ceph, sizes, "posix"));
      add(strict, servers_of_graftfs(context, ceph, sizes, "strict"));
    }
    if (context.wants("library")) {
      add(theirs, library_of_cephfs(context, ceph, sizes, false, 2 * round));
      add(ours, library_of_graftfs(context, ceph, sizes, "posix"));
      add(strict, library_of_graftfs(context, ceph, sizes, "strict"));
    }
    if (context.wants("fuse")) {
      add(theirs, fuse_of_cephfs(context, ceph, tree, sizes, false, 2 * round));
      add(ours, fuse_of_graftfs(context, ceph, tree, sizes, "posix"));
      add(strict, fuse_of_graftfs(context, ceph, tree, sizes, "strict"));
    }
    ceph.new_mds();
    ceph.set_recommended(true);
    if (context.wants("library"))
      add(tuned, library_of_cephfs(context, ceph, sizes, true, 2 * round + 1));
    if (context.wants("fuse"))
      add(tuned, fuse_of_cephfs(context, ceph, tree, sizes, true, 2 * round + 1));
    ceph.set_recommended(false);
    for (const Bar& bar : kBars) {
      if (!ours.contains(bar.row)) continue;
      const double a = ours[bar.row].value, b = theirs[bar.row].value;
      ratios[bar.row].push_back(bar.less_is_better ? b / a : a / b);
      auto shown = [&](const Row& column) {
        auto it = column.find(bar.row);
        return it == column.end() ? std::string("-") : fmt::format("{:.4g}", it->second.value);
      };
      progress(
          fmt::format("rados, round {}: {}: GraftFS {} (strict {}), CephFS {} (as recommended "
                      "{}): ratio {:.2f}",
                      round + 1, bar.row, shown(ours), shown(strict), shown(theirs), shown(tuned),
                      ratios[bar.row].back()));
    }
    report.figures["rounds"].push_back({{"graftfs", as_json(ours)},
                                        {"graftfs_strict", as_json(strict)},
                                        {"cephfs", as_json(theirs)},
                                        {"cephfs_recommended", as_json(tuned)}});
  }
  report.figures["files"] = sizes.files;
  report.figures["tree_files"] = tree.files;
  report.reference["cephfs"] = "16.2 of Debian, its defaults; ceph-mds, libcephfs and ceph-fuse";
  for (const Bar& bar : kBars)
    if (ratios.contains(bar.row))
      report.at_least(
          fmt::format("{}, {}", bar.row,
                      bar.less_is_better ? "CephFS against GraftFS" : "GraftFS against CephFS"),
          median(ratios[bar.row]), bar.ratio);
  report.durability = "posix (a further column: strict)";
  report.cache = "of the library's stat and of find, rm and read: nothing on the client's side";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK_BY_NAME("rados", "GraftFS and CephFS on the same Ceph cluster", run_rados);

}  // namespace graftfs::bench
