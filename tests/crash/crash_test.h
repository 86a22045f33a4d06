#pragma once
// What the GoogleTest programs of this folder share.

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cstring>

#include "files.h"
#include "machine.h"
#include "sandbox.h"

namespace graftfs::crash {

// Skips where crashes cannot be had, and sees to it that a test names its seed:
// GRAFTFS_CRASH_SEED repeats it.
class CrashTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::string why = cannot_run(); !why.empty()) GTEST_SKIP() << why;
    ::umask(022);
    Sandbox::get();
    uint64_t seed = setting("GRAFTFS_CRASH_SEED", 0);
    if (seed == 0)
      seed = static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    random_.seed(seed);
    std::printf("GRAFTFS_CRASH_SEED=%llu\n", static_cast<unsigned long long>(seed));
  }

  // Recovers; what fsck finds is a failure.
  void recover(Machine& machine, int interruptions = 0) {
    std::vector<std::string> problems;
    machine.recover(random_, interruptions, problems);
    for (const std::string& problem : problems) ADD_FAILURE() << problem;
  }
  void unmount(Machine& machine) {
    std::string why;
    EXPECT_TRUE(machine.daemon().unmount(why)) << why;
  }
  uint64_t below(uint64_t limit) { return random_() % limit; }

  Random random_;
};

}  // namespace graftfs::crash
