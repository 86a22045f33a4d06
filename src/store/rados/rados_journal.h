#pragma once
// The journal of one rank: an index, and an object a segment.

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/blocking_pool.h"
#include "store/rados/owner.h"
#include "store/rados/session.h"
#include "store/store.h"

namespace graftfs::rados {

// What the index says.
struct JournalIndex {
  bool exists = false;
  uint64_t token = 0;
  OwnerRecord owner;
  std::map<SegmentId, uint64_t> segments;  // capacities
  std::set<SegmentId> gone;                // to be removed
};

// Owned by the RadosStore, on its thread; used as a device also where it is only read. Writes are
// durable when they complete, several may be under way, and those of a segment take effect in the
// order of their issue. An `early` one completes a write when it is accepted: a few operations are
// under way, what comes meanwhile goes together in the next, and sync() waits for what it covers;
// the owner's death may lose the end of it. Whatever another owner makes impossible fails with
// ESTALE, and so does everything that changes something from then on.
class RadosJournal final : public JournalDevice {
 public:
  RadosJournal(Executor& executor, std::shared_ptr<Session> session, RankId rank, uint64_t capacity,
               bool early = false)
      : executor_(executor),
        session_(std::move(session)),
        rank_(rank),
        capacity_(capacity),
        early_(early),
        progress_(executor) {}
  ~RadosJournal() override;

  Task<Result<std::vector<SegmentInfo>>> list() override;
  Task<Result<void>> create(SegmentId id) override;
  Task<Result<void>> write(SegmentId id, uint64_t offset, std::string_view bytes) override;
  Task<Result<void>> sync(SegmentId id) override;
  Task<Result<std::string>> read(SegmentId id, uint64_t offset, uint64_t length) override;
  Task<Result<void>> remove(SegmentId id) override;
  uint64_t segment_capacity() const override { return capacity_; }
  std::string name_of(SegmentId id) const override;

  // -- becoming the owner, in this order ------------------------------------------------------
  // Creates it where it does not exist.
  Task<Result<JournalIndex>> read_index();
  // Whether that client still watches the index.
  Task<Result<bool>> is_watched_by(uint64_t client);
  Task<Result<void>> begin_watch();
  Task<void> end_watch();
  // The index and every segment are under `token` from here on.
  Task<Result<void>> seize(uint64_t token, JournalIndex index);
  // Nothing is written any more, and whoever comes next needs not wait.
  Task<Result<void>> release();
  // The same at the end of the process's use of the volume, from a destructor.
  void release_now();

 private:
  Result<void> writable(SegmentId id, bool must_exist) const;
  std::unexpected<Error> failed(int code, std::string_view verb, std::string_view object);
  Task<Error> write_failed(int code, SegmentId id);
  Task<Result<void>> seal(SegmentId id);
  WriteOp guarded() const;
  Task<void> watch_again();
  void enqueue(SegmentId id, uint64_t offset, std::string_view bytes);
  void pump();
  Task<void> send(SegmentId id, uint64_t offset, std::string bytes, uint64_t first);
  Task<Result<void>> until_written(uint64_t count);

  Executor& executor_;
  std::shared_ptr<Session> session_;
  RankId rank_;
  uint64_t capacity_;
  const bool early_;
  uint64_t token_ = 0;  // 0: for reading only
  int closed_ = 0;      // what changes fail with
  OwnerRecord me_;
  std::map<SegmentId, uint64_t> segments_;
  std::set<SegmentId> gone_;
  std::shared_ptr<Watch> watch_;
  bool watching_again_ = false;
  // Of an early one: writes that wait, and how many were accepted, and are there.
  struct Queued {
    SegmentId id;
    uint64_t offset;
    std::string bytes;
    uint64_t first;  // the number of the first write in it
  };
  std::deque<Queued> queue_;
  size_t queued_bytes_ = 0, under_way_ = 0;
  uint64_t accepted_ = 0;
  std::set<uint64_t> unfinished_;  // the first write of each operation under way
  std::optional<Error> lost_;      // an accepted write failed
  Bell progress_;
  TaskScope tasks_;
};

}  // namespace graftfs::rados
