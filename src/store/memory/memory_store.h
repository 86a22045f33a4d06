#pragma once
// A store in memory: for tests, and as one node's view of the simulated disk.

#include <map>
#include <memory>
#include <string>

#include "store/memory/memory_disk.h"
#include "store/store.h"

namespace graftfs {

// What the parts of one MemoryStore share. Owned by the MemoryStore.
class MemoryNode {
 public:
  MemoryNode(Executor& executor, std::shared_ptr<MemoryDisk> disk, Random* random)
      : executor_(executor), disk_(std::move(disk)), random_(random) {}

  template <class T>
  using Apply = std::move_only_function<Result<T>(const Effect&)>;

  // Puts an operation in flight: draws its faults and its time, and posts its completion.
  // Errors drawn are returned without calling `apply`, unless it `sees_errors` itself.
  template <class T>
  Promised<Result<T>> start(StoreCall call, std::string what, uint64_t order, Apply<T> apply,
                            bool sees_errors = false,
                            std::shared_ptr<std::vector<DirUpdate>> updates = nullptr);

  MemoryDisk& disk() { return *disk_; }
  Executor& executor() { return executor_; }
  std::shared_ptr<void> alive() const { return alive_; }
  void shut_down() { shut_down_ = true; }
  // The journals that this store has taken, by token: it commits nothing once one of them is
  // somebody else's.
  std::shared_ptr<std::map<RankId, uint64_t>> owned() const { return owned_; }
  static Result<void> hold(MemoryDisk& disk, const std::map<RankId, uint64_t>& owned);

 private:
  Executor& executor_;
  std::shared_ptr<MemoryDisk> disk_;
  Random* random_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  std::shared_ptr<std::map<RankId, uint64_t>> owned_ =
      std::make_shared<std::map<RankId, uint64_t>>();
  bool shut_down_ = false;
};

template <class T>
Promised<Result<T>> MemoryNode::start(StoreCall call, std::string what, uint64_t order,
                                      Apply<T> apply, bool sees_errors,
                                      std::shared_ptr<std::vector<DirUpdate>> updates) {
  Promised<Result<T>> done(executor_);
  if (shut_down_) {
    executor_.post([done, what = std::move(what)] {
      done.set(fail(EIO, what + ": the volume was shut down"));
    });
    return done;
  }
  Nanos latency = 0;
  FaultKind fault = disk_->draw(call, random_, latency);
  auto slot = std::make_shared<std::optional<Result<T>>>();
  uint64_t id = disk_->next_operation_++;
  MemoryDisk::Operation op;
  op.call = call;
  op.order = order;
  op.node = alive_;
  op.effect = Effect{fault, random_};
  op.updates = std::move(updates);
  op.apply = [slot, what = std::move(what), sees_errors,
              apply = std::move(apply)](const Effect& effect) mutable {
    if (!sees_errors && effect.fault == FaultKind::eio) {
      slot->emplace(fail(EIO, what + ": Input/output error"));
    } else if (effect.fault == FaultKind::enospc) {
      slot->emplace(fail(ENOSPC, what + ": No space left on device"));
    } else {
      slot->emplace(apply(effect));
    }
  };
  disk_->in_flight_.emplace(id, std::move(op));
  // The node may be gone by then; the disk carries the operation out all the same, unless a
  // crash has settled it.
  auto complete = [disk = disk_, id, slot, done] {
    disk->finish(id);
    if (*slot) done.set(std::move(**slot));
  };
  if (latency > 0) {
    executor_.post_after(latency, std::move(complete));
  } else {
    executor_.post(std::move(complete));
  }
  return done;
}

class MemoryDirs final : public DirStore {
 public:
  explicit MemoryDirs(MemoryNode& node) : node_(node) {}
  Task<Result<std::optional<std::string>>> read_header(Ino dir) override;
  Task<Result<std::vector<std::optional<std::string>>>> read_headers(
      std::vector<Ino> dirs) override;
  Task<Result<std::optional<std::string>>> read_entry(Ino dir, EntryKey key) override;
  Task<Result<std::vector<DirEntryBytes>>> read_entries(Ino dir, EntryKey from,
                                                        size_t max) override;
  Task<Result<std::optional<Location>>> locate(Ino ino) override;
  Task<Result<void>> commit(std::vector<DirUpdate> updates) override;
  Task<Result<std::vector<Ino>>> list_dirs(Ino from, size_t max) override;

 private:
  MemoryNode& node_;
};

class MemoryJournal final : public JournalDevice {
 public:
  // `owner` is the token that own_journal() gave; 0: for reading only.
  MemoryJournal(MemoryNode& node, RankId rank, uint64_t owner)
      : node_(node), rank_(rank), owner_(owner) {}
  Task<Result<std::vector<SegmentInfo>>> list() override;
  Task<Result<void>> create(SegmentId id) override;
  Task<Result<void>> write(SegmentId id, uint64_t offset, std::string_view bytes) override;
  Task<Result<void>> sync(SegmentId id) override;
  Task<Result<std::string>> read(SegmentId id, uint64_t offset, uint64_t length) override;
  Task<Result<void>> remove(SegmentId id) override;
  uint64_t segment_capacity() const override;
  std::string name_of(SegmentId id) const override;

  // From the owner's token on, this device is fenced once another one owns the journal.
  void set_owner(uint64_t owner) { owner_ = owner; }
  uint64_t owner() const { return owner_; }

 private:
  // The journal, or why this device may not (any more) change it.
  static Result<MemoryDisk::Journal*> writable(MemoryDisk& disk, RankId rank, uint64_t owner,
                                               const std::string& name);
  std::string what(const char* verb, SegmentId id) const;

  MemoryNode& node_;
  RankId rank_;
  uint64_t owner_;
};

class MemoryData final : public DataStore {
 public:
  explicit MemoryData(MemoryNode& node) : node_(node) {}
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
  bool has_unsynced() const override;
  void note_written(Ino) override {}  // the disk knows who wrote what
  void forget(Ino) override {}
  Task<Result<void>> believe(Ino ino) override;
  Task<Result<void>> remove(Ino ino) override;
  Task<Result<std::vector<Ino>>> list(Ino from, size_t max) override;

 private:
  // What will be changed; its seal is broken first.
  struct Range {
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  // Changes the file's bytes and keeps the account of space. Voids bytes from `valid_size` on.
  static Result<DataInfo> change(MemoryDisk& disk, Ino ino, uint64_t valid_size, Range range,
                                 const std::function<Result<void>(SectorFile&, uint64_t)>& fn);
  // EUCLEAN where what is sealed in the range is not what it was.
  static Result<void> check(MemoryDisk& disk, Ino ino, Range range);
  static void synced(MemoryDisk& disk, Ino ino, uint64_t up_to);
  // What has been synced is sealed at once, or some time later.
  static void rests(MemoryDisk& disk, Ino ino, const Effect& effect);
  static Result<void> room(MemoryDisk& disk, Ino ino, const SectorFile& file, uint64_t offset,
                           uint64_t length);
  static std::string what(const char* verb, Ino ino);

  MemoryNode& node_;
};

class MemoryState final : public StateStore {
 public:
  explicit MemoryState(MemoryNode& node) : node_(node) {}
  Task<Result<StateValue>> get(std::string key) override;
  Task<Result<uint64_t>> set(std::string key, uint64_t expected, std::string value) override;
  Task<Result<std::vector<std::pair<std::string, StateValue>>>> list(std::string prefix) override;
  Task<Result<void>> remove(std::string key) override;

 private:
  MemoryNode& node_;
};

// Owned by a node's main (or a test); used from the executor's thread, which must outlive it.
// Every call completes through the executor, after the time that the disk's faults say, never
// inline, so that the executor decides the order. Destroying the store leaves its operations in
// flight: MemoryDisk::crash() settles them, or they complete on the disk when the executor runs
// them. A new owner of a journal fences the old one at once (ESTALE); an owner
// is dead, for OwnMode::if_free, when its store is destroyed. Errors leave the disk as
// MemoryFaults says.
class MemoryStore final : public Store {
 public:
  // `random` draws the faults that happen by chance; null: only scripted ones do.
  MemoryStore(Executor& executor, std::shared_ptr<MemoryDisk> disk, Random* random);

  DirStore& dirs() override { return dirs_; }
  DataStore& data() override { return data_; }
  StateStore& state() override { return state_; }
  using Store::own_journal;
  Task<Result<JournalDevice*>> own_journal(RankId rank, OwnOptions options) override;
  Task<Result<Epoch>> raise_epoch(RankId rank, Epoch at_least) override;
  Task<Result<void>> disown_journal(RankId rank) override;
  Task<Result<JournalDevice*>> read_journal(RankId rank) override;
  bool unsynced_survived(RankId rank) const override;
  Task<Result<StoreUsage>> usage() override;
  void shut_down() override { node_.shut_down(); }
  std::string name() const override { return "memory"; }

 private:
  MemoryNode node_;
  MemoryDirs dirs_;
  MemoryData data_;
  MemoryState state_;
  std::map<RankId, std::unique_ptr<MemoryJournal>> owned_, readers_;
  struct Ownership {
    bool survived = false;
    Epoch epoch;
    uint64_t fence = 0;  // the version of its fence
    uint64_t node = 0;
  };
  std::map<RankId, Ownership> ownerships_;
};

}  // namespace graftfs
