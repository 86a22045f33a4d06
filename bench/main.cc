#include <fmt/core.h>
#include <sys/mount.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "harness/benchmark.h"
#include "harness/mdtest.h"
#include "harness/process.h"

// graftfs-bench: runs all benchmarks or those that are named. Exit status: 0
// when every bar holds, 1 when one does not, 2 when one could not run.

namespace graftfs::bench {
namespace {

namespace fs = std::filesystem;

// The build directory is found from where this program lies:
// BUILD/bench/graftfs-bench.
fs::path build_directory() {
  std::error_code error;
  fs::path self = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::current_path() : self.parent_path().parent_path();
}

// The options without the names of benchmarks: what follows the name of one to
// run it again alone.
std::string options_given(int argc, char** argv) {
  std::string line;
  for (int i = 1; i < argc; i++) {
    bool is_name = std::any_of(registry().begin(), registry().end(),
                               [&](const Benchmark& b) { return b.name == argv[i]; });
    line += is_name ? "" : std::string(" ") + argv[i];
  }
  return line;
}

std::string list_of_benchmarks() {
  std::string list = "Benchmarks:\n";
  for (const Benchmark& benchmark : registry()) {
    list += fmt::format("  {:<14} {}\n", benchmark.name, benchmark.summary);
  }
  list +=
      fmt::format("  {:<14} {}\n", "mdtest", "mdtest itself, on any directory: see mdtest --help");
  return list + "Example:\n  graftfs-bench fuse recovery --json\n";
}

volatile sig_atomic_t running_child = 0;

void pass_on(int signal) {
  if (running_child > 0) {
    kill(-static_cast<pid_t>(running_child), signal);
  }
}

// Takes away what a run that was interrupted left: its mounts, the last first,
// and then its directories.
void clear_leftovers(const fs::path& work, const std::string& prefix) {
  std::vector<std::string> mounts;
  std::ifstream table("/proc/self/mounts");
  for (std::string line; std::getline(table, line);) {
    size_t from = line.find(' ') + 1;
    std::string place = line.substr(from, line.find(' ', from) - from);
    if (place.starts_with((work / prefix).string())) {
      mounts.push_back(std::move(place));
    }
  }
  for (auto place = mounts.rbegin(); place != mounts.rend(); ++place) {
    if (umount2(place->c_str(), MNT_DETACH) != 0) {
      fmt::print(stderr, "graftfs-bench: '{}' is still mounted; unmount it by hand\n", *place);
      return;
    }
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(work, error)) {
    if (entry.path().filename().string().starts_with(prefix)) {
      fs::remove_all(entry.path(), error);
    }
  }
}

// Runs `work` in a child process and clears up after it, however it ends: an
// interrupted benchmark must not leave mounts behind.
int guarded(const fs::path& directory, const std::function<int(const std::string&)>& work) {
  fs::create_directories(directory);
  std::string prefix = fmt::format("run-{}-", getpid());
  pid_t child = fork();
  if (child < 0) {
    throw BenchmarkError("cannot start a process; end some others");
  }
  if (child == 0) {
    setpgid(0, 0);
    int status = work(prefix);
    std::fflush(stdout);
    _exit(status);
  }
  running_child = child;
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
    std::signal(signal, pass_on);
  }
  int status = wait_for(child);
  clear_leftovers(fs::canonical(directory), prefix);
  return status;
}

// A directory that goes away with everything in it.
class WorkDirectory {
 public:
  WorkDirectory(const fs::path& parent, const std::string& prefix) {
    std::string name = (fs::canonical(parent) / (prefix + "XXXXXX")).string();
    if (mkdtemp(name.data()) == nullptr) {
      throw BenchmarkError(fmt::format(
          "cannot make a directory in '{}'; name another one with --work", parent.string()));
    }
    path_ = name;
  }
  ~WorkDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

int run_all(const Context& base, const std::vector<std::string>& names, const fs::path& work,
            const std::string& prefix, bool json, bool bars, const std::string& options) {
  int status = 0;
  for (const Benchmark& benchmark : registry()) {
    const bool named = std::find(names.begin(), names.end(), benchmark.name) != names.end();
    if (!named && (!names.empty() || benchmark.only_by_name)) {
      continue;
    }
    progress(fmt::format("{}: {}", benchmark.name, benchmark.summary));
    try {
      WorkDirectory directory(work, prefix);
      Context context = base;
      context.work = directory.path();
      Report report = benchmark.run(context);
      if (report.checks.empty()) {
        throw BenchmarkError("nothing was measured: it has no phase of the name given with --only");
      }
      std::string command = fmt::format("graftfs-bench {}{}", benchmark.name, options);
      if (json) {
        fmt::print("{}\n", to_json(benchmark.name, report, command).dump());
        std::fflush(stdout);
      } else {
        print_table(benchmark.name, report, command);
      }
      if (bars && !report.holds()) {
        status = std::max(status, 1);
      }
    } catch (const std::exception& error) {
      fmt::print(stderr, "graftfs-bench: {}: {}\n", benchmark.name, error.what());
      status = 2;
    }
  }
  return status;
}

int main_of(int argc, char** argv) {
  // A program of its own, with flags of its own.
  if (argc > 1 && std::string_view(argv[1]) == "mdtest") return mdtest_main(argc - 1, argv + 1);
  CLI::App app("Measures GraftFS and its references in turns and says which bars hold.");
  app.footer(list_of_benchmarks());
  Context context;
  context.graftfs = build_directory() / "src" / "cli" / "graftfs";
  context.null_fs = build_directory() / "bench" / "null_fs" / "graftfs-null-fs";
  std::vector<std::string> names;
  fs::path work = build_directory() / "bench" / "work";
  bool json = false;
  bool no_bars = false;
  std::vector<std::string> known;
  for (const Benchmark& benchmark : registry()) {
    known.push_back(benchmark.name);
  }
  app.add_option("name", names, "benchmarks to run (default: all)")->check(CLI::IsMember(known));
  app.add_flag("--json", json, "one JSON object per benchmark and line, nothing else");
  app.add_flag("--quick", context.quick, "toy sizes, to see that everything runs");
  app.add_flag("--no-bars", no_bars, "exit with 0 although a bar does not hold");
  app.add_option("--rounds", context.rounds, "rounds of each comparison")
      ->check(CLI::Range(1, 1000));
  app.add_option("--only", context.only, "phases to run, in benchmarks that have some")
      ->delimiter(',');
  app.add_option("--durability", context.durability, "of GraftFS mounts")
      ->check(CLI::IsMember({"posix", "strict"}));
  app.add_option("--subject", context.subject,
                 "what is measured: graftfs, or null or dir to try the benchmarks themselves")
      ->check(CLI::IsMember({"graftfs", "null", "dir"}));
  app.add_option("--graftfs", context.graftfs, "the graftfs binary")->capture_default_str();
  app.add_option("--null-fs", context.null_fs, "the null file system")->capture_default_str();
  app.add_option("--null-threads", context.null_threads,
                 "threads of the null file system (default: the faster of 1 and 4)");
  app.add_option("--plot", context.plot, "file for the plot of `model`, an SVG image");
  app.add_option("--work", work, "directory on a real disk to work in")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  std::string options = options_given(argc, argv);
  return guarded(work, [&](const std::string& prefix) {
    return run_all(context, names, work, prefix, json, !no_bars, options);
  });
}

}  // namespace
}  // namespace graftfs::bench

int main(int argc, char** argv) {
  try {
    return graftfs::bench::main_of(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "graftfs-bench: {}\n", error.what());
    return 2;
  }
}
