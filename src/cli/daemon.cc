#include "cli/daemon.h"

#include <fmt/format.h>
#include <signal.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/fault.h"
#include "cli/status.h"
#include "cli/volume.h"
#include "cluster/beats.h"
#include "node/node.h"
#include "node/volume_key.h"
#include "tools/copy.h"

namespace graftfs::cli {
namespace {

constexpr int kPoolThreads = 8;
constexpr Nanos kFindPatience = 5 * kSecond;               // for a cluster that is starting
constexpr uint32_t kSyncEverything = 0, kSyncJournal = 1;  // flags of the shutdown ioctl

std::string evicted_text(RankId rank, size_t locked) {
  std::string text = fmt::format(
      "evicted by rank {}, because it has not heard of this mount for longer than the lease: what "
      "was under way there has failed with EIO",
      rank.v);
  if (locked > 0)
    text += fmt::format(
        "; the locks on {} files are lost, and they answer EIO until they are closed", locked);
  return text;
}

}  // namespace

Daemon::Daemon(DaemonOptions options, Notifier notifier)
    : options_(std::move(options)), notifier_(std::move(notifier)) {}

Daemon::~Daemon() {
  tasks_.cancel_all();
  socket_.reset();
  mount_.reset();
  client_.reset();
  router_.reset();
  finder_.reset();
  hosting_.reset();
  rank_.reset();
  store_.reset();
  volume_.reset();
}

int Daemon::run() {
  ::signal(SIGPIPE, SIG_IGN);
  began_ = told_at_ = loop_.now();
  if (auto opened = open(); !opened) {
    fail_start(opened.error());
    return exit_code_;
  }
  tasks_.spawn(serve());
  loop_.run();
  return exit_code_;
}

Result<void> Daemon::open() {
  // Before the log, which would be made in a directory that is not a volume.
  if (!rados::is_rados(options_.volume)) TRY(local::read_volume_file(options_.volume));
  TRY_ASSIGN(run_dir_, make_run_dir(options_.volume));
  if (!options_.foreground || !options_.settings.log.empty()) {
    std::string path =
        options_.settings.log.empty() ? run_dir_ + "/graftfs.log" : options_.settings.log;
    TRY_ASSIGN(log_, Log::open(path));
  }
  pool_ = std::make_unique<BlockingPool>("graftfs-io", kPoolThreads);
  VolumeOptions volume = volume_options(options_.settings);
  volume.early_journal = options_.settings.durability == Durability::posix;
  TRY_ASSIGN(volume_, open_volume(options_.volume, volume));
  TRY_ASSIGN(store_, volume_->use(loop_, *pool_));
  return {};
}

RankOptions Daemon::rank_options() {
  RankOptions o = cli::rank_options(options_.settings, volume_->file(), options_.volume);
  o.progress = [this](const RecoveryProgress& progress) { tell_progress(progress); };
  o.log = [this](const std::string& line) {
    log_.line(line);
    if (!mounted_ && !options_.foreground) notifier_.say(line);
  };
  return o;
}

Task<void> Daemon::serve() {
  Result<void> up = co_await bring_up();
  if (up) co_return;
  // What was begun is ended in order; nothing of it is shown to anybody.
  fail_start(up.error());
  mount_.reset();
  client_.reset();
  router_.reset();
  finder_.reset();
  if (hosting_) (void)co_await hosting_->stop();
  socket_.reset();
  loop_.stop();
}

Task<Result<void>> Daemon::bring_up() {
  std::string key = kFormattedKey;
  CO_TRY_ASSIGN(StateValue formatted, co_await store_->state().get(key));
  std::string shown = volume_->name();
  CO_TRY(co_await tools::check_not_copying(store_->state(), shown));
  CO_TRY_ASSIGN(Served known, co_await served());
  // A rank that is not the first has a number only a node knows how to run.
  const size_t ranks = std::max(options_.ranks, known.ranks);
  if (known.by_others) {
    CO_TRY(co_await join_cluster());
  } else if (ranks > 1 || !known.has_first) {
    CO_TRY(co_await host_ranks(ranks, formatted.version > 0));
    CO_TRY(co_await join_cluster());
  } else {
    RankOptions options = rank_options();
    options.journal_must_exist = formatted.version > 0;
    rank_ = std::make_unique<Rank>(loop_, *store_, std::move(options));
    CO_TRY(co_await rank_->start());
  }
  start_took_ = loop_.now() - began_;
  KILL_POINT("daemon.recovered");
  CO_TRY(mount());
  CO_TRY_ASSIGN(socket_, StatusSocket::listen(
                             loop_, run_dir_, [this] { return status(); },
                             rank_ ? kSocketName : mount_socket(options_.mountpoint)));
  mounted_ = true;
  if (rank_) {
    log_.line(fmt::format("mounted {} on {}: {} events replayed in {:.3f} s", options_.volume,
                          options_.mountpoint, rank_->recovered().events,
                          static_cast<double>(start_took_) / kSecond));
  } else {
    log_.line(fmt::format("mounted {}, which {}, on {}", options_.volume,
                          hosting_
                              ? fmt::format("has {} ranks here", hosting_->node()->ranks().size())
                              : "others serve",
                          options_.mountpoint));
  }
  notifier_.ready();
  co_return Result<void>{};
}

Task<Result<Daemon::Served>> Daemon::served() {
  std::string key = cluster::kTableKey;
  CO_TRY_ASSIGN(StateValue found, co_await store_->state().get(key));
  CO_TRY_ASSIGN(cluster::Table table, cluster::decode_table(found.value));
  Served served{.ranks = table.ranks.size()};
  served.has_first = table.ranks.empty() || table.ranks.contains(RankId{0});
  for (const auto& [rank, line] : table.ranks) {
    if (line.node == 0) continue;
    std::string node = cluster::node_key(line.node);
    CO_TRY_ASSIGN(StateValue record, co_await store_->state().get(node));
    auto known = cluster::decode_node(node, record.value);
    // One of this machine that is dead leaves the rank to this mount; of others the lock tells.
    served.by_others =
        served.by_others || (known && (known->machine != node::this_machine() ||
                                       node::started_at(known->pid) == known->started));
  }
  co_return served;
}

// Each in a thread of its own, and this mount is a client of them like any other.
Task<Result<void>> Daemon::host_ranks(size_t ranks, bool formatted) {
  HostingOptions hosting;
  hosting.volume = options_.volume;
  hosting.ranks = ranks;
  hosting.settings = options_.settings;
  hosting.log = [this](const std::string& line) { log_.line(line); };
  hosting.progress = [this](const RecoveryProgress& progress) { tell_progress(progress); };
  hosting_ = std::make_unique<Hosting>(loop_, *pool_, volume_, std::move(hosting));
  // The mount stays: its clients wait for whoever serves next.
  hosting_->over = [this](bool) { log_.line("this process runs no rank any more"); };
  CO_TRY(hosting_->open());
  co_return co_await hosting_->start(false, formatted);
}

Task<Result<void>> Daemon::join_cluster() {
  CO_TRY_ASSIGN(std::string secret, node::volume_key(*volume_));
  finder_ = std::make_unique<node::Finder>(loop_, store_->state(),
                                           volume_number(volume_->file().uuid), std::move(secret));
  finder_->inside = [this](RankId rank, const net::Identity& me, net::ConnectFn& done) {
    node::Node* node = hosting_ ? hosting_->node() : nullptr;
    return node && node->connect_inside(rank, me, done);
  };
  Result<void> found = co_await finder_->start(kFindPatience);
  if (!found)
    co_return fail(found.error().code, fmt::format("{}; start one with 'graftfs serve {}'",
                                                   describe(found.error()), options_.volume));
  router_ = std::make_unique<Router>(
      loop_,
      [this](RankId rank, net::ConnectFn done) {
        finder_->dial(rank, client_->session(), std::move(done));
      },
      [this] { return finder_->map(); });
  co_return Result<void>{};
}

Result<void> Daemon::mount() {
  const Settings& s = options_.settings;
  ClientOptions client;
  client.atime = s.atime && !s.read_only;
  MetadataService& service = rank_ ? static_cast<MetadataService&>(*rank_) : *router_;
  client.locks = router_.get();
  store_->data().on_damage([this](const Error& damage) { log_.line(describe(damage)); });
  client_ = std::make_unique<Client>(loop_, service, store_->data(), random_, client);
  MountOptions mount;
  mount.mountpoint = options_.mountpoint;
  mount.source = options_.volume;
  mount.read_only = s.read_only;
  mount.allow_other = s.allow_other;
  // What others change has to be seen (docs/decisions/012-nothing-kept-by-a-shared-kernel.md).
  mount.shared = !rank_;
  // An OSD answers late, and there are several.
  if (rados::is_rados(options_.volume)) mount.read_ahead = 8u << 20;
  mount.entry_timeout_s = mount.attr_timeout_s = rank_ ? s.kernel_cache : 0;
  mount.shut_down = [this](uint32_t flags, std::function<void(int)> done) {
    shut_down(flags, std::move(done));
  };
  TRY_ASSIGN(mount_, FuseMount::mount(loop_, *client_, std::move(mount)));
  if (router_) {
    router_->cache().caller_checks = true;  // default_permissions
    router_->wanted_back = [this](Ino ino) { client_->give_back(ino); };
    router_->is_idle = [this](Ino ino) { return client_->is_idle(ino); };
    router_->refers_to = [this](Ino ino) { return mount_ && mount_->refers_to(ino); };
    router_->lost_for_good = [this](RankId rank, const Request& request, int err) {
      log_.line(fmt::format("rank {}: what it had acknowledged is lost: {} of inode {:#x} ({})",
                            rank, op_name(request.args), key_ino(request.args).v,
                            std::strerror(err)));
    };
    router_->evicted = [this](RankId rank, const std::vector<Ino>& locked) {
      log_.line(evicted_text(rank, locked.size()));
      for (Ino ino : locked)
        if (mount_) mount_->lost_lock(ino);
    };
  }
  mount_->on_unmounted([this] { tasks_.spawn(bring_down()); });
  return {};
}

Task<void> Daemon::bring_down() {
  KILL_POINT("daemon.unmounted");
  mount_.reset();
  client_.reset();
  router_.reset();
  finder_.reset();
  Result<void> stopped;
  if (rank_) stopped = co_await rank_->stop();
  if (hosting_) stopped = co_await hosting_->stop();
  if (!stopped && !shut_down_) {
    log_.line(
        fmt::format("the volume was not closed cleanly: {}; nothing acknowledged is lost, and "
                    "the next mount recovers it",
                    describe(stopped.error())));
    exit_code_ = 1;
  }
  log_.line(shut_down_ ? "ended after a shutdown" : "unmounted");
  socket_.reset();
  loop_.stop();
}

void Daemon::shut_down(uint32_t flags, std::function<void(int)> done) {
  auto stop = [this, done = std::move(done)](int err) {
    shut_down_ = true;
    log_.line("shut down by ioctl: every operation fails from now on; unmount and mount again");
    store_->shut_down();
    done(err);
  };
  if (flags != kSyncEverything && flags != kSyncJournal) return stop(0);
  client_->sync_all(Credentials{},
                    [stop](Result<uint64_t> synced) { stop(synced ? 0 : synced.error().code); });
}

void Daemon::tell_progress(const RecoveryProgress& p) {
  Nanos now = loop_.now();
  if (now - began_ < kSecond || now - told_at_ < kSecond) return;
  told_at_ = now;
  double done =
      p.bytes_total ? static_cast<double>(p.bytes_done) / static_cast<double>(p.bytes_total) : 1;
  notifier_.say(fmt::format("recovering: {} events, {:.0f} % of {}, about {:.1f} s left",
                            p.events_done, 100 * done, show_size(p.bytes_total),
                            static_cast<double>(p.left) / kSecond));
}

void Daemon::fail_start(const Error& error) {
  exit_code_ = 1;
  notifier_.failed(describe(error));
  if (!options_.foreground) log_.line(fmt::format("not mounted: {}", describe(error)));
}

std::string Daemon::status() {
  if (!rank_) {
    return nlohmann::json{
        {"pid", ::getpid()},
        {"mountpoint", options_.mountpoint},
        {"served_by_others", !hosting_},
        {"hosted_ranks", hosting_ && hosting_->node() ? hosting_->node()->ranks().size() : 0}}
        .dump();
  }
  return describe_rank(*rank_, *volume_, options_.mountpoint, options_.settings,
                       loop_.now() - began_, start_took_)
      .dump();
}

}  // namespace graftfs::cli
