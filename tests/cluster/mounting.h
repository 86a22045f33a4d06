#pragma once
// Mounts in processes of their own, for tests.

#include "cli/tests/serving.h"

namespace graftfs::cli {

inline long number_of(const char* variable, long otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::strtol(text, nullptr, 10) : otherwise;
}

// Those that serve; none where the table was just being changed.
inline std::vector<int> living_ranks(const std::string& volume) {
  std::vector<int> out;
  const json all = json::parse(run("rank list " + volume + " --json").text, nullptr, false);
  if (!all.is_object()) return out;
  for (const json& r : all.at("ranks"))
    if (r.at("alive") && r.at("state") == "serving") out.push_back(r.at("rank"));
  return out;
}

// A `graftfs mount --foreground`.
class Mounting {
 public:
  // `before`: words before the command, such as a program that starts it elsewhere.
  Mounting(const std::string& volume, std::string point, const std::string& log,
           const std::string& before = "")
      : point_(std::move(point)) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(out, 1);
    ::dup2(out, 2);
    std::string line =
        fmt::format("exec {} {} mount {} {} --foreground", before, program(), volume, point_);
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  Mounting(const Mounting&) = delete;
  Mounting& operator=(const Mounting&) = delete;
  ~Mounting() { kill(); }
  bool is_up() const {
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);)
      if (line.find(" " + point_ + " fuse") != std::string::npos) return true;
    return false;
  }
  // Whoever waits for an answer there has an error, and goes on.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
    ::umount2(point_.c_str(), MNT_DETACH);
  }
  const std::string& point() const { return point_; }
  pid_t pid() const { return pid_; }

 private:
  std::string point_;
  pid_t pid_ = 0;
};

}  // namespace graftfs::cli
