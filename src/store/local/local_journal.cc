#include "store/local/local_journal.h"

#include <fmt/format.h>

#include "base/fault.h"
#include "store/points.h"

namespace graftfs::local {
namespace {

// Descriptors of segments kept open; a journal has few that it still writes to.
constexpr size_t kMaxOpen = 16;

Result<std::string> read_at(const Fd& fd, uint64_t offset, uint64_t length,
                            const std::string& shown) {
  // Never more than the file holds, whatever was asked.
  off_t end = ::lseek(fd.get(), 0, SEEK_END);
  if (end < 0) return os_fail(errno, "read", shown);
  uint64_t size = static_cast<uint64_t>(end);
  std::string bytes(offset >= size ? 0 : std::min(length, size - offset), '\0');
  size_t got = 0;
  while (got < bytes.size()) {
    ssize_t n = ::pread(fd.get(), bytes.data() + got, bytes.size() - got, offset + got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_fail(errno, fmt::format("read at offset {} of", offset + got), shown);
    if (n == 0) break;
    got += n;
  }
  bytes.resize(got);
  return bytes;
}

}  // namespace

LocalJournal::LocalJournal(Executor& executor, BlockingPool& pool,
                           std::shared_ptr<JournalFiles> files, bool for_writing)
    : executor_(executor), pool_(pool), files_(std::move(files)), for_writing_(for_writing) {
  if (!for_writing) return;
  syncer_ = std::make_unique<BlockingPool>("graftfs-sync", 1);
  helper_ = std::make_unique<BlockingPool>("graftfs-spare", 1);
  prepare_ahead();
}

void LocalJournal::prepare_ahead() {
  helper_->submit([files = files_] { files->prepare_spares(); });
}

Promised<bool> LocalJournal::release() {
  return start_job(*syncer_, executor_, [files = files_] {
    files->release();
    return true;
  });
}

Result<void> LocalJournal::writable(SegmentId id) const {
  if (!for_writing_) return fail(EROFS, name_of(id) + ": the journal was opened for reading only");
  return files_->usable(id);
}

Result<std::shared_ptr<Fd>> LocalJournal::descriptor(SegmentId id) {
  if (auto it = open_.find(id); it != open_.end()) return it->second;
  TRY_ASSIGN(auto fd, files_->open(id, for_writing_));
  if (!for_writing_) return fd;  // not kept: the owner may recycle the file
  if (open_.size() >= kMaxOpen) open_.erase(open_.begin());
  open_[id] = fd;
  return fd;
}

Task<Result<std::vector<SegmentInfo>>> LocalJournal::list() {
  auto done = start_job(pool_, executor_, [files = files_] { return files->list(); });
  Result<std::vector<SegmentInfo>> result = co_await done;
  co_return result;
}

Task<Result<void>> LocalJournal::create(SegmentId id) {
  points::JournalCreate::before();
  CO_TRY(writable(id));
  auto done = start_job(pool_, executor_, [files = files_, id] { return files->create(id); });
  Result<std::shared_ptr<Fd>> fd = co_await done;
  if (!fd) co_return std::unexpected(std::move(fd).error());
  if (open_.size() >= kMaxOpen) open_.erase(open_.begin());
  open_[id] = std::move(*fd);
  prepare_ahead();
  points::JournalCreate::after();
  co_return Result<void>();
}

Task<Result<void>> LocalJournal::write(SegmentId id, uint64_t offset, std::string_view bytes) {
  points::JournalWrite::before();
  CO_TRY(writable(id));
  if (offset + bytes.size() > segment_capacity()) {
    co_return fail(EINVAL, fmt::format("{}: a write of {} bytes at offset {} passes its end",
                                       name_of(id), bytes.size(), offset));
  }
  CO_TRY_ASSIGN(auto fd, descriptor(id));
  ssize_t n = ::pwrite(fd->get(), bytes.data(), bytes.size(), offset);
  if (n != static_cast<ssize_t>(bytes.size())) [[unlikely]] {
    // The rest of it, or the error with its message.
    uint64_t done = n > 0 ? n : 0;
    auto rest = pwrite_all(fd->get(), bytes.substr(done), offset + done, name_of(id));
    if (!rest) {
      files_->distrust();
      co_return rest;
    }
  }
  points::JournalWrite::after();
  co_return Result<void>();
}

Task<Result<void>> LocalJournal::sync(SegmentId id) {
  points::JournalSync::before();
  CO_TRY(writable(id));
  CO_TRY_ASSIGN(auto fd, descriptor(id));
  auto done = start_job(*syncer_, executor_, [files = files_, fd, id]() -> Result<void> {
    TRY(files->usable(id));
    if (::fdatasync(fd->get()) == 0) {
      files->synced(id);
      return {};
    }
    int e = errno;
    files->closed = EIO;
    files->distrust();
    return os_fail(e, "sync", files->name_of(id));
  });
  Result<void> result = co_await done;
  if (result) points::JournalSync::after();
  co_return result;
}

Task<Result<std::string>> LocalJournal::read(SegmentId id, uint64_t offset, uint64_t length) {
  CO_TRY(files_->volume().alive());
  CO_TRY_ASSIGN(auto fd, descriptor(id));
  auto done = start_job(pool_, executor_, [files = files_, fd, id, offset, length] {
    return read_at(*fd, offset, length, files->name_of(id));
  });
  Result<std::string> result = co_await done;
  co_return result;
}

Task<Result<void>> LocalJournal::remove(SegmentId id) {
  points::JournalRemove::before();
  CO_TRY(writable(id));
  open_.erase(id);
  auto done = start_job(pool_, executor_, [files = files_, id] { return files->remove(id); });
  Result<void> result = co_await done;
  if (result) points::JournalRemove::after();
  co_return result;
}

}  // namespace graftfs::local
