// `graftfs serve`: a process that runs ranks for others to mount.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/hosting.h"
#include "cli/log.h"
#include "cli/notifier.h"
#include "cli/setting_flags.h"
#include "cli/volume.h"
#include "tools/copy.h"

namespace graftfs::cli {
namespace {

constexpr int kPoolThreads = 8;
constexpr int kExitLost = 3;  // fenced, with --no-rejoin
constexpr Nanos kShortestLease = 100 * kMillisecond, kLongestLease = 600 * kSecond;

struct ServeOptions {
  HostingOptions hosting;
  bool standby = false;
  bool foreground = false;
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
    hosting_.reset();
    store_.reset();
    volume_.reset();
  }
  int run();

 private:
  Result<void> open();
  Task<void> serve();
  Task<void> end();
  void say(const std::string& line) { log_.line(fmt::format("serve {}: {}", ::getpid(), line)); }

  ServeOptions options_;
  Notifier notifier_;
  Log log_;
  bool ready_ = false, ending_ = false;
  int exit_code_ = 0;
  EventLoop loop_;
  BlockingPool pool_{"graftfs-io", kPoolThreads};
  std::shared_ptr<Volume> volume_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Hosting> hosting_;
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

Result<void> Server::open() {
  if (!rados::is_rados(options_.hosting.volume))
    TRY(local::read_volume_file(options_.hosting.volume));
  TRY_ASSIGN(std::string dir, make_run_dir(options_.hosting.volume));
  const Settings& settings = options_.hosting.settings;
  if (!options_.foreground || !settings.log.empty()) {
    std::string path = settings.log.empty() ? dir + "/graftfs.log" : settings.log;
    TRY_ASSIGN(log_, Log::open(path));
  }
  VolumeOptions volume = volume_options(settings);
  volume.early_journal = settings.durability == Durability::posix;
  TRY_ASSIGN(volume_, open_volume(options_.hosting.volume, volume));
  TRY_ASSIGN(store_, volume_->use(loop_, pool_));
  options_.hosting.log = [this](const std::string& line) { say(line); };
  hosting_ = std::make_unique<Hosting>(loop_, pool_, volume_, options_.hosting);
  hosting_->over = [this](bool fenced) {
    if (!ending_) exit_code_ = fenced ? kExitLost : kExitError;
    loop_.stop();
  };
  return hosting_->open();
}

Task<void> Server::serve() {
  std::string key = kFormattedKey;
  auto formatted = co_await store_->state().get(key);
  std::string shown = volume_->name();
  Result<void> up = co_await tools::check_not_copying(store_->state(), shown);
  if (up) up = co_await hosting_->start(options_.standby, formatted && formatted->version > 0);
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
}

Task<void> Server::end() {
  if (ready_) {
    Result<void> stopped = co_await hosting_->stop();
    if (!stopped) {
      say(fmt::format("not closed cleanly: {}; nothing acknowledged is lost",
                      describe(stopped.error())));
      exit_code_ = kExitError;
    }
  }
  say("ended");
  loop_.stop();
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
  command->add_option("VOLUME", args->volume, "the volume")->required();
  command->add_option("--ranks", args->options.hosting.ranks, "how many to run (1)")
      ->type_name("N")
      ->check(CLI::Range(size_t{1}, kMostRanks));
  command
      ->add_option("--listen", args->listen,
                   "unix:PATH or tcp:ADDRESS:PORT, may be given again (a socket in VOLUME)")
      ->type_name("ADDRESS");
  command->add_flag("--standby", args->options.standby, "run none, and take the first to be left");
  command->add_flag("--balance", args->options.hosting.balance,
                    "move busy subtrees to ranks that have less to do");
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
    HostingOptions& o = args->options.hosting;
    o.volume = volume_name(args->volume);
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
    TRY(args->flags.apply(o.settings));  // the volume may be known by them
    o.volume = with_settings(o.volume, o.settings);
    TRY(load_settings(args->config, o.volume, o.settings));
    TRY(args->flags.apply(o.settings));
    o.volume = with_settings(o.volume, o.settings);
    TRY(check_volume(o.volume));
    if (!o.settings.log.empty()) o.settings.log = absolute_path(o.settings.log);
    if (args->options.foreground) return run_server(Notifier(), &args->options);
    return daemonize(run_server, &args->options);
  });
}

}  // namespace graftfs::cli
