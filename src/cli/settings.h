#pragma once
// What a mount can be told, by flags and by a config file with the same names
// (docs/operations.md).

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/result.h"
#include "events/trace.h"
#include "journal/journal.h"

namespace graftfs::cli {

struct Settings {
  Durability durability = Durability::posix;
  bool read_only = false;
  bool accept_loss = false;
  bool allow_other = true;
  bool atime = true;
  uint64_t memory = uint64_t{1} << 30;  // bytes of cache
  Nanos recovery_target = kSecond;
  uint64_t journal_cap = 0;      // bytes; 0: from recovery_target
  double write_back_from = 0.5;  // of the journal's cap
  Nanos write_back_after = 5 * kSecond;
  uint64_t segment_size = uint64_t{1} << 20;
  TracePolicy trace = TracePolicy::chunked;
  double kernel_cache = 86400;  // seconds for which the kernel may answer by itself
  std::string log;              // empty: VOLUME/graftfs.log
};

// One of them: its name (that of the flag, without the dashes, and of the key), what it takes and
// how it is set. An error's message says what is wrong with the text, and lacks the name.
struct Setting {
  const char* name;
  const char* value;  // what stands for it in the help; null: a switch (true or false)
  const char* help;
  bool at_format;  // `format` takes it, too, and writes it to the volume's config file
  Result<void> (*set)(Settings& settings, std::string_view text);
};
std::span<const Setting> all_settings();
const Setting* find_setting(std::string_view name);

// "512M", "1GiB", "4096": bytes. "1.5s", "200ms", "2": a time, in seconds without a unit.
Result<uint64_t> parse_size(std::string_view text);
Result<Nanos> parse_duration(std::string_view text);
std::string show_size(uint64_t bytes);

// Applies a config file. An error names file and line. `shown` names the file.
Result<void> apply_config(std::string_view toml, const std::string& shown, Settings& settings);

inline constexpr char kConfigName[] = "graftfs.toml";
// Reads `file`; where it is empty, VOLUME/graftfs.toml if there is one.
Result<void> load_config(const std::string& file, const std::string& volume, Settings& settings);

}  // namespace graftfs::cli
