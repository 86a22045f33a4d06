// The command line on a real cluster: formatted, mounted, served, killed, stopped, woken.

#include <sys/statvfs.h>

#include <atomic>

#include "cli/tests/serving.h"
#include "cluster.h"

namespace graftfs::cli {
namespace {

using ::testing::HasSubstr;

class OnRados : public Serve {
 protected:
  void make_volume() override {
    volume_ = cluster().fresh_volume();
    ASSERT_TRUE(cluster().up());
    // Once with the flag, from then on with the name that says the same.
    const size_t at = volume_.find('?');
    auto formatted =
        run(fmt::format("format {} --conf {}", volume_.substr(0, at), cluster().conf()));
    ASSERT_EQ(formatted.code, 0) << formatted.text;
  }

  static bool write(const std::string& path, const std::string& text) {
    int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return false;
    bool good = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                ::fsync(fd) == 0;
    return ::close(fd) == 0 && good;
  }
  static std::string read(const std::string& path) {
    std::ifstream in(path);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }
  void expect_clean() {
    auto checked = run("fsck " + volume_);
    EXPECT_EQ(checked.code, 0) << checked.text;
    EXPECT_THAT(checked.text, HasSubstr("clean"));
    auto verified = run("journal verify " + volume_);
    EXPECT_EQ(verified.code, 0) << verified.text;
  }
  std::string content(int i) {
    return fmt::format("file {} ", i) + std::string(static_cast<size_t>(i) * 100, 'x');
  }
};

TEST_F(OnRados, WhatWasWrittenIsThereWhenTheMountWasKilled) {
  const std::string a = dir_ + "/a";
  auto mounted = run(fmt::format("mount {} {}", volume_, a));
  ASSERT_EQ(mounted.code, 0) << mounted.text;
  for (int d = 0; d < 5; ++d) {
    fs::create_directory(fmt::format("{}/d{}", a, d));
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(write(fmt::format("{}/d{}/f{}", a, d, i), content(i)));
  }
  // Over several blocks.
  std::string big(9 << 20, 'b');
  big[5 << 20] = 'B';
  ASSERT_TRUE(write(a + "/big", big));
  fs::rename(a + "/d0/f0", a + "/d1/renamed");
  fs::remove(a + "/d2/f1");
  fs::create_symlink("big", a + "/link");
  fs::create_hard_link(a + "/d3/f3", a + "/hard");
  json info = json::parse(run("info " + volume_ + " --json").text);
  EXPECT_EQ(info["mountpoint"], a);
  auto busy = run("fsck " + volume_);
  EXPECT_NE(busy.code, 0);
  EXPECT_THAT(busy.text, HasSubstr("is mounted by process"));
  const pid_t pid = info["pid"];
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(until([&] { return ::kill(pid, 0) != 0; }));
  EXPECT_EQ(run("umount " + a).code, 0);

  mounted = run(fmt::format("mount {} {}", volume_, a));
  ASSERT_EQ(mounted.code, 0) << mounted.text;
  for (int d = 0; d < 5; ++d)
    for (int i = 2; i < 40; ++i) ASSERT_EQ(read(fmt::format("{}/d{}/f{}", a, d, i)), content(i));
  EXPECT_EQ(read(a + "/d1/renamed"), content(0));
  EXPECT_FALSE(fs::exists(a + "/d0/f0"));
  EXPECT_FALSE(fs::exists(a + "/d2/f1"));
  EXPECT_TRUE(read(a + "/link") == big);
  EXPECT_EQ(fs::hard_link_count(a + "/hard"), 2u);
  fs::remove_all(a + "/d4");
  fs::resize_file(a + "/big", 5000000);
  EXPECT_EQ(run("umount " + a).code, 0);
  expect_clean();
  EXPECT_THAT(run("journal explain " + volume_ + " /big").text, HasSubstr("inode"));

  // And by its mount point, with the volume named as in the mount table.
  ASSERT_EQ(run(fmt::format("mount {} {} --durability strict", volume_, a)).code, 0);
  EXPECT_TRUE(read(a + "/big") == big.substr(0, 5000000));
  struct ::statvfs st;
  ASSERT_EQ(::statvfs(a.c_str(), &st), 0);
  EXPECT_GT(st.f_blocks, 0u);
  EXPECT_EQ(run("umount " + a).code, 0);
}

TEST_F(OnRados, AMountWaitsForWhoTakesOverFromAKilledAndFromAStoppedProcess) {
  const std::string a = dir_ + "/a", b = dir_ + "/b";
  Serving first(volume_, "--ranks 2", log_);
  ASSERT_TRUE(until([&] { return server_of(0) == first.pid() && server_of(1) == first.pid(); }));
  for (const std::string& point : {a, b}) {
    auto mounted = run(fmt::format("mount {} {}", volume_, point));
    ASSERT_EQ(mounted.code, 0) << mounted.text;
  }
  ASSERT_TRUE(write(a + "/one", "first"));
  EXPECT_EQ(read(b + "/one"), "first");
  Serving second(volume_, "--standby", log_);
  ASSERT_TRUE(until([&] { return stands_by(second.pid()); }));
  first.signal(SIGKILL);
  first.wait();
  EXPECT_TRUE(write(b + "/two", "second")) << "it waits for the one that takes over";
  EXPECT_EQ(read(a + "/two"), "second");
  ASSERT_TRUE(until([&] { return server_of(0) == second.pid() && server_of(1) == second.pid(); }));

  // A zombie: it is stopped, others go on, and what it does when it wakes up changes nothing.
  Serving third(volume_, "--standby", log_);
  ASSERT_TRUE(until([&] { return stands_by(third.pid()); }));
  second.signal(SIGSTOP);
  EXPECT_TRUE(write(a + "/three", "third"));
  ASSERT_TRUE(until([&] { return server_of(0) == third.pid() && server_of(1) == third.pid(); }));
  EXPECT_TRUE(write(a + "/one", "changed since"));
  second.signal(SIGCONT);
  ASSERT_TRUE(until([&] { return stands_by(second.pid()); }));
  EXPECT_EQ(read(b + "/one"), "changed since");
  EXPECT_EQ(read(b + "/two"), "second");
  EXPECT_EQ(read(b + "/three"), "third");
  for (const std::string& point : {a, b}) {
    auto gone = run("umount " + point);
    EXPECT_EQ(gone.code, 0) << gone.text;
  }
  second.signal(SIGTERM);
  EXPECT_EQ(second.wait(), 0);
  third.signal(SIGTERM);
  EXPECT_EQ(third.wait(), 0);
  expect_clean();
}

// An OSD and a server die under load, and come back or are taken over.
TEST_F(OnRados, NothingAcknowledgedIsLostWhenAnOsdAndAServerDieTogether) {
  const std::string a = dir_ + "/a";
  Serving first(volume_, "--ranks 2", log_);
  ASSERT_TRUE(until([&] { return server_of(0) == first.pid() && server_of(1) == first.pid(); }));
  Serving second(volume_, "--standby", log_);
  ASSERT_TRUE(until([&] { return stands_by(second.pid()); }));
  ASSERT_EQ(run(fmt::format("mount {} {}", volume_, a)).code, 0);
  fs::create_directory(a + "/other");
  auto moved = run(fmt::format("subtree move {}/other 1", a));
  EXPECT_EQ(moved.code, 0) << moved.text;
  std::atomic<bool> stop{false};
  std::atomic<int> written{0};
  std::vector<std::vector<std::string>> names(2);
  std::vector<std::thread> writers;
  for (int w = 0; w < 2; ++w)
    writers.emplace_back([&, w] {
      for (int i = 0; !stop && i < 5000; ++i) {
        std::string name = fmt::format("{}{}/f{}", a, w ? "/other" : "", i);
        if (!write(name, content(i % 50))) return;
        names[static_cast<size_t>(w)].push_back(name);
        ++written;
      }
    });
  auto goes_on = [&] {
    const int before = written;
    return until([&] { return written > before + 20; }, 60);
  };
  EXPECT_TRUE(goes_on());
  cluster().tell("kill osd.0");
  first.signal(SIGKILL);
  first.wait();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  cluster().tell("start osd.0");
  EXPECT_TRUE(goes_on());
  EXPECT_TRUE(until([&] { return server_of(0) == second.pid() && server_of(1) == second.pid(); }));
  EXPECT_TRUE(goes_on());
  stop = true;
  for (std::thread& t : writers) t.join();
  EXPECT_EQ(run("umount " + a).code, 0);
  second.signal(SIGTERM);
  EXPECT_EQ(second.wait(), 0);
  expect_clean();
  ASSERT_EQ(run(fmt::format("mount {} {}", volume_, a)).code, 0);
  for (const auto& those : names)
    for (size_t i = 0; i < those.size(); ++i)
      ASSERT_EQ(read(those[i]), content(static_cast<int>(i) % 50)) << those[i];
  EXPECT_EQ(run("umount " + a).code, 0);
}

TEST_F(OnRados, AVolumeIsCopiedThereAndBackAgain) {
  const std::string a = dir_ + "/a", b = dir_ + "/b", here = dir_ + "/v", back = dir_ + "/v2";
  ASSERT_EQ(run("format " + here).code, 0);
  ASSERT_EQ(run(fmt::format("mount {} {}", here, a)).code, 0);
  for (int i = 0; i < 50; ++i) {
    fs::create_directory(fmt::format("{}/d{}", a, i));
    ASSERT_TRUE(write(fmt::format("{}/d{}/f", a, i), content(i)));
  }
  std::string big(9 << 20, 'b');
  ASSERT_TRUE(write(a + "/big", big));
  fs::resize_file(a + "/big", 20 << 20);  // a hole at its end
  fs::create_hard_link(a + "/d3/f", a + "/hard");
  auto look = [&](const std::string& at) {
    for (int i = 0; i < 50; ++i) ASSERT_EQ(read(fmt::format("{}/d{}/f", at, i)), content(i));
    EXPECT_TRUE(read(at + "/big") == big + std::string((20 << 20) - big.size(), '\0'));
    EXPECT_EQ(fs::hard_link_count(at + "/hard"), 2u);
    EXPECT_EQ(fs::hard_link_count(at + "/d3/f"), 2u);
  };
  const std::string there = cluster().fresh_volume();
  const std::string copy = fmt::format("copy {} {}", here, there);
  auto busy = run(copy);
  EXPECT_NE(busy.code, 0);
  EXPECT_THAT(busy.text, HasSubstr("is mounted by process"));
  ASSERT_EQ(run("umount " + a).code, 0);

  // It is cut off, is no volume meanwhile, and goes on.
  ::setenv("GRAFTFS_KILL", "copy.remembered:3", 1);
  EXPECT_EQ(run(copy).code, 128 + SIGKILL);
  ::unsetenv("GRAFTFS_KILL");
  auto early = run(fmt::format("mount {} {}", there, b));
  EXPECT_NE(early.code, 0);
  EXPECT_THAT(early.text, HasSubstr("is a copy that is not finished"));
  auto copied = run(copy);
  ASSERT_EQ(copied.code, 0) << copied.text;
  EXPECT_THAT(copied.text, HasSubstr("since it went on"));
  EXPECT_THAT(copied.text, HasSubstr("compared, and the same"));
  EXPECT_THAT(run(copy).text, HasSubstr("is a volume already"));
  ASSERT_EQ(run(fmt::format("mount {} {}", there, b)).code, 0);
  look(b);
  ASSERT_TRUE(write(b + "/new", "here"));
  ASSERT_EQ(run("umount " + b).code, 0);
  EXPECT_EQ(run("fsck " + there).code, 0);

  auto returned = run(fmt::format("copy {} {}", there, back));
  ASSERT_EQ(returned.code, 0) << returned.text;
  EXPECT_EQ(run("fsck " + back).code, 0);
  ASSERT_EQ(run(fmt::format("mount {} {}", back, a)).code, 0);
  look(a);
  EXPECT_EQ(read(a + "/new"), "here");
  ASSERT_EQ(run("umount " + a).code, 0);
}

TEST_F(OnRados, WrongNamesAreOneSentence) {
  for (const std::string& line : {std::string("info rados:"),
                                  "mount rados:nopool?conf=" + cluster().conf() + " " + dir_ + "/a",
                                  "fsck rados:p/nothing?conf=" + cluster().conf(),
                                  std::string("info rados:p?conf=/nowhere"), "format " + volume_}) {
    auto refused = run(line);
    EXPECT_NE(refused.code, 0) << line;
    EXPECT_EQ(std::count(refused.text.begin(), refused.text.end(), '\n'), 1) << refused.text;
  }
}

}  // namespace
}  // namespace graftfs::cli
