// The contract of connections, over every implementation.
#include <gmock/gmock.h>

#include <filesystem>

#include "net/tests/two_sides.h"

namespace graftfs::net {
namespace {

enum class Kind { one_thread, two_threads, unix_socket, tcp };

class Groups final : public GroupLookup {
 public:
  bool is_member(int32_t, uint32_t) const override { return false; }
  std::vector<uint32_t> groups_of(int32_t) const override { return {44}; }
};

class NetContract : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    secret_ = random_bytes(kSecretSize);
    dir_ = testing::TempDir() + "/net-XXXXXX";
    ASSERT_NE(::mkdtemp(dir_.data()), nullptr);
    make_transports(Limits{});
  }
  void TearDown() override {
    client().call([&] {
      mine_.connection.reset();
      client_transport_.reset();
    });
    server().call([&] {
      theirs_.connection.reset();
      more_.clear();
      listener_.reset();
      server_transport_.reset();
    });
    std::filesystem::remove_all(dir_);
  }

  LoopThread& server() { return a_; }
  LoopThread& client() { return GetParam() == Kind::one_thread ? a_ : b_; }

  std::unique_ptr<Transport> make(LoopThread& side, Limits limits) {
    if (GetParam() == Kind::unix_socket || GetParam() == Kind::tcp)
      return std::make_unique<SocketTransport>(side.loop(), limits);
    return std::make_unique<LocalTransport>(hub_, side.loop(), limits);
  }
  void make_transports(Limits limits) {
    server().call([&] { server_transport_ = make(server(), limits); });
    client().call([&] { client_transport_ = make(client(), limits); });
  }

  Address an_address() {
    switch (GetParam()) {
      case Kind::unix_socket:
        return {Address::unix_socket, dir_ + "/socket", 0};
      case Kind::tcp:
        return {Address::tcp, "127.0.0.1", 0};
      default:
        return {Address::local, "here", 0};
    }
  }
  Doorman doorman() {
    Doorman d;
    d.volume = kVolume;
    d.node = 5;
    d.lease_ms = 1234;
    d.secret = secret_;
    return d;
  }
  Identity identity() { return {Role::client, kVolume, 99, {}, secret_}; }

  void listen() {
    auto listening = server().call([&] {
      return server_transport_->listen(an_address(), doorman(), [&](auto connection) {
        if (!theirs_.connection) return theirs_.take(std::move(connection));
        more_.push_back(std::move(connection));
      });
    });
    ASSERT_TRUE(listening) << listening.error().message;
    listener_ = std::move(*listening);
    address_ = listener_->address();
  }
  Result<void> connect(Identity as) {
    std::promise<Result<void>> done;
    client().call([&] {
      client_transport_->connect(address_, as, [&](auto result) {
        if (!result) return done.set_value(std::unexpected(result.error()));
        mine_.take(std::move(*result));
        done.set_value({});
      });
    });
    return done.get_future().get();
  }
  void establish() {
    listen();
    auto connected = connect(identity());
    ASSERT_TRUE(connected) << connected.error().message;
    ASSERT_TRUE(server().wait_for([&] { return theirs_.connection != nullptr; }));
  }

  // Before the threads, which end first.
  LocalHub hub_;
  End mine_, theirs_;
  std::vector<std::unique_ptr<Connection>> more_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Transport> client_transport_, server_transport_;
  std::string dir_, secret_;
  Address address_;
  LoopThread a_, b_;
};

TEST_P(NetContract, BothSidesKnowWhoIsThere) {
  establish();
  client().call([&] {
    const Peer& peer = mine_.connection->peer();
    EXPECT_EQ(peer.role, Role::node);
    EXPECT_EQ(peer.id, 5u);
    EXPECT_EQ(peer.lease_ms, 1234u);
    EXPECT_EQ(peer.in_flight, Limits{}.in_flight);
  });
  server().call([&] {
    const Peer& peer = theirs_.connection->peer();
    EXPECT_EQ(peer.role, Role::client);
    EXPECT_EQ(peer.id, 99u);
    EXPECT_EQ(peer.limits, KeyLimits{});
  });
}

TEST_P(NetContract, MessagesArriveInOrderInBothDirections) {
  establish();
  constexpr uint64_t kMany = 20'000;
  client().call([&] {
    for (uint64_t n = 0; n < kMany; ++n) mine_.connection->send(beat(n));
  });
  server().call([&] {
    for (uint64_t n = 0; n < kMany; ++n) theirs_.connection->send(answer(n));
  });
  ASSERT_TRUE(server().wait_for([&] { return theirs_.messages.size() == kMany; }));
  ASSERT_TRUE(client().wait_for([&] { return mine_.messages.size() == kMany; }));
  for (uint64_t n = 0; n < kMany; ++n) {
    ASSERT_EQ(number_of(theirs_.messages[n]), n);
    ASSERT_EQ(std::get<msg::Answer>(mine_.messages[n].body).number, n);
  }
  EXPECT_EQ(theirs_.messages[0].to, RankId{1});
}

TEST_P(NetContract, LargeMessagesArriveWhole) {
  establish();
  server().call([&] {
    for (uint64_t n = 0; n < 20; ++n) theirs_.connection->send(answer(n, 900'000 + n));
  });
  ASSERT_TRUE(client().wait_for([&] { return mine_.messages.size() == 20; }));
  for (uint64_t n = 0; n < 20; ++n) {
    const auto& got = std::get<msg::Answer>(mine_.messages[n].body).reply.data;
    ASSERT_EQ(got, std::string(900'000 + n, 'd'));
  }
}

TEST_P(NetContract, WhatWasSentBeforeTheCloseArrivesFirst) {
  establish();
  client().call([&] {
    for (uint64_t n = 0; n < 100; ++n) mine_.connection->send(beat(n));
    mine_.connection->close();
    mine_.connection->send(beat(100));
  });
  ASSERT_TRUE(server().wait_for([&] { return !theirs_.ends.empty(); }));
  EXPECT_EQ(theirs_.messages.size(), 100u);
  EXPECT_EQ(theirs_.ends.size(), 1u);
  EXPECT_FALSE(theirs_.ends[0].message.empty());
  EXPECT_TRUE(mine_.ends.empty()) << "who closes is told nothing";
}

TEST_P(NetContract, ADestroyedConnectionIsNoticed) {
  establish();
  server().call([&] { theirs_.connection.reset(); });
  ASSERT_TRUE(client().wait_for([&] { return !mine_.ends.empty(); }));
  client().call([&] { mine_.connection->send(beat(1)); });  // goes nowhere
  EXPECT_EQ(mine_.ends.size(), 1u);
}

TEST_P(NetContract, AConnectionMayBeDestroyedByWhatItDelivers) {
  establish();
  theirs_.destroy_on_message = true;
  client().call([&] {
    for (uint64_t n = 0; n < 10; ++n) mine_.connection->send(beat(n));
  });
  ASSERT_TRUE(client().wait_for([&] { return !mine_.ends.empty(); }));
  server().call([&] {
    EXPECT_EQ(theirs_.messages.size(), 1u);
    EXPECT_TRUE(theirs_.ends.empty());
  });
}

TEST_P(NetContract, NobodyListensToWhatArrives) {
  establish();
  server().call([&] { theirs_.connection->set_events(nullptr); });
  client().call([&] { mine_.connection->send(beat(1)); });
  server().call([&] { theirs_.connection->send(answer(1)); });
  ASSERT_TRUE(client().wait_for([&] { return mine_.messages.size() == 1; }));
  EXPECT_TRUE(theirs_.messages.empty());
}

TEST_P(NetContract, WhoDoesNotReadMakesTheOtherSideWait) {
  establish();
  theirs_.pause_after = 1;
  uint64_t sent = 0;
  ASSERT_TRUE(client().wait_for([&] {
    for (int n = 0; n < 1000; ++n) mine_.connection->send(beat(sent++));
    return !mine_.connection->writable();
  }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(server().call([&] { return theirs_.messages.size(); }), 1u);
  EXPECT_EQ(client().call([&] { return mine_.writable_agains; }), 0);
  server().call([&] { theirs_.connection->set_reading(true); });
  ASSERT_TRUE(server().wait_for([&] { return theirs_.messages.size() == sent; }));
  ASSERT_TRUE(client().wait_for([&] { return mine_.writable_agains == 1; }));
  for (uint64_t n = 0; n < sent; ++n) ASSERT_EQ(number_of(theirs_.messages[n]), n);
  EXPECT_TRUE(client().call([&] { return mine_.connection->writable(); }));
}

TEST_P(NetContract, WhoNeverReadsLosesItsConnection) {
  Limits small;
  small.send_high = 64 << 10;
  small.send_limit = 256 << 10;
  make_transports(small);
  establish();
  client().call([&] { mine_.connection->set_reading(false); });
  ASSERT_TRUE(server().wait_for([&] {
    for (uint64_t n = 0; n < 200; ++n) theirs_.connection->send(answer(n, 1000));
    return !theirs_.ends.empty();
  }));
  EXPECT_EQ(theirs_.ends[0].code, ENOBUFS);
  EXPECT_EQ(theirs_.ends.size(), 1u);
}

TEST_P(NetContract, NobodyListens) {
  listen();
  server().call([&] { listener_.reset(); });
  auto connected = connect(identity());
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, ECONNREFUSED) << connected.error().message;
}

TEST_P(NetContract, AnotherVolumeIsRefused) {
  listen();
  Identity stranger = identity();
  stranger.volume = 78;
  auto connected = connect(stranger);
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, ESTALE);
  EXPECT_THAT(connected.error().message, testing::HasSubstr("another volume"));
  ASSERT_TRUE(connect(identity())) << "and the next one is not disturbed";
}

TEST_P(NetContract, AnAddressHasOneListener) {
  listen();
  auto second =
      server().call([&] { return server_transport_->listen(address_, doorman(), [](auto) {}); });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE) << second.error().message;
}

TEST_P(NetContract, ConnectionsOutliveTheirListener) {
  establish();
  server().call([&] { listener_.reset(); });
  client().call([&] { mine_.connection->send(beat(7)); });
  ASSERT_TRUE(server().wait_for([&] { return theirs_.messages.size() == 1; }));
}

TEST_P(NetContract, ManyClients) {
  listen();
  for (int n = 0; n < 50; ++n) {
    ASSERT_TRUE(connect(identity()));
    client().call([&] { mine_.connection->send(beat(n)); });
  }
  ASSERT_TRUE(server().wait_for([&] { return more_.size() == 49; }));
}

TEST_P(NetContract, ACallersGroupsAreKnownWhereItArrives) {
  establish();
  Groups groups;
  client().call([&] {
    msg::Call call;
    call.request.cred.uid = 1;
    call.request.cred.lookup = &groups;
    mine_.connection->send({RankId{}, RankId{}, std::move(call)});
  });
  ASSERT_TRUE(server().wait_for([&] { return theirs_.messages.size() == 1; }));
  const Credentials& cred = std::get<msg::Call>(theirs_.messages[0].body).request.cred;
  if (GetParam() == Kind::one_thread) {
    EXPECT_EQ(cred.lookup, &groups) << "nothing is looked up before it is needed";
  } else {
    EXPECT_EQ(cred.lookup, nullptr);
    EXPECT_EQ(cred.groups, std::vector<uint32_t>{44});
  }
}

std::string name_of(const testing::TestParamInfo<Kind>& info) {
  constexpr const char* names[] = {"OneThread", "TwoThreads", "Unix", "Tcp"};
  return names[static_cast<int>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(Net, NetContract,
                         testing::Values(Kind::one_thread, Kind::two_threads, Kind::unix_socket,
                                         Kind::tcp),
                         name_of);

}  // namespace
}  // namespace graftfs::net
