#include "cli/setting_flags.h"

#include <fmt/format.h>

namespace graftfs::cli {

void SettingFlags::add_to(CLI::App* command, bool at_format) {
  for (const Setting& setting : all_settings()) {
    if (at_format && !setting.at_format) continue;
    Flag& flag = flags_.emplace_back(Flag{&setting, {}, nullptr});
    std::string name = fmt::format("--{}", setting.name);
    if (setting.value) {
      flag.option = command->add_option(name, flag.text, setting.help);
      flag.option->type_name(setting.value);
    } else {
      // "--no-x" is "--x=false".
      name += fmt::format(",!--no-{}", setting.name);
      flag.option = command->add_flag(name, flag.text, setting.help);
    }
  }
}

std::vector<std::pair<std::string, std::string>> SettingFlags::given() const {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Flag& flag : flags_)
    if (flag.option->count() > 0) out.emplace_back(flag.setting->name, flag.text);
  return out;
}

Result<void> SettingFlags::apply(Settings& settings) const {
  for (const auto& [name, text] : given()) {
    auto set = find_setting(name)->set(settings, text);
    if (!set) return fail(EINVAL, fmt::format("--{}: {}", name, describe(set.error())));
  }
  return {};
}

}  // namespace graftfs::cli
