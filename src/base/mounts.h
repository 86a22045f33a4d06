#pragma once
// What is mounted where, as the kernel says.

#include <optional>
#include <string>
#include <string_view>

namespace graftfs {

struct MountEntry {
  std::string point;
  std::string source;
  std::string type;
  std::string device;  // MAJOR:MINOR
};
// The topmost mount at `point` (absolute), from text such as /proc/self/mountinfo has.
std::optional<MountEntry> find_mount_in(std::string_view mountinfo, const std::string& point);
std::optional<MountEntry> find_mount(const std::string& point);
// Where a volume is mounted; empty: nowhere that can be seen from here.
std::string mount_point_of(const std::string& volume);

}  // namespace graftfs
