#include "store/volume.h"

#include "store/local/local_store.h"
#include "store/rados/rados_store.h"

namespace graftfs {

Result<std::shared_ptr<Volume>> open_volume(const std::string& name, VolumeOptions options) {
  if (rados::is_rados(name)) {
    RadosOptions o;
    o.segment_capacity = options.segment_capacity;
    o.early_journal = options.early_journal;
    return RadosVolume::open(name, o);
  }
  LocalOptions o;
  o.journal.segment_capacity = options.segment_capacity;
  o.dirs.new_sums = options.new_sums;
  return LocalVolume::open(name, o);
}

}  // namespace graftfs
