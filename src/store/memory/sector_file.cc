#include "store/memory/sector_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace graftfs {
namespace {
// More versions than this between two syncs of one sector add nothing to what a crash can show.
constexpr size_t kMaxVersions = 8;
}  // namespace

SectorFile::Bytes& SectorFile::change(uint64_t index, uint64_t seq) {
  Sector& s = map_[index];
  if (s.versions.empty()) s.versions.push_back({0, std::nullopt});
  s.lost = s.lied = false;
  lied_.erase(index);
  if (s.versions.size() == 1 || s.versions.back().seq != seq) {
    if (s.versions.size() >= kMaxVersions) s.versions.erase(s.versions.begin() + 1);
    Bytes copy = s.versions.back().bytes;
    s.versions.push_back({seq, std::move(copy)});
    dirty_.insert(index);
  }
  return s.versions.back().bytes;
}

const SectorFile::Bytes* SectorFile::find(uint64_t index) const {
  auto it = map_.find(index);
  return it == map_.end() ? nullptr : &it->second.versions.back().bytes;
}

template <class Choose>
void SectorFile::write_sectors(uint64_t offset, std::string_view bytes, uint64_t seq,
                               Choose choose) {
  while (!bytes.empty()) {
    uint64_t index = offset / kSectorSize, in = offset % kSectorSize;
    uint64_t n = std::min<uint64_t>(kSectorSize - in, bytes.size());
    if (choose()) {
      Bytes& sector = change(index, seq);
      if (!sector) {
        sector.emplace(kSectorSize, '\0');
        ++sectors_;
      }
      std::memcpy(sector->data() + in, bytes.data(), n);
    }
    offset += n;
    bytes.remove_prefix(n);
  }
}

void SectorFile::write(uint64_t offset, std::string_view bytes, uint64_t seq) {
  write_sectors(offset, bytes, seq, [] { return true; });
}

void SectorFile::write_lost(uint64_t offset, std::string_view bytes, uint64_t seq, Random* random) {
  write(offset, bytes, seq);
  if (bytes.empty()) return;
  for (uint64_t i = offset / kSectorSize; i <= (offset + bytes.size() - 1) / kSectorSize; ++i)
    if (!random || random->below(2) == 0) map_[i].lied = true;
}

void SectorFile::write_torn(uint64_t offset, std::string_view bytes, uint64_t seq, Random& random) {
  write_sectors(offset, bytes, seq, [&] { return random.below(2) == 0; });
}

void SectorFile::write_start(uint64_t offset, std::string_view bytes, uint64_t seq,
                             Random& random) {
  uint64_t sectors = random.below(bytes.size() / kSectorSize + 2);
  write_sectors(offset, bytes, seq, [&] { return sectors > 0 && sectors-- > 0; });
}

void SectorFile::read(uint64_t offset, char* out, uint64_t length) const {
  while (length > 0) {
    uint64_t in = offset % kSectorSize;
    uint64_t n = std::min(kSectorSize - in, length);
    const Bytes* sector = find(offset / kSectorSize);
    if (sector && *sector) {
      std::memcpy(out, (*sector)->data() + in, n);
    } else {
      std::memset(out, 0, n);
    }
    out += n;
    offset += n;
    length -= n;
  }
}

void SectorFile::truncate(uint64_t size, uint64_t seq) {
  uint64_t tail = size % kSectorSize;
  if (tail) {
    const Bytes* sector = find(size / kSectorSize);
    if (sector && *sector && (*sector)->find_first_not_of('\0', tail) != std::string::npos) {
      Bytes& s = change(size / kSectorSize, seq);
      std::fill(s->begin() + tail, s->end(), '\0');
    }
  }
  uint64_t first = (size + kSectorSize - 1) / kSectorSize;
  for (auto it = map_.lower_bound(first); it != map_.end(); ++it) {
    if (!it->second.versions.back().bytes) continue;
    change(it->first, seq).reset();
    --sectors_;
  }
}

void SectorFile::zero(uint64_t offset, uint64_t length, bool keep, uint64_t seq) {
  uint64_t end = offset + length;
  auto it = map_.lower_bound(offset / kSectorSize);
  for (; it != map_.end() && it->first * kSectorSize < end; ++it) {
    if (!it->second.versions.back().bytes) continue;
    uint64_t start = it->first * kSectorSize;
    uint64_t from = std::max(offset, start), to = std::min(end, start + kSectorSize);
    Bytes& s = change(it->first, seq);
    if (!keep && to - from == kSectorSize) {
      s.reset();
      --sectors_;
    } else {
      std::fill(s->begin() + (from - start), s->begin() + (to - start), '\0');
    }
  }
  if (keep) allocate(offset, length, seq);
}

void SectorFile::allocate(uint64_t offset, uint64_t length, uint64_t seq) {
  if (length == 0) return;
  for (uint64_t i = offset / kSectorSize; i <= (offset + length - 1) / kSectorSize; ++i) {
    const Bytes* sector = find(i);
    if (sector && *sector) continue;
    change(i, seq).emplace(kSectorSize, '\0');
    ++sectors_;
  }
}

uint64_t SectorFile::end() const {
  for (auto it = map_.rbegin(); it != map_.rend(); ++it)
    if (it->second.versions.back().bytes) return (it->first + 1) * kSectorSize;
  return 0;
}

uint64_t SectorFile::next_data(uint64_t offset) const {
  for (auto it = map_.lower_bound(offset / kSectorSize); it != map_.end(); ++it) {
    if (it->second.versions.back().bytes) return std::max(offset, it->first * kSectorSize);
  }
  return UINT64_MAX;
}

uint64_t SectorFile::next_hole(uint64_t offset) const {
  uint64_t index = offset / kSectorSize;
  for (const Bytes* s = find(index); s && *s; s = find(index)) ++index;
  return std::max(offset, index * kSectorSize);
}

uint64_t SectorFile::missing(uint64_t offset, uint64_t length) const {
  if (length == 0) return 0;
  uint64_t n = 0;
  for (uint64_t i = offset / kSectorSize; i <= (offset + length - 1) / kSectorSize; ++i) {
    const Bytes* s = find(i);
    if (!s || !*s) ++n;
  }
  return n;
}

void SectorFile::set_current(Sector& s, uint64_t index, size_t version) {
  bool had = s.versions.back().bytes.has_value();
  Version keep = std::move(s.versions[version]);
  bool has = keep.bytes.has_value();
  s.versions.clear();
  s.versions.push_back(std::move(keep));
  s.lost = s.lied = false;
  sectors_ += (has ? 1 : 0) - (had ? 1 : 0);
  dirty_.erase(index);
}

void SectorFile::erase_if_empty(uint64_t index) {
  auto it = map_.find(index);
  if (it != map_.end() && it->second.versions.size() == 1 && !it->second.versions[0].bytes) {
    map_.erase(it);
  }
}

void SectorFile::synced(uint64_t up_to) {
  std::vector<uint64_t> dirty(dirty_.begin(), dirty_.end());
  for (uint64_t index : dirty) {
    Sector& s = map_[index];
    if (s.lost) continue;
    if (s.lied) {
      if (s.versions.back().seq > up_to) continue;
      s.versions.erase(s.versions.begin() + 1, s.versions.end() - 1);
      dirty_.erase(index);
      lied_.insert(index);
      continue;
    }
    size_t last = 0;
    while (last + 1 < s.versions.size() && s.versions[last + 1].seq <= up_to) ++last;
    s.versions.erase(s.versions.begin(), s.versions.begin() + last);
    if (s.versions.size() > 1) continue;
    dirty_.erase(index);
    erase_if_empty(index);
  }
}

void SectorFile::sync_failed(uint64_t up_to, Random* random) {
  std::vector<uint64_t> dirty(dirty_.begin(), dirty_.end());
  for (uint64_t index : dirty) {
    Sector& s = map_[index];
    if (s.versions[1].seq > up_to) continue;
    if (s.versions.back().seq <= up_to && random && random->below(2) == 0) {
      set_current(s, index, 0);
      erase_if_empty(index);
    } else {
      s.lost = true;
    }
  }
}

void SectorFile::power_cut(Random& random) {
  std::vector<uint64_t> dirty(dirty_.begin(), dirty_.end());
  for (uint64_t index : dirty) {
    Sector& s = map_[index];
    set_current(s, index, s.lost || s.lied ? 0 : random.below(s.versions.size()));
    erase_if_empty(index);
  }
  for (uint64_t index : std::exchange(lied_, {})) {
    set_current(map_[index], index, 0);
    erase_if_empty(index);
  }
}

bool SectorFile::flip_bit(uint64_t bit) {
  auto it = map_.find(bit / 8 / kSectorSize);
  if (it == map_.end() || !it->second.versions.back().bytes) return false;
  for (Version& v : it->second.versions) {
    if (v.bytes) (*v.bytes)[bit / 8 % kSectorSize] ^= static_cast<char>(1u << (bit % 8));
  }
  return true;
}

}  // namespace graftfs
