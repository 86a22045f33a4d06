#include "types/ino_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace graftfs {
namespace {

// Against a map of single numbers: dense ones, and such as lie far apart.
TEST(InoTable, HoldsWhatAMapHolds) {
  std::mt19937_64 random(1);
  std::array<int, 64> values{};
  InoTable<int*> table;
  std::map<uint64_t, int*> model;
  for (int step = 0; step < 100'000; ++step) {
    const uint64_t ino = random() % 2 ? random() % 500 : (random() % 50) << 20;
    int* value = &values[random() % values.size()];
    if (random() % 3 != 0) {
      table.set(Ino{ino}, value);
      model[ino] = value;
    } else if (model.erase(ino)) {
      table.set(Ino{ino}, nullptr);
    }
    const uint64_t other = random() % 600;
    auto known = model.find(other);
    ASSERT_EQ(table.get(Ino{other}), known == model.end() ? nullptr : known->second);
    ASSERT_EQ(table.size(), model.size());
  }
  while (!model.empty()) {
    table.set(Ino{model.begin()->first}, nullptr);
    model.erase(model.begin());
  }
  EXPECT_EQ(table.runs(), 0u) << "runs without numbers are kept";
}

}  // namespace
}  // namespace graftfs
