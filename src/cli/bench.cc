#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "cli/command.h"

namespace graftfs::cli {
namespace {

// Beside this program when it is installed; in the build tree where that was built.
std::string bench_program() {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path here = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (fs::path path : {here / "graftfs-bench", here / "../../bench/graftfs-bench"})
    if (::access(path.c_str(), X_OK) == 0) return path.lexically_normal();
  return {};
}

Result<int> bench_command(const std::vector<std::string>& args) {
  std::string program = bench_program();
  if (program.empty())
    return fail(ENOENT,
                "the program graftfs-bench is not beside this one; build it with './dev "
                "build', or run './dev bench'");
  std::vector<std::string> words = args;
  words.insert(words.begin(), program);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  return fail(errno, fmt::format("cannot run {}: {}", program, std::strerror(errno)));
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* command = add_command(app, "bench", "Run the benchmarks, or those named",
                                  "  graftfs bench\n"
                                  "  graftfs bench fuse journal-size --json\n"
                                  "  graftfs bench mdtest --tasks 4 -d /mnt/m -n 1000 -u -F\n"
                                  "  graftfs bench -- --help     # what else there is\n");
  // From the first word on all is the other program's, its flags included.
  command->fallthrough(false)->prefix_command();
  on_run(command, [command] { return bench_command(command->remaining()); });
}

}  // namespace graftfs::cli
