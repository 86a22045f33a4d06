// `graftfs serve`: a process that runs ranks for others to mount.
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/fault.h"
#include "cli/command.h"
#include "cli/log.h"
#include "cli/notifier.h"
#include "cli/setting_flags.h"
#include "cli/status_socket.h"
#include "cli/volume.h"
#include "node/node.h"
#include "node/volume_key.h"

namespace graftfs::cli {
namespace {

using nlohmann::json;

constexpr int kPoolThreads = 4;
constexpr int kExitLost = 3;  // fenced, with --no-rejoin
constexpr Nanos kShortestLease = 100 * kMillisecond, kLongestLease = 600 * kSecond;
constexpr size_t kMostRanks = 64;  // of one process

struct ServeOptions {
  std::string volume;
  std::vector<net::Address> listen;
  size_t ranks = 1;
  bool standby = false;
  bool rejoin = true;
  Nanos lease = 2 * kSecond;
  bool foreground = false;
  Settings settings;
};

// Owned by main, in the loop's thread. A crash leaves ranks that others take after the lease, or
// the next serve at once; an error before the ranks serve is told to the notifier, one after it to
// the log.
class Server {
 public:
  Server(ServeOptions options, Notifier notifier)
      : options_(std::move(options)), notifier_(std::move(notifier)) {}
  ~Server() {
    tasks_.cancel_all();
    socket_.reset();
    node_.reset();
    store_.reset();
    volume_.reset();
  }
  int run();

 private:
  Result<void> open();
  Task<void> serve();
  Task<Result<void>> begin(bool standby);
  Task<void> end();
  Task<void> rejoin();
  Task<void> watch_status();
  Result<node::NodeOptions> node_options(bool standby);
  void say(const std::string& line) { log_.line(fmt::format("serve {}: {}", ::getpid(), line)); }

  ServeOptions options_;
  Notifier notifier_;
  Log log_;
  bool ready_ = false, ending_ = false, formatted_ = false;
  int exit_code_ = 0;
  EventLoop loop_;
  BlockingPool pool_{"graftfs-io", kPoolThreads};
  std::shared_ptr<LocalVolume> volume_;
  std::unique_ptr<LocalStore> store_;
  std::unique_ptr<node::Node> node_;
  std::unique_ptr<StatusSocket> socket_;
  std::string status_ = "{}";
  TaskScope tasks_;  // last
};

int Server::run() {
  ::signal(SIGPIPE, SIG_IGN);
  if (auto opened = open(); !opened) {
    notifier_.failed(describe(opened.error()));
    return kExitError;
  }
  loop_.watch_signals({SIGINT, SIGTERM, SIGHUP}, [this] {
    if (!std::exchange(ending_, true)) tasks_.spawn(end());
  });
  tasks_.spawn(serve());
  loop_.run();
  return exit_code_;
}

// Sockets of processes that have died.
void remove_old_sockets(const std::string& dir) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    int pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH)
      std::filesystem::remove(entry.path(), error);
  }
}

Result<void> Server::open() {
  TRY(local::read_volume_file(options_.volume));
  if (!options_.foreground || !options_.settings.log.empty()) {
    std::string path =
        options_.settings.log.empty() ? options_.volume + "/graftfs.log" : options_.settings.log;
    TRY_ASSIGN(log_, Log::open(path));
  }
  TRY_ASSIGN(volume_, LocalVolume::open(options_.volume, store_options(options_.settings)));
  TRY_ASSIGN(store_, LocalStore::on(loop_, pool_, volume_));
  const std::string sockets = options_.volume + "/" + kSocketsDir;
  if (::mkdir(sockets.c_str(), 0700) != 0 && errno != EEXIST)
    return fail(errno, fmt::format("cannot make {}: {}", sockets, std::strerror(errno)));
  remove_old_sockets(sockets);
  if (options_.listen.empty()) {
    net::Address address{net::Address::unix_socket, fmt::format("{}/{}", sockets, ::getpid()), 0};
    if (address.text.size() > 100)
      return fail(ENAMETOOLONG,
                  fmt::format("{} is too long a name for a socket; give a shorter one "
                              "with --listen unix:PATH",
                              address.text));
    options_.listen.push_back(address);
  }
  TRY_ASSIGN(socket_, StatusSocket::listen(
                          loop_, options_.volume, [this] { return status_; },
                          fmt::format("{}/{}.status", kSocketsDir, ::getpid())));
  return {};
}

Result<node::NodeOptions> Server::node_options(bool standby) {
  node::NodeOptions o;
  o.rank = rank_options(options_.settings, volume_->file(), options_.volume);
  o.rank.journal_must_exist = formatted_;
  o.listen = options_.listen;
  o.ranks = options_.ranks;
  o.standby = standby;
  o.lease = options_.lease;
  TRY_ASSIGN(o.secret, node::volume_key(options_.volume));
  o.log = [this](const std::string& line) { say(line); };
  return o;
}

Task<void> Server::serve() {
  std::string key = kFormattedKey;
  auto formatted = co_await store_->state().get(key);
  formatted_ = formatted && formatted->version > 0;
  Result<void> up = co_await begin(options_.standby);
  if (!up) {
    exit_code_ = kExitError;
    notifier_.failed(describe(up.error()));
    if (!options_.foreground) say("not started: " + describe(up.error()));
    loop_.stop();
    co_return;
  }
  ready_ = true;
  if (options_.standby) say("standing by");
  notifier_.ready();
  co_await watch_status();
}

Task<Result<void>> Server::begin(bool standby) {
  CO_TRY_ASSIGN(node::NodeOptions options, node_options(standby));
  node_ = std::make_unique<node::Node>(loop_, pool_, volume_, std::move(options));
  node_->lost = [this](const std::string&) {
    if (ending_) return loop_.stop();
    if (options_.rejoin) return tasks_.spawn(rejoin());
    exit_code_ = kExitLost;
    say("ends, because it has lost its ranks (--no-rejoin)");
    loop_.stop();
  };
  co_return co_await node_->start();
}

// As another node, which waits for a rank to take.
Task<void> Server::rejoin() {
  co_await sleep_for(loop_, kMillisecond);  // out of the old one's call
  node_.reset();
  Result<void> up = co_await begin(true);
  if (up) {
    say("standing by, as another node");
    co_return;
  }
  exit_code_ = kExitError;
  say("cannot come back: " + describe(up.error()));
  loop_.stop();
}

Task<void> Server::end() {
  if (node_ && ready_) {
    Result<void> stopped = co_await node_->stop();
    if (!stopped) {
      say(fmt::format("not closed cleanly: {}; nothing acknowledged is lost",
                      describe(stopped.error())));
      exit_code_ = kExitError;
    }
  }
  say("ended");
  loop_.stop();
}

Task<void> Server::watch_status() {
  for (;;) {
    if (node_) {
      json ranks = json::array();
      std::vector<node::HostStatus> all = co_await node_->status();
      for (const node::HostStatus& s : all) {
        json peers = json::array();
        for (RankId peer : s.peers_up) peers.push_back(peer.v);
        ranks.push_back({{"rank", s.rank.v},
                         {"epoch", s.epoch.v},
                         {"failed", s.failed},
                         {"clients", s.clients},
                         {"requests", s.requests},
                         {"journal_bytes", s.journal_bytes},
                         {"journal_cap_bytes", s.journal_cap},
                         {"cache_entries", s.cache_entries},
                         {"events_replayed", s.events_replayed},
                         {"recovery_seconds", s.recovery_seconds},
                         {"connected_ranks", peers}});
      }
      status_ = json{
          {"pid", ::getpid()},
          {"node", fmt::format("{:016x}", node_->id())},
          {"standby", node_->is_standby()},
          {"ranks",
           ranks}}.dump();
    }
    co_await sleep_for(loop_, kSecond / 2);
  }
}

int run_server(Notifier notifier, void* context) {
  Server server(std::move(*static_cast<ServeOptions*>(context)), std::move(notifier));
  return server.run();
}

}  // namespace

void add_serve(CLI::App& app) {
  struct Args {
    ServeOptions options;
    std::string volume, config, lease;
    std::vector<std::string> listen;
    bool no_rejoin = false;
    SettingFlags flags;
  };
  auto args = std::make_shared<Args>();
  CLI::App* command = add_command(
      app, "serve", "Run ranks of a volume for others to mount; returns when they serve",
      "  graftfs serve /srv/v                         # one rank\n"
      "  graftfs serve /srv/v --ranks 2 --listen tcp:10.0.0.1:4000\n"
      "  graftfs serve /srv/v --standby               # takes over when another one dies\n"
      "  graftfs serve /srv/v --foreground --lease 1s # for a service manager\n"
      "\nSeveral of these may share a volume. Ranks that nobody runs are taken first; new ones "
      "are\n"
      "made where there are not enough. Rank N listens at PATH.N, or at PORT+N.\n"
      "See 'graftfs rank list VOLUME' for who runs what.\n");
  command->add_option("VOLUME", args->volume, "the volume's directory")->required();
  command->add_option("--ranks", args->options.ranks, "how many to run (1)")
      ->type_name("N")
      ->check(CLI::Range(size_t{1}, kMostRanks));
  command
      ->add_option("--listen", args->listen,
                   "unix:PATH or tcp:ADDRESS:PORT, may be given again (a socket in VOLUME)")
      ->type_name("ADDRESS");
  command->add_flag("--standby", args->options.standby, "run none, and take the first to be left");
  command->add_flag("--no-rejoin", args->no_rejoin,
                    "when another process has taken its ranks: end with exit code 3");
  command->add_option("--lease", args->lease, "silence after which a process counts as dead (2s)")
      ->type_name("TIME");
  command->add_option("--config", args->config, "a TOML file instead of VOLUME/graftfs.toml")
      ->type_name("FILE");
  command->add_flag("-f,--foreground", args->options.foreground,
                    "do not return; errors and the log go to standard error");
  args->flags.add_to(command, false);
  on_run(command, [args]() -> Result<int> {
    ServeOptions& o = args->options;
    o.volume = absolute_path(args->volume);
    o.rejoin = !args->no_rejoin;
    if (!args->lease.empty()) {
      auto lease = parse_duration(args->lease);
      if (!lease) return fail(EINVAL, fmt::format("--lease: {}", describe(lease.error())));
      o.lease = *lease;
      if (o.lease < kShortestLease || o.lease > kLongestLease)
        return fail(EINVAL, "--lease: give a time from 100ms to 10m");
    }
    for (const std::string& text : args->listen) {
      TRY_ASSIGN(net::Address address, net::parse_address(text));
      if (address.kind == net::Address::local)
        return fail(EINVAL, fmt::format("--listen: '{}' is not an address; give unix:PATH or "
                                        "tcp:ADDRESS:PORT",
                                        text));
      if (address.kind == net::Address::unix_socket) address.text = absolute_path(address.text);
      o.listen.push_back(std::move(address));
    }
    if (!args->config.empty()) args->config = absolute_path(args->config);
    TRY(local::read_volume_file(o.volume));
    TRY(load_config(args->config, o.volume, o.settings));
    TRY(args->flags.apply(o.settings));
    if (!o.settings.log.empty()) o.settings.log = absolute_path(o.settings.log);
    if (o.foreground) return run_server(Notifier(), &o);
    return daemonize(run_server, &o);
  });
}

}  // namespace graftfs::cli
