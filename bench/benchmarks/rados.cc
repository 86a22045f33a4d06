// On Ceph: GraftFS and CephFS on the same cluster of this machine (one monitor, two OSDs), in
// turns. Both answer before their journal is durable (durability posix), which is what CephFS does.
// The cluster, with its OSDs, is as fast for one as for the other; how much of the time they were
// busy stands beside each rate.

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "harness/ceph.h"
#include "harness/process.h"
#include "harness/served.h"
#include "harness/statistics.h"
#include "harness/tree.h"
#include "harness/workload.h"

namespace graftfs::bench {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kClients = 8, kThreads = 8;
constexpr double kMountTimeoutS = 60;

// A rate, and how many cores the OSDs were busy with meanwhile.
struct Measured {
  double value = 0, osd_cores = 0;
};
using Row = std::map<std::string, Measured>;

template <class F>
Measured rate_of(CephCluster& ceph, uint64_t operations, F&& work) {
  const double cpu = ceph.osd_cpu_seconds();
  Stopwatch watch;
  work();
  const double seconds = watch.seconds();
  return {static_cast<double>(operations) / seconds, (ceph.osd_cpu_seconds() - cpu) / seconds};
}

// -- by the library -------------------------------------------------------------------------------

// Eight clients, each with a directory of its own and one operation under way.
Row library_of_graftfs(const Context& context, CephCluster& ceph, uint64_t each,
                       const std::string& durability) {
  const std::string volume = ceph.fresh_volume(context);
  const pid_t server = spawn({context.graftfs, "serve", volume, "--foreground", "--durability",
                              durability, "--memory", "4GiB"});
  Row row;
  {
    std::unique_ptr<LibraryClients> clients;
    Stopwatch waited;
    while (!clients) {
      try {
        clients = std::make_unique<LibraryClients>(volume, kClients);
      } catch (const BenchmarkError&) {
        if (waited.seconds() > kMountTimeoutS || has_ended(server)) throw;
      }
    }
    std::vector<Ino> dirs;
    for (unsigned c = 0; c < kClients; ++c)
      dirs.push_back(
          clients->must(c, MkdirArgs{kRootIno, fmt::format("c{}", c), 0755, 0}).stat.ino);
    auto phase = [&](auto make_args) {
      size_t left = kClients;
      std::function<void(size_t, uint64_t)> next = [&](size_t c, uint64_t i) {
        if (i == each) {
          --left;
          return;
        }
        clients->submit(c, make_args(dirs[c], i), [&, c, i](Reply reply) {
          if (reply.err)
            throw BenchmarkError(fmt::format("a request failed with errno {}", reply.err));
          next(c, i + 1);
        });
      };
      return rate_of(ceph, each * kClients, [&] {
        for (size_t c = 0; c < kClients; ++c) next(c, 0);
        while (left > 0) clients->loop().run_one();
      });
    };
    auto name = [](char kind, uint64_t i) { return fmt::format("{}{:08}", kind, i); };
    row["create"] = phase([&](Ino dir, uint64_t i) -> Args {
      return MknodArgs{dir, name('f', i), S_IFREG | 0644, 0, 0};
    });
    row["rename"] = phase([&](Ino dir, uint64_t i) -> Args {
      return RenameArgs{dir, name('f', i), dir, name('r', i), 0};
    });
    row["stat"] = phase([&](Ino dir, uint64_t i) -> Args { return LookupArgs{dir, name('r', i)}; });
    row["unlink"] =
        phase([&](Ino dir, uint64_t i) -> Args { return UnlinkArgs{dir, name('r', i)}; });
    row["mkdir"] =
        phase([&](Ino dir, uint64_t i) -> Args { return MkdirArgs{dir, name('d', i), 0755, 0}; });
  }
  ::kill(server, SIGTERM);
  wait_for(server);
  return row;
}

Row library_of_cephfs(CephCluster& ceph, uint64_t each, bool recommended, int round) {
  std::vector<std::unique_ptr<CephFsClient>> clients;
  auto connect = [&] {
    clients.clear();
    for (unsigned c = 0; c < kClients; ++c)
      clients.push_back(std::make_unique<CephFsClient>(ceph.conf(), recommended));
  };
  connect();
  const std::string home = fmt::format("/library-{}", round);
  clients[0]->mkdir(home);
  for (unsigned c = 0; c < kClients; ++c) clients[c]->mkdir(fmt::format("{}/c{}", home, c));
  auto phase = [&](auto operation) {
    return rate_of(ceph, each * kClients, [&] {
      timed_threads(kClients, [&](unsigned c) {
        const std::string dir = fmt::format("{}/c{}/", home, c);
        for (uint64_t i = 0; i < each; ++i) operation(*clients[c], dir, fmt::format("{:08}", i));
      });
    });
  };
  Row row;
  using Client = CephFsClient;
  using Text = std::string;
  row["create"] = phase([](Client& c, const Text& dir, const Text& n) { c.create(dir + "f" + n); });
  row["rename"] = phase(
      [](Client& c, const Text& dir, const Text& n) { c.rename(dir + "f" + n, dir + "r" + n); });
  connect();  // nothing is cached in the clients
  row["stat"] = phase([](Client& c, const Text& dir, const Text& n) { c.stat(dir + "r" + n); });
  row["unlink"] = phase([](Client& c, const Text& dir, const Text& n) { c.unlink(dir + "r" + n); });
  row["mkdir"] = phase([](Client& c, const Text& dir, const Text& n) { c.mkdir(dir + "d" + n); });
  return row;
}

// -- through FUSE
// -----------------------------------------------------------------------------------

bool is_mounted(const fs::path& path) {
  struct ::stat here, above;
  return ::stat(path.c_str(), &here) == 0 && ::stat(path.parent_path().c_str(), &above) == 0 &&
         here.st_dev != above.st_dev;
}

// A mount of one or of the other; unmounted at the end.
class Mounted {
 public:
  Mounted(fs::path path, std::vector<std::string> command, std::vector<std::string> umount)
      : path_(std::move(path)), command_(std::move(command)), umount_(std::move(umount)) {
    fs::create_directories(path_);
    mount();
  }
  ~Mounted() { ::umount2(path_.c_str(), MNT_DETACH); }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;
  // Nothing is cached on the client's side afterwards.
  void again() {
    run_or_throw(umount_);
    mount();
  }
  const fs::path& path() const { return path_; }
  void end() { run_or_throw(umount_); }

 private:
  void mount() {
    run_or_throw(command_);
    if (!is_mounted(path_))
      throw BenchmarkError(fmt::format("'{}' is not mounted", path_.string()));
  }
  fs::path path_;
  std::vector<std::string> command_, umount_;
};

double megabytes_per_second(uint64_t bytes, double seconds) {
  return static_cast<double>(bytes) / seconds / 1e6;
}

void write_file(const fs::path& path, uint64_t bytes) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  std::string piece(1 << 20, 'x');
  bool good = fd >= 0;
  for (uint64_t at = 0; good && at < bytes; at += piece.size())
    good = ::write(fd, piece.data(), piece.size()) == static_cast<ssize_t>(piece.size());
  good = good && ::fsync(fd) == 0;
  if (fd >= 0) ::close(fd);
  if (!good) throw BenchmarkError(fmt::format("cannot write '{}'", path.string()));
}

void read_file(const fs::path& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string piece(1 << 20, '\0');
  ssize_t n = fd >= 0 ? 1 : -1;
  while (n > 0) n = ::read(fd, piece.data(), piece.size());
  if (fd >= 0) ::close(fd);
  if (n < 0) throw BenchmarkError(fmt::format("cannot read '{}'", path.string()));
}

Row fuse(const Context& context, CephCluster& ceph, Mounted& mounted, const RealTree& tree,
         uint64_t files, uint64_t bytes) {
  Row row;
  {
    Files many(mounted.path() / "files", kThreads, files);
    row["fuse create"] = rate_of(ceph, many.count(), [&] { many.create(); });
  }
  const fs::path home = mounted.path() / "tree";
  fs::create_directory(home);
  auto seconds_of = [&](const std::string& name, const std::vector<std::string>& command) {
    Measured m = rate_of(ceph, 1, [&] { run_or_throw(command); });
    m.value = 1 / m.value;
    row[name] = m;
  };
  seconds_of("untar", {"tar", "-xf", tree.archive, "-C", home});
  mounted.again();
  seconds_of("find", {"find", home, "-printf", "%s"});
  mounted.again();
  seconds_of("rm", {"rm", "-rf", home});
  const fs::path big = mounted.path() / "big";
  Stopwatch writing;
  Measured m = rate_of(ceph, 1, [&] { write_file(big, bytes); });
  row["sequential write"] = {megabytes_per_second(bytes, writing.seconds()), m.osd_cores};
  mounted.again();
  Stopwatch reading;
  m = rate_of(ceph, 1, [&] { read_file(big); });
  row["sequential read"] = {megabytes_per_second(bytes, reading.seconds()), m.osd_cores};
  (void)context;
  return row;
}

Row fuse_of_graftfs(const Context& context, CephCluster& ceph, const RealTree& tree, uint64_t files,
                    uint64_t bytes, const std::string& durability) {
  const std::string volume = ceph.fresh_volume(context);
  const fs::path point = context.work / "graftfs-mnt";
  Mounted mounted(point, {context.graftfs, "mount", volume, point, "--durability", durability},
                  {context.graftfs, "umount", point});
  Row row = fuse(context, ceph, mounted, tree, files, bytes);
  mounted.end();
  return row;
}

Row fuse_of_cephfs(const Context& context, CephCluster& ceph, const RealTree& tree, uint64_t files,
                   uint64_t bytes, bool recommended, int round) {
  const fs::path point = context.work / "cephfs-mnt";
  {
    CephFsClient maker(ceph.conf(), false);
    maker.mkdir(fmt::format("/fuse-{}", round));
  }
  std::vector<std::string> command = {
      "ceph-fuse", "-c", ceph.conf(), "-r", fmt::format("/fuse-{}", round), point};
  if (recommended) command.insert(command.end(), {"--client_cache_size=65536"});
  Mounted mounted(point, command, {"umount", point});
  Row row = fuse(context, ceph, mounted, tree, files, bytes);
  mounted.end();
  return row;
}

// -- the table
// --------------------------------------------------------------------------------------

struct Bar {
  const char* row;
  double ratio;     // GraftFS against CephFS, at least
  bool is_seconds;  // less is better: CephFS against GraftFS
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
    {"sequential write", 1, false},
    {"sequential read", 1, false},
};

Json as_json(const Row& row) {
  Json out = Json::object();
  for (const auto& [name, m] : row)
    out[name] = {{"value", rounded(m.value)}, {"osd_cores", rounded(m.osd_cores, 2)}};
  return out;
}

Report run_rados(const Context& context) {
  // Sustained: long enough that what is written back is a part of it.
  const uint64_t each = (context.quick ? 400 : 500'000) / kClients;
  const uint64_t files = context.quick ? 400 : 500'000;
  const uint64_t bytes = (context.quick ? 16ull : 2048ull) << 20;
  CephCluster ceph(context);
  const RealTree tree = make_real_tree(context.work, context.quick ? 100 : 25'000);
  Report report;
  std::map<std::string, std::vector<double>> ratios;
  for (int round = 0; round < context.rounds_or(1); ++round) {
    Row ours, theirs, tuned, strict;
    if (context.wants("library")) {
      theirs.merge(library_of_cephfs(ceph, each, false, 2 * round));
      ours.merge(library_of_graftfs(context, ceph, each, "posix"));
      strict.merge(library_of_graftfs(context, ceph, each, "strict"));
      tuned.merge(library_of_cephfs(ceph, each, true, 2 * round + 1));
    }
    if (context.wants("fuse")) {
      theirs.merge(fuse_of_cephfs(context, ceph, tree, files, bytes, false, 2 * round));
      ours.merge(fuse_of_graftfs(context, ceph, tree, files, bytes, "posix"));
      strict.merge(fuse_of_graftfs(context, ceph, tree, files, bytes, "strict"));
      tuned.merge(fuse_of_cephfs(context, ceph, tree, files, bytes, true, 2 * round + 1));
    }
    for (const Bar& bar : kBars) {
      if (!ours.contains(bar.row)) continue;
      double a = ours[bar.row].value, b = theirs[bar.row].value;
      ratios[bar.row].push_back(bar.is_seconds ? b / a : a / b);
      progress(
          fmt::format("rados, round {}: {}: GraftFS {:.4g} (strict {:.4g}), CephFS {:.4g} (tuned "
                      "{:.4g}): ratio {:.2f}",
                      round + 1, bar.row, a, strict[bar.row].value, b, tuned[bar.row].value,
                      ratios[bar.row].back()));
    }
    report.figures["rounds"].push_back({{"graftfs", as_json(ours)},
                                        {"graftfs_strict", as_json(strict)},
                                        {"cephfs", as_json(theirs)},
                                        {"cephfs_tuned", as_json(tuned)}});
  }
  report.figures["files"] = files;
  report.figures["tree_files"] = tree.files;
  report.reference["cephfs"] = "16.2 of Debian, its defaults; ceph-mds, libcephfs and ceph-fuse";
  for (const Bar& bar : kBars)
    if (ratios.contains(bar.row))
      report.at_least(fmt::format("{}, against CephFS", bar.row), median(ratios[bar.row]),
                      bar.ratio);
  report.durability = "posix (a further column: strict)";
  report.cache = "of the library's stat and of find, rm and read: nothing on the client's side";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK_BY_NAME("rados", "GraftFS and CephFS on the same Ceph cluster", run_rados);

}  // namespace graftfs::bench
