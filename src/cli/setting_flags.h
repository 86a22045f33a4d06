#pragma once
// The settings as flags of a command.

#include <CLI/CLI.hpp>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "cli/settings.h"

namespace graftfs::cli {

// Owned by the command, which must outlive parsing.
class SettingFlags {
 public:
  // `at_format`: only those that `format` takes.
  void add_to(CLI::App* command, bool at_format);
  // What was given, in the order of the settings.
  std::vector<std::pair<std::string, std::string>> given() const;
  // Over what is in `settings`. An error names the flag.
  Result<void> apply(Settings& settings) const;

 private:
  struct Flag {
    const Setting* setting;
    std::string text;
    CLI::Option* option;
  };
  std::list<Flag> flags_;  // CLI11 keeps pointers to `text`
};

}  // namespace graftfs::cli
