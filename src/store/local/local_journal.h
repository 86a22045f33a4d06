#pragma once
// The journal of one rank in preallocated, recycled files.

#include <map>
#include <memory>

#include "store/local/journal_files.h"

namespace graftfs::local {

// Owned by the LocalStore, used from the executor's thread. write() is a pwrite into the page
// cache, made inline: it completes without a thread switch. sync() is an fdatasync on a thread of
// this journal's own. create() takes a file that was prepared ahead, if it can. After a failed
// sync every call that changes something fails with EIO.
class LocalJournal final : public JournalDevice {
 public:
  LocalJournal(Executor& executor, BlockingPool& pool, std::shared_ptr<JournalFiles> files,
               bool for_writing);

  Task<Result<std::vector<SegmentInfo>>> list() override;
  Task<Result<void>> create(SegmentId id) override;
  Task<Result<void>> write(SegmentId id, uint64_t offset, std::string_view bytes) override;
  Task<Result<void>> sync(SegmentId id) override;
  Task<Result<std::string>> read(SegmentId id, uint64_t offset, uint64_t length) override;
  Task<Result<void>> remove(SegmentId id) override;
  uint64_t segment_capacity() const override { return files_->options().segment_capacity; }
  std::string name_of(SegmentId id) const override { return files_->name_of(id); }

  // Gives the journal up, behind the syncs that are under way.
  Promised<bool> release();
  const std::shared_ptr<JournalFiles>& files() const { return files_; }

 private:
  Result<std::shared_ptr<Fd>> descriptor(SegmentId id);
  Result<void> writable(SegmentId id) const;
  void prepare_ahead();

  Executor& executor_;
  BlockingPool& pool_;
  std::shared_ptr<JournalFiles> files_;
  bool for_writing_;
  std::map<SegmentId, std::shared_ptr<Fd>> open_;
  // Last, so that their threads end before the rest goes.
  std::unique_ptr<BlockingPool> syncer_, helper_;
};

}  // namespace graftfs::local
