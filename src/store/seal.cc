#include "store/seal.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/fault.h"

namespace graftfs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr int kLeastLog2 = 12, kSmallLog2 = 16;
// With these it fits into the inode of ext4, and into its block of attributes.
constexpr uint64_t kFewSums = 12, kMostSums = 900;
constexpr size_t kHead = 16;
constexpr uint64_t kPiece = 256 << 10;
// A file that is changed here and there: from so many changes on the seal is broken in larger
// parts.
constexpr uint32_t kPatient = 4;
constexpr uint64_t kPart = 1 << 20;
constexpr uint64_t kStep = 4 << 20;

int log2_for(uint64_t size) {
  int log2 = kLeastLog2;
  auto sums = [&] { return size == 0 ? 0 : ((size - 1) >> log2) + 1; };
  while (log2 < kSmallLog2 && sums() > kFewSums) ++log2;
  while (sums() > kMostSums) ++log2;
  return log2;
}

size_t count(uint64_t size, int log2) { return size == 0 ? 0 : ((size - 1) >> log2) + 1; }

bool all_zeros(std::string_view bytes) {
  return bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

template <class T>
void put(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

template <class T>
T get(std::string_view bytes, size_t at) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value |= static_cast<T>(static_cast<T>(static_cast<uint8_t>(bytes[at + i])) << (8 * i));
  return value;
}

uint32_t add_block(uint32_t sum, uint64_t number, std::string_view bytes) {
  if (bytes.empty() || all_zeros(bytes)) return sum;
  char place[8];
  for (int i = 0; i < 8; ++i) place[i] = static_cast<char>(number >> (8 * i));
  return crc32c(bytes, crc32c(std::string_view(place, 8), sum));
}

uint32_t known(uint32_t sum) { return sum ? sum : 1; }

// Of an attribute: everything but the sum itself, and whose it is.
uint32_t sum_of(Ino ino, std::string_view bytes) {
  char id[8];
  for (int i = 0; i < 8; ++i) id[i] = static_cast<char>(ino.v >> (56 - 8 * i));
  return crc32c(bytes.substr(8), crc32c(bytes.substr(0, 4), crc32c(std::string_view(id, 8))));
}

}  // namespace

Result<void> Seal::load(std::string_view bytes, const std::string& name) {
  Seal found(ino_);
  auto wrong = [&](std::string_view why) {
    return damaged(
        fmt::format("{}: the checksums of its data (attribute user.graftfs) {}; "
                    "`graftfs fsck --repair --data` believes the data as it is",
                    name, why));
  };
  if (!bytes.empty()) {
    if (bytes.size() < kHead) return wrong("are cut off");
    if (bytes[0] != 1) return wrong("are of a version that this program does not know");
    if (get<uint32_t>(bytes, 4) != sum_of(ino_, bytes)) return wrong("are damaged");
    found.chunk_log2_ = static_cast<uint8_t>(bytes[1]);
    found.size_ = get<uint64_t>(bytes, 8);
    if (found.chunk_log2_ < kLeastLog2 || found.chunk_log2_ > 63 ||
        (bytes.size() - kHead) / 4 != count(found.size_, found.chunk_log2_))
      return wrong("do not fit its size");
    for (size_t at = kHead; at < bytes.size(); at += 4) {
      found.sums_.push_back(get<uint32_t>(bytes, at));
      if (found.sums_.back() == 0) ++found.unknown_;
    }
  }
  // What was checked stays so only where nothing has changed.
  if (found == *this) return {};
  found.checked_.resize(found.sums_.size());
  found.broken_ = broken_;
  *this = std::move(found);
  return {};
}

std::string Seal::encode() const {
  if (unknown_ == sums_.size()) return {};
  std::string out;
  out.reserve(kHead + 4 * sums_.size());
  put<uint8_t>(out, 1);
  put<uint8_t>(out, static_cast<uint8_t>(chunk_log2_));
  put<uint16_t>(out, 0);
  put<uint32_t>(out, 0);
  put<uint64_t>(out, size_);
  for (uint32_t sum : sums_) put(out, sum);
  std::string sum;
  put(sum, sum_of(ino_, out));
  return out.replace(4, 4, sum);
}

uint64_t Seal::end_of(size_t chunk) const {
  // The last chunk may end beyond 2^64.
  uint64_t begin = begin_of(chunk);
  return size_ - begin <= chunk_bytes() ? size_ : begin + chunk_bytes();
}

std::pair<size_t, size_t> Seal::chunks(uint64_t offset, uint64_t length) const {
  if (length == 0 || offset >= size_) return {0, 0};
  uint64_t last = length - 1 > size_ - 1 - offset ? size_ - 1 : offset + length - 1;
  return {offset >> chunk_log2_, (last >> chunk_log2_) + 1};
}

bool Seal::covers(uint64_t offset, uint64_t length) const {
  auto [first, last] = chunks(offset, length);
  for (size_t c = first; c < last; ++c)
    if (sums_[c]) return true;
  return false;
}

bool Seal::needs_check(uint64_t offset, uint64_t length) const {
  auto [first, last] = chunks(offset, length);
  for (size_t c = first; c < last; ++c)
    if (sums_[c] && !is_checked(c)) return true;
  return false;
}

uint64_t Seal::bytes_to_check(uint64_t offset, uint64_t length) const {
  auto [first, last] = chunks(offset, length);
  uint64_t bytes = 0;
  for (size_t c = first; c < last; ++c)
    if (sums_[c] && !is_checked(c)) bytes += end_of(c) - begin_of(c);
  return bytes;
}

// Several readers may find the same.
bool Seal::is_checked(size_t chunk) const {
  return std::atomic_ref<uint8_t>(checked_[chunk]).load(std::memory_order_relaxed);
}

void Seal::mark_checked(size_t chunk) const {
  std::atomic_ref<uint8_t>(checked_[chunk]).store(1, std::memory_order_relaxed);
}

void Seal::set(size_t chunk, uint32_t sum) {
  if ((sums_[chunk] == 0) != (sum == 0)) unknown_ += sum == 0 ? 1 : -1;
  sums_[chunk] = sum;
}

Result<Seal::Sums> Seal::sum(const SealedFile& file, uint64_t from, uint64_t split,
                             uint64_t to) const {
  Sums sums;
  bool passed = split <= from;
  const size_t room = std::min(to - from, kPiece);
  auto buffer = std::make_unique_for_overwrite<char[]>(room);
  for (uint64_t at = from; at < to;) {
    // Over a hole at once.
    if (to - at > kPart) at = std::max(at, file.next_data(at) / kBlock * kBlock);
    if (at >= to) break;
    const size_t length = std::min<uint64_t>(room, to - at);
    TRY(file.read(at, buffer.get(), length));
    for (size_t in = 0; in < length; in += kBlock) {
      const uint64_t block = at + in;
      std::string_view bytes(buffer.get() + in, std::min<uint64_t>(kBlock, length - in));
      if (!passed && split < block + bytes.size()) {
        passed = true;
        std::string_view part = split > block ? bytes.substr(0, split - block) : "";
        sums.before_split = add_block(sums.all, block / kBlock, part);
      }
      sums.all = add_block(sums.all, block / kBlock, bytes);
    }
    at += length;
  }
  if (!passed) sums.before_split = sums.all;
  return Sums{known(sums.before_split), known(sums.all)};
}

std::unexpected<Error> Seal::misfit(const SealedFile& file, size_t chunk, uint32_t found) const {
  MARK("store.seal.damage");
  return damaged(
      fmt::format("{}: the data at offset {} to {} is not what was written (its checksum is "
                  "{:08x}, and was {:08x}): check the disk, and take the file from a copy",
                  file.name(), begin_of(chunk), end_of(chunk), found, sums_[chunk]));
}

Result<void> Seal::check_chunk(const SealedFile& file, size_t chunk) const {
  if (sums_[chunk] == 0 || is_checked(chunk)) return {};
  TRY_ASSIGN(Sums found, sum(file, begin_of(chunk), end_of(chunk), end_of(chunk)));
  if (found.all != sums_[chunk]) return misfit(file, chunk, found.all);
  mark_checked(chunk);
  return {};
}

Result<void> Seal::check(const SealedFile& file, uint64_t offset, uint64_t length) const {
  auto [first, last] = chunks(offset, length);
  for (size_t c = first; c < last; ++c) TRY(check_chunk(file, c));
  return {};
}

Result<void> Seal::before_change(SealedFile& file, uint64_t offset, uint64_t length) {
  if (!covers(offset, length)) [[likely]]
    return {};
  MARK("store.seal.broken");
  auto [first, last] = chunks(offset, length);
  if (broken_ >= kPatient && chunk_bytes() < kPart) {
    const size_t part = kPart >> chunk_log2_;
    first = first / part * part;
    last = std::min((last + part - 1) / part * part, sums_.size());
  }
  Seal less = *this;
  ++less.broken_;
  for (size_t c = first; c < last; ++c) {
    const bool stays = begin_of(c) < offset || end_of(c) - offset > length;
    if (stays) TRY(check_chunk(file, c));
    less.set(c, 0);
  }
  TRY(file.write_seal(less.encode(), true));
  *this = std::move(less);
  return {};
}

Result<void> Seal::before_cut(SealedFile& file, uint64_t size) {
  if (size >= size_) return {};
  MARK("store.seal.cut");
  Seal less(ino_);
  if (size > 0) {
    less.size_ = size;
    less.chunk_log2_ = chunk_log2_;
    less.sums_.assign(sums_.begin(), sums_.begin() + count(size, chunk_log2_));
    less.checked_.assign(checked_.begin(), checked_.begin() + less.sums_.size());
    less.unknown_ = std::count(less.sums_.begin(), less.sums_.end(), 0u);
    const size_t last = less.sums_.size() - 1;
    if (less.sums_[last] && end_of(last) > size) {
      TRY_ASSIGN(Sums sums, sum(file, begin_of(last), size, end_of(last)));
      if (sums.all != sums_[last]) return misfit(file, last, sums.all);
      less.set(last, sums.before_split);
    }
  }
  less.broken_ = broken_;
  // On a file system that keeps the order of its own changes the attribute goes no later than the
  // bytes; and what is left of an empty file's is not believed.
  TRY(file.write_seal(less.encode(), size > 0));
  *this = std::move(less);
  return {};
}

// -------------------------------------------------------------------------------------------------

Resealing::Resealing(const Seal& old, uint64_t stored) : old_(old), seal_(old.ino_) {
  seal_.size_ = stored;
  seal_.chunk_log2_ = log2_for(stored);
  seal_.sums_.resize(count(stored, seal_.chunk_log2_));
  seal_.checked_.resize(seal_.sums_.size(), 1);
  seal_.unknown_ = seal_.sums_.size();
  if (old_.chunk_log2_ != seal_.chunk_log2_) to_check_ = old_.sums_.size();
}

// What has the same bytes below it as before.
bool Resealing::keeps(size_t chunk) const {
  return to_check_ == 0 && chunk < old_.sums_.size() && old_.sums_[chunk] &&
         old_.end_of(chunk) == seal_.end_of(chunk);
}

uint64_t Resealing::bytes() const {
  uint64_t bytes = to_check_ ? old_.size_ : 0;
  for (size_t c = 0; c < seal_.sums_.size(); ++c)
    if (!keeps(c)) bytes += seal_.end_of(c) - seal_.begin_of(c);
  return bytes;
}

Result<void> Resealing::step(const SealedFile& file) {
  for (uint64_t read = 0; !done() && read < kStep;) {
    if (checked_ < to_check_) {
      TRY(old_.check_chunk(file, checked_));
      read += old_.chunk_bytes();
      ++checked_;
      continue;
    }
    const size_t c = next_;
    if (keeps(c)) {
      seal_.set(c, old_.sums_[c]);
      seal_.checked_[c] = old_.checked_[c];
    } else {
      const uint64_t begin = seal_.begin_of(c);
      const bool grows = to_check_ == 0 && c < old_.sums_.size() && old_.sums_[c];
      const uint64_t split = grows ? old_.end_of(c) : begin;
      TRY_ASSIGN(Seal::Sums sums, seal_.sum(file, begin, split, seal_.end_of(c)));
      if (grows && sums.before_split != old_.sums_[c])
        return old_.misfit(file, c, sums.before_split);
      seal_.set(c, sums.all);
      read += seal_.chunk_bytes();
    }
    ++next_;
  }
  return {};
}

}  // namespace graftfs
