#pragma once
// The matrix: both sides of a migration, or of an operation of two ranks, die at each of their kill
// points, every pair of them (docs/simulator.md, "The matrix").

#include <map>
#include <string>
#include <vector>

#include "sim/cluster/cluster.h"

namespace graftfs::sim {

// What becomes of a rank whose process dies, or stops, at its point.
enum class Ending : uint8_t {
  resume,    // the same process begins again with it
  takeover,  // another one takes it; the old one is dead
  zombie,    // the same; the old one was only stopped, and goes on when its rank is taken
};

struct MatrixCase {
  std::string operation;  // "migrate", or one of two_party_operations()
  std::string first;      // at the exporter or the coordinator: a site, without its prefix
  std::string second;     // at the importer or the participant
  Ending ending = Ending::resume;
  bool load = false;   // clients do other things meanwhile
  bool again = false;  // who recovers dies once more in it
  bool print = false;
};
std::string describe(const MatrixCase& c);

// The kill points of this program with that prefix, without it.
std::vector<std::string> points_of(const std::string& prefix);
const std::vector<std::string>& two_party_operations();
// Every pair of points; of the variants (ending, load, again) of each all, or one that is drawn
// from the names. `operation`: "migrate", or one of the others.
std::vector<MatrixCase> matrix_of(const std::string& operation, bool all);

// Runs one; adds to `deaths` the sites at which somebody died or was stopped.
ClusterResult run_matrix_case(const MatrixCase& c, std::map<std::string, uint64_t>& deaths);

}  // namespace graftfs::sim
