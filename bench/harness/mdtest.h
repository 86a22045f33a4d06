#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "harness/benchmark.h"

namespace graftfs::bench {

// What mdtest's flags say; their letters stand beside them.
struct MdtestOptions {
  int tasks = 1;                               // --tasks; under MPI, the number of ranks
  uint64_t items = 0;                          // -n: of each task, over its whole tree
  uint64_t per_dir = 0;                        // -I: of each task, in each directory of the tree
  int depth = 0;                               // -z: of the tree
  int branch = 1;                              // -b: directories in each directory of the tree
  bool leaves = false;                         // -L: items only in the lowest directories
  bool unique = false;                         // -u: each task has a tree of its own
  bool only_files = false, only_dirs = false;  // -F, -D
  bool create = false, stat = false, remove = false, read = false;  // -C -T -r -E; none: all
  size_t write_bytes = 0;                                           // -w: into each file
  size_t read_bytes = 0;                                            // -e: of each file
  bool sync = false;                                                // -y: after writing
  int stride = 0;      // -N: whose items a task looks at: those of the task so many further on
  int iterations = 1;  // -i

  bool wants_create() const { return create || all(); }
  bool wants_stat() const { return stat || all(); }
  bool wants_read() const { return (read || all()) && read_bytes > 0; }
  bool wants_remove() const { return remove || all(); }
  bool all() const { return !create && !stat && !read && !remove; }
};

// One task's way to a file system, in the task's own process. Paths are relative to the directory
// under test. Errors are thrown, as BenchmarkError.
class MdtestTask {
 public:
  virtual ~MdtestTask() = default;
  // Some moments in which there is nothing to do but to answer those who ask.
  virtual void idle() = 0;
  virtual void mkdir(const std::string& path) = 0;
  virtual void rmdir(const std::string& path) = 0;
  // A new file with so many bytes.
  virtual void create(const std::string& path, const std::string& bytes, bool sync) = 0;
  virtual void stat(const std::string& path) = 0;
  virtual void read(const std::string& path, size_t bytes) = 0;
  virtual void unlink(const std::string& path) = 0;
};
// System calls in a directory.
std::unique_ptr<MdtestTask> directory_task(const std::filesystem::path& dir);
// The client library, with a session of its own on a volume that others serve; no FUSE. `dir` is
// made in its root, if it is not there.
std::unique_ptr<MdtestTask> library_task(const std::filesystem::path& volume,
                                         const std::string& dir);

// A line of mdtest's table: operations a second of all tasks together, from when the first began
// until the last was done.
struct MdtestRate {
  std::string name;                // "File creation"
  std::vector<double> per_second;  // of each iteration
};
// Runs the tasks as processes. `make(i)` is called in the process of task i.
std::vector<MdtestRate> run_mdtest(const MdtestOptions& options,
                                   const std::function<std::unique_ptr<MdtestTask>(int)>& make);
// Of the rate of that name; 0 where it was not measured.
double median_rate(const std::vector<MdtestRate>& rates, const std::string& name);

// `graftfs-bench mdtest FLAG...`: the exit status.
int mdtest_main(int argc, char** argv);

}  // namespace graftfs::bench
