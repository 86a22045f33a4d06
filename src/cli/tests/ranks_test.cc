// Several ranks in real processes: subtrees that move by command and by pin, ranks that come, go
// and die, under mounts that go on.
#include <sys/stat.h>
#include <sys/xattr.h>

#include <atomic>

#include "serving.h"

namespace graftfs::cli {
namespace {

using ::testing::HasSubstr;

// A process that is not heard of for so long is dead: long, because this machine may be busy. One
// that is killed is known to be dead at once.
constexpr char kLease[] = "3s";

class RanksOf : public Serve {
 protected:
  void mount(const std::string& point, const std::string& flags = "") {
    auto mounted = run(fmt::format("mount {} {} {}", volume_, dir_ + point, flags));
    ASSERT_EQ(mounted.code, 0) << mounted.text;
  }
  static bool write(const std::string& path, const std::string& text) {
    std::ofstream out(path);
    out << text;
    out.close();
    return out.good();
  }
  static std::string read(const std::string& path) {
    std::ifstream in(path);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }
  json subtrees() const { return json::parse(run("subtree list " + volume_ + " --json").text); }
  // Who has the subtree that hangs there; -1: it is none.
  int rank_of(const std::string& path) const {
    const json all = subtrees();
    for (const json& s : all)
      if (s.at("path") == path) return s.at("rank");
    return -1;
  }
  size_t ranks() const { return list().at("ranks").size(); }
  void expect_refused(const std::string& arguments, const std::string& why) {
    auto refused = run(arguments);
    EXPECT_EQ(refused.code, 1) << arguments << ": " << refused.text;
    EXPECT_THAT(refused.text, HasSubstr(why)) << arguments;
    EXPECT_EQ(std::count(refused.text.begin(), refused.text.end(), '\n'), 1) << refused.text;
  }
  void expect_clean() {
    auto checked = run("fsck " + volume_);
    EXPECT_EQ(checked.code, 0) << checked.text;
  }
};

TEST_F(RanksOf, SubtreesMoveByCommandAndAreShownWhereTheyHang) {
  Serving server(volume_, "--ranks 2", log_, kLease);
  ASSERT_TRUE(until([&] { return server_of(0) == server.pid() && server_of(1) == server.pid(); }));
  mount("/a");
  const std::string a = dir_ + "/a";
  fs::create_directories(a + "/work/deep/er");
  ASSERT_TRUE(write(a + "/work/deep/file", "text"));

  EXPECT_THAT(run("subtree move " + a + "/work 1 --dry-run").text, HasSubstr("nothing was moved"));
  EXPECT_EQ(rank_of("/work"), -1);
  auto moved = run("subtree move " + a + "/work 1");
  EXPECT_EQ(moved.code, 0) << moved.text;
  EXPECT_EQ(rank_of("/work"), 1);
  moved = run("subtree move " + volume_ + ":/work/deep 0");
  EXPECT_EQ(moved.code, 0) << moved.text;
  EXPECT_EQ(rank_of("/work/deep"), 0);
  EXPECT_EQ(read(a + "/work/deep/file"), "text");
  ASSERT_TRUE(write(a + "/work/deep/er/other", "more"));

  json nested = json::parse(run("subtree tree " + a + " --json").text);
  ASSERT_EQ(nested.size(), 1u) << nested.dump(2);
  EXPECT_EQ(nested[0]["path"], "/");
  EXPECT_EQ(nested[0]["subtrees"][0]["path"], "/work");
  EXPECT_EQ(nested[0]["subtrees"][0]["subtrees"][0]["path"], "/work/deep");
  EXPECT_THAT(run("subtree tree " + a).text, HasSubstr("    /work/deep  rank 0"));
  EXPECT_THAT(run("subtree list " + a).text, HasSubstr("/work"));

  // A rename moves what hangs below it, at whatever rank; each of them logs it.
  fs::rename(a + "/work", a + "/play");
  EXPECT_TRUE(until([&] { return rank_of("/play") == 1 && rank_of("/play/deep") == 0; }))
      << subtrees().dump(2);
  for (int rank : {0, 1})
    EXPECT_THAT(run(fmt::format("journal dump {} --rank {} --json", volume_, rank)).text,
                HasSubstr("ImportPath"))
        << rank;
  EXPECT_EQ(read(a + "/play/deep/er/other"), "more");
  EXPECT_EQ(run("umount " + a).code, 0);
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
  expect_clean();
}

// Not while anybody has the volume, in whatever state he is; and then what all ranks have in their
// journals counts.
TEST_F(RanksOf, FsckWaitsForNobodyAndReadsTheJournalsOfAll) {
  auto refused = [&](const std::string& why) {
    auto checked = run("fsck " + volume_);
    EXPECT_EQ(checked.code, 8) << checked.text;
    EXPECT_THAT(checked.text, HasSubstr(why));
    EXPECT_EQ(std::count(checked.text.begin(), checked.text.end(), '\n'), 1) << checked.text;
  };
  Serving server(volume_, "--ranks 2", log_, kLease);
  ASSERT_TRUE(until([&] { return server_of(0) == server.pid() && server_of(1) == server.pid(); }));
  refused(fmt::format("is served by process {}; stop that first", server.pid()));
  mount("/a");
  const std::string a = dir_ + "/a";
  fs::create_directory(a + "/dir");
  ASSERT_TRUE(write(a + "/here", "text"));
  auto moved = run("subtree move " + a + "/dir 1");
  ASSERT_EQ(moved.code, 0) << moved.text;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(write(fmt::format("{}/dir/f{}", a, i), "text"));
  fs::create_hard_link(a + "/dir/f0", a + "/link");
  fs::rename(a + "/dir/f1", a + "/renamed");
  refused(fmt::format("and served by process {}; unmount it, stop what serves it", server.pid()));
  server.signal(SIGKILL);
  server.wait();
  refused("is mounted by process");
  // A client that waits for a rank cannot write anything back: it dies, too.
  const std::string text = run("fsck " + volume_).text;
  const size_t at = text.find("process ");
  ASSERT_NE(at, std::string::npos) << text;
  const pid_t client = std::stoi(text.substr(at + 8));
  ::kill(client, SIGKILL);
  ASSERT_TRUE(until([&] { return ::kill(client, 0) != 0; }));
  ::umount2(a.c_str(), MNT_DETACH);
  auto checked = run("fsck --json " + volume_);
  EXPECT_EQ(checked.code, 0) << checked.text;
  const json report = json::parse(checked.text);
  EXPECT_EQ(report.at("ranks"), 2);
  EXPECT_EQ(report.at("files"), 21) << "most of them only in the journal of rank 1";
  checked = run("fsck --repair " + volume_);
  EXPECT_EQ(checked.code, 0) << checked.text;
  Serving next(volume_, "--ranks 2", log_, kLease);
  ASSERT_TRUE(until([&] { return server_of(0) == next.pid() && server_of(1) == next.pid(); }));
  mount("/a");
  EXPECT_EQ(read(a + "/dir/f19"), "text");
  EXPECT_EQ(rank_of("/dir"), 1);
}

TEST_F(RanksOf, WhatCannotBeMovedIsRefusedInOneSentence) {
  expect_refused("subtree list " + volume_, "no process serves");
  expect_refused("subtree move " + volume_ + ":/x 1", "no process serves");
  expect_refused("subtree list " + dir_, "is not a GraftFS volume");
  Serving server(volume_, "--ranks 2", log_, kLease);
  ASSERT_TRUE(until([&] { return server_of(0) == server.pid() && server_of(1) == server.pid(); }));
  mount("/a");
  const std::string a = dir_ + "/a";
  fs::create_directory(a + "/dir");
  ASSERT_TRUE(write(a + "/file", "text"));
  expect_refused("subtree move " + volume_ + ":/nothing 1", "/nothing: No such file");
  expect_refused("subtree move " + a + "/nothing 1", "No such file");
  expect_refused("subtree move " + dir_ + " 1", "not in a mounted GraftFS volume");
  expect_refused("subtree move " + a + "/file 1", "/file: Not a directory");
  expect_refused("subtree pin " + a + "/file 1", "/file: Not a directory");
  expect_refused("subtree move " + a + "/dir 7", "there is no rank 7");
  expect_refused("subtree pin " + a + "/dir 7", "there is no rank 7");
  expect_refused("subtree move " + a + "/dir 70000", "'70000' is not the number of a rank");
  expect_refused("subtree pin " + a + "/dir -- -3", "'-3' is not the number of a rank");
  expect_refused("subtree move " + a + "/dir 0", "is at rank 0 already");
  EXPECT_EQ(rank_of("/"), 0);
  EXPECT_EQ(subtrees().size(), 1u);
  EXPECT_EQ(read(a + "/file"), "text");
}

TEST_F(RanksOf, APinIsAnExtendedAttributeAndMovesItsDirectory) {
  Serving server(volume_, "--ranks 2", log_, kLease);
  ASSERT_TRUE(until([&] { return server_of(0) == server.pid() && server_of(1) == server.pid(); }));
  mount("/a");
  const std::string a = dir_ + "/a", dir = a + "/dir";
  fs::create_directory(dir);
  ASSERT_TRUE(write(dir + "/file", "text"));
  auto set = [](const std::string& path, const std::string& value) {
    return ::setxattr(path.c_str(), "graftfs.pin", value.data(), value.size(), 0) == 0 ? 0 : errno;
  };
  EXPECT_EQ(set(dir + "/file", "1"), ENOTDIR);
  EXPECT_EQ(set(dir, "9"), EINVAL);
  EXPECT_EQ(set(dir, "one"), EINVAL);
  ASSERT_EQ(::chmod(dir_.c_str(), 0755), 0);
  ASSERT_EQ(::chmod(dir.c_str(), 0777), 0);
  pid_t child = ::fork();
  if (child == 0) ::_exit(::setuid(65534) == 0 ? set(dir, "1") : 0);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), EPERM) << "only root may";

  ASSERT_EQ(set(dir, "1"), 0);
  EXPECT_TRUE(until([&] { return rank_of("/dir") == 1; }));
  char value[8] = {};
  EXPECT_EQ(::getxattr(dir.c_str(), "graftfs.pin", value, sizeof value), 1);
  EXPECT_STREQ(value, "1");
  EXPECT_THAT(run("subtree list " + volume_).text, HasSubstr("pinned to rank 1"));
  auto pinned = run("subtree pin " + dir + " 0");
  EXPECT_EQ(pinned.code, 0) << pinned.text;
  // It is a part of what it hangs in again.
  EXPECT_TRUE(until([&] { return rank_of("/dir") == -1; }));
  EXPECT_EQ(run("subtree unpin " + dir).code, 0);
  EXPECT_EQ(::getxattr(dir.c_str(), "graftfs.pin", value, sizeof value), -1);
  EXPECT_EQ(errno, ENODATA);
  ASSERT_EQ(set(dir, "1"), 0);
  EXPECT_TRUE(until([&] { return rank_of("/dir") == 1; }));
  EXPECT_EQ(::removexattr(dir.c_str(), "graftfs.pin"), 0);
  EXPECT_EQ(rank_of("/dir"), 1) << "it stays where it is";
  EXPECT_EQ(read(dir + "/file"), "text");
}

// How much load this machine makes of it is its own business: that it looks, says what it sees and
// changes nothing is not.
TEST_F(RanksOf, TheBalancerExplainsItself) {
  Serving server(volume_, "--ranks 2 --balance", log_, kLease);
  ASSERT_TRUE(until([&] { return server_of(0) == server.pid() && server_of(1) == server.pid(); }));
  mount("/a");
  const std::string a = dir_ + "/a";
  for (const char* dir : {"/d0", "/d1", "/d2"}) fs::create_directory(a + dir);
  std::atomic<bool> ending = false;
  std::thread busy([&] {
    for (int i = 0; !ending; ++i) write(fmt::format("{}/d{}/f{}", a, i % 3, i), "text");
  });
  auto looked = run("subtree balance " + volume_ + " --dry-run --window 2s");
  ending = true;
  busy.join();
  EXPECT_EQ(looked.code, 0) << looked.text;
  EXPECT_THAT(looked.text, HasSubstr("Rank 0 has the most to do"));
  EXPECT_THAT(looked.text, HasSubstr("and rank 1 the least, 0;"));
  EXPECT_EQ(subtrees().size(), 1u);
  expect_refused("subtree balance " + volume_ + " --window 0s", "--window");
}

// A mount hosts the ranks by itself where nobody serves the volume; others find them there.
TEST_F(RanksOf, AMountHostsSeveralRanks) {
  mount("/a", "--ranks 2");
  const std::string a = dir_ + "/a", b = dir_ + "/b";
  EXPECT_EQ(ranks(), 2u);
  fs::create_directory(a + "/dir");
  auto moved = run("subtree move " + a + "/dir 1");
  EXPECT_EQ(moved.code, 0) << moved.text;
  ASSERT_TRUE(write(a + "/dir/file", "text"));
  mount("/b");
  EXPECT_EQ(read(b + "/dir/file"), "text");
  EXPECT_EQ(ranks(), 2u) << "the second has joined";
  EXPECT_EQ(run("umount " + b).code, 0);
  EXPECT_EQ(run("umount " + a).code, 0);
  expect_clean();
  // It has two ranks from now on, whoever mounts it.
  mount("/b");
  EXPECT_EQ(read(b + "/dir/file"), "text");
  EXPECT_EQ(rank_of("/dir"), 1);
  EXPECT_EQ(run("umount " + b).code, 0);
  expect_clean();
}

// Open files without a name, files with names at both ranks, all of the dead rank's: the one that
// has adopted it takes everything over, and the dead rank is gone.
TEST_F(RanksOf, ADeadRankIsTakenOverAndGoes) {
  Serving first(volume_, "", log_, kLease);
  ASSERT_TRUE(until([&] { return server_of(0) == first.pid(); }));
  Serving second(volume_, "", log_, kLease);
  ASSERT_TRUE(until([&] { return server_of(1) == second.pid(); }));
  mount("/a");
  const std::string a = dir_ + "/a";
  fs::create_directory(a + "/dir");
  fs::create_directory(a + "/here");
  auto moved = run("subtree move " + a + "/dir 1");
  ASSERT_EQ(moved.code, 0) << moved.text;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(write(fmt::format("{}/dir/f{}", a, i), "kept"));
  for (int i = 0; i < 5; ++i) {
    fs::create_hard_link(fmt::format("{}/dir/f{}", a, i), fmt::format("{}/dir/l{}", a, i));
    fs::create_hard_link(fmt::format("{}/dir/f{}", a, i + 5), fmt::format("{}/here/l{}", a, i));
  }
  std::vector<int> nameless;
  for (const char* name : {"/dir/n0", "/dir/n1"}) {
    ASSERT_TRUE(write(a + name, "open"));
    nameless.push_back(::open((a + name).c_str(), O_RDWR));
    ASSERT_GE(nameless.back(), 0);
    if (name == std::string("/dir/n1")) {
      fs::create_hard_link(a + name, a + "/here/n1");
      fs::remove(a + "/here/n1");
    }
    fs::remove(a + name);
  }

  second.signal(SIGKILL);
  second.wait();
  ASSERT_TRUE(until([&] { return ranks() == 1; }, 90)) << run("rank list " + volume_).text;
  EXPECT_EQ(server_of(0), first.pid());
  EXPECT_EQ(rank_of("/dir"), -1) << "a part of what it hangs in";
  for (int fd : nameless) {
    char text[8] = {};
    EXPECT_EQ(::pread(fd, text, sizeof text, 0), 4);
    EXPECT_STREQ(text, "open");
    EXPECT_EQ(::pwrite(fd, "more", 4, 4), 4);
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(read(fmt::format("{}/dir/f{}", a, i)), "kept");
  for (int i = 0; i < 5; ++i) {
    // Names of what lives in the directory that the dead rank has left.
    EXPECT_TRUE(fs::remove(fmt::format("{}/dir/f{}", a, i)));
    EXPECT_TRUE(fs::remove(fmt::format("{}/dir/l{}", a, i)));
    EXPECT_TRUE(fs::remove(fmt::format("{}/here/l{}", a, i)));
  }
  for (int fd : nameless) ::close(fd);
  EXPECT_EQ(run("umount " + a).code, 0);
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait(), 0);
  expect_clean();
}

TEST_F(RanksOf, ARankIsRemovedUnderLoadAndItsNumberIsNotUsedAgain) {
  Serving server(volume_, "--ranks 2", log_, kLease);
  ASSERT_TRUE(until([&] { return server_of(0) == server.pid() && server_of(1) == server.pid(); }));
  mount("/a");
  const std::string a = dir_ + "/a";
  fs::create_directory(a + "/dir");
  fs::create_directory(a + "/dir/in");
  ASSERT_EQ(run("subtree move " + a + "/dir 1").code, 0);
  std::atomic<bool> ending = false;
  int made = 0;
  std::thread writer([&] {
    for (; !ending; ++made) {
      const std::string name = fmt::format("{}/dir/{}f{}", a, made % 2 ? "in/" : "", made);
      if (!write(name, std::to_string(made))) break;
      if (made % 5 == 0) fs::create_hard_link(name, name + "-link");
    }
  });
  auto removed = run("rank remove " + volume_ + " 1 --wait 90s");
  ending = true;
  writer.join();
  EXPECT_THAT(removed.text, HasSubstr("rank 1 is gone"));
  EXPECT_EQ(ranks(), 1u);
  EXPECT_GT(made, 0);
  for (int i = 0; i < made; ++i) {
    const std::string name = fmt::format("{}/dir/{}f{}", a, i % 2 ? "in/" : "", i);
    ASSERT_EQ(read(name), std::to_string(i)) << "a file that was written";
    EXPECT_EQ(fs::hard_link_count(name), i % 5 == 0 ? 2u : 1u);
  }
  expect_refused("rank remove " + volume_ + " 0", "the last one");
  EXPECT_THAT(run("rank add " + volume_ + " --wait 60s").text, HasSubstr("rank 2 serves"));
  EXPECT_EQ(run("subtree move " + a + "/dir 2").code, 0);
  EXPECT_EQ(run("umount " + a).code, 0);
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
  expect_clean();
}

// Whoever takes a rank that was about to go goes on with that, wherever the one before has died.
TEST_F(RanksOf, ARankWhoseProcessDiesAsItLeavesGoesOnToLeave) {
  const std::string a = dir_ + "/a";
  int number = 1;  // of the rank that goes
  for (const char* point :
       {"cluster.retire.begin", "migration.export.frozen", "migration.export.export_durable",
        "cluster.retire.exported", "cluster.retire.gone", "cluster.retire.disowned"}) {
    ::setenv("GRAFTFS_KILL", point, 1);
    auto doomed = std::make_unique<Serving>(volume_, "--ranks 2", log_, "1s");
    ::unsetenv("GRAFTFS_KILL");
    ASSERT_TRUE(until([&] { return server_of(number) == doomed->pid(); })) << point;
    mount("/a");
    const std::string dir = fmt::format("{}/dir{}", a, number);
    fs::create_directory(dir);
    // The points of a migration are passed only by the rank that leaves: it has its hidden
    // directories to hand over.
    if (std::string_view(point).starts_with("cluster")) {
      auto moved = run(fmt::format("subtree move {} {}", dir, number));
      ASSERT_EQ(moved.code, 0) << point << moved.text;
    }
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(write(fmt::format("{}/f{}", dir, i), point));
    for (int i = 0; i < 5; ++i)
      fs::create_hard_link(fmt::format("{}/f{}", dir, i), dir + fmt::format("/l{}", i));
    run(fmt::format("rank remove {} {} --wait 0s", volume_, number));
    EXPECT_EQ(doomed->wait(), 128 + SIGKILL) << point;
    Serving next(volume_, "", log_, "1s");
    ASSERT_TRUE(until([&] { return server_of(0) == next.pid() && ranks() == 1; }, 90))
        << point << run("rank list " + volume_).text;
    for (int i = 0; i < 10; ++i) EXPECT_EQ(read(fmt::format("{}/f{}", dir, i)), point);
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(fs::hard_link_count(fmt::format("{}/f{}", dir, i)), 2u) << point;
      EXPECT_TRUE(fs::remove(fmt::format("{}/f{}", dir, i)));
      EXPECT_TRUE(fs::remove(fmt::format("{}/l{}", dir, i)));
    }
    EXPECT_EQ(run("umount " + a).code, 0);
    next.signal(SIGTERM);
    EXPECT_EQ(next.wait(), 0);
    auto checked = run("fsck " + volume_);
    ASSERT_EQ(checked.code, 0) << point << ": " << checked.text;
    number++;
  }
}

}  // namespace
}  // namespace graftfs::cli
