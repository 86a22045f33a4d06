// The config file.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include <stdexcept>
#include <vector>

// toml++ 3.3 asserts on some malformed keys instead of refusing them. Found by config_fuzz.
[[noreturn]] static void refuse_toml() { throw std::invalid_argument("this is not TOML"); }
#define TOML_ASSERT(condition) ((condition) ? static_cast<void>(0) : refuse_toml())
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "cli/settings.h"

namespace graftfs::cli {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;

// What a flag would have said. Empty: not a single value.
std::string flag_text(const toml::node& node) {
  if (auto text = node.as_string()) return text->get();
  if (auto number = node.as_integer()) return fmt::format("{}", number->get());
  if (auto number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (auto flag = node.as_boolean()) return flag->get() ? "true" : "false";
  return {};
}

std::string known_names() {
  std::string names;
  for (const Setting& setting : all_settings())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", setting.name);
  return names;
}

Result<std::string> read_file(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return fail(errno,
                fmt::format("cannot open the config file {}: {}", path, std::strerror(errno)));
  std::string text(kMaxConfigBytes + 1, '\0');
  size_t size = 0;
  ssize_t n = 0;
  while (size < text.size() && (n = ::read(fd, text.data() + size, text.size() - size)) > 0)
    size += static_cast<size_t>(n);
  int error = errno;
  ::close(fd);
  if (n < 0)
    return fail(error,
                fmt::format("cannot read the config file {}: {}", path, std::strerror(error)));
  if (size > kMaxConfigBytes)
    return fail(EFBIG, fmt::format("{} is longer than {} and cannot be a config file; name another "
                                   "one with --config",
                                   path, show_size(kMaxConfigBytes)));
  text.resize(size);
  return text;
}

// The first line with which the parser asserts; it tells no place itself. Every longer beginning
// of the text asserts there, too.
size_t refused_line(std::string_view text) {
  std::vector<size_t> ends;
  for (size_t at = 0; (at = text.find('\n', at)) != text.npos;) ends.push_back(++at);
  ends.push_back(text.size());
  auto refused = [text](size_t end) {
    try {
      (void)toml::parse(text.substr(0, end));
    } catch (const std::invalid_argument&) {
      return true;
    } catch (const toml::parse_error&) {
    }
    return false;
  };
  auto first =
      std::partition_point(ends.begin(), ends.end(), [&](size_t end) { return !refused(end); });
  return static_cast<size_t>(first - ends.begin()) + 1;
}

}  // namespace

Result<void> apply_config(std::string_view text, const std::string& shown, Settings& settings) {
  // toml++ 3.3 has undefined behaviour on some unicode (found by config_fuzz); a string can say
  // any character as \uXXXX.
  for (size_t i = 0; i < text.size(); ++i) {
    auto c = static_cast<unsigned char>(text[i]);
    if ((c >= 0x20 && c < 0x7f) || c == '\n' || c == '\t' || c == '\r') continue;
    return fail(EINVAL,
                fmt::format("{}, line {}: byte {:#04x} is not plain ASCII text; write other "
                            "characters of a string as \\uXXXX",
                            shown, 1 + std::count(text.begin(), text.begin() + i, '\n'), c));
  }
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& e) {
    return fail(EINVAL, fmt::format("{}, line {}: {}; correct or remove the line", shown,
                                    e.source().begin.line, e.description()));
  } catch (const std::invalid_argument& e) {
    return fail(EINVAL, fmt::format("{}, line {}: {}; correct or remove the line", shown,
                                    refused_line(text), e.what()));
  }
  for (const auto& [key, node] : table) {
    auto line = key.source().begin.line;
    const Setting* setting = find_setting(key.str());
    if (!setting)
      return fail(EINVAL, fmt::format("{}, line {}: there is no setting '{}'; there are {}", shown,
                                      line, key.str(), known_names()));
    std::string value = flag_text(node);
    if (value.empty())
      return fail(EINVAL,
                  fmt::format("{}, line {}: '{}' needs a single value", shown, line, key.str()));
    if (auto set = setting->set(settings, value); !set)
      return fail(EINVAL, fmt::format("{}, line {}: {}: {}", shown, line, key.str(),
                                      describe(set.error())));
  }
  return {};
}

Result<void> load_config(const std::string& file, const std::string& volume, Settings& settings) {
  std::string path = file.empty() ? volume + "/" + kConfigName : file;
  if (file.empty() && ::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return {};
  TRY_ASSIGN(std::string text, read_file(path));
  return apply_config(text, path, settings);
}

}  // namespace graftfs::cli
