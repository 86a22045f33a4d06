#pragma once
// A precise test device: what is durable, what was only written, and when calls complete.

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/executor.h"
#include "base/wait.h"
#include "journal/damage.h"
#include "journal/journal.h"
#include "journal/scan.h"

namespace graftfs::testing {

// Virtual time; runs what is due when told.
class TestExecutor final : public Executor {
 public:
  void post(Fn fn) override { at(now_, std::move(fn)); }
  void post_after(Nanos delay, Fn fn) override { at(now_ + delay, std::move(fn)); }
  Nanos now() const override { return now_; }
  Timespec wall_now() const override { return {1'700'000'000 + now_ / kSecond, 0}; }

  // Everything due within `span`.
  void run_for(Nanos span) {
    const Nanos end = now_ + span;
    while (!due_.empty() && due_.begin()->first.first <= end) step();
    now_ = end;
  }
  // Everything due now.
  void run() { run_for(0); }
  bool step() {
    if (due_.empty()) return false;
    auto node = due_.extract(due_.begin());
    now_ = std::max(now_, node.key().first);
    node.mapped()();
    return true;
  }
  // Runs, letting time pass, until the task has ended.
  template <class T>
  T wait(Task<T> task) {
    return wait_for(std::move(task),
                    [this] { CHECK(step(), "nothing is due and the task has not ended"); });
  }

 private:
  void at(Nanos when, Fn fn) { due_.emplace(std::pair(when, ++order_), std::move(fn)); }

  Nanos now_ = 0;
  uint64_t order_ = 0;
  std::map<std::pair<Nanos, uint64_t>, Fn> due_;
};

inline constexpr uint64_t kSector = 512;

class TestDevice final : public JournalDevice {
 public:
  struct File {
    std::string bytes;         // what reads see
    std::string durable;       // what survives a power cut for sure
    std::set<uint64_t> dirty;  // sectors that differ in between
  };
  explicit TestDevice(TestExecutor& executor, uint64_t capacity = 256 << 10)
      : executor_(executor), capacity_(capacity) {}

  std::map<SegmentId, File> files;
  std::vector<std::string> pool;  // bytes of removed segments, for recycling
  Nanos write_time = 0, sync_time = 0, create_time = 0;
  std::vector<std::string> log;  // "write 1 0 4096", "sync 1", ...
  bool log_calls = false;
  int fail_write = 0, fail_sync = 0, fail_create = 0, fail_read_at = -1;
  SegmentId unreadable;
  int writes_under_way = 0, most_writes = 0, syncs_under_way = 0;
  bool overlapped = false;  // a write ran during a sync

  Task<Result<std::vector<SegmentInfo>>> list() override {
    std::vector<SegmentInfo> out;
    for (auto& [id, f] : files) out.push_back({id, f.bytes.size()});
    co_return out;
  }
  Task<Result<void>> create(SegmentId id) override {
    note("create {}", id.v);
    if (create_time) co_await sleep_for(executor_, create_time);
    if (fail_create) co_return fail(fail_create, "create");
    if (files.contains(id)) co_return fail(EEXIST, "exists");
    File f;
    if (!pool.empty()) {
      f.bytes = pool.back();
      pool.pop_back();
    }
    f.bytes.resize(capacity_, '\0');
    f.durable = f.bytes;
    files.emplace(id, std::move(f));
    co_return Result<void>{};
  }
  Task<Result<void>> write(SegmentId id, uint64_t offset, std::string_view bytes) override {
    note("write {} {} {}", id.v, offset, bytes.size());
    most_writes = std::max(most_writes, ++writes_under_way);
    overlapped |= syncs_under_way > 0;
    under_way_ = {id, offset, std::string(bytes)};
    if (write_time) co_await sleep_for(executor_, write_time);
    --writes_under_way;
    under_way_.bytes.clear();
    if (fail_write) co_return fail(fail_write, "write");
    apply(id, offset, bytes);
    co_return Result<void>{};
  }
  Task<Result<void>> sync(SegmentId id) override {
    note("sync {}", id.v);
    // What completed before the call becomes durable, and only that.
    const std::string then = files.at(id).bytes;
    const std::set<uint64_t> sectors = files.at(id).dirty;
    ++syncs_under_way;
    if (sync_time) co_await sleep_for(executor_, sync_time);
    --syncs_under_way;
    if (fail_sync) co_return fail(fail_sync, "sync");
    File& f = files.at(id);
    for (uint64_t s : sectors) {
      const uint64_t length = std::min(kSector, then.size() - s * kSector);
      f.durable.replace(s * kSector, length, then, s * kSector, length);
      if (f.bytes.compare(s * kSector, length, then, s * kSector, length) == 0) f.dirty.erase(s);
    }
    co_return Result<void>{};
  }
  Task<Result<std::string>> read(SegmentId id, uint64_t offset, uint64_t length) override {
    if (id == unreadable && static_cast<int64_t>(offset + length) > fail_read_at)
      if (fail_read_at >= 0 && static_cast<int64_t>(offset) <= fail_read_at)
        co_return fail(EIO, "the disk cannot read this");
    const std::string& b = files.at(id).bytes;
    if (offset >= b.size()) co_return std::string{};
    co_return b.substr(offset, length);
  }
  Task<Result<void>> remove(SegmentId id) override {
    note("remove {}", id.v);
    pool.push_back(files.at(id).bytes);
    files.erase(id);
    co_return Result<void>{};
  }
  uint64_t segment_capacity() const override { return capacity_; }
  std::string name_of(SegmentId id) const override { return fmt::format("journal/{}.seg", id.v); }

  // The process dies in the middle of a write: its first part is there.
  void die(const std::function<uint64_t(uint64_t)>& below) {
    std::string& bytes = under_way_.bytes;
    if (bytes.empty()) return;
    apply(under_way_.id, under_way_.offset, std::string_view(bytes).substr(0, below(bytes.size())));
    bytes.clear();
    writes_under_way = syncs_under_way = 0;
  }
  // Keeps of each unsynced sector the old or the new bytes, as `keep` decides.
  void power_cut(const std::function<bool()>& keep) {
    for (auto& [id, f] : files) {
      for (uint64_t s : f.dirty) {
        if (!keep()) continue;
        const uint64_t length = std::min(kSector, f.bytes.size() - s * kSector);
        f.durable.replace(s * kSector, length, f.bytes, s * kSector, length);
      }
      f.bytes = f.durable;
      f.dirty.clear();
    }
  }

 private:
  struct UnderWay {
    SegmentId id;
    uint64_t offset = 0;
    std::string bytes;
  };
  void apply(SegmentId id, uint64_t offset, std::string_view bytes) {
    File& f = files.at(id);
    CHECK(offset + bytes.size() <= f.bytes.size(), "beyond the segment");
    f.bytes.replace(offset, bytes.size(), bytes);
    for (uint64_t s = offset / kSector; s * kSector < offset + bytes.size(); ++s) f.dirty.insert(s);
  }
  template <class... A>
  void note(fmt::format_string<A...> format, A&&... args) {
    if (log_calls) log.push_back(fmt::format(format, std::forward<A>(args)...));
  }
  TestExecutor& executor_;
  uint64_t capacity_;
  UnderWay under_way_;
};

// Only its syncs matter to a journal.
class TestData final : public DataStore {
 public:
  explicit TestData(TestExecutor& executor) : executor_(executor) {}
  bool unsynced = false;
  uint64_t changes = 0, synced_changes = 0;
  Nanos sync_time = 0;
  int syncs = 0, fail_sync = 0;

  void change() {
    unsynced = true;
    ++changes;
  }
  Task<Result<void>> sync_all() override {
    ++syncs;
    const uint64_t upto = changes;
    if (sync_time) co_await sleep_for(executor_, sync_time);
    if (fail_sync) co_return fail(fail_sync, "data sync");
    synced_changes = std::max(synced_changes, upto);
    unsynced = synced_changes < changes;
    co_return Result<void>{};
  }
  bool has_unsynced() const override { return unsynced; }

  Task<Result<DataInfo>> write(Ino, uint64_t, std::string_view, uint64_t) override {
    co_return fail(ENOSYS);
  }
  Task<Result<void>> read(Ino, uint64_t, char*, size_t) override { co_return fail(ENOSYS); }
  Task<Result<DataInfo>> truncate(Ino, uint64_t) override { co_return fail(ENOSYS); }
  Task<Result<DataInfo>> allocate(Ino, AllocateMode, uint64_t, uint64_t, uint64_t) override {
    co_return fail(ENOSYS);
  }
  Task<Result<uint64_t>> seek(Ino, uint64_t, bool, uint64_t) override { co_return fail(ENOSYS); }
  Task<Result<DataInfo>> copy(Ino, uint64_t, Ino, uint64_t, uint64_t, uint64_t) override {
    co_return fail(ENOSYS);
  }
  Task<Result<void>> sync(Ino) override { co_return fail(ENOSYS); }
  Task<Result<void>> remove(Ino) override { co_return fail(ENOSYS); }
  Task<Result<std::vector<Ino>>> list(Ino, size_t) override { co_return fail(ENOSYS); }

 private:
  TestExecutor& executor_;
};

struct TestHooks final : JournalHooks {
  std::string checkpoint = "checkpoint";
  std::vector<std::pair<SegmentId, bool>> begun;
  int progress = 0, failures = 0;
  std::function<void()> on_progress;
  void begin_segment(SegmentId id, bool major, std::string& payload) override {
    begun.emplace_back(id, major);
    payload += major ? checkpoint : "traces";
  }
  void journal_progress() override {
    ++progress;
    if (on_progress) on_progress();
  }
  void journal_failed(const Error&) override { ++failures; }
};

inline constexpr uint64_t kVolume = 0x1122334455667788;
inline constexpr uint8_t kEvent = 16;

// One journal over one device, and its reopening.
struct Bench {
  TestExecutor executor;
  TestDevice device;
  TestData data{executor};
  TestHooks hooks;
  JournalOptions options{.volume = kVolume, .rank = RankId{3}, .epoch = Epoch{1}};
  std::unique_ptr<Journal> journal;

  explicit Bench(uint64_t capacity = 256 << 10) : device(executor, capacity) {}

  void open(Lsn resumes_after = {}, SegmentId next = SegmentId{1},
            std::deque<SegmentState> live = {}) {
    journal = std::make_unique<Journal>(executor, device, data, hooks, options, resumes_after, next,
                                        std::move(live));
    auto started = executor.wait(journal->start());
    CHECK(started.has_value(), "{}", started ? "" : started.error().message);
  }
  Lsn append(std::string_view payload) {
    return journal->append(kEvent, [&](std::string& out) { out += payload; });
  }
  Lsn put(std::string_view payload) {
    Lsn lsn = append(payload);
    journal->flush();
    executor.run();
    return lsn;
  }
  void sync() {
    auto done = executor.wait(journal->sync());
    CHECK(done.has_value(), "sync");
  }
  // The process dies.
  void kill() { journal.reset(); }
  ScanOptions scan_options(bool survived = true) {
    return {.volume = kVolume, .rank = RankId{3}, .unsynced_survived = survived};
  }
  JournalScan scan(bool survived = true) {
    auto s = executor.wait(scan_journal(device, scan_options(survived)));
    CHECK(s.has_value(), "scan");
    return std::move(*s);
  }
  // Recovers as a rank does and starts the next owner.
  JournalScan reopen(bool survived = true) {
    kill();
    JournalScan s = scan(survived);
    if (!survived) cut_scan(s, s.safe);
    options.epoch = Epoch{options.epoch.v + 1};
    open(s.last, s.newest.next(), live_segments(s));
    return s;
  }
};

inline std::vector<std::string> events(const JournalScan& scan) {
  std::vector<std::string> out;
  for_each_frame(scan, SegmentId{0}, [&](const Frame& f) {
    if (f.header.type >= journal::kFirstPayloadType) out.emplace_back(f.payload);
    return true;
  });
  return out;
}

inline std::string kinds(const JournalScan& scan) {
  std::string out;
  for (const JournalDamage& d : scan.damage) {
    if (!out.empty()) out += ", ";
    out += fmt::format("{} in {} {} @{}", name_of(d.kind), name_of(d.place), d.segment.v, d.offset);
  }
  return out;
}

}  // namespace graftfs::testing
