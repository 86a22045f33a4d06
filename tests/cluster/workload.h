#pragma once
// What runs on the mounts of the closing scenario, and notes what it was told.

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace graftfs {

// A tree in a directory of this machine, its archive, and what building it makes. Made once,
// before anything runs; read by all workers.
class SourceTree {
 public:
  SourceTree(std::string dir, int packages, int files, uint64_t seed);
  const std::string& dir() const { return dir_; }      // as it is
  const std::string& built() const { return built_; }  // as it is after `make`
  const std::string& archive() const { return archive_; }

 private:
  std::string dir_, built_, archive_;
};

// One thread that works in a directory of its own, below a mount, until stop(). `expected` is
// what it was answered: every file and directory there, and nothing else. An answer that no crash
// of a rank explains is a failure, and ends it.
class Worker {
 public:
  explicit Worker(std::string name) : name_(std::move(name)) {}
  virtual ~Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void start();
  // Returns when what is under way has been answered. Destructors of those that run() call it.
  void stop();
  const std::string& name() const { return name_; }
  uint64_t done() const { return done_; }
  std::string failure() const {
    std::lock_guard lock(mutex_);
    return failure_;
  }
  // How long nothing was answered, by now.
  std::chrono::milliseconds silent() const;
  std::chrono::milliseconds longest() const { return std::chrono::milliseconds(longest_ms_); }
  // After stop(): compares with what is at the same place below another (or the same) mount. Empty:
  // all is there.
  virtual std::string check(const std::string& mount) const = 0;

 protected:
  virtual void run() = 0;
  bool ending() const { return ending_; }
  void answered();
  void fail(std::string why);

 private:
  std::string name_;
  std::thread thread_;
  std::atomic<bool> ending_{false};
  std::atomic<uint64_t> done_{0};
  std::atomic<int64_t> last_ms_{0}, longest_ms_{0};  // of a steady clock
  mutable std::mutex mutex_;
  std::string failure_;
};

// Unpacks the archive, builds what came out, removes what it had unpacked before: again and again.
class TreeWorker final : public Worker {
 public:
  TreeWorker(std::string mount, std::string place, const SourceTree& tree);
  ~TreeWorker() override { stop(); }
  std::string check(const std::string& mount) const override;

 private:
  enum State : uint8_t { unpacked, built, removed, touched };  // touched: it was under way
  void run() override;
  bool shell(const std::string& what, const std::string& command);

  std::string mount_, place_;
  const SourceTree& tree_;
  std::map<int, State> rounds_;
};

// System calls one by one: creates, writes, appends, renames, links, removes, in two directories.
class CallWorker final : public Worker {
 public:
  CallWorker(std::string mount, std::string place, uint64_t seed);
  ~CallWorker() override { stop(); }
  std::string check(const std::string& mount) const override;

 private:
  struct Node {
    std::string bytes;
  };
  void run() override;
  void step();
  std::string pick(bool existing);

  std::string mount_, place_;
  std::mt19937_64 random_;
  std::map<std::string, std::shared_ptr<Node>> expected_;  // by name below `place`
  uint64_t next_ = 0;
};

// Everything below two directories: names, types, permissions, sizes, link counts, bytes. Empty:
// they are the same.
std::string difference(const std::string& one, const std::string& other, bool links = true);

}  // namespace graftfs
