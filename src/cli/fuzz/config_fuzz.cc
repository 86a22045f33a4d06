// The config file and the values of flags.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/mounts.h"
#include "cli/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graftfs::cli;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  Settings settings;
  auto applied = apply_config(text, "config", settings);
  CHECK(applied || applied.error().message.starts_with("config, line "));
  (void)parse_size(text);
  (void)parse_duration(text);
  (void)graftfs::find_mount_in(text, "/mnt");
  return 0;
}
