// Strangers and clients with limited keys, over tcp, at a real process that others use meanwhile.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/event_loop.h"
#include "base/wait.h"
#include "cli/volume.h"
#include "client/router.h"
#include "net/keys.h"
#include "net/socket/socket.h"
#include "serving.h"

namespace graftfs::cli {
namespace {

using ::testing::HasSubstr;

constexpr char kLease[] = "2s";

// A client that comes over tcp with a key, to one rank.
class TcpClient {
 public:
  TcpClient(uint64_t volume, const std::string& address, const net::ClientKey& key)
      : volume_(volume), address_(*net::parse_address(address)), key_(key) {
    router_.open_session(session_);
  }
  ~TcpClient() { router_.close_session(session_); }
  // Whether it is let in, and why not.
  Result<void> connect() {
    Promised<Result<void>> done(loop_);
    dial([done](Result<std::unique_ptr<net::Connection>> connection) {
      if (connection)
        done.set({});
      else
        done.set(std::unexpected(connection.error()));
    });
    return graftfs::wait_for(loop_, take(done));
  }
  Reply call(Args args, uint32_t uid = 0) {
    Promised<Reply> answer(loop_);
    Request request;
    request.cred.uid = request.cred.gid = uid;
    request.args = std::move(args);
    router_.submit(std::move(request), [answer](Reply reply) { answer.set(std::move(reply)); });
    return graftfs::wait_for(loop_, take(answer));
  }
  int err(Args args) { return call(std::move(args)).err; }
  Ino lookup(Ino dir, const std::string& name) { return call(LookupArgs{dir, name}).stat.ino; }
  bool is_up() { return router_.remote(RankId{0}).is_up(); }
  // Runs the loop until the condition holds, for a while at most.
  template <class F>
  bool until(F condition) {
    for (int i = 0; i < 600 && !condition(); ++i) graftfs::wait_for(loop_, nap());
    return condition();
  }

 private:
  template <class T>
  static Task<T> take(Promised<T> promised) {
    co_return co_await promised;
  }
  Task<int> nap() {
    co_await sleep_for(loop_, 50 * kMillisecond);
    co_return 0;
  }
  void dial(net::ConnectFn done) {
    net::Identity me;
    me.role = net::Role::client;
    me.volume = volume_;
    me.id = session_.v;
    me.key_id = key_.id;
    me.secret = key_.secret;
    sockets_.connect(address_, std::move(me), std::move(done));
  }

  uint64_t volume_;
  SessionId session_{SystemRandom().next() | 1};
  net::Address address_;
  net::ClientKey key_;
  EventLoop loop_;
  net::SocketTransport sockets_{loop_};
  Router router_{loop_, [this](RankId, net::ConnectFn done) { dial(std::move(done)); },
                 [] { return RankMap{RankId{0}, {RankId{0}}}; }};
};

class Keys : public Serve {
 protected:
  void SetUp() override {
    Serve::SetUp();
    server_ = std::make_unique<Serving>(
        volume_, "--listen unix:" + dir_ + "/s --listen tcp:127.0.0.1:0", log_, kLease);
    ASSERT_TRUE(until([&] { return server_of(0) == server_->pid(); })) << log();
    const json all = list();
    for (const json& address : all["ranks"][0]["addresses"])
      if (address.get<std::string>().starts_with("tcp:")) tcp_ = address;
    ASSERT_FALSE(tcp_.empty()) << all.dump(2);
    auto file = local::read_volume_file(volume_);
    ASSERT_TRUE(file);
    number_ = volume_number(file->uuid);
    auto mounted = run(fmt::format("mount {} {}/a", volume_, dir_));
    ASSERT_EQ(mounted.code, 0) << mounted.text;
    fs::create_directories(dir_ + "/a/sub/in");
    fs::create_directory(dir_ + "/a/other");
    std::ofstream(dir_ + "/a/sub/file") << "text";
    std::ofstream(dir_ + "/a/other/secret") << "secret";
    ::chmod((dir_ + "/a/sub/in").c_str(), 0777);
  }
  net::ClientKey issue(const std::string& flags) {
    auto issued = run("key issue " + volume_ + " " + flags);
    EXPECT_EQ(issued.code, 0) << issued.text;
    auto key = net::parse_key(issued.text.substr(0, issued.text.find('\n')));
    EXPECT_TRUE(key);
    return *key;
  }
  // The mount that was there goes on.
  void expect_undisturbed() {
    std::ifstream in(dir_ + "/a/other/secret");
    EXPECT_EQ(std::string((std::istreambuf_iterator<char>(in)), {}), "secret");
    std::ofstream out(dir_ + "/a/other/new");
    out << "new";
    out.close();
    EXPECT_TRUE(out.good());
  }

  std::unique_ptr<Serving> server_;
  std::string tcp_;
  uint64_t number_ = 0;
};

TEST_F(Keys, APathIsAllThatItsClientReaches) {
  TcpClient client(number_, tcp_, issue("--path /sub"));
  ASSERT_TRUE(client.connect());
  const Ino sub = client.lookup(kRootIno, "sub");
  ASSERT_TRUE(sub);
  EXPECT_EQ(client.err(CreateArgs{sub, "mine", 0644, 0, true, 0}), 0);
  EXPECT_TRUE(fs::exists(dir_ + "/a/sub/mine"));
  struct stat secret;
  ASSERT_EQ(::stat((dir_ + "/a/other/secret").c_str(), &secret), 0);
  EXPECT_EQ(client.err(LookupArgs{kRootIno, "other"}), EACCES);
  EXPECT_EQ(client.err(GetattrArgs{Ino{secret.st_ino}}), EACCES);
  EXPECT_EQ(client.err(LinkArgs{Ino{secret.st_ino}, sub, "stolen"}), EACCES);
  EXPECT_EQ(client.err(LookupParentArgs{sub}), EACCES);
  EXPECT_EQ(client.err(ReaddirArgs{kRootIno, 0, 10, false}), EACCES);
  fs::rename(dir_ + "/a/sub/in", dir_ + "/a/other/in");
  EXPECT_EQ(client.err(LookupArgs{sub, "in"}), ENOENT);
  expect_undisturbed();
}

TEST_F(Keys, ReadOnlyAndSquashedRootAreSeenToByTheRank) {
  TcpClient reader(number_, tcp_, issue("--read-only"));
  const Ino sub = reader.lookup(kRootIno, "sub");
  EXPECT_EQ(reader.err(CreateArgs{sub, "mine", 0644, 0, true, 0}), EROFS);
  EXPECT_EQ(reader.err(UnlinkArgs{sub, "file"}), EROFS);
  TcpClient nobody(number_, tcp_, issue("--squash-root"));
  EXPECT_EQ(nobody.err(UnlinkArgs{sub, "file"}), EACCES);
  const Ino in = nobody.lookup(sub, "in");
  Reply made = nobody.call(CreateArgs{in, "mine", 0644, 0, true, 0});
  ASSERT_EQ(made.err, 0);
  EXPECT_EQ(made.stat.uid, 65534u);
  EXPECT_TRUE(fs::exists(dir_ + "/a/sub/file"));
}

TEST_F(Keys, ARevokedKeyCutsItsClientOff) {
  const net::ClientKey key = issue("--label guest");
  TcpClient guest(number_, tcp_, key), other(number_ + 2, tcp_, issue("--label other"));
  EXPECT_FALSE(other.connect()) << "another volume";
  EXPECT_EQ(guest.err(GetattrArgs{kRootIno}), 0);
  EXPECT_TRUE(guest.is_up());
  EXPECT_EQ(run(fmt::format("key revoke {} {}", volume_, net::name_of_key(key.id))).code, 0);
  EXPECT_TRUE(guest.until([&] { return !guest.is_up(); }));
  EXPECT_THAT(log(), HasSubstr("has a key that was revoked"));
  auto again = guest.connect();
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("was revoked"));
  expect_undisturbed();
}

TEST_F(Keys, StrangersAndWrongKeysComeNowhere) {
  net::ClientKey wrong = issue("");
  wrong.secret[0] ^= 1;
  auto refused = TcpClient(number_, tcp_, wrong).connect();
  ASSERT_FALSE(refused);
  // Nobody may give himself more than the key was issued for.
  net::ClientKey forged = issue("--path /sub");
  forged.id = net::issue_key(std::string(net::kSecretSize, 'x'), {}).id;
  EXPECT_FALSE(TcpClient(number_, tcp_, forged).connect());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, (dir_ + "/s.0").c_str());
  for (const std::string& noise :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("\xff\xff\xff\x7fgraftfs\n"),
        std::string(100'000, '\0'), std::string("\x09\0\0\0\1garbage!", 13)}) {
    int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    (void)!::send(fd, noise.data(), noise.size(), MSG_NOSIGNAL);
    // It is closed, after the handshake's time at the latest.
    timeval limit{20, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char buffer[4096];
    ssize_t n;
    while ((n = ::recv(fd, buffer, sizeof buffer, 0)) > 0) {
    }
    EXPECT_TRUE(n == 0 || errno == ECONNRESET) << std::strerror(errno);
    ::close(fd);
  }
  expect_undisturbed();
  EXPECT_EQ(server_of(0), server_->pid());
}

}  // namespace
}  // namespace graftfs::cli
