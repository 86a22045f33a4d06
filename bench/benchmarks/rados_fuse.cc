// On Ceph, through FUSE: `graftfs mount` and ceph-fuse.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "benchmarks/rados_rows.h"
#include "harness/workload.h"

namespace graftfs::bench {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kThreads = 8;

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

Row fuse(CephCluster& ceph, Mounted& mounted, const RealTree& tree, const RadosSizes& sizes,
         const std::string& side) {
  Row row;
  auto tell = [&](const std::string& name) {
    progress(fmt::format("rados, {}: {} {:.4g}, OSDs {:.2f} cores", side, name, row[name].value,
                         row[name].osd_cores));
  };
  // What the phase before has left to be written is its own.
  auto settled = [&] { ceph.settle(); };
  {
    Files many(mounted.path() / "files", kThreads, sizes.files);
    row["fuse create"] = rate_of(ceph, many.count(), [&] { many.create(); });
    tell("fuse create");
  }
  settled();
  const fs::path home = mounted.path() / "tree";
  fs::create_directory(home);
  auto seconds_of = [&](const std::string& name, const std::vector<std::string>& command) {
    Measured m = rate_of(ceph, 1, [&] { run_or_throw(command); });
    m.value = 1 / m.value;
    row[name] = m;
    tell(name);
    settled();
  };
  seconds_of("untar", {"tar", "-xf", tree.archive, "-C", home});
  mounted.again();
  settled();
  seconds_of("find", {"find", home, "-printf", "%s"});
  mounted.again();
  settled();
  seconds_of("rm", {"rm", "-rf", home});
  const fs::path big = mounted.path() / "big";
  auto megabytes = [&](const std::string& name, const std::function<void()>& work) {
    row[name] = rate_of(ceph, sizes.bytes, work);
    row[name].value /= 1e6;
    tell(name);
  };
  megabytes("sequential write", [&] { write_file(big, sizes.bytes); });
  mounted.again();
  settled();
  megabytes("sequential read", [&] { read_file(big); });
  return row;
}

}  // namespace

Row fuse_of_graftfs(const Context& context, CephCluster& ceph, const RealTree& tree,
                    const RadosSizes& sizes, const std::string& durability) {
  const std::string volume = ceph.fresh_volume(context);
  const fs::path point = context.work / "graftfs-mnt";
  Mounted mounted(point, {context.graftfs, "mount", volume, point, "--durability", durability},
                  {context.graftfs, "umount", point});
  Row row = fuse(ceph, mounted, tree, sizes, "GraftFS, " + durability);
  mounted.end();
  return row;
}

Row fuse_of_cephfs(const Context& context, CephCluster& ceph, const RealTree& tree,
                   const RadosSizes& sizes, bool recommended, int number) {
  const fs::path point = context.work / "cephfs-mnt";
  const std::string home = fmt::format("/fuse-{}", number);
  {
    CephFsClient maker(ceph.conf(), false);
    maker.mkdir(home);
    maker.mkdir(home + "/files");
    if (recommended) {
      maker.spread(home);
      maker.spread(home + "/files");
    }
  }
  std::vector<std::string> command = {"ceph-fuse", "-c", ceph.conf(), "-r", home, point};
  if (recommended) command.push_back(fmt::format("--client_cache_size={}", kRecommendedCache));
  Mounted mounted(point, command, {"umount", point});
  Row row = fuse(ceph, mounted, tree, sizes, recommended ? "CephFS, as recommended" : "CephFS");
  mounted.end();
  return row;
}

}  // namespace graftfs::bench
