#include "cli/settings.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace graftfs::cli {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

Result<void> set_switch(bool& out, std::string_view text) {
  if (text != "true" && text != "false")
    return fail(EINVAL, fmt::format("it is true or false, not '{}'", text));
  out = text == "true";
  return {};
}

template <uint64_t lowest, uint64_t highest>
Result<void> set_size(uint64_t& out, std::string_view text) {
  TRY_ASSIGN(uint64_t bytes, parse_size(text));
  if (bytes < lowest || bytes > highest)
    return fail(EINVAL, fmt::format("it must lie between {} and {}, so '{}' will not do",
                                    show_size(lowest), show_size(highest), text));
  out = bytes;
  return {};
}

constexpr Setting kSettings[] = {
    {"durability", "posix|strict",
     "when a change is answered: posix (as ext4 and XFS do), strict (once it is on disk)", false,
     [](Settings& s, std::string_view text) -> Result<void> {
       if (text != "posix" && text != "strict")
         return fail(EINVAL, fmt::format("it is posix or strict, not '{}'", text));
       s.durability = text == "strict" ? Durability::strict : Durability::posix;
       return {};
     }},
    {"read-only", nullptr, "refuse every change with EROFS", false,
     [](Settings& s, std::string_view text) { return set_switch(s.read_only, text); }},
    {"memory", "SIZE", "memory for cached names and inodes (1GiB)", false,
     [](Settings& s, std::string_view text) {
       return set_size<kMiB, 1024 * kGiB>(s.memory, text);
     }},
    {"recovery-target", "TIME", "how long a recovery may take; caps the journal (1s)", false,
     [](Settings& s, std::string_view text) -> Result<void> {
       TRY_ASSIGN(Nanos time, parse_duration(text));
       if (time < 10 * kMillisecond || time > 3600 * kSecond)
         return fail(EINVAL,
                     fmt::format("it must lie between 10ms and 1h, so '{}' will not do", text));
       s.recovery_target = time;
       return {};
     }},
    {"journal-cap", "SIZE", "length of the journal; overrides recovery-target", false,
     [](Settings& s, std::string_view text) {
       return set_size<4 * kMiB, 1024 * kGiB>(s.journal_cap, text);
     }},
    {"write-back-from", "PERCENT",
     "how full the journal gets before changes are written to the directories at once (50)", false,
     [](Settings& s, std::string_view text) -> Result<void> {
       int percent = 0;
       auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), percent);
       if (error != std::errc() || end != text.data() + text.size() || percent < 1 || percent > 95)
         return fail(EINVAL, fmt::format("it is a number from 1 to 95, not '{}'", text));
       s.write_back_from = percent / 100.0;
       return {};
     }},
    {"write-back-after", "TIME", "how long changes wait at most before that happens (5s)", false,
     [](Settings& s, std::string_view text) -> Result<void> {
       TRY_ASSIGN(Nanos time, parse_duration(text));
       if (time < kMillisecond || time > 24 * 3600 * kSecond)
         return fail(EINVAL,
                     fmt::format("it must lie between 1ms and 1d, so '{}' will not do", text));
       s.write_back_after = time;
       return {};
     }},
    {"accept-loss", nullptr, "mount although the journal is damaged, without what is lost", false,
     [](Settings& s, std::string_view text) { return set_switch(s.accept_loss, text); }},
    {"allow-other", nullptr, "let other users in (default of root's mounts)", false,
     [](Settings& s, std::string_view text) { return set_switch(s.allow_other, text); }},
    {"atime", nullptr, "keep access times as relatime does (default)", false,
     [](Settings& s, std::string_view text) { return set_switch(s.atime, text); }},
    {"kernel-cache", "TIME", "how long the kernel may answer from what it knows (1d)", false,
     [](Settings& s, std::string_view text) -> Result<void> {
       TRY_ASSIGN(Nanos time, parse_duration(text));
       s.kernel_cache = static_cast<double>(time) / kSecond;
       return {};
     }},
    {"log", "FILE", "where the daemon writes its log (VOLUME/graftfs.log)", false,
     [](Settings& s, std::string_view text) -> Result<void> {
       if (text.empty()) return fail(EINVAL, "it must name a file");
       s.log = text;
       return {};
     }},
    {"segment-size", "SIZE", "size of a journal segment (1MiB)", true,
     [](Settings& s, std::string_view text) -> Result<void> {
       TRY((set_size<kMiB, 64 * kMiB>(s.segment_size, text)));
       if (s.segment_size % 4096)
         return fail(EINVAL, fmt::format("it must be a multiple of 4096, which '{}' is not", text));
       return {};
     }},
    {"trace", "chunked|full", "how often the journal repeats where a change happened", true,
     [](Settings& s, std::string_view text) -> Result<void> {
       if (text != "chunked" && text != "full")
         return fail(EINVAL, fmt::format("it is chunked or full, not '{}'", text));
       s.trace = text == "full" ? TracePolicy::full : TracePolicy::chunked;
       return {};
     }},
};

// The number at the front; `text` keeps what is behind it.
Result<double> take_number(std::string_view& text, std::string_view what) {
  double number = 0;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc{} || !std::isfinite(number) || number < 0)
    return fail(EINVAL, fmt::format("'{}' is not {}", text, what));
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  while (text.starts_with(' ')) text.remove_prefix(1);
  return number;
}

}  // namespace

std::span<const Setting> all_settings() { return kSettings; }

const Setting* find_setting(std::string_view name) {
  for (const Setting& setting : kSettings)
    if (name == setting.name) return &setting;
  return nullptr;
}

Result<uint64_t> parse_size(std::string_view text) {
  constexpr std::string_view what = "a size such as 512M or 1GiB";
  std::string_view rest = text;
  TRY_ASSIGN(double number, take_number(rest, what));
  constexpr std::string_view units = "KMGT";
  uint64_t unit = 1;
  if (!rest.empty() && rest != "B") {
    size_t power = units.find(static_cast<char>(rest[0] & ~0x20));
    std::string_view suffix = rest.substr(1);
    if (power == units.npos || (suffix != "" && suffix != "iB" && suffix != "B" && suffix != "ib"))
      return fail(EINVAL, fmt::format("'{}' is not {}", text, what));
    unit = uint64_t{1} << (10 * (power + 1));
  }
  double bytes = number * static_cast<double>(unit);
  if (bytes >= 9e18) return fail(EINVAL, fmt::format("'{}' is too large", text));
  return static_cast<uint64_t>(bytes);
}

Result<Nanos> parse_duration(std::string_view text) {
  constexpr std::string_view what = "a time such as 500ms or 2s";
  std::string_view rest = text;
  TRY_ASSIGN(double number, take_number(rest, what));
  double unit = 0;
  if (rest.empty() || rest == "s")
    unit = kSecond;
  else if (rest == "ms")
    unit = kMillisecond;
  else if (rest == "min")
    unit = 60.0 * kSecond;
  else if (rest == "h")
    unit = 3600.0 * kSecond;
  else if (rest == "d")
    unit = 86400.0 * kSecond;
  else
    return fail(EINVAL, fmt::format("'{}' is not {}", text, what));
  if (number * unit > 9e18) return fail(EINVAL, fmt::format("'{}' is too long", text));
  return static_cast<Nanos>(number * unit);
}

std::string show_size(uint64_t bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  return value == std::floor(value) ? fmt::format("{:.0f} {}", value, units[unit])
                                    : fmt::format("{:.1f} {}", value, units[unit]);
}

}  // namespace graftfs::cli
