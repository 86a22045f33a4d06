#include "node/rank_host.h"

#include <pthread.h>

#include "base/fault.h"
#include "server/migrate.h"

namespace graftfs::node {

namespace {
constexpr Nanos kDrainLook = 5 * kMillisecond;
}

Result<net::Address> address_of(const net::Address& base, RankId rank) {
  net::Address address = base;
  if (base.kind == net::Address::tcp) {
    if (base.port == 0) return address;  // the system chooses one for each
    if (base.port + rank.v > UINT16_MAX)
      return fail(EINVAL, fmt::format("there is no port for rank {} beside {}; give a lower one",
                                      rank, net::show(base)));
    address.port = static_cast<uint16_t>(base.port + rank.v);
  } else {
    address.text += fmt::format(".{}", rank);
  }
  return address;
}

RankHost::RankHost(HostContext context, RankId rank) : context_(std::move(context)), rank_(rank) {
  std::promise<void> ready;
  auto running = ready.get_future();
  thread_ = std::thread([this, &ready] { main(std::move(ready)); });
  pthread_setname_np(thread_.native_handle(), fmt::format("graftfs-rank{}", rank).c_str());
  running.wait();
}

RankHost::~RankHost() {
  loop_->stop();
  thread_.join();
}

// The loop outlives everything that is bound to it, and the thread: others may post to it until
// this object is destroyed.
void RankHost::main(std::promise<void> ready) {
  loop_ = std::make_unique<EventLoop>();
  tasks_ = std::make_unique<TaskScope>();
  loop_->post([&ready] { ready.set_value(); });
  loop_->run();
  take_down();
  // What was posted to destroy connections.
  loop_->post([this] { loop_->stop(); });
  loop_->run();
}

void RankHost::take_down() {
  tasks_->cancel_all();
  listeners_.clear();
  clients_.reset();
  controls_.reset();
  server_.reset();
  peers_.reset();
  sockets_.reset();
  local_.reset();
  store_.reset();
}

void RankHost::start(OwnOptions own, StartFn done) {
  post([this, own = std::move(own), done = std::move(done)]() mutable {
    tasks_->spawn(run_start(std::move(own), std::move(done)));
  });
}

Task<void> RankHost::run_start(OwnOptions own, StartFn done) {
  Result<Epoch> epoch = co_await bring_up(own);
  done(std::move(epoch));
}

Task<Result<Epoch>> RankHost::bring_up(OwnOptions own) {
  CO_TRY_ASSIGN(store_, context_.volume->use(*loop_, *context_.pool));
  local_ = std::make_unique<net::LocalTransport>(*context_.hub, *loop_);
  sockets_ = std::make_unique<net::SocketTransport>(*loop_);
  PeerEvents events;
  events.up = [this](RankId rank, Epoch epoch) {
    context_.log(fmt::format("rank {}: connected with rank {}", rank_, rank));
    server_->peer_up(rank, epoch);
  };
  events.down = [this](RankId rank) {
    server_->peer_down(rank);
    if (context_.peer_lost) context_.peer_lost(rank);
  };
  events.received = [this](RankId from, Message message) {
    server_->receive(from, std::move(message));
  };
  events.log = context_.log;
  auto dialing = [this](RankId rank, const RankView& where, net::ConnectFn connected) {
    dial(rank, where, std::move(connected));
  };
  peers_ = std::make_unique<PeerLines>(*loop_, rank_, dialing, context_.lease_valid, events);
  RankOptions options = context_.rank;
  options.rank = rank_;
  options.own = own;
  options.peers = peers_.get();
  // A client goes by what the owner before had leased for a lease; then it has to come, and claims
  // what it has open before any of that is purged.
  const Nanos window = context_.lease_ms * kMillisecond * 5 / 4;
  options.reconnect_window = window;
  options.log = [this](const std::string& line) {
    context_.log(fmt::format("rank {}: {}", rank_, line));
  };
  server_ = std::make_unique<Rank>(*loop_, *store_, options);
  KILL_POINT("cluster.take.begin");
  CO_TRY(co_await server_->start());
  KILL_POINT("cluster.take.recovered");
  EndpointOptions endpoint;
  endpoint.lease = context_.lease_ms * kMillisecond;
  endpoint.window = window;
  endpoint.log = options.log;
  clients_ = std::make_unique<Endpoint>(*server_, std::move(endpoint));
  controls_ = std::make_unique<Controls>(*server_);
  CO_TRY(listen());
  peers_->begin(server_->epoch());
  co_return server_->epoch();
}

Result<void> RankHost::listen() {
  net::Doorman doorman;
  doorman.volume = context_.volume_number;
  doorman.node = context_.node;
  doorman.lease_ms = context_.lease_ms;
  doorman.secret = context_.secret;
  doorman.revoked = context_.revoked;
  doorman.log = context_.log;
  auto accepting = [this](std::unique_ptr<net::Connection> connection) {
    accept(std::move(connection));
  };
  net::Address inside{net::Address::local, fmt::format("rank-{}", rank_), 0};
  TRY_ASSIGN(auto listener, local_->listen(inside, doorman, accepting));
  listeners_.push_back(std::move(listener));
  std::vector<std::string> addresses;
  for (const net::Address& base : context_.listen) {
    TRY_ASSIGN(net::Address address, address_of(base, rank_));
    TRY_ASSIGN(auto outside, sockets_->listen(address, doorman, accepting));
    addresses.push_back(net::show(outside->address()));
    listeners_.push_back(std::move(outside));
  }
  addresses_ = std::move(addresses);
  return {};
}

void RankHost::accept(std::unique_ptr<net::Connection> connection) {
  if (connection->peer().role == net::Role::node) return peers_->accepted(std::move(connection));
  if (connection->peer().role == net::Role::client && clients_)
    return clients_->add(std::move(connection));
  if (connection->peer().role == net::Role::control && controls_)
    return controls_->add(std::move(connection));
  MARK("node.accept.refused");
  connection->close();
  loop_->post([gone = std::shared_ptr<net::Connection>(std::move(connection))] {});
}

void RankHost::dial(RankId rank, const RankView& where, net::ConnectFn done) {
  net::Identity me;
  me.role = net::Role::node;
  me.volume = context_.volume_number;
  me.id = context_.node;
  me.secret = context_.secret;
  if (where.here) {
    net::Address inside{net::Address::local, fmt::format("rank-{}", rank), 0};
    return local_->connect(inside, me, std::move(done));
  }
  // The first that can be used from here; unix sockets come first where both are given.
  for (const std::string& text : where.addresses) {
    auto address = net::parse_address(text);
    if (address && address->kind != net::Address::local)
      return sockets_->connect(*address, me, std::move(done));
  }
  loop_->post([done = std::move(done), rank]() mutable {
    done(fail(EHOSTUNREACH, fmt::format("rank {} has no address that can be reached", rank)));
  });
}

void RankHost::stop(std::function<void(Result<void>)> done) {
  post([this, done = std::move(done)]() mutable { tasks_->spawn(run_stop(std::move(done))); });
}

Task<void> RankHost::run_stop(std::function<void(Result<void>)> done) {
  listeners_.clear();
  clients_.reset();
  controls_.reset();
  Result<void> stopped;
  if (server_) stopped = co_await server_->stop();
  done(std::move(stopped));
}

void RankHost::update(ViewPtr view) {
  post([this, view = std::move(view)]() mutable {
    if (peers_) peers_->update(std::move(view));
  });
}

void RankHost::keys_revoked() {
  post([this] {
    if (!clients_ || !context_.revoked) return;
    auto is_revoked = [this](const net::Peer& peer) {
      return !peer.key_id.empty() && context_.revoked(peer.key_id);
    };
    clients_->drop_if(is_revoked, "has a key that was revoked");
  });
}

void RankHost::status(std::function<void(HostStatus)> done) {
  post([this, done = std::move(done)] {
    HostStatus s;
    s.rank = rank_;
    if (server_ && server_->epoch().v > 0) {
      const Recovered& r = server_->recovered();
      s.epoch = server_->epoch();
      s.failed = server_->failed();
      s.requests = server_->stats().requests;
      s.journal_bytes = server_->journal().live_bytes();
      s.journal_cap = server_->journal_cap();
      s.cache_entries = server_->cache().usage().entries;
      s.events_replayed = r.events;
      s.recovery_seconds = static_cast<double>(r.scan + r.replay + r.attach) / kSecond;
      s.clients = clients_ ? clients_->connections() : 0;
      for (RankId other : peers_->ranks())
        if (peers_->is_up(other)) s.peers_up.push_back(other);
    }
    done(std::move(s));
  });
}

void RankHost::hand_over(RankId to, std::function<void(Result<bool>)> done) {
  post([this, to, done = std::move(done)] {
    server_->migrations().leave();
    const Ino next = server_->migrations().next_to_leave();
    if (!next && !server_->state().imports.empty())
      return done(fail(EBUSY, "a subtree is still on its way here"));
    if (!next) return done(true);
    const bool hidden = is_hidden_dir(next);
    auto moved = [done](Result<void> result) {
      if (!result) return done(std::unexpected(std::move(result).error()));
      done(false);
    };
    server_->migrations().start(next, to, std::move(moved), hidden);
  });
}

void RankHost::take_leave(RankId heir, std::function<void()> done) {
  post([this, heir, done = std::move(done)]() mutable {
    tasks_->spawn(run_take_leave(heir, std::move(done)));
  });
}

Task<void> RankHost::run_take_leave(RankId heir, std::function<void()> done) {
  // Others answer when they can; nobody tells when the last one has.
  while (!server_->is_drained()) {
    if (server_->failed()) co_return;  // it stays, for whoever takes its journal next
    co_await sleep_for(*loop_, kDrainLook);
  }
  Result<void> synced = co_await server_->core().journal().sync();
  if (!synced || !clients_) co_return;
  Promised<bool> retired(*loop_);
  clients_->retire(heir, [retired] { retired.set(true); });
  co_await retired;
  done();
}

void RankHost::if_root(std::function<void()> fn) {
  post([this, fn = std::move(fn)] {
    if (!server_) return;
    auto it = server_->state().imports.find(kRootIno);
    if (it != server_->state().imports.end() && it->second.settled) fn();
  });
}

void RankHost::with_rank(std::function<void(Rank&)> fn) {
  post([this, fn = std::move(fn)] { fn(*server_); });
}

}  // namespace graftfs::node
