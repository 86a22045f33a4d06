#pragma once
// A store that takes time, as one across a network does.

#include <map>
#include <memory>

#include "sim/parallel/costs.h"
#include "sim/parallel/queue.h"
#include "store/memory/memory_store.h"

namespace graftfs::sim {

// What one executor has of the store: a MemoryStore, each call of which is a message there and one
// back, and durable when it is answered (as on RADOS). A journal takes its writes one after the
// other, at the speed of a device of its own, and keeps none of their bytes: nobody recovers here.
// Owned and destroyed like a MemoryStore; nothing fails.
class TimedStore final : public Store {
 public:
  TimedStore(ParallelQueue& queue, NodeExecutor& executor, std::shared_ptr<MemoryDisk> disk,
             const Costs& costs);

  DirStore& dirs() override { return dirs_; }
  DataStore& data() override { return memory_.data(); }
  StateStore& state() override { return state_; }
  Task<Result<JournalDevice*>> own_journal(RankId rank, OwnOptions options) override;
  Task<Result<Epoch>> raise_epoch(RankId rank, Epoch at_least) override {
    return memory_.raise_epoch(rank, at_least);
  }
  Task<Result<void>> disown_journal(RankId rank) override { return memory_.disown_journal(rank); }
  Task<Result<JournalDevice*>> read_journal(RankId rank) override {
    return memory_.read_journal(rank);
  }
  bool unsynced_survived(RankId rank) const override { return memory_.unsynced_survived(rank); }
  Task<Result<StoreUsage>> usage() override { return memory_.usage(); }
  void shut_down() override { memory_.shut_down(); }
  std::string name() const override { return "simulated"; }

 private:
  // A call: what the caller spends on it, and how long it takes.
  Task<void> call(uint64_t bytes_written = 0);

  class Dirs final : public DirStore {
   public:
    explicit Dirs(TimedStore& store) : store_(store) {}
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
    DirStore& inner() { return store_.memory_.dirs(); }
    TimedStore& store_;
  };

  class State final : public StateStore {
   public:
    explicit State(TimedStore& store) : store_(store) {}
    Task<Result<StateValue>> get(std::string key) override;
    Task<Result<uint64_t>> set(std::string key, uint64_t expected, std::string value) override;
    Task<Result<std::vector<std::pair<std::string, StateValue>>>> list(std::string prefix) override;
    Task<Result<void>> remove(std::string key) override;

   private:
    StateStore& inner() { return store_.memory_.state(); }
    TimedStore& store_;
  };

  class Device final : public JournalDevice {
   public:
    Device(TimedStore& store, RankId rank) : store_(store), rank_(rank) {}
    Task<Result<std::vector<SegmentInfo>>> list() override;
    Task<Result<void>> create(SegmentId id) override;
    Task<Result<void>> write(SegmentId id, uint64_t offset, std::string_view bytes) override;
    Task<Result<void>> sync(SegmentId id) override;
    Task<Result<std::string>> read(SegmentId id, uint64_t offset, uint64_t length) override;
    Task<Result<void>> remove(SegmentId id) override;
    uint64_t segment_capacity() const override { return uint64_t{4} << 20; }
    std::string name_of(SegmentId id) const override;

   private:
    TimedStore& store_;
    RankId rank_;
    std::set<SegmentId> segments_;
  };

  ParallelQueue& queue_;
  NodeExecutor& executor_;
  Costs costs_;
  MemoryStore memory_;
  Dirs dirs_{*this};
  State state_{*this};
  std::map<RankId, std::unique_ptr<Device>> devices_;
};

}  // namespace graftfs::sim
