#pragma once
// Running a store's calls to completion in a test.

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>

#include "base/blocking_pool.h"
#include "base/event_loop.h"
#include "base/wait.h"
#include "store/local/local_store.h"
#include "store/memory/memory_store.h"

namespace graftfs {

// A small generator, the same on every machine.
class TestRandom final : public Random {
 public:
  explicit TestRandom(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint64_t next() override {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545f4914f6cdd1dull;
  }

 private:
  uint64_t state_;
};

template <class T>
T run(EventLoop& loop, Task<T> task) {
  return wait_for(loop, std::move(task));
}

struct TempDir {
  TempDir() : TempDir(std::filesystem::temp_directory_path()) {}
  explicit TempDir(const std::filesystem::path& parent) {
    std::string pattern = (parent / "graftfs-test-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};

inline std::string pattern_bytes(size_t n, uint64_t seed) {
  TestRandom random(seed);
  std::string s(n, '\0');
  for (char& c : s) c = static_cast<char>(random.next());
  return s;
}

#define ASSERT_OK(expr)                                                  \
  do {                                                                   \
    auto&& assert_ok_ = (expr);                                          \
    ASSERT_TRUE(assert_ok_.has_value()) << describe(assert_ok_.error()); \
  } while (false)
#define EXPECT_OK(expr)                                                  \
  do {                                                                   \
    auto&& expect_ok_ = (expr);                                          \
    EXPECT_TRUE(expect_ok_.has_value()) << describe(expect_ok_.error()); \
  } while (false)
#define EXPECT_CODE(expr, expected)                                                     \
  do {                                                                                  \
    auto&& expect_code_ = (expr);                                                       \
    ASSERT_FALSE(expect_code_.has_value());                                             \
    EXPECT_EQ(expect_code_.error().code, (expected)) << describe(expect_code_.error()); \
  } while (false)

}  // namespace graftfs
