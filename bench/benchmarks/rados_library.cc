// On Ceph, by the library: eight clients, each with a directory of its own and one operation under
// way.

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>

#include <functional>
#include <memory>
#include <thread>

#include "benchmarks/rados_rows.h"
#include "harness/served.h"
#include "harness/workload.h"

namespace graftfs::bench {
namespace {

constexpr double kStartTimeoutS = 60;

std::string name_of(char kind, uint64_t i) { return fmt::format("{}{:08}", kind, i); }

void tell_phase(const char* side, const std::string& phase, const Measured& m) {
  progress(
      fmt::format("rados, {}: {} {:.0f}/s, OSDs {:.2f} cores", side, phase, m.value, m.osd_cores));
}

}  // namespace

// -- the server -----------------------------------------------------------------------------------

GraftfsServer::GraftfsServer(const Context& context, std::string volume,
                             std::vector<std::string> options)
    : context_(context), volume_(std::move(volume)), options_(std::move(options)) {
  start();
}

GraftfsServer::~GraftfsServer() {
  ::kill(pid_, SIGTERM);
  wait_for(pid_);
}

void GraftfsServer::start() {
  std::vector<std::string> argv = {context_.graftfs, "serve", volume_, "--foreground"};
  argv.insert(argv.end(), options_.begin(), options_.end());
  pid_ = spawn(argv);
}

void GraftfsServer::check_alive() const {
  if (has_ended(pid_)) throw BenchmarkError("'graftfs serve' has ended");
}

void GraftfsServer::kill_and_start() {
  ::kill(pid_, SIGKILL);
  wait_for(pid_);
  start();
}

Json GraftfsServer::rank(size_t number) const {
  const Json cluster =
      Json::parse(run_or_throw({context_.graftfs, "rank", "list", volume_, "--json"}));
  for (const Json& line : cluster["ranks"])
    if (line["rank"] == number) return line;
  throw BenchmarkError(fmt::format("'graftfs rank list' does not know rank {}", number));
}

std::unique_ptr<LibraryClients> clients_of(const GraftfsServer& server, size_t count) {
  Stopwatch waited;
  for (;;) {
    try {
      return std::make_unique<LibraryClients>(server.volume(), count);
    } catch (const BenchmarkError&) {
      server.check_alive();
      if (waited.seconds() > kStartTimeoutS) throw;
    }
  }
}

void for_each_client(LibraryClients& clients, uint64_t each,
                     const std::function<Args(size_t client, uint64_t i)>& make) {
  size_t left = clients.size();
  std::function<void(size_t, uint64_t)> next = [&](size_t c, uint64_t i) {
    if (i == each) {
      --left;
      return;
    }
    clients.submit(c, make(c, i), [&, c, i](Reply reply) {
      if (reply.err) throw BenchmarkError(fmt::format("a request failed with errno {}", reply.err));
      next(c, i + 1);
    });
  };
  for (size_t c = 0; c < clients.size(); ++c) next(c, 0);
  while (left > 0) clients.loop().run_one();
}

// -- the rows -------------------------------------------------------------------------------------

Row library_of_graftfs(const Context& context, CephCluster& ceph, const RadosSizes& sizes,
                       const std::string& durability) {
  const uint64_t each = sizes.files / kCephClients;
  Row row;
  GraftfsServer server(context, ceph.fresh_volume(context),
                       {"--durability", durability, "--memory", "4GiB"});
  auto clients = clients_of(server, kCephClients);
  std::vector<Ino> dirs;
  for (unsigned c = 0; c < kCephClients; ++c)
    dirs.push_back(clients->must(c, MkdirArgs{kRootIno, fmt::format("c{}", c), 0755, 0}).stat.ino);
  const std::string side = "GraftFS, " + durability;
  auto phase = [&](const char* name, const std::function<Args(Ino, uint64_t)>& make) {
    row[name] = rate_of(ceph, each * kCephClients, [&] {
      for_each_client(*clients, each, [&](size_t c, uint64_t i) { return make(dirs[c], i); });
    });
    tell_phase(side.c_str(), name, row[name]);
  };
  phase("create", [](Ino dir, uint64_t i) -> Args {
    return MknodArgs{dir, name_of('f', i), S_IFREG | 0644, 0, 0};
  });
  phase("rename", [](Ino dir, uint64_t i) -> Args {
    return RenameArgs{dir, name_of('f', i), dir, name_of('r', i), 0};
  });
  phase("stat", [](Ino dir, uint64_t i) -> Args { return LookupArgs{dir, name_of('r', i)}; });
  phase("unlink", [](Ino dir, uint64_t i) -> Args { return UnlinkArgs{dir, name_of('r', i)}; });
  phase("mkdir",
        [](Ino dir, uint64_t i) -> Args { return MkdirArgs{dir, name_of('d', i), 0755, 0}; });
  return row;
}

Row library_of_cephfs(const Context&, CephCluster& ceph, const RadosSizes& sizes, bool recommended,
                      int number) {
  const uint64_t each = sizes.files / kCephClients;
  std::vector<std::unique_ptr<CephFsClient>> clients;
  auto connect = [&] {
    clients.clear();
    for (unsigned c = 0; c < kCephClients; ++c)
      clients.push_back(std::make_unique<CephFsClient>(ceph.conf(), recommended));
  };
  connect();
  const std::string home = fmt::format("/library-{}", number);
  clients[0]->mkdir(home);
  if (recommended) clients[0]->spread(home);
  for (unsigned c = 0; c < kCephClients; ++c) clients[c]->mkdir(fmt::format("{}/c{}", home, c));
  const char* side = recommended ? "CephFS, as recommended" : "CephFS";
  Row row;
  auto phase = [&](const char* name,
                   const std::function<void(CephFsClient&, const std::string&, uint64_t)>& one) {
    row[name] = rate_of(ceph, each * kCephClients, [&] {
      timed_threads(kCephClients, [&](unsigned c) {
        const std::string dir = fmt::format("{}/c{}/", home, c);
        for (uint64_t i = 0; i < each; ++i) one(*clients[c], dir, i);
      });
    });
    tell_phase(side, name, row[name]);
  };
  using Client = CephFsClient;
  using Text = std::string;
  phase("create", [](Client& c, const Text& dir, uint64_t i) { c.create(dir + name_of('f', i)); });
  phase("rename", [](Client& c, const Text& dir, uint64_t i) {
    c.rename(dir + name_of('f', i), dir + name_of('r', i));
  });
  connect();  // nothing is cached in the clients
  phase("stat", [](Client& c, const Text& dir, uint64_t i) { c.stat(dir + name_of('r', i)); });
  phase("unlink", [](Client& c, const Text& dir, uint64_t i) { c.unlink(dir + name_of('r', i)); });
  phase("mkdir", [](Client& c, const Text& dir, uint64_t i) { c.mkdir(dir + name_of('d', i)); });
  return row;
}

}  // namespace graftfs::bench
