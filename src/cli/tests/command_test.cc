// The graftfs binary itself: what it prints, how it ends, what it does with bad input.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "base/crc32c.h"

namespace graftfs::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::HasSubstr;

struct Outcome {
  int code = -1;     // 128 + signal where a signal ended it
  std::string text;  // both streams
};

Outcome run(const std::string& arguments) {
  std::string command =
      std::string(std::getenv("GRAFTFS_BUILD")) + "/src/cli/graftfs " + arguments + " 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  Outcome out;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.text.append(buffer, n);
  int status = ::pclose(pipe);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return out;
}

void write_file(const fs::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  ASSERT_TRUE(out.good()) << path;
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// Gone, or waiting for whoever adopted it.
bool ended(pid_t pid) {
  std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  return stat.empty() || stat.find(") Z ") != stat.npos || stat.find(") X ") != stat.npos;
}

class Command : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/graftfs-command-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    home_ = name;
    volume_ = home_ / "v";
    mnt_ = home_ / "m";
    fs::create_directory(mnt_);
    Outcome made = run("format " + volume_.string());
    ASSERT_EQ(made.code, 0) << made.text;
  }
  void TearDown() override {
    run("umount " + mnt_.string());
    ::umount2(mnt_.c_str(), MNT_DETACH);
    fs::remove_all(home_);
  }
  Outcome mount(const std::string& flags = "") {
    return run("mount " + volume_.string() + " " + mnt_.string() + " " + flags);
  }
  Outcome umount() { return run("umount " + mnt_.string()); }
  nlohmann::json info(const fs::path& path) {
    Outcome out = run("info --json " + path.string());
    EXPECT_EQ(out.code, 0) << out.text;
    return nlohmann::json::parse(out.text, nullptr, false);
  }
  void kill_daemon() {
    pid_t pid = info(volume_).value("pid", 0);
    ASSERT_GT(pid, 0);
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    // Its end takes a moment.
    for (int i = 0; i < 5000 && !ended(pid); ++i) ::usleep(1000);
    EXPECT_TRUE(ended(pid));
    umount();
  }
  // One sentence, and not the end of a crash.
  void expect_sentence(const Outcome& out, int code = 1) {
    EXPECT_EQ(out.code, code) << out.text;
    EXPECT_THAT(out.text, HasSubstr("graftfs: "));
  }

  fs::path home_, volume_, mnt_;
};

TEST_F(Command, FormatMountWriteUmountMount) {
  ASSERT_EQ(mount().code, 0);
  write_file(mnt_ / "a", "hello");
  auto served = info(mnt_);
  EXPECT_TRUE(served["mounted"].get<bool>());
  EXPECT_GT(served["journal"]["bytes"].get<uint64_t>(), 0u);
  EXPECT_GT(served["journal"]["cap_bytes"].get<uint64_t>(), 0u);
  EXPECT_TRUE(served["recovery"]["seconds"].is_number());
  pid_t pid = served["pid"];
  EXPECT_EQ(umount().code, 0);
  EXPECT_TRUE(ended(pid)) << "umount returned before the daemon was gone";
  EXPECT_FALSE(info(volume_)["mounted"].get<bool>());
  EXPECT_EQ(run("fsck " + volume_.string()).code, 0);
  ASSERT_EQ(mount("--read-only").code, 0);
  EXPECT_EQ(read_file(mnt_ / "a"), "hello");
  EXPECT_EQ(::mkdir((mnt_ / "d").c_str(), 0755), -1);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(Command, KillNineLosesNothingAnswered) {
  for (int round = 0; round < 5; ++round) {
    ASSERT_EQ(mount().code, 0);
    fs::path dir = mnt_ / std::to_string(round);
    fs::create_directory(dir);
    for (int i = 0; i < 100; ++i) write_file(dir / std::to_string(i), std::to_string(i));
    kill_daemon();
    Outcome check = run("fsck " + volume_.string());
    EXPECT_EQ(check.code, 0) << check.text;
  }
  ASSERT_EQ(mount().code, 0);
  for (int round = 0; round < 5; ++round)
    for (int i = 0; i < 100; ++i)
      EXPECT_EQ(read_file(mnt_ / std::to_string(round) / std::to_string(i)), std::to_string(i));
}

TEST_F(Command, WrongVolumesAreRefusedInOneSentence) {
  std::string m = " " + mnt_.string();
  expect_sentence(run("mount " + home_.string() + m));
  EXPECT_THAT(run("mount " + home_.string() + m).text, HasSubstr("is not a GraftFS volume"));
  expect_sentence(run("mount " + home_.string() + "/none" + m));
  expect_sentence(mount("--memory lots"));
  expect_sentence(run("format " + volume_.string()));
  EXPECT_EQ(run("mount " + volume_.string()).code, 2);
  EXPECT_EQ(run("frobnicate").code, 2);
  EXPECT_EQ(run("--help").code, 0);
  ASSERT_EQ(mount().code, 0);
  pid_t pid = info(volume_)["pid"];
  fs::create_directory(home_ / "m2");
  Outcome second = run("mount " + volume_.string() + " " + (home_ / "m2").string());
  expect_sentence(second);
  EXPECT_THAT(second.text, HasSubstr("already mounted by process " + std::to_string(pid)));
  EXPECT_THAT(run("format --force " + volume_.string()).text, HasSubstr("unmount it first"));
  EXPECT_THAT(run("fsck " + volume_.string()).text, HasSubstr("is mounted by process"));
  EXPECT_EQ(run("fsck " + volume_.string()).code, 8);
}

TEST_F(Command, ANewerVersionIsRefused) {
  fs::path file = volume_ / "graftfs.volume";
  std::string text = read_file(file);
  size_t at = text.find("format = 1");
  ASSERT_NE(at, text.npos);
  text.replace(at, 10, "format = 9");
  size_t sum = text.rfind("checksum = ");
  std::string sealed = text.substr(0, sum);
  sealed += fmt::format("checksum = {:08x}\n", crc32c(sealed));
  write_file(file, sealed);
  Outcome newer = mount();
  expect_sentence(newer);
  EXPECT_THAT(newer.text, HasSubstr("newer version of GraftFS (format 9"));
  write_file(file, text);
  Outcome damaged = mount();
  expect_sentence(damaged);
  EXPECT_THAT(damaged.text, HasSubstr("graftfs.volume is damaged"));
}

TEST_F(Command, ConfigErrorsNameFileAndLine) {
  write_file(volume_ / "graftfs.toml", "# mine\ndurabilty = \"strict\"\n");
  Outcome out = mount();
  expect_sentence(out);
  EXPECT_THAT(out.text, HasSubstr("graftfs.toml, line 2: there is no setting 'durabilty'"));
  write_file(volume_ / "graftfs.toml", "durability = \"strict\"\n");
  ASSERT_EQ(mount().code, 0);
  EXPECT_EQ(info(volume_)["durability"], "strict");
}

TEST_F(Command, TheJournalCanBeReadWhileItIsWritten) {
  ASSERT_EQ(mount().code, 0);
  write_file(mnt_ / "a", "x");
  std::string v = volume_.string();
  EXPECT_EQ(run("journal verify " + v).code, 0);
  auto inspected = nlohmann::json::parse(run("journal inspect --json " + v).text, nullptr, false);
  ASSERT_TRUE(inspected.is_object());
  EXPECT_FALSE(inspected["segments"].empty());
  std::istringstream lines(run("journal dump --json " + v).text);
  int links = 0;
  for (std::string line; std::getline(lines, line);) {
    auto event = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(event.is_object()) << line;
    links += event["type"] == "Link";
  }
  EXPECT_EQ(links, 1);
  Outcome why = run("journal explain " + v + " /a");
  EXPECT_EQ(why.code, 0);
  EXPECT_THAT(why.text, HasSubstr("created as a file named /a"));
  EXPECT_EQ(run("journal explain " + v + " /b").code, 1);
}

// A flipped bit: the volume works with everything in it, or it is refused with a sentence. In the
// volume's own files nothing ends in a crash and nothing is lost silently.
TEST_F(Command, FlippedBitsAreFoundOrHarmless) {
  ASSERT_EQ(mount().code, 0);
  for (int i = 0; i < 200; ++i)
    write_file(mnt_ / ("file" + std::to_string(i)), std::string(10, 'x'));
  ASSERT_EQ(umount().code, 0);
  ASSERT_EQ(mount().code, 0);
  for (int i = 200; i < 400; ++i)
    write_file(mnt_ / ("file" + std::to_string(i)), std::string(10, 'x'));
  kill_daemon();
  fs::path good = home_ / "good";
  fs::remove(volume_ / "control");  // a socket cannot be copied
  fs::copy(volume_, good, fs::copy_options::recursive);
  std::vector<fs::path> victims = {"graftfs.volume", "dirs/data.mdb"};
  for (const auto& e : fs::directory_iterator(good / "journal/rank-0"))
    if (e.path().extension() == ".seg") victims.push_back("journal/rank-0" / e.path().filename());
  std::mt19937 random(7);
  int refused = 0, worked = 0;
  for (int round = 0; round < 24; ++round) {
    fs::remove_all(volume_);
    fs::copy(good, volume_, fs::copy_options::recursive);
    fs::path victim = volume_ / victims[random() % victims.size()];
    std::string bytes = read_file(victim);
    // Most of a segment was never used.
    size_t used = std::min<size_t>(bytes.size(), 40000);
    size_t at = random() % used;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
    write_file(victim, bytes);
    SCOPED_TRACE(victim.string() + " at " + std::to_string(at));
    Outcome out = mount();
    if (out.code != 0) {
      ++refused;
      expect_sentence(out);
      Outcome verify = run("journal verify " + volume_.string());
      EXPECT_THAT(verify.code, AnyOf(0, 1)) << verify.text;
      Outcome check = run("fsck " + volume_.string());
      EXPECT_THAT(check.code, AnyOf(0, 4, 8)) << check.text;
      continue;
    }
    ++worked;
    int missing = 0;
    for (int i = 0; i < 400; ++i) {
      fs::path file = mnt_ / ("file" + std::to_string(i));
      struct stat st;
      if (::stat(file.c_str(), &st) == 0) continue;
      // Damage in a directory object shows when it is read: an error, never an absent file.
      EXPECT_NE(errno, ENOENT) << file;
      ++missing;
    }
    EXPECT_GT(info(volume_).value("pid", 0), 0) << "the daemon died";
    umount();
    if (missing == 0) continue;
    EXPECT_NE(run("fsck " + volume_.string()).code, 0);
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(worked, 0);
}

}  // namespace
}  // namespace graftfs::cli
