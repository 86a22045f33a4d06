#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

// A benchmark is one file in bench/benchmarks/ that ends with
//
//   GRAFTFS_BENCHMARK("name", "one line for --help", run_name);
//
// where run_name is `Report run_name(const Context&)`. It measures the subject
// and its reference in the same run, in turns, and says in its report which
// figures must hold. bench/CMakeLists.txt lists the files and the modules that
// each needs.

namespace graftfs::bench {

using Json = nlohmann::ordered_json;

// What a benchmark cannot go on without, in one sentence for a person.
class BenchmarkError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What the command line says; the same for all benchmarks of a run.
struct Context {
  bool quick = false;                // toy sizes: figures mean nothing
  int rounds = 0;                    // 0: the benchmark's own default
  std::string subject = "graftfs";   // graftfs, null or dir
  std::string durability = "posix";  // of GraftFS mounts
  std::filesystem::path graftfs;     // binaries
  std::filesystem::path null_fs;
  std::filesystem::path work;     // an empty directory on a real disk
  std::vector<std::string> only;  // phases to run; empty: all
  unsigned null_threads = 0;      // 0: the fastest, see make_null()
  std::filesystem::path plot;     // where to draw what has a plot; empty: nowhere

  int rounds_or(int usual) const { return rounds > 0 ? rounds : quick ? 1 : usual; }
  // Whether `phase` is wanted.
  bool wants(const std::string& phase) const;
};

// One figure that has to hold.
struct Check {
  enum class Relation { kAtLeast, kAtMost };
  std::string what;
  double measured;
  Relation relation;
  double bar;

  bool holds() const { return relation == Relation::kAtLeast ? measured >= bar : measured <= bar; }
  // Above 1 when the bar is passed with room to spare, below 1 when missed.
  double margin() const;
};

struct Report {
  Json figures = Json::object();
  Json reference = Json::object();
  std::vector<Check> checks;
  std::string durability = "none";
  std::string cache;  // what was cached where, in words

  void at_least(std::string what, double measured, double bar);
  void at_most(std::string what, double measured, double bar);
  bool holds() const;
};

using BenchmarkFunction = std::function<Report(const Context&)>;

struct Benchmark {
  std::string name;
  std::string summary;
  BenchmarkFunction run;
  bool only_by_name = false;  // it needs what is not installed otherwise
};

// All benchmarks by name. Filled before main() by the registrations.
std::vector<Benchmark>& registry();

struct Registration {
  Registration(std::string name, std::string summary, BenchmarkFunction run,
               bool only_by_name = false);
};

#define GRAFTFS_BENCHMARK(name, summary, function) \
  static const ::graftfs::bench::Registration registration_of_##function(name, summary, function)

// One that is run when it is named, and not with all.
#define GRAFTFS_BENCHMARK_BY_NAME(name, summary, function)                                        \
  static const ::graftfs::bench::Registration registration_of_##function(name, summary, function, \
                                                                         true)

// The object that --json prints: name, figures, reference, ratio, bar, holds,
// durability, cache, command.
Json to_json(const std::string& name, const Report& report, const std::string& command);
// The same for people.
void print_table(const std::string& name, const Report& report, const std::string& command);

// One line of progress on standard error.
void progress(const std::string& line);

}  // namespace graftfs::bench
