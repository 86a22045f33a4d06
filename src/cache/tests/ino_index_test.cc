#include "cache/ino_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace graftfs {
namespace {

// Against a map of single numbers: dense ones, and such as lie far apart.
TEST(InoIndex, HoldsWhatAMapHolds) {
  std::mt19937_64 random(1);
  std::array<int, 64> values{};
  InoIndex<int> index;
  std::map<uint64_t, int*> model;
  for (int step = 0; step < 100'000; ++step) {
    const uint64_t ino = random() % 2 ? random() % 500 : (random() % 50) << 20;
    int* value = &values[random() % values.size()];
    if (random() % 3 != 0) {
      index.set(Ino{ino}, value);
      model[ino] = value;
    } else if (model.erase(ino)) {
      index.erase(Ino{ino});
    }
    const uint64_t other = random() % 600;
    auto known = model.find(other);
    ASSERT_EQ(index.find(Ino{other}), known == model.end() ? nullptr : known->second);
  }
  while (!model.empty()) {
    index.erase(Ino{model.begin()->first});
    model.erase(model.begin());
  }
  EXPECT_TRUE(index.empty()) << "runs without numbers are kept";
}

}  // namespace
}  // namespace graftfs
