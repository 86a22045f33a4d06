// Real trees: the programs people run, on a tree of real files, and a build of
// this project. Times against the null file system (which keeps everything in
// memory) and against the disk's own file system, in turns.

#include <fmt/core.h>

#include <array>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "harness/benchmark.h"
#include "harness/placement.h"
#include "harness/process.h"
#include "harness/statistics.h"
#include "harness/target.h"
#include "harness/tree.h"

namespace graftfs::bench {
namespace {

namespace fs = std::filesystem;

constexpr double kBarOfNull = 1.4;
constexpr double kBarOfBuild = 1.15;

// One timed command on a target. `before` is not timed.
struct Step {
  const char* name;
  bool has_bar;
  std::function<void(Target&)> before;
  std::function<void(Target&)> run;
};

const RunOptions kGitIdentity = {
    .environment = {"GIT_AUTHOR_NAME=bench", "GIT_AUTHOR_EMAIL=b@b", "GIT_COMMITTER_NAME=bench",
                    "GIT_COMMITTER_EMAIL=b@b", "GIT_CONFIG_GLOBAL=/dev/null"}};

void git(const fs::path& directory, std::vector<std::string> words) {
  std::vector<std::string> argv = {"git", "-C", directory, "-c", "gc.auto=0"};
  argv.insert(argv.end(), words.begin(), words.end());
  run_or_throw(argv, kGitIdentity);
}

void nothing(Target&) {}

// In this order; each finds what the ones before it left.
std::vector<Step> steps_for(const RealTree& real) {
  auto tree = [](Target& target) { return target.path() / "tree"; };
  return {
      {"untar", true,
       [=](Target& target) {
         fs::create_directories(tree(target));
         // The archive comes from the page cache for every target.
         run({"cat", real.archive});
       },
       [=](Target& target) { run_or_throw({"tar", "-C", tree(target), "-xf", real.archive}); }},
      {"find", true, [](Target& target) { target.drop_caches(); },
       [=](Target& target) { run({"find", tree(target)}); }},
      {"ls -lR, cold", true, [](Target& target) { target.drop_caches(); },
       [=](Target& target) { run({"ls", "-lR", tree(target)}); }},
      // The others' cold turns may have dropped what this one had cached.
      {"ls -lR, warm", true, [=](Target& target) { run({"ls", "-lR", tree(target)}); },
       [=](Target& target) { run({"ls", "-lR", tree(target)}); }},
      {"cp -a", true, nothing,
       [=](Target& target) { run_or_throw({"cp", "-a", tree(target), target.path() / "copy"}); }},
      {"rm -rf", true, nothing,
       [=](Target& target) { run_or_throw({"rm", "-rf", target.path() / "copy"}); }},
      {"git init, add, commit", false, nothing,
       [=](Target& target) {
         git(tree(target), {"init", "-q"});
         git(tree(target), {"add", "-A"});
         git(tree(target), {"commit", "-q", "-m", "all"});
       }},
      {"git checkout", false,
       [=](Target& target) { run_or_throw({"rm", "-rf", tree(target) / "usr"}); },
       [=](Target& target) { git(tree(target), {"checkout", "-q", "--", "."}); }},
  };
}

using Seconds = std::map<std::string, std::vector<double>>;

double time_step(Target& target, const Step& step, bool one_cpu) {
  step.before(target);
  target.settle();
  std::optional<Together> together;
  if (one_cpu) {
    together.emplace(target);
  }
  Stopwatch watch;
  step.run(target);
  return watch.seconds();
}

// The build runs with both CPUs, as people build. The compiler cache is off and
// the sources lie on the target, as does everything that is written.
double time_build(Target& target, bool quick) {
  fs::path source = target.path() / "source";
  fs::create_directories(source);
  std::string files = run_or_throw({"git", "-C", GRAFTFS_BENCH_SOURCE, "ls-files", "-z", "--cached",
                                    "--others", "--exclude-standard"},
                                   {.capture = true});
  fs::path home = target.path();
  for (size_t at = 0; at < files.size();) {
    std::string file = files.substr(at, files.find('\0', at) - at);
    at += file.size() + 1;
    fs::path from = fs::path(GRAFTFS_BENCH_SOURCE) / file;
    if (fs::exists(from)) {
      fs::create_directories((source / file).parent_path());
      fs::copy(from, source / file, fs::copy_options::copy_symlinks);
    }
  }
  RunOptions options = {.environment = {"CCACHE_DISABLE=1"}};
  fs::path build = target.path() / "build";
  target.settle();
  Stopwatch watch;
  run_or_throw({"cmake", "-S", source, "-B", build, "-G", "Ninja",
                "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DGRAFTFS_TESTS=OFF"},
               options);
  if (!quick) {
    std::vector<std::string> argv = {"cmake", "--build", build, "-j2", "--target"};
    std::istringstream targets(GRAFTFS_BENCH_BUILD_TARGETS);
    for (std::string name; targets >> name;) {
      argv.push_back(name);
    }
    run_or_throw(argv, options);
  }
  double seconds = watch.seconds();
  run_or_throw({"rm", "-rf", source, build});
  return seconds;
}

Json medians(const Seconds& seconds) {
  Json object = Json::object();
  for (const auto& [name, values] : seconds) {
    object[name] = rounded(median(values));
  }
  return object;
}

// Subject, null file system and disk, each made fresh for every round.
struct Sides {
  std::unique_ptr<Target> targets[3];
  Seconds seconds[3];
};

void run_tree_round(Sides& sides, const std::vector<Step>& steps, const Context& context, int round,
                    int rounds) {
  for (const auto& target : sides.targets) {
    target->start();
    warm_up(*target);
  }
  for (const Step& step : steps) {
    for (int turn = 0; turn < 3; turn++) {
      int side = (turn + round) % 3;
      sides.seconds[side][step.name].push_back(
          time_step(*sides.targets[side], step, !context.quick));
    }
    progress(fmt::format("trees, round {} of {}: {}: {} {:.2f} s, {} {:.2f} s, {} {:.2f} s",
                         round + 1, rounds, step.name, sides.targets[0]->name(),
                         sides.seconds[0][step.name].back(), sides.targets[1]->name(),
                         sides.seconds[1][step.name].back(), sides.targets[2]->name(),
                         sides.seconds[2][step.name].back()));
  }
  for (const auto& target : sides.targets) {
    target->stop();
  }
}

void run_build_round(Sides& sides, const Context& context, int round, int rounds) {
  const std::string name = "build";
  for (int turn = 0; turn < 2; turn++) {
    int side = (turn + round) % 2 == 0 ? 0 : 2;
    Target& target = *sides.targets[side];
    target.start();
    sides.seconds[side][name].push_back(time_build(target, context.quick));
    target.stop();
  }
  progress(fmt::format("trees, round {} of {}: build: {} {:.1f} s, {} {:.1f} s", round + 1, rounds,
                       sides.targets[0]->name(), sides.seconds[0][name].back(),
                       sides.targets[2]->name(), sides.seconds[2][name].back()));
}

Report run_trees(const Context& context) {
  Sides sides;
  sides.targets[0] = make_subject(context);
  sides.targets[1] = make_null(context, "reference", 1);
  sides.targets[2] = std::make_unique<DirTarget>(context, "disk");
  const std::string disk = sides.targets[2]->name();
  int rounds = context.rounds_or(3);
  Report report;
  report.figures = {{"subject", sides.targets[0]->details()}, {"rounds", rounds}};
  Json ratios = Json::object();
  auto compare = [&](const std::string& name, int reference) {
    return median_ratio(sides.seconds[0][name], sides.seconds[reference][name]);
  };
  if (context.wants("files")) {
    RealTree real = make_real_tree(context.work, context.quick ? 200 : 25000);
    report.figures.update({{"files", real.files},
                           {"directories", real.directories},
                           {"symbolic_links", real.links},
                           {"megabytes", real.bytes >> 20}});
    std::vector<Step> steps = steps_for(real);
    for (int round = 0; round < rounds; round++) {
      run_tree_round(sides, steps, context, round, rounds);
    }
    for (const Step& step : steps) {
      if (step.has_bar) {
        report.at_most(fmt::format("{}, of null-fs", step.name), compare(step.name, 1), kBarOfNull);
      } else {
        ratios[fmt::format("{}, of null-fs", step.name)] = rounded(compare(step.name, 1), 3);
      }
      ratios[fmt::format("{}, of {}", step.name, disk)] = rounded(compare(step.name, 2), 3);
    }
  }
  if (context.wants("build")) {
    for (int round = 0; round < rounds; round++) {
      run_build_round(sides, context, round, rounds);
    }
    report.figures["build_targets"] =
        context.quick ? "configure only" : GRAFTFS_BENCH_BUILD_TARGETS;
    report.at_most(fmt::format("build, of {}", disk), compare("build", 2), kBarOfBuild);
  }
  report.figures["seconds"] = medians(sides.seconds[0]);
  report.figures["ratios_without_bar"] = ratios;
  report.figures["placement"] = "files: program and answering thread on one CPU; build: free";
  report.reference["null-fs"] = {{"target", sides.targets[1]->details()},
                                 {"seconds", medians(sides.seconds[1])}};
  report.reference[disk] = {{"seconds", medians(sides.seconds[2])}};
  report.durability = context.subject == "graftfs" ? context.durability : "none";
  report.cache =
      "find and cold ls: the kernel's caches of the target dropped before (remount; on the disk "
      "drop_caches), the server's own warm; all else warm; the archive in the page cache";
  return report;
}

GRAFTFS_BENCHMARK("trees", "untar, find, ls, cp, rm, git and a build on a tree of real files",
                  run_trees);

}  // namespace
}  // namespace graftfs::bench
