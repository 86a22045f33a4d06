#include "base/mounts.h"

#include <fstream>
#include <sstream>
#include <vector>

namespace graftfs {
namespace {

// The kernel writes blanks and the like as \ooo.
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// ID PARENT DEV ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS
std::optional<MountEntry> parse_line(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> fields;
  for (std::string field; in >> field;) fields.push_back(field);
  size_t dash = 6;
  while (dash < fields.size() && fields[dash] != "-") ++dash;
  if (dash + 2 >= fields.size()) return std::nullopt;
  return MountEntry{unescape(fields[4]), unescape(fields[dash + 2]), fields[dash + 1], fields[2]};
}

template <class F>
std::optional<MountEntry> find_last(std::string_view mountinfo, F&& fits) {
  std::optional<MountEntry> found;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);)
    if (auto entry = parse_line(line); entry && fits(*entry)) found = entry;
  return found;
}

std::string read_mountinfo() {
  std::ifstream in("/proc/self/mountinfo");
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

std::optional<MountEntry> find_mount_in(std::string_view mountinfo, const std::string& point) {
  return find_last(mountinfo, [&](const MountEntry& e) { return e.point == point; });
}

std::optional<MountEntry> find_mount(const std::string& point) {
  return find_mount_in(read_mountinfo(), point);
}

std::string mount_point_of(const std::string& volume) {
  auto found = find_last(read_mountinfo(), [&](const MountEntry& e) {
    return e.source == volume && e.type.starts_with("fuse");
  });
  return found ? found->point : std::string();
}

}  // namespace graftfs
