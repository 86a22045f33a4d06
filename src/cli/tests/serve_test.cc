// Real processes that serve a volume: killed, stopped and woken, and mounted from elsewhere.
#include <fcntl.h>
#include <unistd.h>

#include "serving.h"

namespace graftfs::cli {
namespace {

using ::testing::HasSubstr;

TEST_F(Serve, ARankMovesToTheStandbyAndBackWhenItsProcessIsKilledOrStopped) {
  Serving first(volume_, "--ranks 2", log_);
  ASSERT_TRUE(until([&] { return server_of(0) == first.pid() && server_of(1) == first.pid(); }));
  Serving second(volume_, "--standby", log_);
  ASSERT_TRUE(until([&] { return stands_by(second.pid()); }));

  first.signal(SIGSTOP);
  ASSERT_TRUE(until([&] { return server_of(0) == second.pid() && server_of(1) == second.pid(); }));
  first.signal(SIGCONT);
  // It notices, writes nothing, and comes back as another node.
  ASSERT_TRUE(until([&] { return stands_by(first.pid()); }));
  EXPECT_THAT(log(), HasSubstr("because this process was not heard of for too long"));

  second.signal(SIGKILL);
  second.wait();
  ASSERT_TRUE(until([&] { return server_of(0) == first.pid() && server_of(1) == first.pid(); }));
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait(), 0);
  EXPECT_EQ(server_of(0), 0);
  EXPECT_EQ(run("fsck " + volume_).code, 0);
}

TEST_F(Serve, WithNoRejoinAFencedProcessEndsWithThree) {
  Serving first(volume_, "--no-rejoin", log_);
  ASSERT_TRUE(until([&] { return server_of(0) == first.pid(); }));
  Serving second(volume_, "--standby", log_);
  ASSERT_TRUE(until([&] { return stands_by(second.pid()); }));
  first.signal(SIGSTOP);
  ASSERT_TRUE(until([&] { return server_of(0) == second.pid(); }));
  first.signal(SIGCONT);
  EXPECT_EQ(first.wait(), 3);
}

TEST_F(Serve, RanksAreAddedAndTheLastOneStays) {
  EXPECT_THAT(run("rank add " + volume_).text, HasSubstr("no process serves"));
  EXPECT_THAT(run("rank list " + volume_).text, HasSubstr("no cluster has served"));
  Serving first(volume_, "", log_);
  ASSERT_TRUE(until([&] { return server_of(0) == first.pid(); }));
  EXPECT_THAT(run("rank remove " + volume_ + " 0").text, HasSubstr("the last one"));
  EXPECT_THAT(run("rank remove " + volume_ + " 7").text, HasSubstr("there is no rank 7"));
  auto added = run("rank add " + volume_);
  EXPECT_EQ(added.code, 0) << added.text;
  EXPECT_THAT(added.text, HasSubstr("rank 1 serves"));
  EXPECT_EQ(server_of(1), first.pid());
}

TEST_F(Serve, WrongCommandLinesAreRefusedInOneSentence) {
  for (const char* flags : {"--ranks 0", "--listen nowhere", "--listen local:x", "--lease 1ms",
                            "--listen tcp:127.0.0.1:x"}) {
    auto refused = run(fmt::format("serve {} {}", volume_, flags));
    EXPECT_NE(refused.code, 0) << flags;
    EXPECT_EQ(std::count(refused.text.begin(), refused.text.end(), '\n'), 1) << refused.text;
  }
  EXPECT_THAT(run("serve " + dir_).text, HasSubstr("is not a GraftFS volume"));
}

TEST_F(Serve, KeysAreIssuedListedAndRevoked) {
  auto issued = run("key issue " + volume_ + " --label ci --read-only --path /work");
  ASSERT_EQ(issued.code, 0) << issued.text;
  EXPECT_TRUE(issued.text.starts_with("graftfs-key:"));
  json keys = json::parse(run("key list " + volume_ + " --json").text);
  ASSERT_EQ(keys.size(), 1u);
  EXPECT_EQ(keys[0]["label"], "ci");
  EXPECT_EQ(keys[0]["read_only"], true);
  std::string name = keys[0]["name"];
  EXPECT_EQ(run("key revoke " + volume_ + " " + name).code, 0);
  EXPECT_THAT(run("key list " + volume_).text, HasSubstr("revoked"));
  EXPECT_NE(run("key revoke " + volume_ + " nonsense").code, 0);
  EXPECT_NE(run("key issue " + volume_ + " --path relative").code, 0);
}

// What was written through one mount is read through another, also when the rank's process has
// been killed in between and another one has taken over.
TEST_F(Serve, TwoMountsShareAVolumeWhoseServerDies) {
  Serving first(volume_, "", log_);
  ASSERT_TRUE(until([&] { return server_of(0) == first.pid(); }));
  const std::string a = dir_ + "/a", b = dir_ + "/b";
  for (const std::string& point : {a, b}) {
    auto mounted = run(fmt::format("mount {} {}", volume_, point));
    ASSERT_EQ(mounted.code, 0) << mounted.text;
  }
  auto write = [](const std::string& path, const std::string& text) {
    std::ofstream out(path);
    out << text;
    out.close();
    return out.good();
  };
  auto read = [](const std::string& path) {
    std::ifstream in(path);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  EXPECT_TRUE(write(a + "/one", "first"));
  EXPECT_EQ(read(b + "/one"), "first");
  Serving second(volume_, "--standby", log_);
  ASSERT_TRUE(until([&] { return stands_by(second.pid()); }));
  first.signal(SIGKILL);
  first.wait();
  EXPECT_TRUE(write(b + "/two", "second")) << "it waits for the one that takes over";
  EXPECT_EQ(read(a + "/two"), "second");
  EXPECT_EQ(read(a + "/one"), "first");
  EXPECT_EQ(server_of(0), second.pid());
  for (const std::string& point : {a, b}) EXPECT_EQ(run("umount " + point).code, 0);
  second.signal(SIGTERM);
  EXPECT_EQ(second.wait(), 0);
  EXPECT_EQ(run("fsck " + volume_).code, 0);
  // And now by itself, as before.
  EXPECT_EQ(run(fmt::format("mount {} {}", volume_, a)).code, 0);
  EXPECT_EQ(read(a + "/two"), "second");
  EXPECT_EQ(run("umount " + a).code, 0);
}

// Without a look at it in between: the kernel of the one that moves it on still has it where it
// was.
TEST_F(Serve, ADirectoryThatAnotherMountHasMovedIsMovedOn) {
  Serving server(volume_, "", log_);
  ASSERT_TRUE(until([&] { return server_of(0) == server.pid(); }));
  const std::string a = dir_ + "/a", b = dir_ + "/b";
  for (const std::string& point : {a, b}) {
    auto mounted = run(fmt::format("mount {} {}", volume_, point));
    ASSERT_EQ(mounted.code, 0) << mounted.text;
  }
  std::filesystem::create_directories(a + "/d0/x/below");
  std::filesystem::create_directories(a + "/d1");
  ASSERT_TRUE(std::filesystem::exists(b + "/d0/x/below"));
  const int inside = ::open((b + "/d0/x").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_GE(inside, 0);
  for (int i = 0; i < 6; ++i) {
    const std::string& mount = i % 2 ? b : a;
    const std::string from = fmt::format("{}/d{}/x", mount, i % 2);
    const std::string to = fmt::format("{}/d{}/x", mount, 1 - i % 2);
    ASSERT_EQ(::rename(from.c_str(), to.c_str()), 0)
        << from << ": " << std::strerror(errno) << ", move " << i;
    EXPECT_EQ(::access((to + "/below").c_str(), F_OK), 0) << to << ": " << std::strerror(errno);
    EXPECT_EQ(::faccessat(inside, "below", F_OK, 0), 0) << std::strerror(errno);
  }
  ::close(inside);
  for (const std::string& point : {a, b}) EXPECT_EQ(run("umount " + point).code, 0);
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
  EXPECT_EQ(run("fsck " + volume_).code, 0);
}

}  // namespace
}  // namespace graftfs::cli
