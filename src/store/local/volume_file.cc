#include "store/local/volume_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <charconv>
#include <ctime>

#include "base/crc32c.h"
#include "store/local/local_common.h"

namespace graftfs::local {
namespace {

constexpr std::string_view kMagic = "graftfs volume\n";

// The value of "key = value\n", taken from the front of `rest`.
bool take_line(std::string_view& rest, std::string_view key, std::string& value) {
  std::string prefix = std::string(key) + " = ";
  size_t end = rest.find('\n');
  if (!rest.starts_with(prefix) || end == std::string_view::npos) return false;
  value = rest.substr(prefix.size(), end - prefix.size());
  rest.remove_prefix(end + 1);
  return true;
}

std::string make_uuid() {
  unsigned char b[16];
  CHECK(getrandom(b, sizeof b, 0) == sizeof b);
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  std::string uuid;
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) uuid += '-';
    uuid += fmt::format("{:02x}", b[i]);
  }
  return uuid;
}

Result<void> make_dir(int parent, const std::string& name, const std::string& shown) {
  if (::mkdirat(parent, name.c_str(), 0700) != 0 && errno != EEXIST) {
    return os_fail(errno, "create", shown);
  }
  return {};
}

// What a format that was interrupted may have left; anything else is somebody's.
bool is_ours(std::string_view name) {
  return name == "." || name == ".." || name == "cluster" || name == "data" || name == "dirs" ||
         name == "journal" || name == "lock" || name == "graftfs.volume.new" ||
         name == "lost+found";
}

Result<void> check_empty(int dir, const std::string& volume) {
  int own = ::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* d = own < 0 ? nullptr : ::fdopendir(own);
  if (!d) return os_fail(errno, "list", volume);
  std::string other;
  while (dirent* e = ::readdir(d)) {
    if (!is_ours(e->d_name)) other = e->d_name;
  }
  ::closedir(d);
  if (other.empty()) return {};
  return fail(ENOTEMPTY, fmt::format("{} is not empty ('{}' is in it); give an empty or a new "
                                     "directory to make a volume in",
                                     volume, other));
}

}  // namespace

VolumeFile new_volume_file() {
  VolumeFile file;
  file.uuid = make_uuid();
  std::time_t now = std::time(nullptr);
  file.created = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
  return file;
}

std::string encode(const VolumeFile& file) {
  std::string text = fmt::format("{}format = {}\nuuid = {}\ncreated = {}\n", kMagic, file.format,
                                 file.uuid, file.created);
  return text + fmt::format("checksum = {:08x}\n", crc32c(text));
}

Result<VolumeFile> decode_volume_file(std::string_view bytes, const std::string& shown) {
  if (!bytes.starts_with(kMagic)) {
    return fail(EINVAL, fmt::format("{} does not start with '{}': this is not a GraftFS volume, or "
                                    "the file is damaged; restore it from a backup",
                                    shown, kMagic.substr(0, kMagic.size() - 1)));
  }
  std::string_view rest = bytes.substr(kMagic.size());
  VolumeFile file;
  std::string format, checksum;
  bool read = take_line(rest, "format", format);
  auto [end, error] = std::from_chars(format.data(), format.data() + format.size(), file.format);
  read = read && error == std::errc() && end == format.data() + format.size();
  // The checksum is the last line in every version, so that damage is told from a newer version.
  size_t last = bytes.rfind("checksum = ");
  bool sound =
      last != std::string_view::npos && bytes[last - 1] == '\n' &&
      bytes.substr(last) == fmt::format("checksum = {:08x}\n", crc32c(bytes.substr(0, last)));
  if (!sound || !read) {
    return damaged(
        fmt::format("{} is damaged (its checksum does not match, at offset {}); restore "
                    "it from a backup",
                    shown, last == std::string_view::npos ? bytes.size() : last));
  }
  if (file.format > kFormatVersion) {
    return fail(EINVAL,
                fmt::format("{} was made by a newer version of GraftFS (format {}, this one reads "
                            "up to {}); use that version",
                            shown, file.format, kFormatVersion));
  }
  if (!take_line(rest, "uuid", file.uuid) || !take_line(rest, "created", file.created)) {
    return damaged(
        fmt::format("{} lacks the line 'uuid' or 'created'; restore it from a backup", shown));
  }
  return file;
}

Result<std::string> read_or_make_key(const std::string& volume,
                                     const std::function<std::string()>& make) {
  const std::string shown = volume + "/key";
  Fd dir(::open(volume.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return os_fail(errno, "open volume", volume);
  for (;;) {
    auto key = read_small_file(dir.get(), "key", shown);
    if (key || key.error().code != ENOENT) return key;
    // Under another name first, so that nobody sees half of it.
    std::string made = "key.new", bytes = make();
    ::unlinkat(dir.get(), made.c_str(), 0);
    {
      TRY_ASSIGN(Fd fd, open_at(dir.get(), made, O_WRONLY | O_CREAT | O_EXCL, shown));
      TRY(pwrite_all(fd.get(), bytes, 0, shown));
      TRY(fsync_fd(fd.get(), shown));
    }
    if (::linkat(dir.get(), made.c_str(), dir.get(), "key", 0) != 0 && errno != EEXIST)
      return os_fail(errno, "create", shown);
    ::unlinkat(dir.get(), made.c_str(), 0);
    TRY(fsync_fd(dir.get(), volume));
  }
}

Result<VolumeFile> read_volume_file(const std::string& volume) {
  std::string shown = volume + "/" + kVolumeFile;
  Fd dir(::open(volume.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return os_fail(errno, "open volume", volume);
  auto bytes = read_small_file(dir.get(), kVolumeFile, shown);
  if (!bytes && bytes.error().code == ENOENT) {
    return fail(EINVAL, fmt::format("{} is not a GraftFS volume (there is no {} in it); make one "
                                    "with 'graftfs format {}'",
                                    volume, kVolumeFile, volume));
  }
  if (!bytes) return std::unexpected(std::move(bytes).error());
  return decode_volume_file(*bytes, shown);
}

Result<VolumeFile> format_volume(const std::string& volume, VolumeFile file) {
  if (::mkdir(volume.c_str(), 0700) != 0 && errno != EEXIST) {
    return os_fail(errno, "create", volume);
  }
  Fd dir(::open(volume.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return os_fail(errno, "open", volume);
  if (::faccessat(dir.get(), kVolumeFile, F_OK, 0) == 0) {
    return fail(EEXIST,
                fmt::format("{} is a GraftFS volume already; remove it first if you want an "
                            "empty one",
                            volume));
  }
  TRY(check_empty(dir.get(), volume));
  for (const char* name : {"dirs", "journal", "data"}) {
    TRY(make_dir(dir.get(), name, volume + "/" + name));
  }
  TRY_ASSIGN(Fd lock, open_at(dir.get(), "lock", O_RDWR | O_CREAT, volume + "/lock"));
  TRY(fsync_fd(dir.get(), volume));
  TRY(replace_small_file(dir.get(), kVolumeFile, encode(file), true, volume + "/" + kVolumeFile));
  // The volume's own name.
  Fd parent(::openat(dir.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent) TRY(fsync_fd(parent.get(), volume));
  return file;
}

}  // namespace graftfs::local
