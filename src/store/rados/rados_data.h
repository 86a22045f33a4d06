#pragma once
// File data in objects of 4 MiB.

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "store/local/gates.h"
#include "store/rados/extents.h"
#include "store/rados/rados_dirs.h"
#include "store/rados/session.h"
#include "store/store.h"

namespace graftfs::rados {

inline constexpr uint64_t kBlockBytes = 4 << 20;

// What is known of one ino's objects; only by whoever is in its gate.
struct DataFile {
  struct Block {
    bool known = false;  // its extents
    Extents extents;
  };
  bool loaded = false;
  bool stale = false;                // to be loaded again
  std::map<uint32_t, Block> blocks;  // those that may exist; 0 only if it does

  // Behind the last byte that may be held; blocks that are named and hold nothing do not count.
  uint64_t end() const;
  uint64_t held_units() const;  // of 512 bytes
};

// Owned by the RadosStore, on its thread. Completed changes are durable, but for writes that are
// answered early: those complete when they are accepted, sync() waits for them, and the death of
// the process may lose them. One that fails makes each later sync() of its file, and sync_all(),
// fail. Operations on one ino take effect in the order of their issue: those that only write into
// blocks that are there, and reads, are under way together, for the OSD keeps them in order for
// each object; all others wait.
class RadosData final : public DataStore {
 public:
  RadosData(Executor& executor, std::shared_ptr<Session> session)
      : executor_(executor), session_(std::move(session)), gates_(executor), progress_(executor) {}
  // From here on writes are answered early: the journal that covers them is this process's own.
  void answer_early() { early_ = true; }
  Task<Result<DataInfo>> write(Ino ino, uint64_t offset, std::string_view bytes,
                               uint64_t valid_size) override;
  Task<Result<void>> read(Ino ino, uint64_t offset, char* out, size_t length) override;
  Task<Result<DataInfo>> truncate(Ino ino, uint64_t size) override;
  Task<Result<DataInfo>> allocate(Ino ino, AllocateMode mode, uint64_t offset, uint64_t length,
                                  uint64_t valid_size) override;
  Task<Result<uint64_t>> seek(Ino ino, uint64_t offset, bool data, uint64_t size) override;
  Task<Result<DataInfo>> copy(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                              uint64_t length, uint64_t valid_size) override;
  Task<Result<void>> sync(Ino ino) override;
  Task<Result<void>> sync_all() override;
  bool has_unsynced() const override { return !unfinished_.empty() || lost_; }
  void forget(Ino ino) override;
  Task<Result<void>> remove(Ino ino) override;
  Task<Result<void>> remove_many(std::vector<Ino> inos) override;
  Task<Result<std::vector<Ino>>> list(Ino from, size_t max) override;

 private:
  struct Sent {
    std::string object;
    Promised<int> done;
  };
  using Inos = std::vector<Ino>;
  // What an accepted write has to do; `numbers` are put down first, and `fresh` is the first of a
  // file of which nothing is known.
  struct Accepted {
    Ino ino;
    uint64_t number;
    std::vector<uint32_t> numbers;
    bool fresh = false;
    bool alone = false;
    std::vector<std::pair<std::string, WriteOp>> operations;
    size_t bytes = 0;
  };
  // An operation that is not an early write, from its issue to its end: what it leaves of the file
  // cannot be told before.
  class Other {
   public:
    Other(RadosData& data, Ino ino) : data_(data), ino_(ino) { ++data_.others_[ino_]; }
    Other(const Other&) = delete;
    Other& operator=(const Other&) = delete;
    ~Other() {
      auto it = data_.others_.find(ino_);
      if (--it->second == 0) data_.others_.erase(it);
    }

   private:
    RadosData& data_;
    Ino ino_;
  };
  DataFile& file_of(Ino ino);
  // The caller is in the gate. `first`, `last`: bytes whose blocks' extents are to be known.
  Task<Result<void>> load(Ino ino, DataFile& file, uint64_t first, uint64_t last);
  Task<Result<void>> cut(Ino ino, DataFile& file, uint64_t size);
  Task<Result<void>> add_blocks(Ino ino, DataFile& file, uint64_t first, uint64_t last);
  Task<Result<void>> zero(Ino ino, DataFile& file, uint64_t first, uint64_t last);
  Task<Result<void>> fill(Ino ino, DataFile& file, uint64_t first, uint64_t last, bool holes_only);
  Task<Result<void>> finish(std::vector<Sent> sent, const char* verb);
  Task<Result<void>> erase(Ino ino);
  Task<Result<void>> fetch(Ino ino, uint64_t offset, char* out, size_t length);
  // Sends the writes at once; the blocks are there.
  std::vector<Sent> send_write(Ino ino, DataFile& file, uint64_t offset, std::string_view bytes,
                               std::optional<uint64_t> cut_first_at = std::nullopt);
  bool only_writes(Ino ino, uint64_t offset, size_t length, uint64_t valid_size) const;
  std::optional<DataInfo> accept(Ino ino, uint64_t offset, std::string_view bytes,
                                 uint64_t valid_size);
  Task<void> carry_out(Accepted work);
  Task<Result<void>> carry_out_in_turn(Accepted& work);
  // What block 0 says of the file.
  struct Head {
    std::map<std::string, bufferlist> blocks;
    bool more = false;
    uint64_t size = 0;
  };
  Promised<Answer<Head>> ask_for_blocks(Ino ino, std::shared_ptr<Head> out);
  Task<Result<void>> remove_further_blocks(Ino ino, Answer<Head> answer);
  Task<Result<void>> until_written(uint64_t count);

  Executor& executor_;
  std::shared_ptr<Session> session_;
  local::Gates gates_;
  absl::flat_hash_map<Ino, std::unique_ptr<DataFile>> files_;
  InoList listed_{ino_of_data};
  absl::flat_hash_map<Ino, int> others_;
  // Writes that were answered early: how many, those that are not there yet, and what was lost.
  bool early_ = false;
  uint64_t accepted_ = 0;
  std::set<uint64_t> unfinished_;
  size_t unfinished_bytes_ = 0;
  std::optional<Error> lost_;
  absl::flat_hash_set<Ino> lost_of_;
  Bell progress_;
  TaskScope tasks_;  // last
};

}  // namespace graftfs::rados
