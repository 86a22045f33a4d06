#pragma once
// How a volume on RADOS is named: rados:POOL[/NAMESPACE][?conf=FILE&id=ID].

#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"

namespace graftfs::rados {

struct VolumeName {
  std::string pool;
  std::string space;  // the namespace; may be empty
  std::string conf;   // empty: where librados looks for it
  std::string id;     // empty: what ceph.conf and CEPH_ARGS say, or admin

  // The whole name, as a mount's source and between processes.
  std::string full() const;
  // Without conf and id, for messages and object names.
  std::string shown() const;
};

inline constexpr std::string_view kScheme = "rados:";
inline bool is_rados(std::string_view volume) { return volume.starts_with(kScheme); }
// EINVAL with a sentence.
Result<VolumeName> parse_name(std::string_view text);

// Names of objects (docs/formats/store-rados.md).
inline constexpr char kVolumeObject[] = "graftfs.volume";
inline constexpr char kKeyObject[] = "key";
inline constexpr char kConfigObject[] = "config";
inline constexpr char kStateObject[] = "state";
std::string dir_object(Ino dir);
// Where a big directory has the entry.
std::string fragment_object(Ino dir, std::string_view key);
std::string fragment_object(Ino dir, unsigned fragment);
inline constexpr unsigned kFragments = 64;
unsigned fragment_of(std::string_view key);
std::string location_object(Ino ino);
std::string index_object(RankId rank);
std::string segment_object(RankId rank, SegmentId id);
std::string data_object(Ino ino, uint32_t block);
// The ino in the name of a directory or of data; 0: it is something else's.
Ino ino_of_dir(std::string_view object);
Ino ino_of_data(std::string_view object);

}  // namespace graftfs::rados
