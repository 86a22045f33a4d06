#include "cli/volume.h"

#include <charconv>

#include "base/check.h"

namespace graftfs::cli {

uint64_t volume_number(const std::string& uuid) {
  std::string digits;
  for (char c : uuid)
    if (c != '-' && digits.size() < 16) digits += c;
  uint64_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  return number;
}

LocalOptions store_options(const Settings& settings) {
  LocalOptions options;
  options.journal.segment_capacity = settings.segment_size;
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
  LocalOptions options = store_options(settings);
  options.dirs.new_sums = new_sums;
  TRY_ASSIGN(out->store_, LocalStore::open(out->loop_, out->pool_, volume, options));
  return out;
}

}  // namespace graftfs::cli
