#include "store/memory/memory_disk.h"

#include <algorithm>

#include "base/check.h"
#include "store/seal.h"

namespace graftfs {
namespace {

bool is_change(StoreCall call) {
  switch (call) {
    case StoreCall::dirs_commit:
    case StoreCall::journal_create:
    case StoreCall::journal_write:
    case StoreCall::journal_sync:
    case StoreCall::journal_remove:
    case StoreCall::data_write:
    case StoreCall::data_truncate:
    case StoreCall::data_allocate:
    case StoreCall::data_copy:
    case StoreCall::data_sync:
    case StoreCall::data_sync_all:
    case StoreCall::data_remove:
    case StoreCall::state_set:
      return true;
    default:
      return false;
  }
}

bool flip(std::string& bytes, uint64_t bit) {
  if (bytes.empty()) return false;
  bytes[bit / 8 % bytes.size()] ^= static_cast<char>(1u << (bit % 8));
  return true;
}

}  // namespace

FaultKind MemoryDisk::draw(StoreCall call, Random* random, Nanos& latency) {
  size_t i = static_cast<size_t>(call);
  ++calls_[i];
  uint64_t n = ++calls_since_script_[i];
  const MemoryFaults::Chances& c = faults_.chances[i];
  latency = c.latency_min;
  if (random && c.latency_max > c.latency_min) {
    latency += static_cast<Nanos>(random->below(c.latency_max - c.latency_min + 1));
  }
  auto chance = [&](uint32_t ppm) { return random && ppm && random->below(1'000'000) < ppm; };
  if (chance(c.stall_ppm)) latency += c.stall;
  for (const auto& s : faults_.script) {
    if (s.call == call && s.nth == n) return scripted(s.fault);
  }
  if (chance(c.eio_ppm)) return FaultKind::eio;
  if (chance(c.enospc_ppm)) return FaultKind::enospc;
  FaultKind lie = FaultKind::none;
  if (chance(c.lost_ppm))
    lie = FaultKind::lost;
  else if (chance(c.misdirected_ppm))
    lie = FaultKind::misdirected;
  else if (chance(c.torn_ppm))
    lie = FaultKind::torn;
  else if (chance(c.volatile_ppm))
    lie = FaultKind::not_durable;
  if (lie != FaultKind::none) ++lies_;
  return lie;
}

FaultKind MemoryDisk::scripted(FaultKind fault) {
  if (fault > FaultKind::enospc) ++lies_;
  return fault;
  return FaultKind::none;
}

void MemoryDisk::script(std::vector<MemoryFaults::Scripted> faults) {
  faults_.script = std::move(faults);
  calls_since_script_ = {};
}

void MemoryDisk::finish(uint64_t id) {
  auto it = in_flight_.find(id);
  if (it == in_flight_.end()) return;
  if (!it->second.applied) {
    if (it->second.order) {
      for (auto& [other, op] : in_flight_) {
        if (other >= id) break;
        if (op.order != it->second.order || op.applied) continue;
        op.applied = true;
        op.apply(op.effect);
      }
    }
    it->second.applied = true;
    it->second.apply(it->second.effect);
  }
  in_flight_.erase(id);
}

void MemoryDisk::crash(Random& random, CrashKind kind) {
  for (auto it = in_flight_.begin(); it != in_flight_.end();) {
    Operation& op = it->second;
    if (kind == CrashKind::process_death && !op.node.expired()) {
      ++it;
      continue;
    }
    if (!op.applied && is_change(op.call)) {
      // A write to the page cache goes from front to back, and ends where its process dies.
      Effect effect{op.effect.fault, &random, kind == CrashKind::process_death, true};
      switch (random.below(3)) {
        case 0:
          break;  // dropped
        case 1:
          // A sync that did not return proves nothing and loses nothing.
          if (op.call == StoreCall::journal_sync || op.call == StoreCall::data_sync ||
              op.call == StoreCall::data_sync_all) {
            break;
          }
          if (op.updates) {
            std::erase_if(*op.updates, [&](const DirUpdate&) { return random.below(2) == 0; });
          } else if (effect.fault == FaultKind::none) {
            effect.fault = FaultKind::torn;
          }
          [[fallthrough]];
        default:
          op.apply(effect);
      }
    }
    it = in_flight_.erase(it);
  }
  if (kind == CrashKind::process_death) return;
  if (durable_dirs_) {
    dirs_ = std::move(durable_dirs_->dirs);
    locations_ = std::move(durable_dirs_->locations);
    dir_bytes_ = durable_dirs_->dir_bytes;
    durable_dirs_.reset();
  }
  for (auto& [rank, journal] : journals_) {
    for (auto& [id, segment] : journal.segments) segment.power_cut(random);
    journal.in_doubt = true;
  }
  for (auto& [ino, data] : removed_) {
    if (random.below(2) == 0 && !data_.contains(ino)) {
      data_sectors_ += data.bytes.sectors();
      data_.emplace(ino, std::move(data));
    }
  }
  removed_.clear();
  unsynced_.clear();
  for (auto& [ino, data] : data_) {
    data_sectors_ -= data.bytes.sectors();
    data.bytes.power_cut(random);
    data.size = std::min(data.size, data.bytes.end());
    data_sectors_ += data.bytes.sectors();
    if (data.seals.size() > 1) data.seals = {data.seals[random.below(data.seals.size())]};
  }
}

void MemoryDisk::crash_of(Random& random, const std::vector<RankId>& ranks) {
  crash(random, CrashKind::process_death);
  for (RankId rank : ranks) {
    Journal& journal = journals_[rank];
    for (auto& [id, segment] : journal.segments) segment.power_cut(random);
    journal.in_doubt = true;
  }
}

std::optional<std::string> MemoryDisk::header_bytes(Ino dir) const {
  auto it = dirs_.find(dir);
  return it == dirs_.end() ? std::nullopt : it->second.header;
}

std::map<EntryKey, std::string> MemoryDisk::entry_bytes(Ino dir) const {
  auto it = dirs_.find(dir);
  return it == dirs_.end() ? std::map<EntryKey, std::string>() : it->second.entries;
}

std::shared_ptr<MemoryDisk> MemoryDisk::clone() const {
  auto copy = std::make_shared<MemoryDisk>(options_);
  copy->faults_ = faults_;
  copy->calls_ = calls_;
  copy->calls_since_script_ = calls_since_script_;
  copy->seq_ = seq_;
  copy->next_owner_ = next_owner_;
  copy->dirs_ = dirs_;
  copy->locations_ = locations_;
  copy->dir_bytes_ = dir_bytes_;
  copy->durable_dirs_ = durable_dirs_;
  copy->lies_ = lies_;
  copy->journals_ = journals_;
  for (auto& [rank, journal] : copy->journals_) journal.owner_node.reset();
  copy->data_ = data_;
  copy->unsynced_ = unsynced_;
  copy->removed_ = removed_;
  copy->data_sectors_ = data_sectors_;
  copy->state_ = state_;
  return copy;
}

uint64_t MemoryDisk::used() const {
  uint64_t segments = 0;
  for (const auto& [rank, journal] : journals_) segments += journal.segments.size();
  return segments * options_.segment_capacity + data_sectors_ * kSectorSize + dir_bytes_;
}

uint64_t MemoryDisk::bytes_of(const DirUpdate& update) {
  uint64_t n = update.header ? update.header->size() : 0;
  for (const auto& [key, value] : update.put) n += key.size() + value.size();
  return n;
}

void MemoryDisk::apply_update(DirUpdate& u) {
  if (u.remove) {
    if (auto it = dirs_.find(u.dir); it != dirs_.end()) {
      if (it->second.header) dir_bytes_ -= it->second.header->size();
      for (const auto& [key, value] : it->second.entries) dir_bytes_ -= key.size() + value.size();
      dirs_.erase(it);
    }
  } else if (u.header || !u.put.empty() || !u.erase.empty()) {
    Dir& dir = dirs_[u.dir];
    auto forget = [&](const EntryKey& key) {
      auto it = dir.entries.find(key);
      if (it == dir.entries.end()) return;
      dir_bytes_ -= it->first.size() + it->second.size();
      dir.entries.erase(it);
    };
    for (const auto& key : u.erase) forget(key);
    for (const auto& [key, value] : u.put) {
      forget(key);
      dir.entries.emplace(key, value);
      dir_bytes_ += key.size() + value.size();
    }
    if (u.header) {
      if (dir.header) dir_bytes_ -= dir.header->size();
      dir_bytes_ += u.header->size();
      dir.header = u.header;
    }
  }
  for (const auto& [ino, key] : u.located) locations_[ino] = Location{u.dir, key};
  for (Ino ino : u.unlocated) locations_.erase(ino);
}

bool MemoryDisk::flip_journal_bit(RankId rank, SegmentId segment, uint64_t bit) {
  auto journal = journals_.find(rank);
  if (journal == journals_.end()) return false;
  auto it = journal->second.segments.find(segment);
  return it != journal->second.segments.end() && it->second.flip_bit(bit);
}

bool MemoryDisk::flip_header_bit(Ino dir, uint64_t bit) {
  auto it = dirs_.find(dir);
  return it != dirs_.end() && it->second.header && flip(*it->second.header, bit);
}

bool MemoryDisk::flip_entry_bit(Ino dir, const EntryKey& key, uint64_t bit) {
  auto it = dirs_.find(dir);
  if (it == dirs_.end()) return false;
  auto entry = it->second.entries.find(key);
  return entry != it->second.entries.end() && flip(entry->second, bit);
}

bool MemoryDisk::flip_data_bit(Ino ino, uint64_t bit) {
  auto it = data_.find(ino);
  return it != data_.end() && it->second.bytes.flip_bit(bit);
}

bool MemoryDisk::flip_seal_bit(Ino ino, uint64_t bit) {
  auto it = data_.find(ino);
  if (it == data_.end()) return false;
  for (std::string& seal : it->second.seals) flip(seal, bit);
  return !it->second.seals.back().empty();
}

std::map<Ino, uint64_t> MemoryDisk::sealed() const {
  std::map<Ino, uint64_t> out;
  for (const auto& [ino, data] : data_) {
    // A power cut may leave any of them.
    uint64_t least = UINT64_MAX;
    for (const std::string& bytes : data.seals) {
      Seal seal(ino);
      if (seal.load(bytes, {})) least = std::min(least, seal.is_whole(data.size) ? seal.size() : 0);
    }
    if (least > 0) out[ino] = least;
  }
  return out;
}

std::vector<SegmentId> MemoryDisk::segments(RankId rank) const {
  std::vector<SegmentId> ids;
  if (auto it = journals_.find(rank); it != journals_.end()) {
    for (const auto& [id, segment] : it->second.segments) ids.push_back(id);
  }
  return ids;
}

std::string MemoryDisk::journal_bytes(RankId rank, SegmentId segment) const {
  std::string bytes(options_.segment_capacity, '\0');
  auto journal = journals_.find(rank);
  if (journal == journals_.end()) return {};
  auto it = journal->second.segments.find(segment);
  if (it == journal->second.segments.end()) return {};
  it->second.read(0, bytes.data(), bytes.size());
  return bytes;
}

std::vector<Ino> MemoryDisk::dirs() const {
  std::vector<Ino> inos;
  for (const auto& [ino, dir] : dirs_) inos.push_back(ino);
  return inos;
}

std::vector<EntryKey> MemoryDisk::entries(Ino dir) const {
  std::vector<EntryKey> keys;
  if (auto it = dirs_.find(dir); it != dirs_.end()) {
    for (const auto& [key, value] : it->second.entries) keys.push_back(key);
  }
  return keys;
}

}  // namespace graftfs
