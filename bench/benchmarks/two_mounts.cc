// Two mounts: a file is created through one mount of a served volume and looked at through the
// other, again and again. The reference, in turns, is the same with both halves through one mount.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "harness/process.h"
#include "harness/served.h"

namespace graftfs::bench {
namespace {

// A mount of a served volume; unmounted by the destructor.
class Mount {
 public:
  Mount(const Context& context, const Served& served, const std::string& label)
      : binary_(context.graftfs), path_(context.work / label) {
    std::filesystem::create_directories(path_);
    run_or_throw({binary_, "mount", served.volume(), path_});
  }
  ~Mount() {
    run({binary_, "umount", path_});
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::string binary_;
  std::filesystem::path path_;
};

// Creates by `writer`, stats by `reader`; how many of both together a second.
double round_trips(const std::filesystem::path& writer, const std::filesystem::path& reader,
                   const std::string& label, int count, uint64_t& missed) {
  Stopwatch watch;
  for (int i = 0; i < count; ++i) {
    const std::string name = fmt::format("{}-{:06}", label, i);
    int fd = open((writer / name).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
      throw BenchmarkError(fmt::format("cannot create {}: {}", name, std::strerror(errno)));
    close(fd);
    struct stat attributes;
    missed += stat((reader / name).c_str(), &attributes) != 0;
  }
  return count / watch.seconds();
}

Report run_two_mounts(const Context& context) {
  const int count = context.quick ? 100 : 10'000;
  Served served(context, "two-mounts", context.durability);
  served.serve(1);
  Mount one(context, served, "mount-1"), two(context, served, "mount-2");
  std::vector<double> apart, together;
  uint64_t missed = 0;
  Report report;
  for (const Mount* mount : {&one, &two})
    round_trips(mount->path(), mount->path(), "warm" + mount->path().filename().string(), 50,
                missed);
  for (int round = 0; round < context.rounds_or(3); ++round) {
    for (int turn = 0; turn < 2; ++turn) {
      const bool both = (turn + round) % 2 == 0;
      const std::string label = fmt::format("r{}-{}", round, both);
      (both ? apart : together)
          .push_back(round_trips(one.path(), both ? two.path() : one.path(), label, count, missed));
    }
    progress(fmt::format("two-mounts, round {}: {:.0f} round trips/s, through one mount {:.0f}/s",
                         round + 1, apart.back(), together.back()));
  }
  report.figures["round_trips_per_second"] = rounded(median(apart));
  report.figures["files"] = count;
  report.reference["through_one_mount_per_second"] = rounded(median(together));
  report.figures["against_one_mount"] = rounded(median_ratio(apart, together));
  report.at_most("files that were created and not seen", static_cast<double>(missed), 0);
  report.durability = context.durability;
  report.cache = "each name is new; what the second mount knew of the directory is recalled";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("two-mounts", "created through one mount, seen through another", run_two_mounts);

}  // namespace graftfs::bench
