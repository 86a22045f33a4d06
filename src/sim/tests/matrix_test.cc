// Every pair of kill points of both sides of a migration and of an operation of two ranks; of the
// variants of each (ending, load, a second death) one that is drawn from their names. All of them:
// graftfs-soak --matrix.
#include <gtest/gtest.h>

#include "sim/cluster/matrix.h"

namespace graftfs::sim {
namespace {

void run_one(const MatrixCase& c, std::map<std::string, uint64_t>& deaths) {
  ClusterResult result = run_matrix_case(c, deaths);
  EXPECT_TRUE(result.ok) << describe(c) << "\n"
                         << result.failure << "\nagain: graftfs-soak --matrix --only "
                         << describe(c);
}

// A point at which nobody has died is a hole in the test.
void expect_all_reached(const std::string& prefix, size_t at_least,
                        const std::map<std::string, uint64_t>& deaths) {
  const auto points = points_of(prefix);
  EXPECT_GE(points.size(), at_least) << prefix;
  for (const std::string& point : points)
    EXPECT_TRUE(deaths.contains(prefix + point)) << "nobody has died at " << prefix << point;
}

TEST(MatrixTest, Migration) {
  std::map<std::string, uint64_t> deaths;
  for (MatrixCase c : matrix_of("migrate", false)) {
    c.load = false;
    run_one(c, deaths);
  }
  expect_all_reached("migration.export.", 13, deaths);
  expect_all_reached("migration.import.", 10, deaths);
}

TEST(MatrixTest, OperationsOfTwoRanks) {
  std::map<std::string, uint64_t> deaths;
  // Each pair with two of the operations, in turn.
  const auto& operations = two_party_operations();
  size_t turn = 0;
  for (const MatrixCase& pair : matrix_of(operations[0], false)) {
    for (int i = 0; i < 2; ++i) {
      MatrixCase c = pair;
      // Not the same ones for all pairs of a point: there are as many points as operations.
      c.operation = operations[(turn + turn / operations.size()) % operations.size()];
      turn++;
      c.load = false;
      c.again = turn % 2 == 0;
      run_one(c, deaths);
    }
  }
  expect_all_reached("two_party.coordinator.", 15, deaths);
  expect_all_reached("two_party.participant.", 13, deaths);
}

TEST(MatrixTest, HasSixtyKillPointsWithWhatIsAroundThem) {
  size_t points = 0;
  for (const char* prefix : {"migration.", "two_party.", "session.", "rank.start."})
    points += points_of(prefix).size();
  EXPECT_GE(points, 60u);
}

TEST(MatrixTest, TheSameCaseDoesTheSame) {
  std::map<std::string, uint64_t> deaths;
  for (const char* operation : {"migrate", "rename-dir"}) {
    MatrixCase c = matrix_of(operation, false)[40];
    EXPECT_EQ(run_matrix_case(c, deaths).digest, run_matrix_case(c, deaths).digest);
  }
}

}  // namespace
}  // namespace graftfs::sim
