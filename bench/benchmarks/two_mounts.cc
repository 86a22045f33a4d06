// Two mounts: a file is created through one mount of a served volume and looked at through the
// other, again and again. The reference, in turns, is the same with both halves through one mount.
// Then two clients of the library: one is leased the attributes of many files, and the other
// changes them, which takes each back.

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

// In so many directories that none is changed often enough to be leased to nobody for a while.
constexpr size_t kDirs = 4'000;
constexpr size_t kUnderWay = 64;

struct Recalls {
  double per_second = 0, of_changes = 0;
};

Recalls recalls(const Served& served, size_t dirs, int rounds) {
  LibraryClients clients(served.volume(), 2);
  const Ino top = clients.must(0, MkdirArgs{kRootIno, "leased", 0755, 0}).stat.ino;
  std::vector<Ino> files;
  // Calls for each number in turn, many at once.
  auto each = [&](size_t client, auto args_of) {
    size_t next = 0, answered = 0, failed = 0;
    std::function<void()> go = [&] {
      if (next == dirs) return;
      const size_t i = next++;
      clients.submit(client, args_of(i), [&, i](Reply reply) {
        failed += reply.err != 0;
        if (files.size() < dirs) files.resize(dirs);
        if (reply.err == 0 && reply.stat.ino) files[i] = reply.stat.ino;
        answered++;
        go();
      });
    };
    for (size_t i = 0; i < kUnderWay; ++i) go();
    while (answered < dirs) clients.loop().run_one();
    if (failed) throw BenchmarkError(fmt::format("{} of {} requests failed", failed, dirs));
  };
  each(0, [&](size_t i) -> Args { return MkdirArgs{top, fmt::format("{:05}", i), 0755, 0}; });
  const std::vector<Ino> in = files;
  each(0, [&](size_t i) -> Args { return MknodArgs{in[i], "file", S_IFREG | 0644, 0, 0}; });
  double seconds = 0;
  const uint64_t before = clients.recalls(0);
  for (int round = 0; round < rounds; ++round) {
    each(0, [&](size_t i) -> Args { return GetattrArgs{files[i]}; });
    Stopwatch watch;
    each(1, [&](size_t i) -> Args {
      SetattrArgs args{.ino = files[i], .valid = kSetMode};
      args.mode = 0600 + static_cast<uint32_t>(round % 2);
      return args;
    });
    seconds += watch.seconds();
  }
  const auto taken = static_cast<double>(clients.recalls(0) - before);
  return {taken / seconds, taken / static_cast<double>(dirs) / rounds};
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
  const Recalls taken = recalls(served, context.quick ? 50 : kDirs, context.quick ? 1 : 5);
  progress(fmt::format("two-mounts: {:.0f} leases recalled/s, {:.2f} a change", taken.per_second,
                       taken.of_changes));
  report.figures["leases_recalled_per_second"] = rounded(taken.per_second);
  report.figures["recalls_a_change"] = rounded(taken.of_changes);
  report.at_most("files that were created and not seen", static_cast<double>(missed), 0);
  report.durability = context.durability;
  report.cache = "each name is new; what the second mount knew of the directory is recalled";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("two-mounts", "created through one mount, seen through another", run_two_mounts);

}  // namespace graftfs::bench
