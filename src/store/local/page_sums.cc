#include "store/local/page_sums.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cstring>

#include "base/crc32c.h"
#include "base/fault.h"

namespace graftfs::local {
namespace {

constexpr char kFile[] = "sums";
// The file is begun anew when this many sums were appended, and as many as there are pages.
constexpr uint64_t kAppendedMost = 16 << 10;

struct FileHeader {
  char magic[12] = {'g', 'r', 'a', 'f', 't', 'f', 's', ' ', 's', 'u', 'm', 's'};
  uint32_t version = 1;
};
static_assert(sizeof(FileHeader) == 16);

struct RecordHeader {
  uint64_t txn;
  uint32_t count;
  uint32_t crc;  // CRC32C of what precedes it, and of the sums
};
static_assert(sizeof(RecordHeader) == 16);

struct StoredSum {
  uint32_t page;
  uint32_t crc;
};
static_assert(sizeof(StoredSum) == 8);

uint32_t record_crc(const RecordHeader& header, std::string_view sums) {
  std::string_view head(reinterpret_cast<const char*>(&header), offsetof(RecordHeader, crc));
  return crc32c(sums, crc32c(head));
}

void encode_record(std::string& out, uint64_t txn, const std::vector<PageSums::Sum>& sums) {
  std::string body;
  body.reserve(sums.size() * sizeof(StoredSum));
  for (const auto& [page, crc] : sums) {
    StoredSum s{static_cast<uint32_t>(page), crc};
    body.append(reinterpret_cast<const char*>(&s), sizeof s);
  }
  RecordHeader header{txn, static_cast<uint32_t>(sums.size()), 0};
  header.crc = record_crc(header, body);
  out.append(reinterpret_cast<const char*>(&header), sizeof header);
  out += body;
}

}  // namespace

PageSums::PageSums(int dir, std::string name, size_t pages) : dir_(dir), name_(std::move(name)) {
  resize(pages);
}

void PageSums::resize(size_t pages) {
  std::vector<std::atomic<std::atomic<uint64_t>*>> chunks(pages / kChunk + 1);
  for (size_t i = 0; i < chunks_.size() && i < chunks.size(); ++i) chunks[i] = chunks_[i].load();
  chunks_.swap(chunks);
}

std::atomic<uint64_t>* PageSums::entry(mdb::PageNo number) const {
  if (number / kChunk >= chunks_.size()) return nullptr;
  std::atomic<uint64_t>* chunk = chunks_[number / kChunk].load(std::memory_order_acquire);
  return chunk ? &chunk[number % kChunk] : nullptr;
}

void PageSums::set(mdb::PageNo number, State state, uint32_t sum) {
  if (number / kChunk >= chunks_.size()) return;
  auto& chunk = chunks_[number / kChunk];
  if (!chunk.load(std::memory_order_relaxed)) {
    owned_.push_back(std::make_unique<std::atomic<uint64_t>[]>(kChunk));
    chunk.store(owned_.back().get(), std::memory_order_release);
  }
  chunk.load(std::memory_order_relaxed)[number % kChunk].store(
      static_cast<uint64_t>(state) << 32 | sum, std::memory_order_relaxed);
}

void PageSums::forget(mdb::PageNo number) {
  if (entry(number)) set(number, none, 0);
}

void PageSums::clear() {
  for (const Sum& s : known()) forget(s.first);
}

bool PageSums::check(mdb::PageNo number, const char* bytes, size_t page_size) {
  std::atomic<uint64_t>* e = entry(number);
  if (!e) return true;
  uint64_t known = e->load(std::memory_order_relaxed);
  if (known >> 32 != to_check) [[likely]]
    return true;
  auto sum = static_cast<uint32_t>(known);
  if (crc32c({bytes, page_size}) != sum) {
    MARK("store.local.dirs.page_damaged");
    return false;
  }
  e->compare_exchange_strong(known, static_cast<uint64_t>(good) << 32 | sum,
                             std::memory_order_relaxed);
  return true;
}

mdb::PageNo PageSums::highest() const {
  for (size_t c = chunks_.size(); c-- > 0;) {
    const std::atomic<uint64_t>* chunk = chunks_[c].load(std::memory_order_relaxed);
    for (size_t i = chunk ? kChunk : 0; i-- > 0;) {
      if (chunk[i].load(std::memory_order_relaxed) >> 32 != none) return c * kChunk + i;
    }
  }
  return 0;
}

std::vector<PageSums::Sum> PageSums::known() const {
  std::vector<Sum> sums;
  for (size_t c = 0; c < chunks_.size(); ++c) {
    const std::atomic<uint64_t>* chunk = chunks_[c].load(std::memory_order_relaxed);
    for (size_t i = 0; chunk && i < kChunk; ++i) {
      uint64_t e = chunk[i].load(std::memory_order_relaxed);
      if (e >> 32 != none) sums.emplace_back(c * kChunk + i, static_cast<uint32_t>(e));
    }
  }
  return sums;
}

Result<bool> PageSums::load() {
  file_ = Fd();
  pending_.clear();
  appended_ = 0;
  clear();
  Fd fd(::openat(dir_, kFile, O_RDWR | O_CLOEXEC));
  // Looking at a volume of somebody else.
  if (!fd && (errno == EACCES || errno == EROFS))
    fd = Fd(::openat(dir_, kFile, O_RDONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return false;
  if (!fd) return os_fail(errno, "open", name_);
  struct stat st = {};
  if (::fstat(fd.get(), &st) != 0) return os_fail(errno, "open", name_);
  std::string bytes(st.st_size, '\0');
  for (size_t at = 0; at < bytes.size();) {
    ssize_t n = ::pread(fd.get(), bytes.data() + at, bytes.size() - at, at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_fail(errno, fmt::format("read at offset {} of", at), name_);
    if (n == 0) bytes.resize(at);
    at += n;
  }
  const FileHeader expected;
  if (bytes.size() < sizeof expected ||
      std::memcmp(bytes.data(), &expected, sizeof expected) != 0) {
    return damaged(name_ + " is damaged at offset 0");
  }
  size_t at = sizeof expected;
  while (bytes.size() - at >= sizeof(RecordHeader)) {
    RecordHeader header;
    std::memcpy(&header, bytes.data() + at, sizeof header);
    std::string_view rest = std::string_view(bytes).substr(at + sizeof header);
    if (rest.size() / sizeof(StoredSum) < header.count) break;
    std::string_view body = rest.substr(0, header.count * sizeof(StoredSum));
    if (record_crc(header, body) != header.crc) break;
    for (uint32_t i = 0; i < header.count; ++i) {
      StoredSum s;
      std::memcpy(&s, body.data() + i * sizeof s, sizeof s);
      set(s.page, to_check, s.crc);
    }
    appended_ += at == sizeof expected ? 0 : header.count;
    txn_ = header.txn;
    at += sizeof header + body.size();
  }
  if (at == sizeof expected) return damaged(fmt::format("{} is damaged at offset {}", name_, at));
  // What follows is a record that a crash cut off, or that is damaged: if anything came after it,
  // the caller sees that a later transaction is missing.
  size_ = at;
  file_ = std::move(fd);
  return true;
}

bool PageSums::is_current() const {
  struct stat ours = {}, there = {};
  return file_ && ::fstat(file_.get(), &ours) == 0 && ::fstatat(dir_, kFile, &there, 0) == 0 &&
         ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

Result<void> PageSums::add(uint64_t txn, const std::vector<Sum>& sums) {
  for (const auto& [page, crc] : sums) set(page, good, crc);
  encode_record(pending_, txn, sums);
  appended_ += sums.size();
  txn_ = txn;
  return add_pending();
}

Result<void> PageSums::add_pending() {
  if (pending_.empty()) return {};
  if (!file_) return replace(known());
  if (appended_ > kAppendedMost) {
    std::vector<Sum> all = known();
    // Where there is no space for it, the little that is new may still find some.
    if (appended_ > all.size() && replace(all)) return {};
  }
  // Also what a crash, or a full disk, has left half written.
  if (::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) {
    return os_fail(errno, "truncate", name_);
  }
  TRY(pwrite_all(file_.get(), pending_, size_, name_));
  if (::fdatasync(file_.get()) != 0) return os_fail(errno, "sync", name_);
  size_ += pending_.size();
  pending_.clear();
  return {};
}

Result<void> PageSums::begin(uint64_t txn, const std::vector<Sum>& sums) {
  clear();
  for (const auto& [page, crc] : sums) set(page, good, crc);
  txn_ = txn;
  return replace(sums);
}

Result<void> PageSums::replace(const std::vector<Sum>& sums) {
  MARK("store.local.dirs.sums_replaced");
  const FileHeader header;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  encode_record(bytes, txn(), sums);
  TRY(replace_small_file(dir_, kFile, bytes, true, name_));
  TRY_ASSIGN(file_, open_at(dir_, kFile, O_RDWR, name_));
  size_ = bytes.size();
  appended_ = 0;
  pending_.clear();
  return {};
}

}  // namespace graftfs::local
