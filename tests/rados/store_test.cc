// The contract of store.h on a real cluster, and what only it can show.

#include "cluster.h"
#include "store/rados/librados_session.h"
#include "store/rados/rados_store.h"
#include "store/tests/other_process.h"
#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

constexpr RankId kRank{0};
constexpr uint64_t kCapacity = 64 << 10;

struct RadosBackend {
  static constexpr bool kBuffersData = false;
  std::string name = cluster().fresh_volume();
  RadosBackend() { EXPECT_OK(RadosVolume::format(name)); }
  void take(RankId, const std::function<void()>& fn) {
    OtherProcess other(name);
    ASSERT_EQ(other.ask("own if_free"), fmt::format("error {}", EBUSY));
    ASSERT_EQ(other.ask("own take"), "ok");
    fn();
  }
  std::unique_ptr<Store> open(EventLoop& loop, BlockingPool& pool) {
    RadosOptions options;
    options.segment_capacity = kCapacity;
    auto volume = RadosVolume::open(name, options);
    EXPECT_OK(volume);
    auto store = RadosStore::on(loop, pool, *volume);
    EXPECT_OK(store);
    return std::move(*store);
  }
};

using Backends = ::testing::Types<RadosBackend>;

}  // namespace
}  // namespace graftfs

#include "store/tests/contract.h"

namespace graftfs {
namespace {

// A process that was stopped, and wakes up when another one has its rank.
class Zombie : public ::testing::Test {
 protected:
  template <class T>
  T run(Task<T> task) {
    return graftfs::run(loop_, std::move(task));
  }
  Result<JournalDevice*> take() {
    OwnOptions options;
    options.mode = OwnMode::take;
    return run(store_->own_journal(kRank, options));
  }
  RadosBackend backend_;
  EventLoop loop_;
  BlockingPool pool_{"test", 2};
  std::unique_ptr<Store> store_ = backend_.open(loop_, pool_);
};

TEST_F(Zombie, ChangesNothingWhenItWakesUp) {
  OtherProcess old(backend_.name);
  ASSERT_EQ(old.ask("own if_free"), "ok");
  ASSERT_EQ(old.ask("create 1"), "ok");
  ASSERT_EQ(old.ask("write 1 before"), "ok");
  ASSERT_EQ(old.ask("commit 77 before"), "ok");
  ASSERT_EQ(old.ask("fill 500"), "ok");
  old.stop();
  auto journal = take();
  ASSERT_OK(journal);
  ASSERT_EQ(run((*journal)->list())->size(), 1u);
  old.wake();
  const std::string refused = fmt::format("error {}", ESTALE);
  EXPECT_EQ(old.ask("write 1 behind"), refused);
  EXPECT_EQ(old.ask("create 2"), refused);
  EXPECT_EQ(old.ask("remove 1"), refused);
  EXPECT_EQ(old.ask("commit 77 behind"), refused);
  EXPECT_EQ(old.ask("erase_data 500"), refused);
  EXPECT_EQ(run((*journal)->read(SegmentId{1}, 0, 6)).value_or(""), "before");
  EXPECT_EQ(run((*journal)->list())->size(), 1u);
  EXPECT_EQ(*run(store_->dirs().read_entry(Ino{77}, "k")), "before");
  std::string bytes(5, '?');
  EXPECT_OK(run(store_->data().read(Ino{500}, 0, bytes.data(), bytes.size())));
  EXPECT_EQ(bytes, "bytes");
  EXPECT_OK(run((*journal)->write(SegmentId{1}, 6, "mine")));
}

TEST_F(Zombie, IsNotWaitedForWhereItsProcessWasKilledHere) {
  OtherProcess old(backend_.name);
  ASSERT_EQ(old.ask("own if_free"), "ok");
  ASSERT_EQ(old.ask("create 1"), "ok");
  ASSERT_EQ(old.ask("write 1 before"), "ok");
  EXPECT_CODE(run(store_->own_journal(kRank)), EBUSY);
  old.kill();
  auto journal = run(store_->own_journal(kRank));
  ASSERT_OK(journal);
  EXPECT_EQ(run((*journal)->read(SegmentId{1}, 0, 6)).value_or(""), "before");
}

// Each of the steps of taking a journal, cut off: the next owner comes after it.
TEST_F(Zombie, ATakingThatIsCutOffAnywhereIsTakenOver) {
  for (const char* point : {"store.rados.shut_out", "store.rados.fenced", "store.rados.seized",
                            "store.rados.segment_named", "store.rados.segment_gone"}) {
    SCOPED_TRACE(point);
    RadosBackend backend;
    {
      OtherProcess first(backend.name);
      ASSERT_EQ(first.ask("own if_free"), "ok");
      ASSERT_EQ(first.ask("create 1"), "ok");
      ASSERT_EQ(first.ask("write 1 kept"), "ok");
    }
    OtherProcess second(backend.name, point);
    std::string answer = second.ask("own take");
    if (answer == "ok") answer = second.ask("create 2");
    if (answer == "ok") answer = second.ask("remove 2");
    EXPECT_EQ(answer, "") << "it was to be killed at " << point;
    auto store = backend.open(loop_, pool_);
    auto journal = run(store->own_journal(kRank));
    ASSERT_OK(journal);
    EXPECT_EQ(run((*journal)->read(SegmentId{1}, 0, 4)).value_or(""), "kept");
    EXPECT_OK(run((*journal)->write(SegmentId{1}, 4, "on")));
    EXPECT_OK(run((*journal)->create(SegmentId{3})));
    EXPECT_OK(run((*journal)->remove(SegmentId{1})));
    EXPECT_EQ((*run((*journal)->list())).back().id, SegmentId{3});
  }
}

// Also where the cluster does not shut it out: the guard is in each operation.
TEST_F(Zombie, AnOlderOwnersCommitIsRefusedByTheObjectItself) {
  auto name = rados::parse_name(backend_.name);
  ASSERT_OK(name);
  auto session = rados::LibradosSession::connect(*name);
  ASSERT_OK(session);
  (*session)->bind(loop_, pool_);
  auto commit = [&](rados::Tokens tokens, uint64_t dir, const char* text) {
    auto mine = std::make_shared<rados::Tokens>(std::move(tokens));
    rados::RadosDirs dirs(**session, mine, 1000);
    DirUpdate u;
    u.dir = Ino{dir};
    u.header = text;
    std::vector<DirUpdate> updates{u};
    return run(dirs.commit(std::move(updates)));
  };
  const RankId other{1};
  EXPECT_OK(commit({{kRank, 5}}, 9, "five"));
  EXPECT_OK(commit({{kRank, 5}}, 9, "five again"));
  EXPECT_CODE(commit({{kRank, 4}}, 9, "four"), ESTALE);
  // It went to another rank, whose epochs are other numbers, and came back.
  EXPECT_OK(commit({{other, 2}}, 9, "of another rank"));
  EXPECT_CODE(commit({{other, 1}}, 9, "of its zombie"), ESTALE);
  EXPECT_OK(commit({{kRank, 6}}, 9, "six"));
  EXPECT_CODE(commit({{kRank, 5}}, 9, "five, late"), ESTALE);
  EXPECT_EQ(**run(store_->dirs().read_header(Ino{9})), "six");
  EXPECT_OK(commit({}, 9, "by a tool"));
  (*session)->close();
}

TEST_F(Zombie, ManyEntriesGoInSeveralOperations) {
  DirUpdate u;
  u.dir = Ino{10};
  u.header = "header";
  for (int i = 0; i < 10000; ++i) u.put.emplace_back(fmt::format("{:05}", i), "v");
  EXPECT_OK(run(store_->dirs().commit({u})));
  auto all = run(store_->dirs().read_entries(Ino{10}, "", 20000));
  ASSERT_OK(all);
  EXPECT_EQ(all->size(), 10000u);
}

// Before it is big, as it becomes big, and for those who do not know that it is.
TEST_F(Zombie, ABigDirectoryLiesInSeveralObjects) {
  RadosOptions options;
  options.big_directory = 300;
  auto volume = RadosVolume::open(backend_.name, options);
  ASSERT_OK(volume);
  auto open = [&] { return std::move(*RadosStore::on(loop_, pool_, *volume)); };
  std::unique_ptr<RadosStore> store = open();
  const Ino dir{11};
  std::map<std::string, std::string> model;
  TestRandom random(7);
  auto commit = [&](int puts, int erases) {
    DirUpdate u;
    u.dir = dir;
    u.header = "header";
    for (int i = 0; i < erases && !model.empty(); ++i) {
      auto it = model.lower_bound(std::string(1, static_cast<char>(random.below(128))));
      if (it == model.end()) it = model.begin();
      u.erase.push_back(it->first);
      model.erase(it);
    }
    for (int i = 0; i < puts; ++i) {
      std::string key(1, static_cast<char>(random.below(128)));
      key += fmt::format("{:03}", random.below(40));
      std::erase(u.erase, key);
      u.put.emplace_back(key, fmt::format("value {}", random.below(1000)));
    }
    for (const auto& [key, value] : u.put) model[key] = value;
    ASSERT_OK(run(store->dirs().commit({u})));
  };
  auto compare = [&] {
    for (size_t page : {50u, 5000u}) {
      auto expected = model.begin();
      EntryKey from;
      for (;;) {
        auto entries = run(store->dirs().read_entries(dir, from, page));
        ASSERT_OK(entries);
        for (const auto& e : *entries) {
          ASSERT_NE(expected, model.end());
          ASSERT_EQ(e.key, expected->first);
          ASSERT_EQ(e.value, expected->second);
          ++expected;
        }
        if (entries->size() < page) break;
        from = entries->back().key + '\0';
      }
      ASSERT_EQ(expected, model.end());
    }
    for (const auto& [key, value] : model) {
      if (random.below(20)) continue;
      ASSERT_EQ(*run(store->dirs().read_entry(dir, key)), value);
    }
    ASSERT_EQ(*run(store->dirs().read_entry(dir, "no such key")), std::nullopt);
  };
  for (int i = 0; i < 20; ++i) {
    ASSERT_NO_FATAL_FAILURE(commit(100, 30));
    if (i % 5 == 4) {
      ASSERT_NO_FATAL_FAILURE(compare());
      store = open();
    }
  }
  auto fragments = [&] {
    size_t count = 0;
    auto session = rados::LibradosSession::connect((*volume)->full_name());
    for (auto it = (*session)->io().nobjects_begin(); it != (*session)->io().nobjects_end(); ++it)
      count += it->get_oid().starts_with(rados::dir_object(dir));
    return count;
  };
  EXPECT_GT(fragments(), 20u);
  EXPECT_EQ(**run(store->dirs().read_header(dir)), "header");
  EXPECT_EQ(*run(store->dirs().list_dirs(Ino{}, 10)), std::vector<Ino>{dir});
  DirUpdate gone;
  gone.dir = dir;
  gone.remove = true;
  store = open();
  EXPECT_OK(run(store->dirs().commit({gone})));
  EXPECT_EQ(fragments(), 0u);
  EXPECT_EQ(run(store->dirs().read_entries(dir, "", 10))->size(), 0u);
}

TEST_F(Zombie, WritesUnderWayTogetherAreOrdered) {
  auto journal = run(store_->own_journal(kRank));
  ASSERT_OK(journal);
  ASSERT_OK(run((*journal)->create(SegmentId{1})));
  TaskScope scope;
  std::vector<int> done;
  auto write = [&](int i) -> Task<void> {
    std::string text = std::to_string(i);
    Result<void> written = co_await (*journal)->write(SegmentId{1}, 0, text);
    if (written) done.push_back(i);
  };
  for (int i = 0; i < 9; ++i) scope.spawn(write(i));
  while (!scope.empty()) loop_.run_one();
  EXPECT_EQ(done, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(run((*journal)->read(SegmentId{1}, 0, 1)).value_or(""), "8");
}

// Writes that complete early: sync() waits for them, and tells when they did not come about.
TEST_F(Zombie, AnEarlyJournalTellsAtTheSyncWhatHasBecomeOfItsWrites) {
  RadosOptions early;
  early.segment_capacity = kCapacity;
  early.early_journal = true;
  auto volume = RadosVolume::open(backend_.name, early);
  ASSERT_OK(volume);
  std::unique_ptr<RadosStore> first = std::move(*RadosStore::on(loop_, pool_, *volume));
  auto journal = run(first->own_journal(kRank));
  ASSERT_OK(journal);
  ASSERT_OK(run((*journal)->create(SegmentId{1})));
  std::string all;
  for (uint64_t i = 0; i < 500; ++i) {
    std::string piece = fmt::format("{:07} ", i);
    EXPECT_OK(run((*journal)->write(SegmentId{1}, all.size(), piece)));
    all += piece;
  }
  EXPECT_OK(run((*journal)->sync(SegmentId{1})));
  EXPECT_EQ(run((*journal)->read(SegmentId{1}, 0, all.size())).value_or(""), all);
  ASSERT_OK(take());
  EXPECT_FALSE(store_->unsynced_survived(kRank)) << "the end of it may be missing";
  (void)run((*journal)->write(SegmentId{1}, 0, "late"));
  EXPECT_CODE(run((*journal)->sync(SegmentId{1})), ESTALE);
  EXPECT_CODE(run((*journal)->write(SegmentId{1}, 0, "later")), ESTALE);
}

// File data that is written early.
class EarlyData : public Zombie {
 protected:
  EarlyData() { dynamic_cast<RadosStore&>(*store_).answer_early(); }
  std::string bytes_of(Store& store, Ino ino, uint64_t size) {
    std::string bytes(size, '?');
    EXPECT_OK(run(store.data().read(ino, 0, bytes.data(), bytes.size())));
    return bytes;
  }
};

TEST_F(EarlyData, IsReadAsItWasWrittenAndIsThereAfterTheSync) {
  TestRandom random(11);
  std::map<uint64_t, std::string> model;
  uint64_t early = 0;
  for (int i = 0; i < 400; ++i) {
    const uint64_t n = 600 + random.below(4);
    std::string& file = model[n];
    const uint64_t what = random.below(10);
    if (what == 0) {
      const uint64_t size = random.below(2) ? random.below(9 << 20) : 0;
      ASSERT_OK(run(store_->data().truncate(Ino{n}, std::min<uint64_t>(size, file.size()))));
      file.resize(size);
    } else if (what == 1 && !file.empty()) {
      ASSERT_EQ(bytes_of(*store_, Ino{n}, file.size()) == file, true) << n;
    } else {
      uint64_t offset = random.below(3) ? file.size() : random.below(10 << 20);
      if (offset > 20 << 20) continue;
      const std::string piece(1 + random.below(random.below(2) ? 300 : 300'000),
                              static_cast<char>('a' + i % 26));
      ASSERT_OK(run(store_->data().write(Ino{n}, offset, piece, file.size())));
      early += store_->data().has_unsynced();
      if (file.size() < offset + piece.size()) file.resize(offset + piece.size());
      file.replace(offset, piece.size(), piece);
    }
  }
  EXPECT_GT(early, 100u) << "they are waited for";
  ASSERT_OK(run(store_->data().sync_all()));
  EXPECT_FALSE(store_->data().has_unsynced());
  auto other = backend_.open(loop_, pool_);
  for (const auto& [n, file] : model) {
    EXPECT_TRUE(bytes_of(*other, Ino{n}, file.size()) == file) << n;
    EXPECT_OK(run(store_->data().remove(Ino{n})));
  }
  EXPECT_TRUE(run(store_->data().list(Ino{}, 100))->empty()) << "objects are left behind";
}

TEST_F(EarlyData, OfANewFileShowsNothingOfWhatWasThere) {
  auto old = backend_.open(loop_, pool_);
  const Ino ino{700};
  ASSERT_OK(run(old->data().write(ino, 100, "old", 0)));
  ASSERT_OK(run(old->data().write(ino, (5 << 20) + 7, "old", 103)));
  ASSERT_OK(run(store_->data().write(ino, 0, "new", 0)));
  ASSERT_OK(run(store_->data().write(ino, 5 << 20, "new", 3)));
  std::string expected((5 << 20) + 20, '\0');
  expected.replace(0, 3, "new");
  expected.replace(5 << 20, 3, "new");
  EXPECT_TRUE(bytes_of(*store_, ino, expected.size()) == expected);
  ASSERT_OK(run(store_->data().sync(ino)));
  EXPECT_TRUE(bytes_of(*backend_.open(loop_, pool_), ino, expected.size()) == expected);
}

TEST_F(EarlyData, ThatWasLostFailsTheSync) {
  ASSERT_OK(take());
  ASSERT_OK(run(store_->data().write(Ino{800}, 0, "kept", 0)));
  ASSERT_OK(run(store_->data().sync_all()));
  backend_.take(kRank, [&] {
    // Its OSD hears of it within a second or two, as nobody else brings it the map.
    Result<void> synced;
    for (int i = 0; i < 300 && synced; ++i) {
      (void)run(store_->data().write(Ino{800}, 0, "lost", 4));
      synced = run(store_->data().sync(Ino{800}));
      ::usleep(50'000);
    }
    EXPECT_CODE(synced, ESTALE);
    EXPECT_CODE(run(store_->data().sync_all()), ESTALE);
    EXPECT_OK(run(store_->data().sync(Ino{801})));
    EXPECT_TRUE(store_->data().has_unsynced());
  });
}

TEST(RadosVolumeName, SaysWhatIsWrong) {
  auto name = rados::parse_name("rados:p/n?conf=/a/b.conf&id=x");
  ASSERT_OK(name);
  EXPECT_EQ(name->pool + " " + name->space + " " + name->conf + " " + name->id, "p n /a/b.conf x");
  EXPECT_EQ(name->full(), "rados:p/n?conf=/a/b.conf&id=x");
  EXPECT_EQ(name->shown(), "rados:p/n");
  for (const char* wrong : {"rados:", "rados:p/", "rados:p/a/b", "rados:p?x=1", "/srv/v"})
    EXPECT_CODE(rados::parse_name(wrong), EINVAL);
}

TEST(RadosVolumeFormat, RefusesWhatItMustNotTouch) {
  const std::string name = cluster().fresh_volume();
  ASSERT_OK(RadosVolume::format(name));
  EXPECT_CODE(RadosVolume::format(name), EEXIST);
  EXPECT_CODE(RadosVolume::open(cluster().fresh_volume()), EINVAL);
  EXPECT_CODE(RadosVolume::open("rados:nopool?conf=" + cluster().conf()), ENOENT);
  EXPECT_CODE(RadosVolume::open("rados:p?conf=/nowhere/ceph.conf"), ENOENT);
  ASSERT_OK(RadosVolume::erase(name));
  EXPECT_CODE(RadosVolume::open(name), EINVAL);
  EXPECT_OK(RadosVolume::format(name));
}

}  // namespace
}  // namespace graftfs
