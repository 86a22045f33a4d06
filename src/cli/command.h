#pragma once
// What the commands share: how they are declared and how they end.

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "base/result.h"

namespace graftfs::cli {

inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;

// Declares a subcommand. `examples` are lines of its help; `run` returns the exit code, or an
// error that is printed as one sentence.
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& about,
                      const std::string& examples);
void on_run(CLI::App* command, std::function<Result<int>()> run);

// "graftfs: MESSAGE" on standard error.
void print_error(const Error& error);

// Builds the whole command tree.
void add_all_commands(CLI::App& app);
// main() without the process around it.
int run_command_line(int argc, const char* const* argv);

void add_format(CLI::App& app);
void add_mount(CLI::App& app);
void add_umount(CLI::App& app);
void add_serve(CLI::App& app);
void add_rank(CLI::App& app);
void add_subtree(CLI::App& app);
void add_key(CLI::App& app);
void add_info(CLI::App& app);
void add_journal(CLI::App& app);
void add_fsck(CLI::App& app);
void add_copy(CLI::App& app);
void add_bench(CLI::App& app);
void add_completion(CLI::App& app);

// The path without symlinks where it can be had, else made absolute. (A dead mount point cannot
// be looked at.)
std::string absolute_path(const std::string& path);

}  // namespace graftfs::cli
