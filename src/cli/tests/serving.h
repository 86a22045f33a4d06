#pragma once
// Real processes that serve a volume, for tests.

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

namespace fs = std::filesystem;
using nlohmann::json;

inline std::string program() {
  return std::string(std::getenv("GRAFTFS_BUILD")) + "/src/cli/graftfs";
}

struct Outcome {
  int code = -1;
  std::string text;
};

inline Outcome run(const std::string& arguments) {
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
  // `before`: words before the command, such as a program that starts it elsewhere.
  Serving(const std::string& volume, const std::string& flags, const std::string& log,
          const std::string& lease = "500ms", const std::string& before = "") {
    pid_ = ::fork();
    if (pid_ == 0) {
      int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      ::dup2(out, 1);
      ::dup2(out, 2);
      std::string line = fmt::format("exec {} {} serve {} --foreground --lease {} {}", before,
                                     program(), volume, lease, flags);
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
    log_ = dir_ + "/log";
    fs::create_directory(dir_ + "/a");
    fs::create_directory(dir_ + "/b");
    make_volume();
  }
  // Says which one it is, and formats it.
  virtual void make_volume() {
    volume_ = dir_ + "/v";
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

}  // namespace graftfs::cli
