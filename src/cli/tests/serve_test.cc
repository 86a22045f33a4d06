// Real processes that serve a volume: killed, stopped and woken, and mounted from elsewhere.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

namespace graftfs::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

std::string program() { return std::string(std::getenv("GRAFTFS_BUILD")) + "/src/cli/graftfs"; }

struct Outcome {
  int code = -1;
  std::string text;
};

Outcome run(const std::string& arguments) {
  FILE* pipe = ::popen((program() + " " + arguments + " 2>&1").c_str(), "r");
  Outcome out;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.text.append(buffer, n);
  int status = ::pclose(pipe);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return out;
}

template <class F>
bool until(F condition, int seconds = 40) {
  for (int i = 0; i < seconds * 20; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

// A `graftfs serve --foreground`, which is killed at the end.
class Serving {
 public:
  Serving(const std::string& volume, const std::string& flags, const std::string& log) {
    pid_ = ::fork();
    if (pid_ == 0) {
      int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      ::dup2(out, 1);
      ::dup2(out, 2);
      std::string line =
          fmt::format("exec {} serve {} --foreground --lease 500ms {}", program(), volume, flags);
      ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      ::_exit(127);
    }
  }
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;
  ~Serving() {
    signal(SIGKILL);
    wait();
  }
  void signal(int number) {
    if (pid_ > 0) ::kill(pid_, number);
  }
  // The exit code, or 128 + the signal.
  int wait() {
    if (pid_ <= 0) return -1;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

class Serve : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "graftfs-serve-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
    volume_ = dir_ + "/v";
    log_ = dir_ + "/log";
    fs::create_directory(dir_ + "/a");
    fs::create_directory(dir_ + "/b");
    ASSERT_EQ(run("format " + volume_).code, 0);
  }
  void TearDown() override {
    for (const char* point : {"/a", "/b"}) ::umount2((dir_ + point).c_str(), MNT_DETACH);
    if (HasFailure()) std::fprintf(stderr, "%s\n", log().c_str());
    fs::remove_all(dir_);
  }
  std::string log() const {
    std::ifstream in(log_);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }
  json list() const { return json::parse(run("rank list " + volume_ + " --json").text); }
  // Who serves the rank; 0: nobody who lives.
  pid_t server_of(int rank) const {
    const json all = list();
    for (const json& r : all.at("ranks"))
      if (r.at("rank") == rank && r.at("alive")) return r.value("pid", 0);
    return 0;
  }
  bool stands_by(pid_t pid) const {
    const json all = list();
    for (const json& n : all.at("nodes"))
      if (n.at("pid") == pid && n.at("standby") && n.at("alive")) return true;
    return false;
  }

  std::string dir_, volume_, log_;
};

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

}  // namespace
}  // namespace graftfs::cli
