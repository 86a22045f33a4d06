// Random sequences of system calls, on the mount and on ext4: results, errnos, and what is to be
// seen afterwards must agree. differential_test [--seed N] [--seeds N] [--steps N]
// [--reference DIR]: other sequences, or more of them, or against another file system. With --show
// 1 the calls and what came of them on the mount are printed.

#include <sys/stat.h>
#include <sys/utsname.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <utility>

#include "differential/compare.h"
#include "differential/file_model.h"
#include "mounted.h"

namespace graftfs::mounttest {
namespace {

uint64_t first_seed = 1, seeds = 25;
size_t steps = 150;
bool show = false;
std::string reference_dir;

// Before Linux 6.13 ext4's times stand still for a tick, and before 6.2 set-gid had other rules.
bool is_ext4_of_today() {
  utsname name{};
  int major = 0, minor = 0;
  uname(&name);
  return std::sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
         std::pair{major, minor} >= std::pair{6, 13};
}

TEST(Differential, CallsDoWhatTheyDoOnExt4) {
  Mounted& mounted = Mounted::get();
  if (mounted.dir().empty()) GTEST_SKIP() << mounted.why();
  if (!is_ext4_of_today()) GTEST_SKIP() << "this kernel's ext4 follows older rules";
  std::unique_ptr<Reference> made;
  if (reference_dir.empty()) {
    made = std::make_unique<Reference>();
    if (made->dir().empty()) GTEST_SKIP() << made->why();
  }
  const std::string reference = made ? made->dir() : reference_dir;
  const std::string subject = mounted.dir() + "/differential";
  ASSERT_TRUE(mkdir(subject.c_str(), 0777) == 0 || errno == EEXIST) << strerror(errno);
  int different = 0;
  for (uint64_t seed = first_seed; seed < first_seed + seeds && different < 5; ++seed) {
    if (show) std::cout << transcript(subject, seed, steps);
    const std::string difference = compare(subject, reference, seed, steps);
    if (difference.empty()) continue;
    ADD_FAILURE() << difference;
    ++different;
  }
}

TEST(Differential, AFileHoldsWhatItsModelHolds) {
  Mounted& mounted = Mounted::get();
  if (mounted.dir().empty()) GTEST_SKIP() << mounted.why();
  for (uint64_t seed = first_seed; seed < first_seed + seeds; ++seed) {
    const std::string wrong = check_file(mounted.dir() + "/model", seed, static_cast<int>(steps));
    ASSERT_TRUE(wrong.empty()) << wrong;
  }
}

}  // namespace
}  // namespace graftfs::mounttest

int main(int argc, char** argv) {
  using namespace graftfs::mounttest;
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; i += 2) {
    const std::string flag = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (value && flag == "--seed") {
      first_seed = std::strtoull(value, nullptr, 10);
    } else if (value && flag == "--seeds") {
      seeds = std::strtoull(value, nullptr, 10);
    } else if (value && flag == "--steps") {
      steps = std::strtoull(value, nullptr, 10);
    } else if (value && flag == "--reference") {
      reference_dir = value;
    } else if (value && flag == "--show") {
      show = value[0] != '0';
    } else {
      std::cerr << "usage: " << argv[0]
                << " [--seed N] [--seeds N] [--steps N] [--reference DIR] [--show 1]\n";
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
