#pragma once
// The contract of store.h, as tests over `Backends`, a list of types that the includer has defined:
//
//   open(loop, pool)  the volume, again and again
//   take(rank, fn)    calls `fn` while another process owns the rank
//   kBuffersData      whether a completed write may be lost until it is synced

#include "store/fence.h"
#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

template <class Backend>
class StoreContract : public ::testing::Test {
 protected:
  void SetUp() override { store_ = backend_.open(loop_, pool_); }
  void reopen() {
    store_.reset();
    store_ = backend_.open(loop_, pool_);
  }
  template <class T>
  T run(Task<T> task) {
    return graftfs::run(loop_, std::move(task));
  }
  DirStore& dirs() { return store_->dirs(); }
  DataStore& data() { return store_->data(); }
  std::string read(Ino ino, uint64_t offset, size_t n) {
    std::string s(n, '?');
    EXPECT_OK(run(data().read(ino, offset, s.data(), n)));
    return s;
  }

  Backend backend_;
  EventLoop loop_;
  BlockingPool pool_{"test", 2};
  std::unique_ptr<Store> store_;
};

TYPED_TEST_SUITE(StoreContract, Backends);

DirUpdate update(Ino dir, std::vector<std::pair<EntryKey, std::string>> put) {
  DirUpdate u;
  u.dir = dir;
  u.header = "header of " + std::to_string(dir.v);
  u.put = std::move(put);
  return u;
}

TYPED_TEST(StoreContract, DirectoriesAreCommittedReadAndSurviveReopening) {
  std::vector<DirUpdate> batch = {update(Ino{1}, {{"b", "2"}, {"a", "1"}, {"c", ""}}),
                                  update(Ino{2}, {{std::string(kMaxEntryKey, 'x'), "long"}})};
  batch[0].located = {{Ino{100}, "a"}, {Ino{99}, "b"}};
  EXPECT_OK(this->run(this->dirs().commit(batch)));
  this->reopen();
  EXPECT_EQ(**this->run(this->dirs().read_header(Ino{1})), "header of 1");
  EXPECT_EQ(*this->run(this->dirs().read_header(Ino{3})), std::nullopt);
  EXPECT_EQ(**this->run(this->dirs().read_entry(Ino{1}, "a")), "1");
  EXPECT_EQ(**this->run(this->dirs().read_entry(Ino{1}, "c")), "");
  EXPECT_EQ(*this->run(this->dirs().read_entry(Ino{1}, "d")), std::nullopt);
  EXPECT_EQ(**this->run(this->dirs().read_entry(Ino{2}, std::string(kMaxEntryKey, 'x'))), "long");
  auto headers = *this->run(this->dirs().read_headers({Ino{2}, Ino{7}, Ino{1}}));
  EXPECT_EQ(headers[0], "header of 2");
  EXPECT_EQ(headers[1], std::nullopt);
  EXPECT_EQ(headers[2], "header of 1");
  auto at = *this->run(this->dirs().locate(Ino{100}));
  ASSERT_TRUE(at.has_value());
  EXPECT_EQ(at->dir, Ino{1});
  EXPECT_EQ(at->key, "a");
  EXPECT_EQ(*this->run(this->dirs().locate(Ino{101})), std::nullopt);
}

TYPED_TEST(StoreContract, EntriesAreListedInKeyOrderFromAnywhere) {
  std::vector<std::pair<EntryKey, std::string>> put;
  for (int i = 999; i >= 0; --i) put.emplace_back(fmt::format("{:04}", i), std::to_string(i));
  EXPECT_OK(
      this->run(this->dirs().commit({update(Ino{5}, put), update(Ino{6}, {{"0", "other"}})})));
  for (size_t page : {7, 1000, 5000}) {
    int next = 0;
    EntryKey from;
    for (;;) {
      auto entries = *this->run(this->dirs().read_entries(Ino{5}, from, page));
      for (const auto& e : entries) EXPECT_EQ(e.value, std::to_string(next++));
      if (entries.size() < page) break;
      from = entries.back().key + '\0';
    }
    EXPECT_EQ(next, 1000);
  }
  EXPECT_EQ(this->run(this->dirs().read_entries(Ino{5}, "0998x", 10))->size(), 1u);
  EXPECT_EQ(this->run(this->dirs().read_entries(Ino{4}, "", 10))->size(), 0u);
  EXPECT_EQ(this->run(this->dirs().read_entries(Ino{5}, "", 0))->size(), 0u);
}

TYPED_TEST(StoreContract, AnUpdateErasesReplacesAndRemoves) {
  DirUpdate first = update(Ino{1}, {{"a", "1"}, {"b", "2"}});
  first.located = {{Ino{50}, "a"}, {Ino{51}, "b"}};
  EXPECT_OK(this->run(this->dirs().commit({first, update(Ino{2}, {{"z", "9"}})})));
  DirUpdate second;
  second.dir = Ino{1};
  second.put = {{"b", "two"}};
  second.erase = {"a", "never there"};
  second.unlocated = {Ino{50}};
  EXPECT_OK(this->run(this->dirs().commit({second})));
  EXPECT_EQ(**this->run(this->dirs().read_header(Ino{1})), "header of 1");
  EXPECT_EQ(*this->run(this->dirs().read_entry(Ino{1}, "a")), std::nullopt);
  EXPECT_EQ(**this->run(this->dirs().read_entry(Ino{1}, "b")), "two");
  EXPECT_EQ(*this->run(this->dirs().locate(Ino{50})), std::nullopt);
  EXPECT_TRUE(this->run(this->dirs().locate(Ino{51}))->has_value());
  EXPECT_EQ(*this->run(this->dirs().list_dirs(Ino{0}, 10)), (std::vector<Ino>{Ino{1}, Ino{2}}));
  EXPECT_EQ(*this->run(this->dirs().list_dirs(Ino{2}, 10)), (std::vector<Ino>{Ino{2}}));
  EXPECT_EQ(*this->run(this->dirs().list_dirs(Ino{0}, 1)), (std::vector<Ino>{Ino{1}}));
  DirUpdate gone;
  gone.dir = Ino{1};
  gone.remove = true;
  EXPECT_OK(this->run(this->dirs().commit({gone})));
  EXPECT_EQ(*this->run(this->dirs().read_header(Ino{1})), std::nullopt);
  EXPECT_EQ(this->run(this->dirs().read_entries(Ino{1}, "", 10))->size(), 0u);
  EXPECT_EQ(**this->run(this->dirs().read_entry(Ino{2}, "z")), "9");
}

TYPED_TEST(StoreContract, StateIsComparedAndSet) {
  auto& state = this->store_->state();
  EXPECT_EQ(this->run(state.get("k"))->version, 0u);
  EXPECT_EQ(*this->run(state.set("k", 0, "one")), 1u);
  EXPECT_CODE(this->run(state.set("k", 0, "again")), ESTALE);
  EXPECT_EQ(*this->run(state.set("k", 1, "two")), 2u);
  EXPECT_OK(this->run(state.set("k2", 0, "x")));
  EXPECT_OK(this->run(state.set("z", 0, "y")));
  this->reopen();
  auto value = *this->run(this->store_->state().get("k"));
  EXPECT_EQ(value.version, 2u);
  EXPECT_EQ(value.value, "two");
  auto list = *this->run(this->store_->state().list("k"));
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[1].first, "k2");
  EXPECT_EQ(this->run(this->store_->state().list(""))->size(), 3u);
}

TYPED_TEST(StoreContract, AJournalIsWrittenReadAndTrimmed) {
  auto owned = this->run(this->store_->own_journal(kRank));
  ASSERT_OK(owned);
  JournalDevice& j = **owned;
  EXPECT_EQ(j.segment_capacity(), kCapacity);
  EXPECT_OK(this->run(j.create(SegmentId{7})));
  EXPECT_OK(this->run(j.create(SegmentId{3})));
  EXPECT_CODE(this->run(j.create(SegmentId{7})), EEXIST);
  std::string bytes = pattern_bytes(3000, 1);
  EXPECT_OK(this->run(j.write(SegmentId{7}, 100, bytes)));
  EXPECT_OK(this->run(j.write(SegmentId{7}, kCapacity - 1, "x")));
  EXPECT_CODE(this->run(j.write(SegmentId{7}, kCapacity - 1, "xy")), EINVAL);
  EXPECT_FALSE(this->run(j.write(SegmentId{8}, 0, "x")).has_value());
  EXPECT_OK(this->run(j.sync(SegmentId{7})));
  EXPECT_EQ(*this->run(j.read(SegmentId{7}, 100, 3000)), bytes);
  EXPECT_EQ(this->run(j.read(SegmentId{7}, kCapacity - 1, 10))->size(), 1u);
  EXPECT_EQ(this->run(j.read(SegmentId{7}, kCapacity + 5, 10))->size(), 0u);
  auto list = *this->run(j.list());
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].id, SegmentId{3});
  EXPECT_EQ(list[1].capacity, kCapacity);
  EXPECT_OK(this->run(j.remove(SegmentId{3})));
  EXPECT_CODE(this->run(j.remove(SegmentId{3})), ENOENT);
  EXPECT_NE(j.name_of(SegmentId{7}).find("rank-0/0000000000000007.seg"), std::string::npos);

  auto reader = this->run(this->store_->read_journal(kRank));
  ASSERT_OK(reader);
  EXPECT_EQ(*this->run((*reader)->read(SegmentId{7}, 100, 3000)), bytes);
  EXPECT_CODE(this->run((*reader)->write(SegmentId{7}, 0, "x")), EROFS);

  this->reopen();
  auto again = this->run(this->store_->own_journal(kRank));
  ASSERT_OK(again);
  EXPECT_EQ(this->run((*again)->list())->size(), 1u);
  EXPECT_EQ(*this->run((*again)->read(SegmentId{7}, 100, 3000)), bytes);
  // Nothing has died but the store.
  EXPECT_TRUE(this->store_->unsynced_survived(kRank));
}

TYPED_TEST(StoreContract, AJournalNeverOwnedBeforeHasNothingThatSurvived) {
  ASSERT_OK(this->run(this->store_->own_journal(RankId{3})));
  EXPECT_FALSE(this->store_->unsynced_survived(RankId{3}));
}

// A recovery that is cut off must not make the next one believe in unsynced writes.
TYPED_TEST(StoreContract, DoubtLastsUntilAnOwnerHasSyncedASegmentOfItsOwn) {
  RankId rank{4};
  ASSERT_OK(this->run(this->store_->own_journal(rank)));
  this->reopen();
  auto owned = this->run(this->store_->own_journal(rank));
  ASSERT_OK(owned);
  ASSERT_OK(this->run((*owned)->create(SegmentId{1})));
  EXPECT_OK(this->run((*owned)->sync(SegmentId{1})));
  this->reopen();
  ASSERT_OK(this->run(this->store_->own_journal(rank)));
  EXPECT_TRUE(this->store_->unsynced_survived(rank));
}

TYPED_TEST(StoreContract, ADisownedJournalIsFenced) {
  auto owned = this->run(this->store_->own_journal(kRank));
  ASSERT_OK(owned);
  EXPECT_OK(this->run((*owned)->create(SegmentId{1})));
  EXPECT_OK(this->run(this->store_->disown_journal(kRank)));
  EXPECT_CODE(this->run((*owned)->write(SegmentId{1}, 0, "late")), ESTALE);
  EXPECT_CODE(this->run((*owned)->sync(SegmentId{1})), ESTALE);
  EXPECT_CODE(this->run((*owned)->create(SegmentId{2})), ESTALE);
  auto again = this->run(this->store_->own_journal(kRank));
  ASSERT_OK(again);
  EXPECT_OK(this->run((*again)->write(SegmentId{1}, 0, "new")));
}

TYPED_TEST(StoreContract, ClusterStateIsComparedAndSet) {
  StateStore& state = this->store_->state();
  for (uint64_t i = 0; i < 30; ++i) {
    auto set = this->run(state.set("cluster/table", i, fmt::format("value {}\n", i)));
    ASSERT_OK(set);
    EXPECT_EQ(*set, i + 1);
    EXPECT_CODE(this->run(state.set("cluster/table", i, "late")), ESTALE);
  }
  EXPECT_CODE(this->run(state.set("cluster/table", 0, "late")), ESTALE);
  EXPECT_CODE(this->run(state.set("cluster/table", 31, "early")), ESTALE);
  EXPECT_OK(this->run(state.set("cluster/node-00ff", 0, "")));
  EXPECT_OK(this->run(state.set("cluster/keys/revoked-1", 0, "x")));
  EXPECT_OK(this->run(state.set("clusterless", 0, "y")));
  this->reopen();
  StateStore& again = this->store_->state();
  auto value = *this->run(again.get("cluster/table"));
  EXPECT_EQ(value.version, 30u);
  EXPECT_EQ(value.value, "value 29\n");
  auto all = *this->run(again.list("cluster/"));
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].first, "cluster/keys/revoked-1");
  EXPECT_EQ(all[1].first, "cluster/node-00ff");
  EXPECT_EQ(all[1].second.version, 1u);
  EXPECT_EQ(this->run(again.list("cluster/keys/"))->size(), 1u);
  EXPECT_OK(this->run(again.remove("cluster/node-00ff")));
  EXPECT_OK(this->run(again.remove("cluster/node-00ff")));
  EXPECT_EQ(this->run(again.get("cluster/node-00ff"))->version, 0u);
}

TYPED_TEST(StoreContract, EveryOwnerHasAHigherEpoch) {
  OwnOptions mine;
  mine.node = 0xabc;
  ASSERT_OK(this->run(this->store_->own_journal(kRank, mine)));
  EXPECT_EQ(*this->run(this->store_->raise_epoch(kRank, Epoch{0})), Epoch{1});
  auto fence = [&] {
    std::string key = fence_key(kRank);
    return *decode_fence(this->run(this->store_->state().get(key))->value, kRank);
  };
  EXPECT_EQ(fence().epoch, Epoch{1});
  EXPECT_EQ(fence().node, 0xabcu);
  EXPECT_EQ(*this->run(this->store_->raise_epoch(kRank, Epoch{9})), Epoch{9});
  EXPECT_EQ(fence().epoch, Epoch{9});
  EXPECT_OK(this->run(this->dirs().commit({update(Ino{1}, {})})));
  this->reopen();
  OwnOptions late;
  late.mode = OwnMode::take;
  late.from = Epoch{1};
  EXPECT_CODE(this->run(this->store_->own_journal(kRank, late)), ESTALE);
  late.from = Epoch{9};
  ASSERT_OK(this->run(this->store_->own_journal(kRank, late)));
  EXPECT_EQ(fence().epoch, Epoch{10});
}

TYPED_TEST(StoreContract, WhatAFencedOwnerChangesIsRefused) {
  auto owned = this->run(this->store_->own_journal(kRank));
  ASSERT_OK(owned);
  ASSERT_OK(this->run((*owned)->create(SegmentId{1})));
  EXPECT_OK(this->run(this->data().write(Ino{600}, 0, "kept", 0)));
  ASSERT_NO_FATAL_FAILURE(this->backend_.take(kRank, [&] {
    EXPECT_CODE(this->run(this->dirs().commit({update(Ino{1}, {{"k", "late"}})})), ESTALE);
    EXPECT_CODE(this->run((*owned)->create(SegmentId{2})), ESTALE);
    EXPECT_CODE(this->run((*owned)->remove(SegmentId{1})), ESTALE);
    EXPECT_CODE(this->run(this->data().remove(Ino{600})), ESTALE);
    EXPECT_CODE(this->run(this->store_->raise_epoch(kRank, Epoch{99})), ESTALE);
  }));
  this->reopen();
  EXPECT_EQ(*this->run(this->dirs().read_entry(Ino{1}, "k")), std::nullopt);
  EXPECT_EQ(this->read(Ino{600}, 0, 4), "kept");
  auto again = this->run(this->store_->own_journal(kRank));
  ASSERT_OK(again);
  EXPECT_EQ(this->run((*again)->list())->size(), 1u);
}

TYPED_TEST(StoreContract, DataIsSparseAndZeroWhereNothingWasWritten) {
  EXPECT_EQ(this->read(Ino{10}, 0, 8), std::string(8, '\0'));
  std::string big = pattern_bytes(20000, 2);  // through the pool in the local store
  EXPECT_OK(this->run(this->data().write(Ino{10}, 1 << 20, big, 0)));
  EXPECT_OK(this->run(this->data().write(Ino{10}, 3, "abc", (1 << 20) + 20000)));
  EXPECT_EQ(this->read(Ino{10}, 0, 8), std::string("\0\0\0abc\0\0", 8));
  EXPECT_EQ(this->read(Ino{10}, 1 << 20, 20000), big);
  EXPECT_EQ(this->read(Ino{10}, (1 << 20) + 19999, 3), big.substr(19999) + std::string(2, '\0'));
  this->reopen();
  EXPECT_EQ(this->read(Ino{10}, 1 << 20, 20000), big);
  auto info = this->run(this->data().write(Ino{10}, 0, "x", (1 << 20) + 20000));
  ASSERT_OK(info);
  EXPECT_GE(info->blocks, 20000u / 512);
  EXPECT_LT(info->blocks, 1000u) << "the hole takes no space";
}

TYPED_TEST(StoreContract, BytesBeyondTheValidSizeAreVoid) {
  EXPECT_OK(this->run(this->data().write(Ino{11}, 0, pattern_bytes(10000, 3), 0)));
  std::string head = this->read(Ino{11}, 0, 100);
  // The caller knows of 100 bytes: the rest was never acknowledged.
  EXPECT_OK(this->run(this->data().write(Ino{11}, 5000, "Z", 100)));
  EXPECT_EQ(this->read(Ino{11}, 0, 100), head);
  EXPECT_EQ(this->read(Ino{11}, 100, 4900), std::string(4900, '\0'));
  EXPECT_EQ(this->read(Ino{11}, 5000, 5000), "Z" + std::string(4999, '\0'));
  this->reopen();
  EXPECT_OK(this->run(this->data().allocate(Ino{11}, AllocateMode::allocate, 0, 8192, 50)));
  EXPECT_EQ(this->read(Ino{11}, 0, 60), head.substr(0, 50) + std::string(10, '\0'));
}

TYPED_TEST(StoreContract, TruncationVoidsAndExtendingShowsZeros) {
  EXPECT_OK(this->run(this->data().write(Ino{12}, 0, std::string(9000, 'q'), 0)));
  EXPECT_OK(this->run(this->data().truncate(Ino{12}, 4097)));
  EXPECT_OK(this->run(this->data().truncate(Ino{12}, 9000)));
  EXPECT_EQ(this->read(Ino{12}, 4090, 20), std::string(7, 'q') + std::string(13, '\0'));
  auto info = this->run(this->data().truncate(Ino{12}, 0));
  ASSERT_OK(info);
  EXPECT_EQ(info->blocks, 0u);
  EXPECT_OK(this->run(this->data().truncate(Ino{999}, 5)));
}

TYPED_TEST(StoreContract, HolesArePunchedZeroedAndFound) {
  constexpr uint64_t kSize = 64 << 10;
  EXPECT_OK(this->run(this->data().write(Ino{13}, 0, std::string(kSize, 'd'), 0)));
  auto punched =
      this->run(this->data().allocate(Ino{13}, AllocateMode::punch_hole, 8192, 16384, kSize));
  ASSERT_OK(punched);
  EXPECT_EQ(this->read(Ino{13}, 8191, 3), std::string("d\0\0", 3));
  EXPECT_EQ(this->read(Ino{13}, 8192 + 16383, 2), std::string("\0d", 2));
  EXPECT_EQ(*this->run(this->data().seek(Ino{13}, 0, false, kSize)), 8192u);
  EXPECT_EQ(*this->run(this->data().seek(Ino{13}, 8192, true, kSize)), 8192u + 16384u);
  EXPECT_EQ(*this->run(this->data().seek(Ino{13}, 30000, false, kSize)), kSize);
  EXPECT_EQ(*this->run(this->data().seek(Ino{13}, 100, true, kSize)), 100u);
  EXPECT_CODE(this->run(this->data().seek(Ino{13}, kSize, true, kSize)), ENXIO);
  EXPECT_CODE(this->run(this->data().seek(Ino{13}, kSize, false, kSize)), ENXIO);
  EXPECT_EQ(*this->run(this->data().seek(Ino{13}, kSize + 9, false, kSize + 10)), kSize + 9);
  EXPECT_CODE(this->run(this->data().seek(Ino{13}, kSize + 9, true, kSize + 10)), ENXIO);
  EXPECT_CODE(this->run(this->data().seek(Ino{998}, 0, true, 10)), ENXIO);
  EXPECT_EQ(*this->run(this->data().seek(Ino{998}, 4, false, 10)), 4u);
  EXPECT_OK(this->run(this->data().allocate(Ino{13}, AllocateMode::zero_range, 0, 5000, kSize)));
  EXPECT_EQ(this->read(Ino{13}, 4999, 2), std::string("\0d", 2));
  auto reserved = this->run(this->data().allocate(Ino{14}, AllocateMode::allocate, 0, 1 << 20, 0));
  ASSERT_OK(reserved);
  EXPECT_GE(reserved->blocks, (1u << 20) / 512);
}

TYPED_TEST(StoreContract, CopiesKeepBytesAndHoles) {
  std::string bytes = pattern_bytes(300000, 4);
  EXPECT_OK(this->run(this->data().write(Ino{20}, 0, bytes, 0)));
  EXPECT_OK(this->run(this->data().write(Ino{20}, 1 << 20, "end", bytes.size())));
  uint64_t size = (1 << 20) + 3;
  EXPECT_OK(this->run(this->data().write(Ino{21}, 0, std::string(size, 'o'), 0)));
  auto info = this->run(this->data().copy(Ino{20}, 10, Ino{21}, 20, size - 10, size));
  ASSERT_OK(info);
  EXPECT_EQ(this->read(Ino{21}, 0, 20), std::string(20, 'o'));
  EXPECT_EQ(this->read(Ino{21}, 20, bytes.size() - 10), bytes.substr(10));
  EXPECT_EQ(this->read(Ino{21}, 500000, 1000), std::string(1000, '\0'));
  EXPECT_EQ(this->read(Ino{21}, (1 << 20) + 10, 3), "end");
  EXPECT_LT(info->blocks, size / 512);
  // Within one file, and from a file that has none.
  EXPECT_OK(this->run(this->data().copy(Ino{20}, 0, Ino{20}, 2 << 20, 1000, size)));
  EXPECT_EQ(this->read(Ino{20}, 2 << 20, 1000), bytes.substr(0, 1000));
  EXPECT_OK(this->run(this->data().copy(Ino{997}, 0, Ino{20}, 0, 1000, (2 << 20) + 1000)));
  EXPECT_EQ(this->read(Ino{20}, 0, 1001), std::string(1000, '\0') + bytes[1000]);
}

TYPED_TEST(StoreContract, SyncingLeavesNothingUnsynced) {
  EXPECT_OK(this->run(this->data().sync_all()));
  EXPECT_FALSE(this->data().has_unsynced());
  for (int files : {1, 10, 40}) {
    for (int i = 0; i < files; ++i) {
      EXPECT_OK(this->run(this->data().write(Ino{300u + i}, 0, "data", 0)));
    }
    EXPECT_EQ(this->data().has_unsynced(), TypeParam::kBuffersData);
    if (files == 1) {
      EXPECT_OK(this->run(this->data().sync(Ino{300})));
    } else {
      EXPECT_OK(this->run(this->data().sync_all()));
    }
    EXPECT_FALSE(this->data().has_unsynced());
  }
  EXPECT_OK(this->run(this->data().sync(Ino{12345})));
}

// Beyond what the medium can hold nothing is written, and nothing else is touched for it.
TYPED_TEST(StoreContract, DataThatLiesFarOutHarmsNothing) {
  constexpr uint64_t kFar = uint64_t{1} << 56;
  auto& data = this->data();
  ASSERT_OK(this->run(data.write(Ino{7}, 0, "near", 0)));
  ASSERT_OK(this->run(data.truncate(Ino{7}, kFar)));
  auto written = this->run(data.write(Ino{7}, kFar, "far", kFar));
  if (!written) EXPECT_CODE(written, EFBIG);
  std::string near(8, '?'), far(8, '?');
  ASSERT_OK(this->run(data.read(Ino{7}, 0, near.data(), near.size())));
  EXPECT_EQ(near, std::string("near\0\0\0\0", 8));
  ASSERT_OK(this->run(data.read(Ino{7}, kFar, far.data(), far.size())));
  EXPECT_EQ(far, written ? std::string("far\0\0\0\0\0", 8) : std::string(8, '\0'));
  auto found = this->run(data.seek(Ino{7}, 1 << 24, true, kFar));
  EXPECT_CODE(found, ENXIO);
  auto hole = this->run(data.seek(Ino{7}, kFar - 100, false, kFar));
  ASSERT_OK(hole);
  EXPECT_EQ(*hole, kFar - 100);
}

TYPED_TEST(StoreContract, RemovedDataIsGone) {
  for (uint64_t i : {5, 300, 4, 70000}) {
    EXPECT_OK(this->run(this->data().write(Ino{i}, 0, "data", 0)));
  }
  EXPECT_EQ(*this->run(this->data().list(Ino{0}, 10)),
            (std::vector<Ino>{Ino{4}, Ino{5}, Ino{300}, Ino{70000}}));
  EXPECT_EQ(*this->run(this->data().list(Ino{0}, 1)), (std::vector<Ino>{Ino{4}}));
  EXPECT_EQ(*this->run(this->data().list(Ino{5}, 2)), (std::vector<Ino>{Ino{5}, Ino{300}}));
  EXPECT_OK(this->run(this->data().remove(Ino{5})));
  EXPECT_OK(this->run(this->data().remove(Ino{6})));
  EXPECT_EQ(this->read(Ino{5}, 0, 4), std::string(4, '\0'));
  EXPECT_EQ(*this->run(this->data().list(Ino{0}, 10)),
            (std::vector<Ino>{Ino{4}, Ino{300}, Ino{70000}}));
}

// Issues writes, a truncation and a read without waiting in between.
Task<Result<void>> issue_all(DataStore& data, EventLoop& loop, std::string& seen) {
  std::string big(200000, 'A');
  TaskScope scope;
  Promised<bool> done(loop);
  auto write = [](DataStore& d, std::string_view bytes, uint64_t offset) -> Task<void> {
    (void)co_await d.write(Ino{77}, offset, bytes, 200000);
  };
  auto truncate = [](DataStore& d) -> Task<void> { (void)co_await d.truncate(Ino{77}, 10); };
  auto read = [](DataStore& d, std::string& out, Promised<bool> finished) -> Task<void> {
    (void)co_await d.read(Ino{77}, 0, out.data(), out.size());
    finished.set(true);
  };
  scope.spawn(write(data, big, 0));
  scope.spawn(write(data, "bbb", 4));
  scope.spawn(truncate(data));
  scope.spawn(read(data, seen, done));
  scope.spawn(write(data, "late", 0));
  co_await done;
  co_await sleep_for(loop, 20 * kMillisecond);
  co_return Result<void>();
}

TYPED_TEST(StoreContract, OperationsOnOneFileTakeEffectInTheOrderOfTheirIssue) {
  std::string seen(20, '?');
  EXPECT_OK(this->run(issue_all(this->data(), this->loop_, seen)));
  EXPECT_EQ(seen, "AAAAbbbAAA" + std::string(10, '\0'));
  EXPECT_EQ(this->read(Ino{77}, 0, 8), "latebbbA");
}

TYPED_TEST(StoreContract, AfterShutDownEverythingFails) {
  auto owned = this->run(this->store_->own_journal(kRank));
  ASSERT_OK(owned);
  EXPECT_OK(this->run((*owned)->create(SegmentId{1})));
  this->store_->shut_down();
  EXPECT_CODE(this->run((*owned)->write(SegmentId{1}, 0, "x")), EIO);
  EXPECT_CODE(this->run((*owned)->sync(SegmentId{1})), EIO);
  EXPECT_CODE(this->run(this->dirs().commit({update(Ino{1}, {})})), EIO);
  EXPECT_CODE(this->run(this->dirs().read_header(Ino{1})), EIO);
  EXPECT_CODE(this->run(this->data().write(Ino{1}, 0, "x", 0)), EIO);
  EXPECT_CODE(this->run(this->data().sync_all()), EIO);
  EXPECT_CODE(this->run(this->store_->state().set("k", 0, "v")), EIO);
  EXPECT_CODE(this->run(this->store_->usage()), EIO);
  this->reopen();
  EXPECT_EQ(*this->run(this->dirs().read_header(Ino{1})), std::nullopt);
}

Task<bool> pause(EventLoop& loop) {
  co_await sleep_for(loop, 100 * kMillisecond);
  co_return true;
}

TYPED_TEST(StoreContract, UsageIsPlausible) {
  auto usage = this->run(this->store_->usage());
  // A young cluster does not know it yet.
  for (int i = 0; i < 200 && usage && usage->blocks == 0; ++i) {
    this->run(pause(this->loop_));
    usage = this->run(this->store_->usage());
  }
  ASSERT_OK(usage);
  EXPECT_GT(usage->blocks, 0u);
  EXPECT_LE(usage->blocks_available, usage->blocks);
}

}  // namespace
}  // namespace graftfs
