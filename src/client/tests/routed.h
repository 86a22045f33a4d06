#pragma once
// Clients and two ranks, over connections inside the process that break.

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../../server/tests/two_ranks.h"
#include "client/router.h"
#include "net/local/local.h"
#include "server/endpoint.h"

namespace graftfs {

// One mount's way to the ranks.
struct Way {
  Way(Ranks& r, net::Transport& t, SessionId id)
      : ranks(r),
        transport(t),
        session(id),
        router(
            r.executor, [this](RankId rank, net::ConnectFn done) { dial(rank, std::move(done)); },
            [] { return RankMap{RankId{0}, {RankId{0}, RankId{1}}}; }) {
    router.open_session(id);
  }
  void dial(RankId rank, net::ConnectFn done) {
    net::Identity identity{net::Role::client, 1, session.v, "", ""};
    transport.connect({net::Address::local, fmt::format("rank-{}", rank.v), 0}, identity,
                      std::move(done));
  }
  void begin(Args args, std::optional<Reply>& reply) {
    Request request;
    request.args = std::move(args);
    router.submit(std::move(request), [&reply](Reply r) { reply = std::move(r); });
  }
  Reply call(Args args) {
    std::optional<Reply> reply;
    begin(std::move(args), reply);
    ranks.executor.run_until([&] { return reply.has_value(); });
    return reply ? std::move(*reply) : Reply{.err = EIO};
  }
  Ino mkdir(Ino dir, const std::string& name) {
    Reply reply = call(MkdirArgs{dir, name, 0755, 0});
    EXPECT_EQ(reply.err, 0) << name;
    return reply.stat.ino;
  }
  Ino create(Ino dir, const std::string& name) {
    Reply reply = call(CreateArgs{dir, name, 0644, 0, true, 0});
    EXPECT_EQ(reply.err, 0) << name;
    return reply.stat.ino;
  }

  Ranks& ranks;
  net::Transport& transport;
  SessionId session;
  Router router;
};

struct Routed : ::testing::Test {
  void SetUp() override {
    for (size_t i : {0, 1}) serve(i);
  }
  void TearDown() override {
    for (size_t i : {0, 1}) end(i);
  }
  void serve(size_t i, Nanos window = 0) {
    EndpointOptions options;
    options.window = window;
    options.log = [this](const std::string& line) { log.push_back(line); };
    endpoints[i] = std::make_unique<Endpoint>(ranks.rank(i), options);
    auto listener =
        transport.listen({net::Address::local, fmt::format("rank-{}", i), 0},
                         net::Doorman{.volume = 1}, [this, i](std::unique_ptr<net::Connection> c) {
                           const bool heard = SessionId{c->peer().id} != unreachable;
                           if (endpoints[i] && heard) endpoints[i]->add(std::move(c));
                         });
    ASSERT_TRUE(listener.has_value());
    listeners[i] = std::move(*listener);
  }
  void end(size_t i) {
    listeners[i].reset();
    endpoints[i].reset();
  }
  // Every connection to the rank breaks; it stays alive.
  void cut(size_t i) {
    end(i);
    serve(i);
  }
  void kill(size_t i) {
    end(i);
    ranks.kill(i);
  }
  void revive(size_t i, Nanos window = kSecond) {
    ranks.start(i);
    serve(i, window);
  }

  static RankOptions options() {
    RankOptions options;
    options.reconnect_window = kSecond;
    return options;
  }

  Ranks ranks{2, options()};
  net::LocalHub hub;
  net::LocalTransport transport{hub, ranks.executor};
  std::array<std::unique_ptr<Endpoint>, 2> endpoints;
  std::array<std::unique_ptr<net::Listener>, 2> listeners;
  std::vector<std::string> log;
  std::optional<SessionId> unreachable;  // whose connections are dropped
  Way me{ranks, transport, SessionId{0x1001}};
};

}  // namespace graftfs
