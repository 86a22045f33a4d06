// Power cuts under load: several threads write and sync; what was synced is there afterwards.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "crash_test.h"
#include "operation.h"

namespace graftfs::crash {
namespace {

constexpr int kThreads = 4;
constexpr uint64_t kWholeSize = 20'000;

// One thread's files in a directory of its own:
//  log:      only appended to, in records of any size, and synced now and then
//  whole:    replaced as programs do: written aside, synced, renamed over it
//  small-N:  made, written, synced
class Writer {
 public:
  Writer(std::string dir, uint64_t seed, bool strict)
      : dir_(std::move(dir)), seed_(seed), strict_(strict), random_(seed) {}

  void prepare() {
    if (::mkdir(dir_.c_str(), 0755) != 0) give_up("cannot make " + dir_);
    if (int err = write_at(at("log"), O_CREAT, 0, "")) fail("create log", err);
    replace();
  }

  // Until the file system is gone.
  void run() {
    while (!gone_ && problem_.empty()) {
      switch (random_() % 4) {
        case 0:
          replace();
          break;
        case 1:
          small();
          break;
        default:
          append();
          break;
      }
    }
  }

  // Checks what the recovery has left, and goes on from there.
  std::string check() {
    if (!problem_.empty()) return problem_;
    gone_ = false;
    check_log();
    check_whole();
    check_small();
    return problem_;
  }
  size_t syncs() const { return syncs_; }

 private:
  std::string at(const std::string& name) const { return dir_ + "/" + name; }
  // True if the step was answered with success.
  bool step(const char* what, int err) {
    if (err == 0) return true;
    if (is_gone(err)) {
      gone_ = true;
    } else {
      fail(what, err);
    }
    return false;
  }
  void fail(const std::string& what, int err) {
    problem_ = fmt::format("{}: {}: {}", dir_, what, std::strerror(err));
  }
  bool synced(const std::string& path) {
    ++syncs_;
    return step("fsync", sync_path(path));
  }

  void append() {
    uint64_t length = 1 + random_() % (random_() % 8 == 0 ? 200'000 : 5000);
    log_begun_ = log_answered_ + length;
    if (!step("append",
              write_at(at("log"), 0, log_answered_, bytes_for(seed_, log_answered_, length))))
      return;
    log_answered_ = log_begun_;
    if (strict_) log_promised_ = log_answered_;
    if (random_() % 3 == 0 && synced(at("log"))) log_promised_ = log_answered_;
  }

  void replace() {
    uint64_t version = ++whole_begun_;
    ::unlink(at("aside").c_str());
    if (!step("write aside",
              write_at(at("aside"), O_CREAT, 0, bytes_for(seed_ + version, 0, kWholeSize))))
      return;
    if (!synced(at("aside"))) return;
    if (!step("rename", ::rename(at("aside").c_str(), at("whole").c_str()) == 0 ? 0 : errno))
      return;
    if (strict_ || (random_() % 2 && synced(dir_))) whole_promised_ = version;
    if (whole_promised_ == 0 && synced(dir_)) whole_promised_ = version;
  }

  void small() {
    uint64_t number = small_promised_.size();
    std::string path = at(fmt::format("small-{}", number));
    small_promised_.push_back(false);
    if (!step("write small", write_at(path, O_CREAT | O_EXCL, 0, bytes_for(number, 0, kSmall))))
      return;
    if (strict_ || (random_() % 2 && synced(path))) small_promised_[number] = true;
  }

  void check_log() {
    std::string bytes;
    if (int err = read_all(at("log"), bytes)) return fail("read log", err);
    if (bytes.size() < log_promised_ || bytes.size() > std::max(log_begun_, log_answered_)) {
      problem_ = fmt::format("{}: the log has {} bytes; {} were promised, {} begun", dir_,
                             bytes.size(), log_promised_, log_begun_);
    } else if (bytes != bytes_for(seed_, 0, bytes.size())) {
      auto want = bytes_for(seed_, 0, bytes.size());
      size_t i = std::mismatch(bytes.begin(), bytes.end(), want.begin()).first - bytes.begin();
      problem_ = fmt::format("{}: byte {} of the {} of the log was never written ({} promised)",
                             dir_, i, bytes.size(), log_promised_);
    }
    log_promised_ = log_answered_ = log_begun_ = bytes.size();
  }

  void check_whole() {
    std::string bytes;
    if (int err = read_all(at("whole"), bytes)) return fail("read whole", err);
    for (uint64_t v = whole_promised_; v <= whole_begun_; ++v) {
      if (bytes != bytes_for(seed_ + v, 0, kWholeSize)) continue;
      whole_promised_ = v;
      return;
    }
    problem_ = fmt::format("{}: the replaced file ({} bytes) is none of versions {} to {}", dir_,
                           bytes.size(), whole_promised_, whole_begun_);
  }

  void check_small() {
    for (size_t i = 0; i < small_promised_.size(); ++i) {
      std::string bytes;
      int err = read_all(at(fmt::format("small-{}", i)), bytes);
      if (err == ENOENT && !small_promised_[i]) continue;
      if (err) return fail(fmt::format("read small-{}", i), err);
      // Without a promise a part may be missing at the end, but what is there was written.
      if ((small_promised_[i] && bytes.size() != kSmall) ||
          bytes != bytes_for(i, 0, kSmall).substr(0, bytes.size()))
        problem_ = fmt::format("{}: small-{} has {} bytes that were not written so", dir_, i,
                               bytes.size());
    }
  }

  static constexpr uint64_t kSmall = 3000;
  std::string dir_;
  uint64_t seed_;
  bool strict_;
  Random random_;
  uint64_t log_promised_ = 0, log_answered_ = 0, log_begun_ = 0;
  uint64_t whole_promised_ = 0, whole_begun_ = 0;
  std::vector<bool> small_promised_;
  size_t syncs_ = 0;
  bool gone_ = false;
  std::string problem_;
};

class PowerCutTest : public CrashTest {
 protected:
  void cut_again_and_again(BackingKind backing, bool strict) {
    const auto rounds = setting("GRAFTFS_CRASH_ROUNDS", 10);
    Machine machine({.backing = backing, .power = true, .strict = strict, .megabytes = 1024});
    std::vector<std::unique_ptr<Writer>> writers;
    for (int i = 0; i < kThreads; ++i) {
      writers.push_back(std::make_unique<Writer>(fmt::format("{}/writer-{}", machine.dir(), i),
                                                 random_(), strict));
      writers.back()->prepare();
    }
    ASSERT_EQ(sync_path(machine.dir()), 0);
    size_t syncs = 0;
    for (uint64_t round = 0; round < rounds; ++round) {
      std::vector<std::thread> threads;
      for (auto& writer : writers) threads.emplace_back([&writer] { writer->run(); });
      std::this_thread::sleep_for(std::chrono::microseconds(below(400'000)));
      machine.crash();
      for (std::thread& t : threads) t.join();
      recover(machine, below(4) == 0 ? 1 : 0);
      for (auto& writer : writers)
        ASSERT_EQ(writer->check(), "") << "after power cut " << round + 1 << " of " << rounds;
    }
    for (auto& writer : writers) syncs += writer->syncs();
    EXPECT_GT(syncs, rounds);
    unmount(machine);
    std::printf("%llu cuts, %zu syncs\n", static_cast<unsigned long long>(rounds), syncs);
  }
};

TEST_F(PowerCutTest, WhatWasSyncedSurvivesOnXfs) { cut_again_and_again(BackingKind::xfs, false); }
TEST_F(PowerCutTest, WhatWasSyncedSurvivesOnExt4) { cut_again_and_again(BackingKind::ext4, false); }
TEST_F(PowerCutTest, WhatWasAnsweredSurvivesOnXfs) { cut_again_and_again(BackingKind::xfs, true); }
TEST_F(PowerCutTest, WhatWasAnsweredSurvivesOnExt4) {
  cut_again_and_again(BackingKind::ext4, true);
}

}  // namespace
}  // namespace graftfs::crash
