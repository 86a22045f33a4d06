#pragma once
// graftfs.volume, the file that says that a directory is a GraftFS volume
// (docs/formats/store-local.md), and the making of an empty volume.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace graftfs::local {

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr char kVolumeFile[] = "graftfs.volume";
inline constexpr int kFanOut = 256;       // directories below data/
inline constexpr int kNeighbours = 1024;  // consecutive inos in the same one

struct VolumeFile {
  uint32_t format = kFormatVersion;
  std::string uuid;     // 8-4-4-4-12 hex digits
  std::string created;  // RFC 3339, UTC
};

// With a new uuid, made now.
VolumeFile new_volume_file();
std::string encode(const VolumeFile& file);
// `shown` names the file in messages. EINVAL: not a volume, or of a newer version; EUCLEAN:
// damaged.
Result<VolumeFile> decode_volume_file(std::string_view bytes, const std::string& shown);

// VOLUME/key, readable for the volume's owner only; made by `make` where there is none.
Result<std::string> read_or_make_key(const std::string& volume,
                                     const std::function<std::string()>& make);

Result<VolumeFile> read_volume_file(const std::string& volume);
// Makes an empty volume in a directory that is empty or does not exist yet. EEXIST where there is
// a volume, ENOTEMPTY where there is something else. Completion: durable. After a crash in the
// middle the directory is not a volume: graftfs.volume is written last.
Result<VolumeFile> format_volume(const std::string& volume, VolumeFile file = new_volume_file());

}  // namespace graftfs::local
