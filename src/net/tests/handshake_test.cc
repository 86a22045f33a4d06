// Who may come in, and what both sides know afterwards.
#include "net/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "net/keys.h"
#include "net/socket/seal.h"

namespace graftfs::net {
namespace {

using testing::HasSubstr;

constexpr uint64_t kVolume = 77;

struct Ended {
  std::optional<Error> client, server;  // unset: it went well
  std::optional<SealKeys> client_keys, server_keys;
  Peer seen_by_client, seen_by_server;
};

struct Handshakes : testing::Test {
  Handshakes() {
    doorman.volume = kVolume;
    doorman.node = 3;
    doorman.secret = random_bytes(kSecretSize);
    identity = {Role::client, kVolume, 42, {}, doorman.secret};
  }

  // Every frame may be changed on its way.
  Ended run(bool sealed, std::function<void(std::string&)> to_server = {},
            std::function<void(std::string&)> to_client = {}) {
    ClientHandshake client(identity, sealed);
    ServerHandshake server(doorman, 10, sealed);
    Ended out;
    std::vector<std::string> for_server = {client.hello()};
    bool client_done = false, server_done = false;
    while (!for_server.empty() && !out.client && !out.server) {
      std::vector<std::string> for_client;
      for (std::string frame : std::exchange(for_server, {})) {
        if (to_server) to_server(frame);
        HandshakeStep step = server.receive(frame);
        for (auto& f : step.plain) for_client.push_back(f);
        for (auto& f : step.sealed) for_client.push_back(f);
        if (step.keys) out.server_keys = step.keys;
        if (step.failed) out.server = step.failed;
        server_done |= step.done;
      }
      for (std::string frame : for_client) {
        if (to_client) to_client(frame);
        HandshakeStep step = client.receive(frame);
        for (auto& f : step.plain) for_server.push_back(f);
        if (step.keys) out.client_keys = step.keys;
        if (step.failed) out.client = step.failed;
        client_done |= step.done;
      }
    }
    EXPECT_EQ(client_done, !out.client && !out.server);
    EXPECT_TRUE(server_done || !client_done);
    out.seen_by_client = client.peer();
    out.seen_by_server = server.peer();
    return out;
  }

  Doorman doorman;
  Identity identity;
};

TEST_F(Handshakes, BothProveTheKeyAndAgreeOnNewOnes) {
  Ended one = run(true), two = run(true);
  ASSERT_FALSE(one.client || one.server);
  EXPECT_EQ(one.client_keys->send, one.server_keys->receive);
  EXPECT_EQ(one.client_keys->receive, one.server_keys->send);
  EXPECT_NE(one.client_keys->send, one.client_keys->receive);
  EXPECT_NE(one.client_keys->send, two.client_keys->send) << "each connection has its own";
  EXPECT_EQ(one.client_keys->send.size(), 32u);
  EXPECT_EQ(one.seen_by_server.id, 42u);
  EXPECT_EQ(one.seen_by_client.id, 3u);
  EXPECT_EQ(one.seen_by_client.in_flight, 10u);
}

TEST_F(Handshakes, AUnixSocketNeedsNoKey) {
  identity.secret.clear();
  Ended e = run(false);
  EXPECT_FALSE(e.client || e.server);
  EXPECT_FALSE(e.client_keys || e.server_keys);
}

TEST_F(Handshakes, AWrongKeyIsFoundOutByBothSides) {
  identity.secret = random_bytes(kSecretSize);
  Ended e = run(true);
  ASSERT_TRUE(e.client);
  EXPECT_EQ(e.client->code, EACCES);
  EXPECT_THAT(e.client->message, HasSubstr("does not know this key"));
  // And one who does not look at the server's proof.
  Ended lied = run(true,
                   [](std::string& frame) {
                     if (frame[0] == 3) frame[5] ^= 1;
                   },
                   {});
  EXPECT_TRUE(lied.client || lied.server);
}

TEST_F(Handshakes, AProofThatIsMadeUpIsRefusedWithoutAWord) {
  Ended e = run(true, [](std::string& frame) {
    if (frame[0] != 3) return;
    frame = "\3";
    ByteWriter(frame).string(std::string(32, 'x'));
  });
  ASSERT_TRUE(e.server);
  EXPECT_EQ(e.server->code, EACCES);
  EXPECT_FALSE(e.client);
}

// Whoever changes a byte of the greeting or of the welcome is found out, whatever it meant.
TEST_F(Handshakes, WhatWasChangedOnTheWayIsNoticed) {
  std::string hello = ClientHandshake(identity, true).hello();
  for (size_t at = 0; at < hello.size(); ++at) {
    Ended e = run(true, [at](std::string& frame) {
      if (frame[0] == 1) frame[at] ^= 1;
    });
    EXPECT_TRUE(e.client || e.server) << "byte " << at << " of the greeting";
  }
  for (size_t at = 0; at < 130; ++at) {
    bool changed = false;
    Ended e = run(true, {}, [&](std::string& frame) {
      if (frame[0] != 2 || at >= frame.size()) return;
      changed = true;
      frame[at] ^= 1;
    });
    EXPECT_EQ(e.client || e.server, changed) << "byte " << at << " of the welcome";
  }
}

TEST_F(Handshakes, AClientsKeyHasItsLimits) {
  ClientKey key = issue_key(doorman.secret, {true, false, "/a", "me"});
  identity.key_id = key.id;
  identity.secret = key.secret;
  Ended e = run(true);
  ASSERT_FALSE(e.client || e.server);
  EXPECT_EQ(e.seen_by_server.limits, (KeyLimits{true, false, "/a", "me"}));
  identity.role = Role::node;
  Ended as_node = run(true);
  ASSERT_TRUE(as_node.server && as_node.client);
  EXPECT_EQ(as_node.client->code, EACCES);
  EXPECT_THAT(as_node.client->message, HasSubstr("does not allow"));
}

TEST_F(Handshakes, AKeyIsRevoked) {
  ClientKey key = issue_key(doorman.secret, {});
  doorman.revoked = [&](std::string_view id) { return id == key.id; };
  identity.key_id = key.id;
  identity.secret = key.secret;
  Ended e = run(true);
  ASSERT_TRUE(e.client && e.server);
  EXPECT_THAT(e.client->message, HasSubstr("revoked"));
  identity.secret = random_bytes(kSecretSize);
  EXPECT_THAT(run(true).client->message, testing::Not(HasSubstr("revoked")))
      << "only who has the key is told";
}

TEST_F(Handshakes, OtherVersions) {
  auto with_versions = [](uint64_t oldest, uint64_t newest) {
    return [=](std::string& frame) {
      if (frame[0] != 1) return;
      std::string rest = frame.substr(11);
      frame.resize(9);
      ByteWriter w(frame);
      w.varint(oldest);
      w.varint(newest);
      w.raw(rest);
    };
  };
  for (auto [oldest, newest] : {std::pair{2, 3}, {0, 0}, {900, 901}}) {
    Ended e = run(false, with_versions(oldest, newest));
    ASSERT_TRUE(e.client && e.server);
    EXPECT_EQ(e.client->code, EPROTONOSUPPORT);
    EXPECT_THAT(e.client->message, HasSubstr("use a program of the same version"));
  }
  EXPECT_FALSE(run(false, with_versions(0, 9)).client) << "1 is common";
}

TEST_F(Handshakes, Strangers) {
  for (std::string frame : {std::string("GET / HTTP/1.1\r\n"), std::string(1, '\1'), std::string(),
                            std::string(500, '\1')}) {
    ServerHandshake server(doorman, 10, false);
    HandshakeStep step = server.receive(frame);
    EXPECT_TRUE(step.failed);
    EXPECT_FALSE(step.done);
    ClientHandshake client(identity, false);
    EXPECT_EQ(client.receive(frame).failed->code, EPROTO);
  }
}

TEST_F(Handshakes, PlainAndSealedDoNotMix) {
  ClientHandshake client(identity, false);
  ServerHandshake server(doorman, 10, true);
  EXPECT_TRUE(server.receive(client.hello()).failed);
  ClientHandshake sealed(identity, true);
  ServerHandshake plain(doorman, 10, false);
  EXPECT_TRUE(plain.receive(sealed.hello()).failed);
}

TEST_F(Handshakes, AProofBeforeAGreetingIsRefused) {
  std::string proof = "\3";
  ByteWriter(proof).string({});
  ServerHandshake server(doorman, 10, false);
  EXPECT_TRUE(server.receive(proof).failed);
}

TEST(Seal, WhatWasSealedIsOpened) {
  std::string key = random_bytes(32);
  Sealer sealer(key);
  Opener opener(key);
  std::string first(200'000, 'a'), sealed, opened;
  sealer.seal(first, sealed);
  sealer.seal("second", sealed);
  // Byte by byte, as a network might give it.
  size_t taken = 0;
  for (size_t n = 0; n <= sealed.size(); n += 997) {
    auto more = opener.open(std::string_view(sealed).substr(taken, n - taken), opened);
    ASSERT_TRUE(more);
    taken += *more;
  }
  ASSERT_TRUE(opener.open(std::string_view(sealed).substr(taken), opened));
  EXPECT_EQ(opened, first + "second");
  EXPECT_EQ(sealed.find("aaaa"), std::string::npos);
}

TEST(Seal, EveryChangeIsNoticed) {
  std::string key = random_bytes(32), sealed;
  Sealer sealer(key);
  sealer.seal("twelve bytes", sealed);
  for (size_t at = 0; at < sealed.size(); ++at) {
    std::string changed = sealed, opened;
    changed[at] ^= 0x10;
    Opener opener(key);
    auto taken = opener.open(changed, opened);
    EXPECT_TRUE(!taken || *taken == 0) << at;
    EXPECT_TRUE(opened.empty());
  }
}

TEST(Seal, RecordsAreNotRepeatedOrReordered) {
  std::string key = random_bytes(32), one, two, opened;
  Sealer sealer(key);
  sealer.seal("one", one);
  sealer.seal("two", two);
  Opener opener(key);
  EXPECT_FALSE(opener.open(two, opened));
  Opener again(key);
  ASSERT_TRUE(again.open(one, opened));
  EXPECT_FALSE(again.open(one, opened));
}

}  // namespace
}  // namespace graftfs::net
