// On Ceph, the servers themselves: what a create costs in the journal, what a cached inode costs in
// memory, how long a killed server takes to serve again, and how long clients wait while files move
// to another server.

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "benchmarks/rados_rows.h"
#include "harness/served.h"
#include "harness/workload.h"

namespace graftfs::bench {
namespace {

constexpr unsigned kDepth = 7, kDirs = 12;
constexpr double kPatienceS = 120;
// Longer than anything that is measured: what is in the journal stays there.
const std::vector<std::string> kKeepJournal = {
    "--journal-cap",     "16GiB", "--write-back-after", "24h",
    "--write-back-from", "95",    "--memory",           "4GiB"};

std::string file_name(uint64_t i) { return fmt::format("file{:08}", i); }

double resident_of(pid_t pid) {
  std::ifstream statm(fmt::format("/proc/{}/statm", pid));
  double size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

std::vector<std::string> with_durability(std::vector<std::string> options, const std::string& d) {
  options.insert(options.end(), {"--durability", d});
  return options;
}

// What the processes say of themselves is brought up to date only so often.
double settled_journal_bytes(const GraftfsServer& server) {
  double last = -1;
  for (int same = 0; same < 3;) {
    ::usleep(300'000);
    const double now = server.rank(0)["journal_bytes"].get<double>();
    same = now == last ? same + 1 : 0;
    last = now;
  }
  return last;
}

void tell(const std::string& side, const std::string& name, double value, const std::string& unit) {
  progress(fmt::format("rados, {}: {} {:.4g} {}", side, name, value, unit));
}

// When the operations of all clients ended, and how long each took; the longest since the last
// call.
class Longest {
 public:
  void add(double seconds) {
    std::lock_guard lock(mutex_);
    longest_ = std::max(longest_, seconds);
    ++count_;
  }
  double take() {
    std::lock_guard lock(mutex_);
    count_ = 0;
    return std::exchange(longest_, 0.0);
  }
  uint64_t count() {
    std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  double longest_ = 0;
  uint64_t count_ = 0;
};

// -- GraftFS --------------------------------------------------------------------------------------

void journal_and_restart_of_graftfs(const Context& context, CephCluster& ceph,
                                    const RadosSizes& sizes, const std::string& durability,
                                    Row& row) {
  const std::string side = "GraftFS, " + durability;
  GraftfsServer server(context, ceph.fresh_volume(context),
                       with_durability(kKeepJournal, durability));
  auto clients = clients_of(server, kCephClients);
  Ino dir = kRootIno;
  for (unsigned level = 0; level < kDepth; ++level)
    dir = clients->must(0, MkdirArgs{dir, fmt::format("level-{}", level), 0755, 0}).stat.ino;
  auto create = [&](uint64_t count, char kind) {
    const uint64_t each = count / kCephClients;
    for_each_client(*clients, each, [&](size_t c, uint64_t i) -> Args {
      return MknodArgs{dir, fmt::format("{}{}{:010}", kind, c, i), S_IFREG | 0644, 0, 0};
    });
    return each * kCephClients;
  };
  const double before = settled_journal_bytes(server);
  const uint64_t deep = create(sizes.deep, 'f');
  row["journal bytes"].value = (settled_journal_bytes(server) - before) / static_cast<double>(deep);
  tell(side, "journal bytes a create", row["journal bytes"].value, "bytes");

  create(sizes.events - deep, 'g');
  clients->must(0, SyncArgs{});
  server.kill_and_start();
  Stopwatch watch;
  clients->must(0, LookupArgs{dir, fmt::format("f0{:010}", 0)});
  row["restart"].value = watch.seconds();
  const Json rank = server.rank(0);
  row["events"].value = rank["events_replayed"].get<double>();
  tell(side, "kill -9 until serving", row["restart"].value, "s");
  progress(fmt::format("rados, {}: {} events replayed, in {:.3f} s", side,
                       rank["events_replayed"].get<uint64_t>(),
                       rank["recovery_seconds"].get<double>()));
}

void memory_of_graftfs(const Context& context, CephCluster& ceph, const RadosSizes& sizes,
                       const std::string& durability, Row& row) {
  GraftfsServer server(context, ceph.fresh_volume(context),
                       {"--durability", durability, "--memory", "4GiB"});
  auto clients = clients_of(server, kCephClients);
  std::vector<Ino> dirs;
  for (unsigned d = 0; d < kDirs; ++d)
    dirs.push_back(clients->must(0, MkdirArgs{kRootIno, fmt::format("d{}", d), 0755, 0}).stat.ino);
  const double before = resident_of(server.pid());
  const uint64_t each = sizes.cached / kCephClients;
  for_each_client(*clients, each, [&](size_t c, uint64_t i) -> Args {
    return MknodArgs{dirs[i % kDirs], fmt::format("{}-{}", c, file_name(i)), S_IFREG | 0644, 0, 0};
  });
  clients->must(0, SyncArgs{});
  ::sleep(6);  // what is written back after 5 s
  ceph.settle();
  row["memory"].value =
      (resident_of(server.pid()) - before) / static_cast<double>(each * kCephClients);
  tell("GraftFS, " + durability, "memory of a cached inode", row["memory"].value, "bytes");
}

void stall_of_graftfs(const Context& context, CephCluster& ceph, const RadosSizes& sizes,
                      const std::string& durability, Row& row) {
  const std::string side = "GraftFS, " + durability;
  GraftfsServer server(context, ceph.fresh_volume(context),
                       {"--durability", durability, "--memory", "4GiB", "--ranks", "2"});
  auto clients = clients_of(server, kCephClients);
  const Ino top = clients->must(0, MkdirArgs{kRootIno, "moving", 0755, 0}).stat.ino;
  std::vector<Ino> dirs;
  for (unsigned d = 0; d < kDirs; ++d)
    dirs.push_back(clients->must(0, MkdirArgs{top, fmt::format("d{}", d), 0755, 0}).stat.ino);
  for_each_client(*clients, sizes.moving / kCephClients, [&](size_t c, uint64_t i) -> Args {
    return MknodArgs{dirs[i % kDirs], fmt::format("{}-{}", c, file_name(i)), S_IFREG | 0644, 0, 0};
  });
  // Each client creates, looks up, renames, removes, one operation after the other.
  Longest longest;
  bool ending = false;
  size_t running = 0;
  std::function<void(size_t, uint64_t)> next = [&](size_t c, uint64_t i) {
    if (ending) return;
    const Ino dir = dirs[(c + i / 4) % kDirs];
    const std::string name = fmt::format("w{}-{}", c, i / 4), renamed = name + "r";
    Args args = i % 4 == 0   ? Args(MknodArgs{dir, name, S_IFREG | 0644, 0, 0})
                : i % 4 == 1 ? Args(LookupArgs{dir, name})
                : i % 4 == 2 ? Args(RenameArgs{dir, name, dir, renamed, 0})
                             : Args(UnlinkArgs{dir, renamed});
    ++running;
    const Nanos began = clients->loop().now();
    clients->submit(c, std::move(args), [&, c, i, began](Reply reply) {
      --running;
      if (reply.err) throw BenchmarkError(fmt::format("a request failed with errno {}", reply.err));
      longest.add(static_cast<double>(clients->loop().now() - began) / kSecond);
      next(c, i + 1);
    });
  };
  for (size_t c = 0; c < kCephClients; ++c) next(c, 0);
  clients->turn(kSecond);
  longest.take();
  clients->turn(3 * kSecond);
  row["stall before"].value = longest.take();
  clients->run_beside({context.graftfs, "subtree", "move", server.volume() + ":/moving", "1"});
  clients->turn(kSecond);
  row["stall"].value = longest.take();
  ending = true;
  while (running > 0) clients->loop().run_one();
  tell(side, "longest operation before the move", row["stall before"].value, "s");
  tell(side, "longest operation while files move", row["stall"].value, "s");
}

// -- CephFS ---------------------------------------------------------------------------------------

using CephFsClients = std::vector<std::unique_ptr<CephFsClient>>;

CephFsClients clients_of(CephCluster& ceph) {
  CephFsClients clients;
  for (unsigned c = 0; c < kCephClients; ++c)
    clients.push_back(std::make_unique<CephFsClient>(ceph.conf(), false));
  return clients;
}

void make_files(CephFsClients& clients, uint64_t count,
                const std::function<std::string(unsigned client, uint64_t i)>& path) {
  timed_threads(kCephClients, [&](unsigned c) {
    for (uint64_t i = 0; i < count / kCephClients; ++i) clients[c]->create(path(c, i));
  });
}

void journal_and_restart_of_cephfs(CephCluster& ceph, const RadosSizes& sizes,
                                   const std::string& home, Row& row) {
  ceph.tell("ceph daemon mds.m flush journal");
  // Nothing is trimmed, as little as on the other side.
  ceph.tell("ceph config set mds mds_log_max_segments 1000000");
  ceph.settle();
  CephFsClients clients = clients_of(ceph);
  std::string dir = home;
  for (unsigned level = 0; level < kDepth; ++level) {
    dir += fmt::format("/level-{}", level);
    clients[0]->mkdir(dir);
  }
  clients[0]->sync();
  auto written = [&] { return ceph.mds_counters("mds_log").at("wrpos").get<double>(); };
  const double before = written();
  const uint64_t deep = sizes.deep / kCephClients * kCephClients;
  make_files(clients, sizes.deep,
             [&](unsigned c, uint64_t i) { return fmt::format("{}/f{}{:010}", dir, c, i); });
  clients[0]->sync();
  row["journal bytes"].value = (written() - before) / static_cast<double>(deep);
  tell("CephFS", "journal bytes a create", row["journal bytes"].value, "bytes");

  make_files(clients, sizes.events - deep,
             [&](unsigned c, uint64_t i) { return fmt::format("{}/g{}{:010}", dir, c, i); });
  clients[0]->sync();
  row["events"].value = ceph.mds_counters("mds_log").at("ev").get<double>();
  ceph.kill_and_start_mds();
  Stopwatch watch;
  clients[1]->stat(fmt::format("{}/f0{:010}", dir, 0));
  row["restart"].value = watch.seconds();
  tell("CephFS", "kill -9 until serving", row["restart"].value, "s");
  progress(fmt::format("rados, CephFS: {:.0f} events in the journal", row["events"].value));
  ceph.tell("ceph config rm mds mds_log_max_segments");
}

void memory_of_cephfs(CephCluster& ceph, const RadosSizes& sizes, const std::string& home,
                      Row& row) {
  ceph.new_mds();
  CephFsClients clients = clients_of(ceph);
  for (unsigned d = 0; d < kDirs; ++d) clients[0]->mkdir(fmt::format("{}/d{}", home, d));
  auto inodes = [&] { return ceph.mds_counters("mds_mem").at("ino").get<double>(); };
  auto resident = [&] { return std::stod(ceph.tell("rss mds")); };
  const double inodes_before = inodes(), before = resident();
  make_files(clients, sizes.cached, [&](unsigned c, uint64_t i) {
    return fmt::format("{}/d{}/{}-{}", home, i % kDirs, c, file_name(i));
  });
  clients[0]->sync();
  ceph.tell("ceph daemon mds.m flush journal");
  ceph.settle();
  // What its allocator only keeps does not count.
  ceph.tell("ceph daemon mds.m heap release");
  row["memory"].value = (resident() - before) / (inodes() - inodes_before);
  tell("CephFS", "memory of a cached inode", row["memory"].value, "bytes");
}

void stall_of_cephfs(CephCluster& ceph, const RadosSizes& sizes, const std::string& home,
                     Row& row) {
  ceph.set_active_mds(2);
  CephFsClients clients = clients_of(ceph);
  CephFsClient boss(ceph.conf(), false);
  const std::string top = home + "/moving";
  boss.mkdir(top);
  boss.pin(top, 0);
  for (unsigned d = 0; d < kDirs; ++d) boss.mkdir(fmt::format("{}/d{}", top, d));
  make_files(clients, sizes.moving, [&](unsigned c, uint64_t i) {
    return fmt::format("{}/d{}/{}-{}", top, i % kDirs, c, file_name(i));
  });
  Longest longest;
  std::atomic<bool> ending = false;
  std::string failure;
  std::thread load([&] {
    try {
      timed_threads(kCephClients, [&](unsigned c) {
        for (uint64_t i = 0; !ending; ++i) {
          const std::string name = fmt::format("{}/d{}/w{}-{}", top, (c + i / 4) % kDirs, c, i / 4);
          Stopwatch watch;
          if (i % 4 == 0)
            clients[c]->create(name);
          else if (i % 4 == 1)
            clients[c]->stat(name);
          else if (i % 4 == 2)
            clients[c]->rename(name, name + "r");
          else
            clients[c]->unlink(name + "r");
          longest.add(watch.seconds());
        }
      });
    } catch (const BenchmarkError& error) {
      failure = error.what();
    }
  });
  {
    // However this ends, the load ends with it.
    struct EndOfLoad {
      std::atomic<bool>& ending;
      std::thread& load;
      ~EndOfLoad() {
        ending = true;
        load.join();
      }
    } end{ending, load};
    ::sleep(1);
    longest.take();
    ::sleep(3);
    row["stall before"].value = longest.take();
    auto imported = [&] {
      return ceph.mds_counters("mds", "n").at("imported_inodes").get<double>();
    };
    const double before = imported();
    boss.pin(top, 1);
    Stopwatch watch;
    while (imported() - before < static_cast<double>(sizes.moving) && watch.seconds() < kPatienceS)
      ::usleep(200'000);
    row["moved"].value = imported() - before;
    ::sleep(1);
    row["stall"].value = longest.take();
  }
  if (!failure.empty()) throw BenchmarkError(failure);
  tell("CephFS", "longest operation before the move", row["stall before"].value, "s");
  tell("CephFS", "longest operation while files move", row["stall"].value, "s");
  progress(fmt::format("rados, CephFS: {:.0f} inodes moved", row["moved"].value));
  clients.clear();
  ceph.set_active_mds(1);
}

}  // namespace

Row servers_of_graftfs(const Context& context, CephCluster& ceph, const RadosSizes& sizes,
                       const std::string& durability) {
  Row row;
  journal_and_restart_of_graftfs(context, ceph, sizes, durability, row);
  memory_of_graftfs(context, ceph, sizes, durability, row);
  stall_of_graftfs(context, ceph, sizes, durability, row);
  return row;
}

Row servers_of_cephfs(const Context&, CephCluster& ceph, const RadosSizes& sizes, int number) {
  Row row;
  const std::string home = fmt::format("/servers-{}", number);
  CephFsClient(ceph.conf(), false).mkdir(home);
  journal_and_restart_of_cephfs(ceph, sizes, home, row);
  memory_of_cephfs(ceph, sizes, home, row);
  stall_of_cephfs(ceph, sizes, home, row);
  return row;
}

}  // namespace graftfs::bench
