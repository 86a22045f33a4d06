#include "client/client.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <deque>
#include <map>
#include <set>

namespace graftfs {
namespace {

// Runs what is posted, one at a time, when the test says so.
class ManualExecutor final : public Executor {
 public:
  void post(Fn fn) override { queue_.push_back(std::move(fn)); }
  void post_after(Nanos, Fn fn) override { queue_.push_back(std::move(fn)); }
  Nanos now() const override { return 0; }
  Timespec wall_now() const override { return {1'000'000, 0}; }
  void drain() {
    while (!queue_.empty()) {
      Fn fn = std::move(queue_.front());
      queue_.pop_front();
      fn();
    }
  }

 private:
  std::deque<Fn> queue_;
};

class CountingRandom final : public Random {
 public:
  uint64_t next() override { return ++n_; }

 private:
  uint64_t n_ = 41;
};

// Files with sizes, and a log of what was asked. Answers at once, or when release() is called.
class FakeService final : public MetadataService {
 public:
  explicit FakeService(std::vector<std::string>& log) : log_(log) {}

  void submit(Request request, ReplyFn done) override {
    requests.push_back(request);
    if (hold) {
      held_.emplace_back(std::move(request), std::move(done));
      return;
    }
    done(execute(request));
  }
  void open_session(SessionId id) override { sessions.insert(id.v); }
  void close_session(SessionId id) override { sessions.erase(id.v); }

  void release() {
    auto held = std::move(held_);
    held_.clear();
    for (auto& [request, done] : held) done(execute(request));
  }
  size_t held() const { return held_.size(); }
  void drop_held() { held_.clear(); }

  bool hold = false;
  int fail_wrote = 0;
  std::vector<Request> requests;
  std::set<uint64_t> sessions;
  std::map<uint64_t, Stat> files;

 private:
  Reply execute(const Request& r) {
    Reply reply;
    if (auto* a = std::get_if<GetattrArgs>(&r.args)) {
      auto at = files.find(a->ino.v);
      if (at == files.end()) {
        reply.err = ESTALE;
      } else {
        reply.stat = at->second;
      }
    } else if (auto* a = std::get_if<WroteArgs>(&r.args)) {
      log_.push_back(fmt::format("rank wrote end={}", a->end));
      if (fail_wrote) {
        reply.err = fail_wrote;
      } else {
        Stat& s = files[a->ino.v];
        s.size = std::max(s.size, a->end);
        s.blocks = a->blocks;
        reply.stat = s;
      }
    } else if (auto* a = std::get_if<SetattrArgs>(&r.args)) {
      log_.push_back(fmt::format("rank size={}", a->size));
      Stat& s = files[a->ino.v];
      s.size = a->size;
      s.blocks = a->blocks;
      reply.stat = s;
    } else {
      log_.push_back(fmt::format("rank {}", op_name(r.args)));
    }
    return reply;
  }

  std::vector<std::string>& log_;
  std::deque<std::pair<Request, ReplyFn>> held_;
};

// One byte string a file. Each call waits for allow() while `hold` is set.
class FakeData final : public DataStore {
 public:
  FakeData(Executor& executor, std::vector<std::string>& log) : executor_(executor), log_(log) {}

  Task<Result<DataInfo>> write(Ino ino, uint64_t offset, std::string_view bytes,
                               uint64_t valid_size) override {
    co_await gate();
    log_.push_back(fmt::format("data write {}+{} valid={}", offset, bytes.size(), valid_size));
    if (fail_next) co_return fail(std::exchange(fail_next, 0));
    std::string& f = files[ino.v];
    if (offset + bytes.size() > valid_size) f.resize(std::min<uint64_t>(f.size(), valid_size));
    if (f.size() < offset + bytes.size()) f.resize(offset + bytes.size());
    f.replace(offset, bytes.size(), bytes);
    co_return info(ino);
  }
  Task<Result<void>> read(Ino ino, uint64_t offset, char* out, size_t length) override {
    co_await gate();
    const std::string& f = files[ino.v];
    for (size_t i = 0; i < length; ++i) out[i] = offset + i < f.size() ? f[offset + i] : '\0';
    co_return Result<void>{};
  }
  Task<Result<DataInfo>> truncate(Ino ino, uint64_t size) override {
    co_await gate();
    log_.push_back(fmt::format("data truncate {}", size));
    std::string& f = files[ino.v];
    f.resize(std::min<uint64_t>(f.size(), size));
    co_return info(ino);
  }
  Task<Result<DataInfo>> allocate(Ino ino, AllocateMode mode, uint64_t offset, uint64_t length,
                                  uint64_t) override {
    co_await gate();
    std::string& f = files[ino.v];
    if (mode != AllocateMode::allocate)
      for (uint64_t i = offset; i < offset + length && i < f.size(); ++i) f[i] = '\0';
    co_return info(ino);
  }
  Task<Result<uint64_t>> seek(Ino, uint64_t offset, bool data, uint64_t size) override {
    co_return data ? offset : size;
  }
  Task<Result<DataInfo>> copy(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                              uint64_t length, uint64_t) override {
    co_await gate();
    std::string bytes = files[from.v].substr(from_offset, length);
    std::string& f = files[to.v];
    if (f.size() < to_offset + length) f.resize(to_offset + length);
    f.replace(to_offset, length, bytes);
    co_return info(to);
  }
  Task<Result<void>> sync(Ino) override {
    log_.push_back("data sync");
    if (fail_next) co_return fail(std::exchange(fail_next, 0));
    co_return Result<void>{};
  }
  Task<Result<void>> sync_all() override {
    log_.push_back("data sync all");
    co_return Result<void>{};
  }
  bool has_unsynced() const override { return false; }
  Task<Result<void>> remove(Ino ino) override {
    files.erase(ino.v);
    co_return Result<void>{};
  }
  Task<Result<std::vector<Ino>>> list(Ino, size_t) override { co_return std::vector<Ino>{}; }

  void allow() {
    auto waiting = std::move(waiting_);
    waiting_.clear();
    for (auto& w : waiting) w.set(true);
  }
  size_t waiting() const { return waiting_.size(); }

  bool hold = false;
  int fail_next = 0;
  std::map<uint64_t, std::string> files;

 private:
  Task<void> gate() {
    if (!hold) co_return;
    Promised<bool> go(executor_);
    waiting_.push_back(go);
    co_await go;
  }
  DataInfo info(Ino ino) { return {(files[ino.v].size() + 511) / 512}; }

  Executor& executor_;
  std::vector<std::string>& log_;
  std::vector<Promised<bool>> waiting_;
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() { put(5, ""); }

  void put(uint64_t ino, std::string bytes) {
    Stat s;
    s.ino = Ino{ino};
    s.mode = S_IFREG | 0644;
    s.size = bytes.size();
    s.atime = {999'999, 0};  // newer than mtime: no relatime update
    service.files[ino] = s;
    data.files[ino] = std::move(bytes);
  }
  DataFn into(std::optional<Result<uint64_t>>& slot) {
    return [&slot](Result<uint64_t> r) { slot.emplace(std::move(r)); };
  }
  std::string read(uint64_t offset, size_t length) {
    std::string out(length, '?');
    std::optional<Result<uint64_t>> result;
    client.read({}, Ino{5}, offset, out.data(), length, into(result));
    executor.drain();
    EXPECT_TRUE(result && *result);
    out.resize(**result);
    return out;
  }
  Result<uint64_t> write(uint64_t offset, std::string_view bytes, WriteOptions options = {}) {
    std::optional<Result<uint64_t>> result;
    client.write({}, Ino{5}, offset, bytes, options, into(result));
    executor.drain();
    EXPECT_TRUE(result);
    return *result;
  }
  SetattrArgs resize(uint64_t size) {
    SetattrArgs args;
    args.ino = Ino{5};
    args.valid = kSetSize;
    args.size = size;
    return args;
  }

  std::vector<std::string> log;
  ManualExecutor executor;
  CountingRandom random;
  FakeService service{log};
  FakeService next{log};  // takes over
  FakeData data{executor, log};
  Client client{executor, service, data, random};
};

using Log = std::vector<std::string>;

TEST_F(ClientTest, DataGoesBeforeTheEventAndTheEventBeforeTheAnswer) {
  std::optional<Result<uint64_t>> result;
  data.hold = true;
  service.hold = false;
  client.write({}, Ino{5}, 0, "hello", {}, into(result));
  executor.drain();
  EXPECT_EQ(log, Log{});
  EXPECT_FALSE(result);
  service.hold = true;
  data.allow();
  executor.drain();
  EXPECT_EQ(log, Log{"data write 0+5 valid=0"});
  EXPECT_FALSE(result);
  service.release();
  executor.drain();
  EXPECT_EQ(log, (Log{"data write 0+5 valid=0", "rank wrote end=5"}));
  ASSERT_TRUE(result && *result);
  EXPECT_EQ(**result, 5u);
  EXPECT_EQ(client.active_files(), 0u);
}

TEST_F(ClientTest, AFailedWriteSendsNoEvent) {
  data.fail_next = ENOSPC;
  auto result = write(0, "hello");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ENOSPC);
  EXPECT_EQ(log, Log{"data write 0+5 valid=0"});
  EXPECT_EQ(read(0, 10), "");
}

TEST_F(ClientTest, AWriteWhoseEventFailsIsNotShown) {
  service.fail_wrote = EIO;
  EXPECT_FALSE(write(0, "hello"));
  service.fail_wrote = 0;
  EXPECT_EQ(read(0, 10), "");
  // The bytes that were left are void: a write behind them leaves zeros between.
  EXPECT_TRUE(write(7, "x"));
  EXPECT_EQ(read(0, 10), std::string("\0\0\0\0\0\0\0x", 8));
}

TEST_F(ClientTest, ReadsEndWhereTheRankSaysThatTheFileEnds) {
  put(5, "0123456789");
  service.files[5].size = 4;
  EXPECT_EQ(read(0, 100), "0123");
  EXPECT_EQ(read(2, 1), "2");
  EXPECT_EQ(read(4, 1), "");
  EXPECT_EQ(read(1'000'000, 1), "");
}

TEST_F(ClientTest, OverlappingExtensionsDoNotVoidEachOther) {
  data.hold = true;
  std::optional<Result<uint64_t>> far, near;
  client.write({}, Ino{5}, 8, "far", {}, into(far));
  client.write({}, Ino{5}, 0, "near", {}, into(near));
  executor.drain();
  EXPECT_EQ(data.waiting(), 1u) << "the second must wait for the first to know the size";
  while (!near || !far) {
    data.allow();
    executor.drain();
  }
  EXPECT_EQ(log[0], "data write 8+3 valid=0");
  EXPECT_EQ(log[2], "data write 0+4 valid=11");
  data.hold = false;
  EXPECT_EQ(read(0, 20), std::string("near\0\0\0\0far", 11));
}

TEST_F(ClientTest, WritesWithinTheFileRunTogether) {
  put(5, "0123456789");
  data.hold = true;
  std::optional<Result<uint64_t>> a, b;
  client.write({}, Ino{5}, 0, "a", {}, into(a));
  client.write({}, Ino{5}, 5, "b", {}, into(b));
  executor.drain();
  EXPECT_EQ(data.waiting(), 2u);
  data.allow();
  executor.drain();
  EXPECT_TRUE(a && b);
}

TEST_F(ClientTest, ATruncateWaitsForWritesAndLaterWritesWaitForIt) {
  put(5, "0123456789");
  data.hold = true;
  std::optional<Result<uint64_t>> before, after;
  int cut = -1;
  client.write({}, Ino{5}, 8, "XY", {}, into(before));
  client.call({}, resize(4), [&](Reply r) { cut = r.err; });
  client.write({}, Ino{5}, 6, "Z", {}, into(after));
  executor.drain();
  EXPECT_EQ(log, Log{});
  while (!after) {
    data.allow();
    executor.drain();
  }
  EXPECT_EQ(cut, 0);
  EXPECT_EQ(log, (Log{"data write 8+2 valid=10", "rank wrote end=10", "rank size=4", "rank sync",
                      "data truncate 4", "data write 6+1 valid=4", "rank wrote end=7"}));
  data.hold = false;
  EXPECT_EQ(read(0, 20), std::string("0123\0\0Z", 7));
}

TEST_F(ClientTest, BytesBehindANewEndGoOnlyOnceTheTruncationIsDurable) {
  put(5, "0123456789");
  service.hold = true;
  int cut = -1;
  client.call({}, resize(4), [&](Reply r) { cut = r.err; });
  auto answer = [&] {
    executor.drain();
    service.release();
    executor.drain();
  };
  while (cut != 0) {
    executor.drain();
    ASSERT_GT(service.held(), 0u);
    answer();
  }
  EXPECT_EQ(log, Log{"rank size=4"});
  EXPECT_EQ(data.files[5], "0123456789") << "the sync is not answered yet";
  ASSERT_EQ(service.held(), 1u);
  service.hold = false;
  answer();
  ASSERT_GE(log.size(), 3u);
  EXPECT_EQ((Log{log.begin(), log.begin() + 3}),
            (Log{"rank size=4", "rank sync", "data truncate 4"}));
  EXPECT_EQ(data.files[5], "0123");
}

TEST_F(ClientTest, GrowingATruncatedFileShowsNoOldBytes) {
  put(5, "0123456789");
  service.files[5].size = 4;  // the store holds bytes of a write whose event was lost
  int err = -1;
  client.call({}, resize(10), [&](Reply r) { err = r.err; });
  executor.drain();
  EXPECT_EQ(err, 0);
  EXPECT_EQ(log, (Log{"data truncate 4", "rank size=10"}));
  EXPECT_EQ(read(0, 20), std::string("0123\0\0\0\0\0\0", 10));
}

TEST_F(ClientTest, AReadThatATruncateOvertakesIsCut) {
  put(5, "0123456789");
  data.hold = true;
  std::string out(10, '?');
  std::optional<Result<uint64_t>> result;
  client.read({}, Ino{5}, 0, out.data(), 10, into(result));
  executor.drain();
  data.hold = false;
  bool cut = false;
  client.call({}, resize(3), [&](Reply) { cut = true; });
  executor.drain();
  EXPECT_TRUE(cut);
  data.allow();
  executor.drain();
  ASSERT_TRUE(result && *result);
  EXPECT_EQ(**result, 3u);
}

TEST_F(ClientTest, AppendsDoNotOverlap) {
  data.hold = true;
  std::optional<Result<uint64_t>> a, b;
  client.write({}, Ino{5}, 0, "one", {.append = true}, into(a));
  client.write({}, Ino{5}, 0, "two", {.append = true}, into(b));
  while (!a || !b) {
    data.allow();
    executor.drain();
  }
  data.hold = false;
  EXPECT_EQ(read(0, 20), "onetwo");
}

TEST_F(ClientTest, ADurableWriteIsSyncedBeforeItIsAnswered) {
  EXPECT_TRUE(write(0, "x", {.durable = true}));
  EXPECT_EQ(log, (Log{"data write 0+1 valid=0", "rank wrote end=1", "data sync", "rank sync"}));
  data.fail_next = 0;
  std::optional<Result<uint64_t>> result;
  client.sync_all({}, into(result));
  executor.drain();
  EXPECT_EQ(log.back(), "rank sync");
  EXPECT_EQ(log[log.size() - 2], "data sync all");
}

TEST_F(ClientTest, AFailedDataSyncFailsTheSync) {
  data.fail_next = EIO;
  std::optional<Result<uint64_t>> result;
  client.sync({}, Ino{5}, into(result));
  executor.drain();
  ASSERT_TRUE(result);
  EXPECT_EQ(result->error().code, EIO);
  EXPECT_EQ(log, Log{"data sync"}) << "metadata is not made durable behind lost data";
}

TEST_F(ClientTest, FallocateModes) {
  put(5, "0123456789");
  auto allocate = [&](int mode, uint64_t offset, uint64_t length) {
    std::optional<Result<uint64_t>> result;
    client.allocate({}, Ino{5}, mode, offset, length, into(result));
    executor.drain();
    EXPECT_TRUE(result);
    return *result ? 0 : result->error().code;
  };
  EXPECT_EQ(allocate(FALLOC_FL_PUNCH_HOLE, 0, 1), EOPNOTSUPP);
  EXPECT_EQ(allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
  EXPECT_EQ(allocate(0, 0, 0), EINVAL);
  EXPECT_EQ(allocate(0, kMaxFileSize, 1), EFBIG);
  EXPECT_EQ(allocate(FALLOC_FL_KEEP_SIZE, 0, 100), 0);
  EXPECT_EQ(service.files[5].size, 10u);
  EXPECT_EQ(allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 2), 0);
  EXPECT_EQ(read(0, 5), std::string("01\0\0"
                                    "4",
                                    5));
  EXPECT_EQ(allocate(FALLOC_FL_ZERO_RANGE, 8, 10), 0);
  EXPECT_EQ(service.files[5].size, 18u);
  EXPECT_EQ(allocate(0, 0, 50), 0);
  EXPECT_EQ(service.files[5].size, 50u);
}

TEST_F(ClientTest, CopyRange) {
  put(5, "");
  put(6, "abcdef");
  auto copy = [&](CopyRange range) {
    std::optional<Result<uint64_t>> result;
    client.copy({}, range, into(result));
    executor.drain();
    EXPECT_TRUE(result);
    return *result;
  };
  EXPECT_EQ(*copy({Ino{6}, 2, Ino{5}, 1, 100}), 4u);
  EXPECT_EQ(read(0, 100), std::string("\0cdef", 5));
  EXPECT_EQ(*copy({Ino{6}, 6, Ino{5}, 1, 100}), 0u);
  EXPECT_EQ(copy({Ino{5}, 0, Ino{5}, 2, 4}).error().code, EINVAL);
  EXPECT_EQ(*copy({Ino{5}, 1, Ino{5}, 5, 4}), 4u);
  EXPECT_EQ(read(0, 100), std::string("\0cdefcdef", 9));
}

TEST_F(ClientTest, SeekBehindTheEndIsRefused) {
  put(5, "0123");
  std::optional<Result<uint64_t>> result;
  client.seek({}, Ino{5}, 4, true, into(result));
  executor.drain();
  EXPECT_EQ(result->error().code, ENXIO);
  client.seek({}, Ino{5}, 1, false, into(result));
  executor.drain();
  EXPECT_EQ(**result, 4u);
}

TEST_F(ClientTest, RelatimeAsksTheRankOnlyWhenDue) {
  put(5, "0123");
  read(0, 4);
  EXPECT_EQ(log, Log{});
  service.files[5].mtime = service.files[5].atime;
  read(0, 4);
  EXPECT_EQ(log, Log{"rank read"});
  service.files[5].mtime = {};
  service.files[5].atime = {1'000'000 - 24 * 60 * 60, 0};
  service.files[5].mtime = {1, 0};
  read(0, 4);
  EXPECT_EQ(log, (Log{"rank read", "rank read"}));
}

TEST_F(ClientTest, OnlyWhatChangesSomethingIsNumbered) {
  client.call({}, LookupArgs{kRootIno, "a"}, nullptr);
  client.call({}, UnlinkArgs{kRootIno, "a"}, nullptr);
  client.call({}, UnlinkArgs{kRootIno, "b"}, nullptr);
  ASSERT_EQ(service.requests.size(), 3u);
  EXPECT_EQ(service.requests[0].seq, 0u);
  EXPECT_EQ(service.requests[1].seq, 1u);
  EXPECT_EQ(service.requests[2].seq, 2u);
  EXPECT_EQ(service.requests[2].oldest, 2u) << "everything below 2 was answered";
  EXPECT_EQ(service.requests[1].session, client.session());
}

TEST_F(ClientTest, ReconnectSendsWhatIsUnansweredAgainInOrder) {
  service.hold = true;
  std::vector<int> answered;
  for (int i = 0; i < 300; ++i)
    client.call({}, UnlinkArgs{kRootIno, std::to_string(i)},
                [&answered, i](Reply) { answered.push_back(i); });
  std::optional<Result<uint64_t>> read_result;
  char byte;
  client.read({}, Ino{5}, 0, &byte, 1, into(read_result));
  EXPECT_EQ(client.unanswered(), 301u);
  EXPECT_TRUE(answered.empty());

  next.files = service.files;
  client.reconnect(next);
  executor.drain();
  EXPECT_EQ(answered.size(), 300u);
  EXPECT_TRUE(std::is_sorted(answered.begin(), answered.end()));
  EXPECT_TRUE(read_result && *read_result);
  ASSERT_EQ(next.requests.size(), 301u);
  for (int i = 0; i < 300; ++i) EXPECT_EQ(next.requests[i].seq, uint64_t(i) + 1);
  EXPECT_EQ(next.requests[0].oldest, 1u);
  EXPECT_EQ(next.sessions.count(client.session().v), 1u);

  service.release();  // the first service answers late
  EXPECT_EQ(answered.size(), 300u);
  EXPECT_EQ(client.unanswered(), 0u);
}

TEST_F(ClientTest, WhatIsCalledWhileResendingFollowsBehind) {
  service.hold = true;
  for (int i = 0; i < 3; ++i)
    client.call({}, UnlinkArgs{kRootIno, std::to_string(i)},
                [&](Reply) { client.call({}, RmdirArgs{kRootIno, "later"}, nullptr); });
  client.reconnect(next);
  ASSERT_EQ(next.requests.size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(next.requests[i].seq, i + 1);
  EXPECT_EQ(client.unanswered(), 0u);
}

TEST_F(ClientTest, AnOutOfOrderAnswerDoesNotAdvanceOldest) {
  service.hold = true;
  client.call({}, UnlinkArgs{kRootIno, "slow"}, nullptr);
  service.hold = false;
  client.call({}, UnlinkArgs{kRootIno, "fast"}, nullptr);
  client.call({}, UnlinkArgs{kRootIno, "next"}, nullptr);
  EXPECT_EQ(service.requests.back().seq, 3u);
  EXPECT_EQ(service.requests.back().oldest, 1u);
  service.release();
  client.call({}, UnlinkArgs{kRootIno, "last"}, nullptr);
  EXPECT_EQ(service.requests.back().oldest, 4u);
}

TEST_F(ClientTest, AClientMayGoBeforeItsAnswers) {
  auto gone = std::make_unique<Client>(executor, service, data, random);
  auto id = gone->session();
  EXPECT_EQ(service.sessions.count(id.v), 1u);
  service.hold = true;
  std::optional<Result<uint64_t>> result;
  char byte;
  gone->read({}, Ino{5}, 0, &byte, 1, into(result));
  gone.reset();
  EXPECT_EQ(service.sessions.count(id.v), 0u);
  service.release();
  executor.drain();
  EXPECT_FALSE(result);
}

}  // namespace
}  // namespace graftfs
