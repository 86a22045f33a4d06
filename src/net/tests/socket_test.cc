// What is special to sockets: files, strangers, time.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "net/handshake.h"
#include "net/tests/two_sides.h"

namespace graftfs::net {
namespace {

using testing::Contains;
using testing::HasSubstr;

struct SocketTest : testing::Test {
  SocketTest() {
    dir = testing::TempDir() + "/sock-XXXXXX";
    CHECK(::mkdtemp(dir.data()));
    path = dir + "/socket";
    Limits limits;
    limits.handshake = 200 * kMillisecond;
    limits.handshakes = 4;
    side.call([&] { transport = std::make_unique<SocketTransport>(side.loop(), limits); });
  }
  ~SocketTest() override {
    side.call([&] {
      end.connection.reset();
      listener.reset();
      transport.reset();
    });
    std::filesystem::remove_all(dir);
  }

  Result<void> listen(Address address = {}) {
    if (address.text.empty()) address = {Address::unix_socket, path, 0};
    Doorman doorman;
    doorman.volume = kVolume;
    doorman.node = 5;
    doorman.secret = secret;
    doorman.log = [this](const std::string& line) { log.push_back(line); };
    auto result = side.call([&] {
      return transport->listen(address, doorman, [&](auto c) {
        accepted++;
        end.take(std::move(c));
      });
    });
    if (!result) return std::unexpected(result.error());
    listener = std::move(*result);
    return {};
  }
  int dial() {
    int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un un = {};
    un.sun_family = AF_UNIX;
    std::memcpy(un.sun_path, path.data(), path.size());
    timeval patience = {5, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    CHECK(::connect(fd, reinterpret_cast<sockaddr*>(&un), sizeof un) == 0, "errno {}", errno);
    return fd;
  }
  static void say(int fd, std::string_view bytes) {
    (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  static void say_frame(int fd, std::string_view bytes) {
    auto length = static_cast<uint32_t>(bytes.size());
    say(fd, {reinterpret_cast<char*>(&length), 4});
    say(fd, bytes);
  }
  static std::string hear_frame(int fd) {
    uint32_t length = 0;
    if (::recv(fd, &length, 4, MSG_WAITALL) != 4) return {};
    std::string bytes(length, '\0');
    if (::recv(fd, bytes.data(), length, MSG_WAITALL) != static_cast<ssize_t>(length)) return {};
    return bytes;
  }
  // True: the other side has hung up.
  static bool is_over(int fd) {
    char c;
    ssize_t n;
    while ((n = ::recv(fd, &c, 1, 0)) > 0) {
    }
    return n == 0 || errno == ECONNRESET;
  }
  // As a client that has come in.
  int enter() {
    int fd = dial();
    ClientHandshake handshake({Role::client, kVolume, 9, {}, {}}, false);
    say_frame(fd, handshake.hello());
    HandshakeStep step = handshake.receive(hear_frame(fd));
    CHECK(step.plain.size() == 1);
    say_frame(fd, step.plain[0]);
    CHECK(handshake.receive(hear_frame(fd)).done);
    return fd;
  }
  bool next_one_is_served() {
    int before = side.call([&] { return accepted; });
    int fd = enter();
    bool served = side.wait_for([&] { return accepted == before + 1; });
    ::close(fd);
    return served;
  }

  std::string dir, path, secret;
  std::vector<std::string> log;
  End end;
  int accepted = 0;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<SocketTransport> transport;
  LoopThread side;
};

TEST_F(SocketTest, TheFileIsItsOwnersOnlyAndGoesWithTheListener) {
  ASSERT_TRUE(listen());
  struct stat st;
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  side.call([&] { listener.reset(); });
  EXPECT_NE(::stat(path.c_str(), &st), 0);
}

TEST_F(SocketTest, ASocketOfTheDeadIsReplacedAndAFileIsNot) {
  ASSERT_TRUE(listen());
  std::string moved = path + ".dead";
  ASSERT_EQ(::rename(path.c_str(), moved.c_str()), 0);
  side.call([&] { listener.reset(); });
  ASSERT_EQ(::rename(moved.c_str(), path.c_str()), 0) << "only its own file was to go";
  auto again = listen();
  ASSERT_TRUE(again) << again.error().message;
  side.call([&] { listener.reset(); });
  ::close(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
  auto on_file = listen();
  ASSERT_FALSE(on_file);
  EXPECT_THAT(on_file.error().message, HasSubstr("is no socket"));
}

TEST_F(SocketTest, TcpNeedsTheVolumesKey) {
  auto without = listen({Address::tcp, "127.0.0.1", 0});
  ASSERT_FALSE(without);
  EXPECT_EQ(without.error().code, EACCES);
  secret = random_bytes(kSecretSize);
  EXPECT_TRUE(listen({Address::tcp, "127.0.0.1", 0}));
}

TEST_F(SocketTest, AWrongKeyOverTcp) {
  secret = random_bytes(kSecretSize);
  ASSERT_TRUE(listen({Address::tcp, "127.0.0.1", 0}));
  std::promise<Error> failed;
  side.call([&] {
    Identity identity{Role::client, kVolume, 9, {}, random_bytes(kSecretSize)};
    transport->connect(listener->address(), identity,
                       [&](auto r) { failed.set_value(r ? Error{} : r.error()); });
  });
  Error error = failed.get_future().get();
  EXPECT_EQ(error.code, EACCES);
  EXPECT_THAT(error.message, HasSubstr("does not know this key"));
  EXPECT_EQ(accepted, 0);
}

TEST_F(SocketTest, NamesAreNotLookedUp) {
  auto named = listen({Address::tcp, "example.org", 1});
  secret = random_bytes(kSecretSize);
  named = listen({Address::tcp, "example.org", 1});
  ASSERT_FALSE(named);
  EXPECT_THAT(named.error().message, HasSubstr("in numbers"));
}

TEST_F(SocketTest, StrangersDisturbNobody) {
  ASSERT_TRUE(listen());
  int good = enter();
  ASSERT_TRUE(side.wait_for([&] { return accepted == 1; }));
  for (std::string greeting : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(4, '\xff'),
                               std::string(4, '\0'), std::string("\1\0\0\0\1", 5)}) {
    int fd = dial();
    say(fd, greeting);
    EXPECT_TRUE(is_over(fd)) << greeting;
    ::close(fd);
  }
  std::string message;
  encode_message(beat(3), message);
  say_frame(good, message);
  EXPECT_TRUE(side.wait_for([&] { return end.messages.size() == 1; }));
  EXPECT_TRUE(next_one_is_served());
  ::close(good);
}

TEST_F(SocketTest, WhoDoesNotGreetIsSentAwayAndTheDoorStaysOpen) {
  ASSERT_TRUE(listen());
  std::vector<int> silent;
  for (int i = 0; i < 10; ++i) silent.push_back(dial());
  EXPECT_TRUE(next_one_is_served());
  for (int fd : silent) {
    EXPECT_TRUE(is_over(fd));
    ::close(fd);
  }
  EXPECT_THAT(side.call([&] { return log; }), Contains(HasSubstr("did not finish its greeting")));
}

TEST_F(SocketTest, AMessageThatMakesNoSenseEndsOnlyItsConnection) {
  ASSERT_TRUE(listen());
  std::string evicted, cut;
  encode_message({RankId{}, RankId{}, msg::Evicted{}}, evicted);
  encode_message(beat(1), cut);
  cut.pop_back();
  for (const std::string& frame : {evicted, cut, std::string("\xff"), std::string(100, 'x')}) {
    side.call([&] { end.ends.clear(); });
    int fd = enter();
    say_frame(fd, frame);
    EXPECT_TRUE(is_over(fd));
    ASSERT_TRUE(side.wait_for([&] { return !end.ends.empty(); }));
    EXPECT_EQ(end.ends[0].code, EBADMSG);
    EXPECT_THAT(end.ends[0].message, HasSubstr("sent"));
    ::close(fd);
  }
  EXPECT_TRUE(next_one_is_served());
}

TEST_F(SocketTest, AFrameThatIsTooLargeIsNotWaitedFor) {
  ASSERT_TRUE(listen());
  int fd = enter();
  uint32_t length = kMaxMessage + 1;
  say(fd, {reinterpret_cast<char*>(&length), 4});
  EXPECT_TRUE(is_over(fd));
  ASSERT_TRUE(side.wait_for([&] { return !end.ends.empty(); }));
  EXPECT_EQ(end.ends[0].code, EBADMSG);
  ::close(fd);
}

TEST_F(SocketTest, AMessageThatComesInPiecesArrives) {
  ASSERT_TRUE(listen());
  int fd = enter();
  std::string bytes(4, '\0');
  encode_message(beat(5), bytes);
  bytes[0] = static_cast<char>(bytes.size() - 4);
  for (char c : bytes) {
    say(fd, {&c, 1});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_TRUE(side.wait_for([&] { return end.messages.size() == 1; }));
  EXPECT_EQ(number_of(end.messages[0]), 5u);
  ::close(fd);
}

TEST_F(SocketTest, AServerThatIsSilentIsNotWaitedForForEver) {
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un un = {};
  un.sun_family = AF_UNIX;
  std::memcpy(un.sun_path, path.data(), path.size());
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&un), sizeof un), 0);
  ASSERT_EQ(::listen(fd, 1), 0);
  std::promise<int> failed;
  side.call([&] {
    transport->connect({Address::unix_socket, path, 0}, {Role::client, kVolume, 9, {}, {}},
                       [&](auto r) { failed.set_value(r ? 0 : r.error().code); });
  });
  EXPECT_EQ(failed.get_future().get(), ETIMEDOUT);
  ::close(fd);
}

}  // namespace
}  // namespace graftfs::net
