#include "node/finder.h"

namespace graftfs::node {
namespace {

constexpr Nanos kReadEvery = kSecond / 4;
constexpr Nanos kTryEvery = 20 * kMillisecond;

}  // namespace

Finder::Finder(EventLoop& loop, StateStore& state, uint64_t volume, std::string secret)
    : loop_(loop), state_(state), volume_(volume), secret_(std::move(secret)), sockets_(loop) {}

Task<Result<void>> Finder::read() {
  std::string key = cluster::kTableKey, prefix(cluster::kNodePrefix);
  CO_TRY_ASSIGN(StateValue found, co_await state_.get(key));
  CO_TRY_ASSIGN(cluster::Table table, cluster::decode_table(found.value));
  CO_TRY_ASSIGN(auto records, co_await state_.list(prefix));
  ClusterView view;
  view.root = table.root;
  for (const auto& [rank, line] : table.ranks)
    view.ranks[rank] = {line.epoch, line.node, false, false, {}};
  for (const auto& [name, value] : records) {
    auto node = cluster::decode_node(name, value.value);
    if (!node) continue;
    for (const auto& [rank, addresses] : node->addresses) {
      auto it = view.ranks.find(rank);
      if (it != view.ranks.end() && it->second.node == node->id) it->second.addresses = addresses;
    }
  }
  view_ = std::move(view);
  co_return Result<void>{};
}

Task<void> Finder::keep_reading() {
  for (;;) {
    co_await sleep_for(loop_, kReadEvery);
    (void)co_await read();
  }
}

Task<Result<void>> Finder::start(Nanos patience) {
  const Nanos end = loop_.now() + patience;
  Error last{EHOSTDOWN, "no process serves the volume"};
  for (;;) {
    CO_TRY(co_await read());
    Promised<bool> answered(loop_);
    dial(view_.root, SessionId{1},
         [&last, answered](Result<std::unique_ptr<net::Connection>> connection) {
           if (!connection) last = connection.error();
           answered.set(connection.has_value());
         });
    if (co_await answered) break;
    if (loop_.now() >= end)
      co_return fail(EHOSTDOWN, fmt::format("no process serves the volume ({})", describe(last)));
    co_await sleep_for(loop_, kTryEvery);
  }
  tasks_.spawn(keep_reading());
  co_return Result<void>{};
}

RankMap Finder::map() const {
  RankMap map;
  map.root = view_.root;
  for (const auto& [rank, view] : view_.ranks) map.ranks.push_back(rank);
  return map;
}

void Finder::dial(RankId rank, SessionId session, net::ConnectFn done) {
  connect(rank, net::Role::client, session.v, std::move(done));
}

void Finder::dial_control(RankId rank, net::ConnectFn done) {
  connect(rank, net::Role::control, 1, std::move(done));
}

void Finder::connect(RankId rank, net::Role role, uint64_t id, net::ConnectFn done) {
  net::Identity me;
  me.role = role;
  me.volume = volume_;
  me.id = id;
  me.secret = secret_;
  if (inside && inside(rank, me, done)) return;
  const RankView* where = view_.find(rank);
  if (where) {
    for (const std::string& text : where->addresses) {
      auto address = net::parse_address(text);
      if (address && address->kind != net::Address::local)
        return sockets_.connect(*address, std::move(me), std::move(done));
    }
  }
  loop_.post([done = std::move(done), rank]() mutable {
    done(fail(EHOSTUNREACH, fmt::format("rank {} is served by nobody", rank)));
  });
}

}  // namespace graftfs::node
