#include "cli/hosting.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/volume.h"
#include "node/volume_key.h"

namespace graftfs::cli {
namespace {

using nlohmann::json;

constexpr size_t kLongestSocketName = 100;

// Sockets of processes that have died.
void remove_old_sockets(const std::string& dir) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    int pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH)
      std::filesystem::remove(entry.path(), error);
  }
}

json describe_host(const node::HostStatus& s) {
  json peers = json::array();
  for (RankId peer : s.peers_up) peers.push_back(peer.v);
  return {{"rank", s.rank.v},
          {"epoch", s.epoch.v},
          {"failed", s.failed},
          {"clients", s.clients},
          {"requests", s.requests},
          {"journal_bytes", s.journal_bytes},
          {"journal_cap_bytes", s.journal_cap},
          {"cache_entries", s.cache_entries},
          {"events_replayed", s.events_replayed},
          {"recovery_seconds", s.recovery_seconds},
          {"connected_ranks", peers}};
}

}  // namespace

Hosting::Hosting(EventLoop& loop, BlockingPool& pool, std::shared_ptr<Volume> volume,
                 HostingOptions options)
    : loop_(loop), pool_(pool), volume_(std::move(volume)), options_(std::move(options)) {}

Hosting::~Hosting() {
  tasks_.cancel_all();
  socket_.reset();
  node_.reset();
}

Result<void> Hosting::open() {
  TRY_ASSIGN(std::string dir, make_run_dir(options_.volume));
  const std::string sockets = dir + "/" + kSocketsDir;
  if (::mkdir(sockets.c_str(), 0700) != 0 && errno != EEXIST)
    return fail(errno, fmt::format("cannot make {}: {}", sockets, std::strerror(errno)));
  remove_old_sockets(sockets);
  if (options_.listen.empty()) {
    net::Address address{net::Address::unix_socket, fmt::format("{}/{}", sockets, ::getpid()), 0};
    if (address.text.size() > kLongestSocketName)
      return fail(ENAMETOOLONG,
                  fmt::format("{} is too long a name for a socket; give a shorter one "
                              "with --listen unix:PATH",
                              address.text));
    options_.listen.push_back(address);
  }
  TRY_ASSIGN(socket_, StatusSocket::listen(
                          loop_, dir, [this] { return status_; },
                          fmt::format("{}/{}.status", kSocketsDir, ::getpid())));
  return {};
}

Result<node::NodeOptions> Hosting::node_options(bool standby) {
  node::NodeOptions o;
  o.rank = rank_options(options_.settings, volume_->file(), options_.volume);
  o.rank.journal_must_exist = formatted_;
  // Ranks recover in their own threads.
  if (options_.progress)
    o.rank.progress = [&loop = loop_, tell = options_.progress](const RecoveryProgress& progress) {
      loop.post([tell, progress] { tell(progress); });
    };
  o.listen = options_.listen;
  o.ranks = options_.ranks;
  o.standby = standby;
  o.lease = options_.lease;
  o.balance = options_.balance;
  TRY_ASSIGN(o.secret, node::volume_key(*volume_));
  o.log = options_.log;
  return o;
}

Task<Result<void>> Hosting::start(bool standby, bool formatted) {
  formatted_ = formatted;
  CO_TRY(co_await begin(standby));
  tasks_.spawn(watch_status());
  co_return Result<void>{};
}

Task<Result<void>> Hosting::begin(bool standby) {
  CO_TRY_ASSIGN(node::NodeOptions options, node_options(standby));
  node_ = std::make_unique<node::Node>(loop_, pool_, volume_, std::move(options));
  node_->lost = [this](const std::string&) {
    if (ending_) return over(false);
    if (options_.rejoin) return tasks_.spawn(rejoin());
    options_.log("ends, because it has lost its ranks (--no-rejoin)");
    over(true);
  };
  co_return co_await node_->start();
}

// As another node, which waits for a rank to take.
Task<void> Hosting::rejoin() {
  co_await sleep_for(loop_, kMillisecond);  // out of the old one's call
  node_.reset();
  Result<void> up = co_await begin(true);
  if (up) {
    options_.log("standing by, as another node");
    co_return;
  }
  options_.log("cannot come back: " + describe(up.error()));
  over(false);
}

Task<Result<void>> Hosting::stop() {
  ending_ = true;
  if (!node_) co_return Result<void>{};
  co_return co_await node_->stop();
}

Task<void> Hosting::watch_status() {
  for (;;) {
    if (node_) {
      json ranks = json::array();
      std::vector<node::HostStatus> all = co_await node_->status();
      for (const node::HostStatus& s : all) ranks.push_back(describe_host(s));
      if (node_)
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

}  // namespace graftfs::cli
