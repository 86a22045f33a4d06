// What only the local store has: files, locks, recycling, full disks, damage.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fstream>

#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
constexpr RankId kRank{0};
constexpr uint64_t kCapacity = 256 << 10;

LocalOptions small_options() {
  LocalOptions options;
  options.journal.segment_capacity = kCapacity;
  options.dirs_map_size = 64 << 20;
  return options;
}

// One process's use of a volume.
struct Node {
  explicit Node(const std::string& path, LocalOptions options = small_options()) {
    auto opened = LocalStore::open(loop, pool, path, options);
    if (opened) {
      store = std::move(*opened);
    } else {
      error = opened.error();
    }
  }
  template <class T>
  T run(Task<T> task) {
    return graftfs::run(loop, std::move(task));
  }
  EventLoop loop;
  BlockingPool pool{"test", 2};
  std::unique_ptr<LocalStore> store;
  Error error{0, {}};
};

// Runs `fn` in a child process, which then stays until it is killed. Returns its pid once `fn`
// is done.
template <class F>
pid_t in_child(F fn) {
  int ready[2];
  EXPECT_EQ(::pipe(ready), 0);
  pid_t pid = ::fork();
  if (pid == 0) {
    bool good = fn();
    char c = good ? 'y' : 'n';
    (void)!::write(ready[1], &c, 1);
    for (;;) ::pause();
  }
  char c = 0;
  EXPECT_EQ(::read(ready[0], &c, 1), 1);
  EXPECT_EQ(c, 'y');
  ::close(ready[0]);
  ::close(ready[1]);
  return pid;
}
void kill_child(pid_t pid) {
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

struct LocalTest : ::testing::Test {
  TempDir dir;
  void SetUp() override { ASSERT_OK(LocalStore::format(dir.path)); }
  std::string journal() { return dir.path + "/journal/rank-0"; }
  size_t files_starting(const std::string& prefix) {
    size_t n = 0;
    for (auto& e : fs::directory_iterator(journal())) {
      n += e.path().filename().string().starts_with(prefix);
    }
    return n;
  }
};

TEST_F(LocalTest, FormatRefusesWhatIsThere) {
  EXPECT_CODE(LocalStore::format(dir.path), EEXIST);
  TempDir other;
  std::ofstream(other.path + "/precious") << "x";
  EXPECT_CODE(LocalStore::format(other.path), ENOTEMPTY);
  TempDir fresh;
  EXPECT_OK(LocalStore::format(fresh.path + "/new"));
  // Interrupted before graftfs.volume: may be done again.
  fs::remove(fresh.path + "/new/graftfs.volume");
  EXPECT_OK(LocalStore::format(fresh.path + "/new"));
}

TEST_F(LocalTest, WhatIsNotAVolumeIsSaidClearly) {
  TempDir empty;
  Node none(empty.path);
  EXPECT_EQ(none.error.code, EINVAL);
  EXPECT_THAT(none.error.message, HasSubstr("is not a GraftFS volume"));
  std::string file = dir.path + "/graftfs.volume";
  std::ifstream in(file);
  std::string good((std::istreambuf_iterator<char>(in)), {});
  auto open_with = [&](const std::string& text) {
    std::ofstream(file, std::ios::trunc) << text;
    return Node(dir.path).error;
  };
  local::VolumeFile newer;
  newer.format = local::kFormatVersion + 1;
  EXPECT_THAT(open_with(local::encode(newer)).message, HasSubstr("newer version"));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    Error e = open_with(bad);
    EXPECT_TRUE(e.code == EUCLEAN || e.code == EINVAL) << bit;
    EXPECT_THAT(e.message, HasSubstr("graftfs.volume"));
  }
  for (size_t n = 0; n < good.size(); ++n) EXPECT_NE(open_with(good.substr(0, n)).code, 0);
  EXPECT_EQ(open_with(good).code, 0);
}

TEST_F(LocalTest, ASecondProcessIsRefusedWithThePidOfTheFirst) {
  pid_t pid = in_child([&] {
    auto* node = new Node(dir.path);
    return node->store && node->run(node->store->own_journal(kRank)).has_value();
  });
  {
    Node node(dir.path);
    ASSERT_TRUE(node.store) << node.error.message;
    auto owned = node.run(node.store->own_journal(kRank));
    EXPECT_CODE(owned, EBUSY);
    EXPECT_THAT(owned.error().message,
                HasSubstr(fmt::format("already mounted by process {}", pid)));
    EXPECT_OK(node.run(node.store->own_journal(RankId{1})));
  }
  kill_child(pid);
  Node node(dir.path);
  EXPECT_OK(node.run(node.store->own_journal(kRank)));
  Node twice(dir.path);
  EXPECT_EQ(twice.error.code, EBUSY);
}

TEST_F(LocalTest, KillingTheOwnerKeepsCompletedWrites) {
  pid_t pid = in_child([&] {
    auto* n = new Node(dir.path);
    auto owned = n->run(n->store->own_journal(kRank));
    return owned && n->run((*owned)->create(SegmentId{1})) &&
           n->run((*owned)->write(SegmentId{1}, 0, "unsynced")) &&
           n->run(n->store->data().write(Ino{600}, 0, "data", 0));
  });
  kill_child(pid);
  Node node(dir.path);
  auto owned = node.run(node.store->own_journal(kRank));
  ASSERT_OK(owned);
  EXPECT_TRUE(node.store->unsynced_survived(kRank));
  EXPECT_EQ(*node.run((*owned)->read(SegmentId{1}, 0, 8)), "unsynced");
  EXPECT_TRUE(node.store->data().has_unsynced()) << "of the one that was killed";
  EXPECT_OK(node.run(node.store->data().sync(Ino{600})));
  EXPECT_OK(node.run(node.store->data().sync_all()));
  EXPECT_FALSE(node.store->data().has_unsynced());
}

TEST_F(LocalTest, AnotherBootOrMountMakesUnsyncedWritesDoubtful) {
  auto own = [&] {
    Node node(dir.path);
    EXPECT_OK(node.run(node.store->own_journal(kRank)));
    return node.store->unsynced_survived(kRank);
  };
  EXPECT_FALSE(own());
  EXPECT_TRUE(own());
  std::ifstream in(journal() + "/owner");
  std::string good((std::istreambuf_iterator<char>(in)), {});
  for (const char* field : {"boot = ", "mount = "}) {
    std::string other = good;
    other[good.find(field) + std::strlen(field)] ^= 1;
    std::ofstream(journal() + "/owner", std::ios::trunc) << other;
    EXPECT_FALSE(own()) << field;
  }
  std::ofstream(journal() + "/owner", std::ios::trunc) << good.substr(0, good.size() / 2);
  EXPECT_FALSE(own());
  fs::remove(journal() + "/owner");
  EXPECT_FALSE(own());
}

TEST_F(LocalTest, SegmentsAreRecycled) {
  Node node(dir.path);
  auto owned = node.run(node.store->own_journal(kRank));
  ASSERT_OK(owned);
  JournalDevice& j = **owned;
  for (uint64_t i = 1; i <= 12; ++i) {
    EXPECT_OK(node.run(j.create(SegmentId{i})));
    EXPECT_OK(node.run(j.write(SegmentId{i}, 0, "segment " + std::to_string(i))));
  }
  for (uint64_t i = 1; i <= 12; ++i) EXPECT_OK(node.run(j.remove(SegmentId{i})));
  EXPECT_LE(files_starting("free-"), 7u) << "spares and what may be kept";
  EXPECT_GE(files_starting("free-"), 2u);
  EXPECT_OK(node.run(j.create(SegmentId{99})));
  EXPECT_EQ(node.run(j.read(SegmentId{99}, 0, kCapacity))->size(), kCapacity);
  EXPECT_EQ(node.run(j.list())->size(), 1u);
}

TEST_F(LocalTest, LeftoversOfAnInterruptedPreparationAreRemoved) {
  fs::create_directories(journal());
  std::ofstream(journal() + "/new-0001") << "half";
  std::ofstream(journal() + "/free-0002") << "of another size";
  Node node(dir.path);
  auto owned = node.run(node.store->own_journal(kRank));
  ASSERT_OK(owned);
  EXPECT_FALSE(fs::exists(journal() + "/free-0002"));
  EXPECT_OK(node.run((*owned)->create(SegmentId{1})));
  EXPECT_EQ(node.run((*owned)->read(SegmentId{1}, 0, kCapacity))->size(), kCapacity);
}

TEST_F(LocalTest, DescriptorsAreBoundedAndEvictedFilesAreStillSynced) {
  LocalOptions options = small_options();
  options.data.max_open_files = 8;
  Node node(dir.path, options);
  auto count_fds = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  EXPECT_OK(node.run(node.store->data().sync_all()));
  auto before = count_fds();
  for (uint64_t i = 0; i < 200; ++i) {
    EXPECT_OK(node.run(node.store->data().write(Ino{i + 3}, 0, "x", 0)));
  }
  EXPECT_LE(count_fds() - before, 12);
  EXPECT_OK(node.run(node.store->data().sync_all()));
  EXPECT_FALSE(node.store->data().has_unsynced());
}

TEST_F(LocalTest, TheDirectoryMapGrows) {
  LocalOptions options = small_options();
  options.dirs_map_size = 1 << 20;
  Node node(dir.path, options);
  ASSERT_TRUE(node.store) << node.error.message;
  for (uint64_t d = 1; d <= 4; ++d) {
    DirUpdate u;
    u.dir = Ino{d};
    u.header = "h";
    for (int i = 0; i < 5000; ++i)
      u.put.emplace_back(fmt::format("{:06}", i), std::string(200, 'v'));
    EXPECT_OK(node.run(node.store->dirs().commit({u})));
  }
  EXPECT_EQ(node.run(node.store->dirs().read_entries(Ino{4}, "", 9999))->size(), 5000u);
}

TEST_F(LocalTest, AFullDiskGivesEnospcAndWorksAgain) {
  TempDir mount;
  if (::mount("tmpfs", mount.path.c_str(), "tmpfs", 0, "size=8m") != 0) {
    GTEST_SKIP() << "needs the right to mount a tmpfs";
  }
  struct Unmount {
    std::string path;
    ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
  } unmount{mount.path};
  ASSERT_OK(LocalStore::format(mount.path + "/v"));
  Node node(mount.path + "/v");
  ASSERT_TRUE(node.store) << node.error.message;
  auto owned = node.run(node.store->own_journal(kRank));
  ASSERT_OK(owned);
  uint64_t size = 0;
  for (;;) {
    auto written = node.run(node.store->data().write(Ino{1}, size, std::string(65536, 'f'), size));
    if (!written) {
      EXPECT_EQ(written.error().code, ENOSPC) << describe(written.error());
      EXPECT_THAT(written.error().message, HasSubstr("free some space"));
      break;
    }
    size += 65536;
    ASSERT_LT(size, 16u << 20);
  }
  DirUpdate u;
  u.dir = Ino{1};
  u.header = "h";
  for (int i = 0; i < 3000; ++i) u.put.emplace_back(fmt::format("{:06}", i), std::string(300, 'v'));
  EXPECT_CODE(node.run(node.store->dirs().commit({u})), ENOSPC);
  EXPECT_EQ(*node.run(node.store->dirs().read_header(Ino{1})), std::nullopt);
  Result<void> created;
  for (uint64_t i = 1; created && i < 50; ++i) created = node.run((*owned)->create(SegmentId{i}));
  EXPECT_CODE(created, ENOSPC);
  // What was begun is taken back; the thread that prepares spares may be at it still.
  auto unfinished = [&] {
    for (auto& e : fs::directory_iterator(mount.path + "/v/journal/rank-0")) {
      if (e.path().filename().string().starts_with("new-")) return true;
    }
    return false;
  };
  for (int i = 0; i < 1000 && unfinished(); ++i) ::usleep(10000);
  EXPECT_FALSE(unfinished());
  EXPECT_OK(node.run(node.store->data().remove(Ino{1})));
  EXPECT_OK(node.run(node.store->dirs().commit({u})));
  EXPECT_EQ(node.run(node.store->dirs().read_entries(Ino{1}, "", 9999))->size(), 3000u);
  EXPECT_OK(node.run((*owned)->create(SegmentId{1000})));
}

// Flips bytes of data.mdb, page by page: whatever they were, the store answers with what was
// committed, with nothing, or with an error that names the file; it never ends the process.
TEST_F(LocalTest, DamagedDirectoryPagesAreErrorsNotCrashes) {
  std::vector<DirUpdate> batch;
  for (uint64_t d = 1; d <= 3; ++d) {
    DirUpdate u;
    u.dir = Ino{d};
    u.header = "header";
    for (int i = 0; i < 300; ++i)
      u.put.emplace_back(fmt::format("{:04}", i), std::string(100, 'v'));
    batch.push_back(u);
  }
  {
    Node node(dir.path);
    ASSERT_OK(node.run(node.store->dirs().commit(batch)));
  }
  std::string file = dir.path + "/dirs/data.mdb";
  std::ifstream in(file, std::ios::binary);
  std::string good((std::istreambuf_iterator<char>(in)), {});
  TestRandom random(7);
  int damaged = 0, rounds = 0;
  auto check = [&](const std::string& bytes) {
    ++rounds;
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    Node node(dir.path);
    Error error = node.error;
    if (node.store) {
      for (uint64_t d = 1; d <= 3; ++d) {
        auto entries = node.run(node.store->dirs().read_entries(Ino{d}, "", 1000));
        if (!entries) {
          error = entries.error();
          break;
        }
        for (auto& e : *entries) EXPECT_EQ(e.value, std::string(100, 'v'));
      }
      DirUpdate more;
      more.dir = Ino{2};
      more.put = {{"0100x", "new"}};
      (void)node.run(node.store->dirs().commit({more}));
    }
    if (!error.code) return;
    ++damaged;
    EXPECT_THAT(error.message, HasSubstr("data.mdb"));
  };
  for (size_t page = 2; page < good.size() / 4096; ++page) {
    for (size_t where : {8 + random.below(16), random.below(4096), 3000 + random.below(1000)}) {
      std::string bad = good;
      for (int i = 0; i < 3; ++i) bad[page * 4096 + (where + i) % 4096] ^= 0x55;
      check(bad);
    }
  }
  check(good.substr(0, good.size() / 2));
  check(good.substr(0, 4096));
  EXPECT_GT(damaged, rounds / 4);
}

TEST_F(LocalTest, ManyKillsDuringCommitsLeaveWholeBatches) {
  for (int round = 0; round < 5; ++round) {
    pid_t pid = in_child([&] {
      auto* n = new Node(dir.path);
      std::thread([n] {
        for (int i = 0;; ++i) {
          std::vector<DirUpdate> batch(2);
          for (int d = 0; d < 2; ++d) {
            batch[d].dir = Ino{1u + d};
            batch[d].header = std::to_string(i);
            batch[d].put = {{"k", std::to_string(i)}};
          }
          (void)n->run(n->store->dirs().commit(batch));
        }
      }).detach();
      return true;
    });
    ::usleep(20000 + 7000 * round);
    kill_child(pid);
    Node node(dir.path);
    ASSERT_TRUE(node.store) << node.error.message;
    auto a = *node.run(node.store->dirs().read_header(Ino{1}));
    auto b = *node.run(node.store->dirs().read_entry(Ino{2}, "k"));
    EXPECT_EQ(a, b);
  }
}

}  // namespace
}  // namespace graftfs
