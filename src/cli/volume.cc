#include "cli/volume.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "base/crc32c.h"
#include "cli/command.h"
#include "store/rados/rados_store.h"

namespace graftfs::cli {

uint64_t volume_number(const std::string& uuid) {
  std::string digits;
  for (char c : uuid)
    if (c != '-' && digits.size() < 16) digits += c;
  uint64_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  return number;
}

CephFlags& ceph_flags() {
  static CephFlags flags;
  return flags;
}

namespace {

std::string named(const std::string& text, const std::string& conf, const std::string& id) {
  auto name = rados::parse_name(text);
  if (!name) return text;  // whoever opens it says what is wrong
  if (!conf.empty()) name->conf = conf;
  if (!id.empty()) name->id = id;
  if (!name->conf.empty()) name->conf = absolute_path(name->conf);
  return name->full();
}

}  // namespace

std::string volume_name(const std::string& text) {
  if (!rados::is_rados(text)) return absolute_path(text);
  return named(text, ceph_flags().conf, ceph_flags().id);
}

std::string with_settings(const std::string& volume, const Settings& settings) {
  return rados::is_rados(volume) ? named(volume, settings.conf, settings.id) : volume;
}

std::string run_dir(const std::string& volume) {
  auto name = rados::parse_name(volume);
  if (!rados::is_rados(volume) || !name) return volume;
  const char* runtime = ::getuid() == 0 ? nullptr : std::getenv("XDG_RUNTIME_DIR");
  std::string parent = runtime           ? std::string(runtime) + "/graftfs"
                       : ::getuid() == 0 ? "/run/graftfs"
                                         : fmt::format("/tmp/graftfs-{}", ::getuid());
  std::string own = name->pool + (name->space.empty() ? "" : "+") + name->space;
  return fmt::format("{}/{}-{:08x}", parent, own, crc32c(name->conf));
}

Result<std::string> make_run_dir(const std::string& volume) {
  std::string dir = run_dir(volume);
  if (dir == volume) return dir;
  for (const std::string& path : {std::filesystem::path(dir).parent_path().string(), dir}) {
    if (::mkdir(path.c_str(), 0700) == 0) continue;
    int error = errno;
    struct stat st;
    if (error != EEXIST || ::lstat(path.c_str(), &st) != 0)
      return fail(error, fmt::format("cannot make {}: {}", path, std::strerror(error)));
    if (!S_ISDIR(st.st_mode) || st.st_uid != ::getuid())
      return fail(EPERM, fmt::format("{} is not a directory of this user's; move it away", path));
  }
  return dir;
}

Result<void> check_volume(const std::string& volume) {
  if (rados::is_rados(volume)) {
    TRY(open_volume(volume));
  } else {
    TRY(local::read_volume_file(volume));
  }
  return {};
}

Result<void> load_settings(const std::string& file, const std::string& volume, Settings& settings) {
  if (!file.empty() || !rados::is_rados(volume)) return load_config(file, volume, settings);
  TRY_ASSIGN(auto opened, RadosVolume::open(volume));
  TRY_ASSIGN(std::string text, opened->config());
  return apply_config(text, opened->name() + "/" + rados::kConfigObject, settings);
}

VolumeOptions volume_options(const Settings& settings) {
  VolumeOptions options;
  options.segment_capacity = settings.segment_size;
  return options;
}

RankOptions rank_options(const Settings& s, const local::VolumeFile& file,
                         const std::string& volume) {
  RankOptions o;
  o.volume = volume_number(file.uuid);
  o.volume_name = volume;
  o.durability = s.durability;
  o.trace = s.trace;
  o.read_only = s.read_only;
  o.accept_loss = s.accept_loss;
  o.memory_limit = s.memory;
  o.recovery_target = s.recovery_target;
  o.journal_cap = s.journal_cap;
  o.write_back_from = s.write_back_from;
  o.write_back_after = s.write_back_after;
  return o;
}

Result<std::unique_ptr<OpenVolume>> OpenVolume::open(const std::string& volume,
                                                     const Settings& settings, bool new_sums) {
  std::unique_ptr<OpenVolume> out(new OpenVolume);
  VolumeOptions options = volume_options(settings);
  options.new_sums = new_sums;
  TRY_ASSIGN(out->volume_, open_volume(volume, options));
  TRY_ASSIGN(out->store_, out->volume_->use(out->loop_, out->pool_));
  return out;
}

}  // namespace graftfs::cli
