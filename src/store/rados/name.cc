#include "store/rados/name.h"

#include <fmt/format.h>

#include <charconv>

namespace graftfs::rados {
namespace {

constexpr std::string_view kDir = "dir/", kData = "data/";
constexpr uint64_t kInosPerShard = 16384;
constexpr size_t kDigits = 16;

Ino read_ino(std::string_view object, std::string_view prefix, std::string_view after) {
  if (!object.starts_with(prefix)) return Ino{};
  object.remove_prefix(prefix.size());
  if (object.size() < kDigits || !object.substr(kDigits).starts_with(after)) return Ino{};
  uint64_t v = 0;
  auto [end, error] = std::from_chars(object.data(), object.data() + kDigits, v, 16);
  return error == std::errc() && end == object.data() + kDigits ? Ino{v} : Ino{};
}

}  // namespace

std::string VolumeName::shown() const {
  return fmt::format("{}{}{}{}", kScheme, pool, space.empty() ? "" : "/", space);
}

std::string VolumeName::full() const {
  std::string text = shown();
  if (!conf.empty()) text += "?conf=" + conf;
  if (!id.empty()) text += fmt::format("{}id={}", conf.empty() ? '?' : '&', id);
  return text;
}

Result<VolumeName> parse_name(std::string_view text) {
  const std::string whole(text);
  auto wrong = [&](std::string_view why) {
    return fail(EINVAL, fmt::format("{}: {}; a volume on Ceph is named rados:POOL[/NAMESPACE]",
                                    whole, why));
  };
  if (!is_rados(text)) return wrong("it does not begin with 'rados:'");
  text.remove_prefix(kScheme.size());
  VolumeName name;
  if (size_t at = text.find('?'); at != text.npos) {
    std::string_view options = text.substr(at + 1);
    text = text.substr(0, at);
    while (!options.empty()) {
      std::string_view one = options.substr(0, options.find('&'));
      options.remove_prefix(std::min(options.size(), one.size() + 1));
      if (one.starts_with("conf=")) {
        name.conf = one.substr(5);
      } else if (one.starts_with("id=")) {
        name.id = one.substr(3);
      } else {
        return wrong(fmt::format("'{}' is neither conf=FILE nor id=ID", one));
      }
    }
  }
  size_t slash = text.find('/');
  name.pool = text.substr(0, slash);
  if (slash != text.npos) name.space = text.substr(slash + 1);
  if (name.pool.empty()) return wrong("it names no pool");
  if (slash != text.npos && name.space.empty()) return wrong("it names no namespace behind '/'");
  if (name.space.find('/') != std::string::npos) return wrong("a namespace has no '/'");
  return name;
}

std::string dir_object(Ino dir) { return fmt::format("{}{:016x}", kDir, dir.v); }
// By the first bits, so that the order of fragments is that of keys. The hash in a key has 63 bits:
// of 64 fragments it uses half.
unsigned fragment_of(std::string_view key) {
  return key.empty() ? 0 : static_cast<unsigned char>(key[0]) / (256 / kFragments);
}
std::string fragment_object(Ino dir, unsigned fragment) {
  return fmt::format("{}{:016x}/{:02x}", kDir, dir.v, fragment);
}
std::string fragment_object(Ino dir, std::string_view key) {
  return fragment_object(dir, fragment_of(key));
}
std::string location_object(Ino ino) { return fmt::format("loc/{:016x}", ino.v / kInosPerShard); }
std::string index_object(RankId rank) { return fmt::format("journal/rank-{}", rank); }
std::string segment_object(RankId rank, SegmentId id) {
  return fmt::format("journal/rank-{}/{:016x}.seg", rank, id.v);
}
std::string data_object(Ino ino, uint32_t block) {
  return fmt::format("{}{:016x}/{:08x}", kData, ino.v, block);
}
Ino ino_of_dir(std::string_view object) {
  return object.size() == kDir.size() + kDigits ? read_ino(object, kDir, "") : Ino{};
}
Ino ino_of_data(std::string_view object) { return read_ino(object, kData, "/"); }

}  // namespace graftfs::rados
