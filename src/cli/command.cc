#include "cli/command.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "cli/volume.h"

namespace graftfs::cli {
namespace {

// How a command's callback hands its exit code to run_command_line().
struct Finished {
  int code;
};

}  // namespace

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& about,
                      const std::string& examples) {
  CLI::App* command = parent.add_subcommand(name, about);
  // --conf and --id may stand anywhere.
  command->fallthrough();
  if (!examples.empty()) command->footer("\nExamples:\n" + examples);
  return command;
}

void on_run(CLI::App* command, std::function<Result<int>()> run) {
  command->callback([run = std::move(run)] {
    Result<int> code = run();
    if (!code) print_error(code.error());
    throw Finished{code ? *code : kExitError};
  });
}

void print_error(const Error& error) { fmt::print(stderr, "graftfs: {}\n", describe(error)); }

void add_all_commands(CLI::App& app) {
  app.require_subcommand(1);
  app.add_option("--conf", ceph_flags().conf,
                 "of a volume on Ceph (rados:POOL): the cluster's ceph.conf")
      ->type_name("FILE");
  app.add_option("--id", ceph_flags().id, "of a volume on Ceph: as whom to come (admin)")
      ->type_name("ID");
  add_format(app);
  add_mount(app);
  add_umount(app);
  add_serve(app);
  add_rank(app);
  add_subtree(app);
  add_key(app);
  add_info(app);
  add_journal(app);
  add_fsck(app);
  add_copy(app);
  add_bench(app);
  add_completion(app);
}

int run_command_line(int argc, const char* const* argv) {
  CLI::App app("GraftFS: a file system whose journal survives anything", "graftfs");
  app.footer("\n'graftfs COMMAND --help' shows how a command is used, with examples.");
  add_all_commands(app);
  try {
    app.parse(argc, argv);
  } catch (const Finished& finished) {
    return finished.code;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    fmt::print(stderr, "graftfs: {}; 'graftfs --help' shows what there is\n", e.what());
    return kExitUsage;
  }
  return 0;
}

std::string absolute_path(const std::string& path) {
  std::error_code error;
  std::filesystem::path absolute = std::filesystem::canonical(path, error);
  if (!error) return absolute;
  absolute = std::filesystem::absolute(path, error).lexically_normal();
  if (error) return path;  // such as ""
  if (!absolute.has_filename()) absolute = absolute.parent_path();
  std::filesystem::path parent = std::filesystem::canonical(absolute.parent_path(), error);
  return error ? absolute : parent / absolute.filename();
}

}  // namespace graftfs::cli
