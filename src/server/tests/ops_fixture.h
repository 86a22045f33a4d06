#pragma once
// A rank on a store in memory, and people who ask it.

#include <gtest/gtest.h>

#include <cerrno>
#include <deque>
#include <map>
#include <memory>
#include <optional>

#include "base/check.h"
#include "base/wait.h"
#include "server/rank.h"
#include "store/memory/memory_store.h"

namespace graftfs {

// Time stands still except where a test or a timer that is waited for moves it.
class TestExecutor final : public Executor {
 public:
  void post(Fn fn) override { ready_.push_back(std::move(fn)); }
  void post_after(Nanos delay, Fn fn) override { timers_.emplace(now_ + delay, std::move(fn)); }
  Nanos now() const override { return now_; }
  Timespec wall_now() const override {
    return {1'700'000'000 + now_ / kSecond, static_cast<uint32_t>(now_ % kSecond)};
  }
  void advance(Nanos by) { now_ += by; }
  // Runs what is due, or the next timer.
  void run_one() {
    if (ready_.empty()) {
      CHECK(!timers_.empty(), "nothing is left to run, and it is not done");
      now_ = std::max(now_, timers_.begin()->first);
      ready_.push_back(std::move(timers_.begin()->second));
      timers_.erase(timers_.begin());
    }
    Fn fn = std::move(ready_.front());
    ready_.pop_front();
    fn();
  }
  template <class Done>
  void run_until(Done done) {
    while (!done()) run_one();
  }

 private:
  std::deque<Fn> ready_;
  std::multimap<Nanos, Fn> timers_;
  Nanos now_ = 0;
};

class TestRandom final : public Random {
 public:
  uint64_t next() override { return state_ = state_ * 6364136223846793005u + 1442695040888963407u; }

 private:
  uint64_t state_ = 1;
};

enum class CacheMode { warm, cold, replayed };

// The rank. Before every request it is, cold: stopped and started anew, so that each one finds an
// empty cache and runs as often as pieces are missing; replayed: killed and recovered, so that
// each one finds what the events of those before it say.
class World {
 public:
  explicit World(CacheMode mode = CacheMode::warm) : mode_(mode) { start({}); }
  ~World() { stop(); }

  Reply call(const Credentials& cred, Args args) {
    if (mode_ == CacheMode::cold) restart();
    if (mode_ == CacheMode::replayed) kill_and_recover();
    executor.advance(kSecond);
    std::optional<Reply> reply;
    submit(cred, std::move(args), [&reply](Reply r) { reply = std::move(r); });
    executor.run_until([&reply] { return reply.has_value(); });
    return reply ? std::move(*reply) : Reply{.err = EIO};
  }
  void submit(const Credentials& cred, Args args, ReplyFn done) {
    Request request;
    request.session = kSession;
    request.seq = ++seq_;
    request.oldest = seq_;
    request.cred = cred;
    request.args = std::move(args);
    rank->submit(std::move(request), std::move(done));
  }
  Timespec now() const { return executor.wall_now(); }

  void restart(RankOptions options = {}) {
    stop();
    start(std::move(options));
  }
  void kill_and_recover() {
    rank.reset();
    store.reset();
    disk->crash(random_, CrashKind::process_death);
    start({});
  }
  void keep_cache() { mode_ = CacheMode::warm; }
  template <class Done>
  void wait(Done done) {
    executor.run_until(done);
  }

  TestExecutor executor;
  std::shared_ptr<MemoryDisk> disk = std::make_shared<MemoryDisk>();
  std::unique_ptr<MemoryStore> store;
  std::unique_ptr<Rank> rank;
  static constexpr SessionId kSession{77};

 private:
  void start(RankOptions options) {
    options.volume = 1;
    options.volume_name = "test";
    store = std::make_unique<MemoryStore>(executor, disk, nullptr);
    rank = std::make_unique<Rank>(executor, *store, std::move(options));
    finish(rank->start());
    rank->open_session(kSession);
  }
  void stop() {
    if (!rank) return;
    finish(rank->stop());
    rank.reset();
    store.reset();
  }
  void finish(Task<Result<void>> task) {
    Result<void> result = wait_for(executor, std::move(task));
    ASSERT_TRUE(result) << describe(result.error());
  }

  CacheMode mode_;
  TestRandom random_;
  uint64_t seq_ = 0;
};

// Someone, with calls named as the man pages do.
struct User {
  World& world;
  Credentials cred;

  User(World& w, uint32_t uid, uint32_t gid, std::vector<uint32_t> groups = {}) : world(w) {
    cred.uid = uid;
    cred.gid = gid;
    cred.groups = std::move(groups);
  }
  Reply call(Args args) const { return world.call(cred, std::move(args)); }

  Reply lookup(Ino dir, std::string name) const { return call(LookupArgs{dir, name}); }
  Reply lookup_parent(Ino dir) const { return call(LookupParentArgs{dir}); }
  Stat stat(Ino ino) const {
    Reply r = call(GetattrArgs{ino});
    EXPECT_EQ(r.err, 0) << "getattr of " << ino.v;
    return r.stat;
  }
  Reply mkdir(Ino dir, std::string name, uint32_t mode = 0755) const {
    return call(MkdirArgs{dir, name, mode, 022});
  }
  Reply mknod(Ino dir, std::string name, uint32_t mode = S_IFREG | 0644, uint32_t rdev = 0) const {
    return call(MknodArgs{dir, name, mode, 022, rdev});
  }
  Reply create(Ino dir, std::string name, uint32_t mode = 0644, uint32_t flags = 1,
               bool exclusive = false) const {
    return call(CreateArgs{dir, name, mode, 022, exclusive, flags});
  }
  Reply symlink(Ino dir, std::string name, std::string target) const {
    return call(SymlinkArgs{dir, name, target});
  }
  Reply readlink(Ino ino) const { return call(ReadlinkArgs{ino}); }
  Reply link(Ino ino, Ino dir, std::string name) const { return call(LinkArgs{ino, dir, name}); }
  Reply unlink(Ino dir, std::string name) const { return call(UnlinkArgs{dir, name}); }
  Reply rmdir(Ino dir, std::string name) const { return call(RmdirArgs{dir, name}); }
  Reply rename(Ino dir, std::string name, Ino to, std::string new_name, uint32_t flags = 0) const {
    return call(RenameArgs{dir, name, to, new_name, flags});
  }
  Reply open(Ino ino, uint32_t flags) const { return call(OpenArgs{ino, flags}); }
  Reply release(Ino ino, uint32_t count = 1) const { return call(ReleaseArgs{ino, count}); }
  Reply wrote(Ino ino, uint64_t end, uint64_t blocks = 8, bool kill = false) const {
    return call(WroteArgs{ino, end, blocks, kill});
  }
  Reply read(Ino ino) const { return call(ReadArgs{ino}); }
  Reply readdir(Ino dir, uint64_t cookie = 0, uint32_t max = 1000, bool plus = true) const {
    return call(ReaddirArgs{dir, cookie, max, plus});
  }
  Reply access(Ino ino, uint32_t mask) const { return call(AccessArgs{ino, mask}); }
  Reply chmod(Ino ino, uint32_t mode) const {
    SetattrArgs a{.ino = ino, .valid = kSetMode, .mode = mode};
    return call(a);
  }
  Reply chown(Ino ino, std::optional<uint32_t> uid, std::optional<uint32_t> gid) const {
    SetattrArgs a{.ino = ino};
    if (uid) a.valid |= kSetUid, a.uid = *uid;
    if (gid) a.valid |= kSetGid, a.gid = *gid;
    return call(a);
  }
  Reply truncate(Ino ino, uint64_t size, bool by_handle = false) const {
    SetattrArgs a{.ino = ino, .valid = kSetSize, .size = size, .by_handle = by_handle};
    return call(a);
  }
  Reply utimens(Ino ino, uint32_t valid, Timespec atime = {}, Timespec mtime = {}) const {
    SetattrArgs a{.ino = ino, .valid = valid, .atime = atime, .mtime = mtime};
    return call(a);
  }
  Reply getxattr(Ino ino, std::string name) const { return call(GetxattrArgs{ino, name}); }
  Reply setxattr(Ino ino, std::string name, std::string value, uint32_t flags = 0) const {
    return call(SetxattrArgs{ino, name, value, flags});
  }
  Reply removexattr(Ino ino, std::string name) const { return call(RemovexattrArgs{ino, name}); }
  Reply listxattr(Ino ino) const { return call(ListxattrArgs{ino}); }
};

// Root, an owner, a member of the owner's group, and somebody else, below a root directory where
// everybody may make names.
class OpsTest : public testing::TestWithParam<CacheMode> {
 protected:
  OpsTest() : world(GetParam()) { EXPECT_EQ(root.chmod(kRootIno, 0777).err, 0); }

  Ino make_dir(const User& user, Ino dir, const std::string& name, uint32_t mode = 0755) {
    Reply r = user.mkdir(dir, name, mode);
    EXPECT_EQ(r.err, 0) << name;
    return r.stat.ino;
  }
  Ino make_file(const User& user, Ino dir, const std::string& name, uint32_t mode = 0644) {
    Reply r = user.mknod(dir, name, S_IFREG | mode);
    EXPECT_EQ(r.err, 0) << name;
    return r.stat.ino;
  }
  // As make_dir and make_file, but with exactly this mode.
  Ino exact(const User& user, Ino ino, uint32_t mode) {
    EXPECT_EQ(user.chmod(ino, mode).err, 0);
    return ino;
  }

  World world;
  User root{world, 0, 0};
  User owner{world, 1000, 100, {200}};
  User member{world, 1001, 101, {100}};
  User other{world, 1002, 102};
};

inline const auto kAllModes =
    testing::Values(CacheMode::warm, CacheMode::cold, CacheMode::replayed);
inline std::string mode_name(const testing::TestParamInfo<CacheMode>& info) {
  constexpr const char* names[] = {"Warm", "Cold", "Replayed"};
  return names[static_cast<size_t>(info.param)];
}

// Times of an inode before and after a call, for the table that POSIX keeps of them.
struct Moved {
  bool atime, mtime, ctime;
  friend bool operator==(const Moved&, const Moved&) = default;
};
inline Moved moved(const Stat& before, const Stat& after) {
  EXPECT_EQ(before.btime, after.btime);
  return {before.atime != after.atime, before.mtime != after.mtime, before.ctime != after.ctime};
}
inline void PrintTo(const Moved& m, std::ostream* out) {
  *out << (m.atime ? "a" : "-") << (m.mtime ? "m" : "-") << (m.ctime ? "c" : "-");
}
inline constexpr Moved kNone{false, false, false}, kAtime{true, false, false},
    kMtimeCtime{false, true, true}, kCtime{false, false, true};

}  // namespace graftfs
