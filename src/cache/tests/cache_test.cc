#include "cache/cache.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace graftfs {
namespace {

constexpr Ino kDir{0x100001}, kChild{0x100002}, kFile{0x100003};
constexpr size_t kManySteps = 1'000'000;

DirHeader header(Ino ino, uint64_t version, Ino parent = kRootIno, uint32_t mode = 0755) {
  DirHeader h;
  h.version = Version{version};
  if (ino != kRootIno) h.at = {parent, "d"};
  h.inode.ino = ino;
  h.inode.mode = S_IFDIR | mode;
  h.inode.nlink = 2;
  return h;
}

EntryValue file(Ino ino, uint64_t version, uint64_t size = 0) {
  EntryValue v;
  v.kind = EntryKind::primary;
  v.version = Version{version};
  v.inode.ino = ino;
  v.inode.mode = S_IFREG | 0644;
  v.inode.nlink = 1;
  v.inode.size = size;
  v.ino = ino;
  v.type = S_IFREG;
  return v;
}

EntryValue gone(uint64_t version) {
  EntryValue v;
  v.version = Version{version};
  return v;
}

// The root and one directory in it.
class CacheTest : public ::testing::Test {
 protected:
  CacheTest() {
    cache.apply_header(Lsn{1}, false, header(kRootIno, 1));
    cache.apply_header(Lsn{1}, false, header(kDir, 1));
  }
  Dir& dir() { return *cache.find_dir(kDir); }
  uint64_t size_of(const char* name) { return cache.find_entry(dir(), name)->inode.size; }
  // Two passes of the clock, and one more for directories that are empty by then.
  void evict_all() {
    for (int i = 0; i < 4; ++i) cache.evict(0, kManySteps);
  }

  Cache cache;
};

// -- versions -----------------------------------------------------------------------------------

TEST_F(CacheTest, AnEventsItemIsTakenOnlyIfItIsNewer) {
  EXPECT_TRUE(cache.apply_entry(Lsn{2}, true, kDir, "f", file(kFile, 5, 50)));
  for (uint64_t version : {4, 5}) {
    EXPECT_TRUE(cache.apply_entry(Lsn{3}, true, kDir, "f", file(kFile, version, 99)));
    EXPECT_EQ(size_of("f"), 50u);
  }
  EXPECT_TRUE(cache.apply_entry(Lsn{4}, true, kDir, "f", file(kFile, 6, 60)));
  EXPECT_EQ(size_of("f"), 60u);

  EXPECT_TRUE(cache.apply_header(Lsn{5}, true, header(kDir, 7, kRootIno, 0700)));
  EXPECT_TRUE(cache.apply_header(Lsn{6}, true, header(kDir, 6, kRootIno, 0711)));
  EXPECT_EQ(dir().inode().mode, S_IFDIR | 0700u);
}

TEST_F(CacheTest, WhatWasRemovedDoesNotComeBack) {
  cache.apply_entry(Lsn{2}, true, kDir, "f", gone(9));
  cache.apply_entry(Lsn{3}, true, kDir, "f", file(kFile, 8));
  EXPECT_EQ(cache.find_entry(dir(), "f")->kind, EntryKind::null);
  EXPECT_EQ(cache.find_inode(kFile), nullptr);
  cache.merge_entry(dir(), name_hash("f"), "f", file(kFile, 8));
  EXPECT_EQ(cache.find_entry(dir(), "f")->kind, EntryKind::null);
  EXPECT_TRUE(cache.find_entry(dir(), "f")->dirty());
}

TEST_F(CacheTest, OfCacheAndStoreTheNewerWins) {
  cache.apply_entry(Lsn{2}, true, kDir, "ours", file(Ino{0x200001}, 5, 1));
  cache.merge_entry(dir(), name_hash("ours"), "ours", file(Ino{0x200001}, 4, 2));
  EXPECT_EQ(size_of("ours"), 1u);
  EXPECT_TRUE(cache.find_entry(dir(), "ours")->dirty());

  cache.apply_entry(Lsn{2}, true, kDir, "theirs", file(Ino{0x200002}, 5, 1));
  cache.merge_entry(dir(), name_hash("theirs"), "theirs", file(Ino{0x200002}, 6, 2));
  EXPECT_EQ(size_of("theirs"), 2u);
  EXPECT_FALSE(cache.find_entry(dir(), "theirs")->dirty());

  cache.apply_header(Lsn{3}, true, header(kDir, 6, kRootIno, 0700));
  cache.merge_header(header(kDir, 5, kRootIno, 0711));
  EXPECT_EQ(dir().inode().mode, S_IFDIR | 0700u);
  EXPECT_TRUE(dir().dirty());
  EXPECT_TRUE(dir().fetched);
  cache.merge_header(header(kDir, 7, kRootIno, 0722));
  EXPECT_EQ(dir().inode().mode, S_IFDIR | 0722u);
  EXPECT_FALSE(dir().dirty());
}

TEST_F(CacheTest, ATouchChangesTimesLinksAndCountAndNothingElse) {
  cache.apply_header(Lsn{2}, false, header(kDir, 2, kRootIno, 0700));
  DirHeader touch = header(kDir, 3, Ino{77}, 0);
  touch.inode.nlink = 9;
  touch.inode.size = 8;
  touch.inode.mtime = {7, 6};
  touch.inode.ctime = {5, 4};
  EXPECT_TRUE(cache.apply_touch(Lsn{3}, true, touch));
  const Inode& i = dir().inode();
  EXPECT_EQ(dir().header.version, Version{3});
  EXPECT_EQ(dir().header.at.parent, kRootIno);
  EXPECT_EQ(i.mode, S_IFDIR | 0700u);
  EXPECT_EQ(i.nlink, 9u);
  EXPECT_EQ(i.size, 8u);
  EXPECT_EQ(i.mtime, (Timespec{7, 6}));
  EXPECT_EQ(i.ctime, (Timespec{5, 4}));
  touch.inode.nlink = 1;
  EXPECT_TRUE(cache.apply_touch(Lsn{4}, true, touch));
  EXPECT_EQ(i.nlink, 9u);
}

TEST_F(CacheTest, ItemsWithoutABaseAreRefused) {
  EXPECT_FALSE(cache.apply_touch(Lsn{2}, true, header(kChild, 5)));
  EXPECT_FALSE(cache.apply_entry(Lsn{2}, true, kChild, "f", file(kFile, 5)));
  EXPECT_EQ(cache.find_dir(kChild), nullptr);
  EXPECT_EQ(cache.find_inode(kFile), nullptr);
  EXPECT_EQ(cache.dirty_count(), 0u);
}

// -- finding ------------------------------------------------------------------------------------

TEST_F(CacheTest, AnInodeIsFoundUnderItsNewNameInWhateverOrderTheItemsCome) {
  for (bool new_name_first : {true, false}) {
    Cache c;
    c.apply_header(Lsn{1}, false, header(kDir, 1));
    c.apply_entry(Lsn{2}, true, kDir, "old", file(kFile, 2));
    if (new_name_first) c.apply_entry(Lsn{3}, true, kDir, "new", file(kFile, 3));
    c.apply_entry(Lsn{3}, true, kDir, "old", gone(3));
    if (!new_name_first) c.apply_entry(Lsn{3}, true, kDir, "new", file(kFile, 3));
    ASSERT_NE(c.find_inode(kFile), nullptr);
    EXPECT_EQ(c.find_inode(kFile)->name, "new");
  }
}

// No two short names with one hash are known, so the store's side, which is told hashes, makes
// them.
TEST_F(CacheTest, NamesWithOneHashLiveBesideEachOther) {
  std::string names[] = {"a", "b", "c"};
  do {
    Cache c;
    c.apply_header(Lsn{1}, false, header(kDir, 1));
    Dir& d = *c.find_dir(kDir);
    for (const std::string& name : names)
      c.merge_entry(d, 1000, name, file(Ino{0x200000u + static_cast<uint8_t>(name[0])}, 2));
    EXPECT_EQ(d.entries.size(), 1u);
    std::string order;
    for (Dentry* e = d.entries.begin()->second; e; e = e->same_hash) order += e->name;
    EXPECT_EQ(order, "abc");
    for (const std::string& name : names) {
      Dentry* e = c.find_entry(d, 1000, name);
      ASSERT_NE(e, nullptr);
      EXPECT_EQ(e->ino.v, 0x200000u + static_cast<uint8_t>(name[0]));
    }
    EXPECT_EQ(c.find_entry(d, 1000, "d"), nullptr);
    c.discard_dir(kDir);
    EXPECT_EQ(c.usage().entries, 0u);
    EXPECT_EQ(c.usage().bytes, 0u);
  } while (std::next_permutation(std::begin(names), std::end(names)));
}

TEST_F(CacheTest, OfNamesWithOneHashOneMayGo) {
  for (const char* other : {"a", "z"}) {
    Cache c;
    c.apply_header(Lsn{1}, false, header(kDir, 1));
    Dir& d = *c.find_dir(kDir);
    NameHash hash = name_hash("m");
    c.merge_entry(d, hash, other, file(Ino{0x200001}, 2));
    c.apply_entry(Lsn{2}, true, kDir, "m", file(kFile, 3));
    c.apply_entry(Lsn{3}, true, kDir, "m", gone(4));
    c.mark_clean(*c.find_entry(d, hash, "m"));
    EXPECT_EQ(c.find_entry(d, hash, "m"), nullptr);
    ASSERT_NE(c.find_entry(d, hash, other), nullptr);
    EXPECT_EQ(c.usage().entries, 1u);
  }
}

TEST_F(CacheTest, KnownRangesGrowWhereTheyMeetAndAreReplacedWhereTheyDoNot) {
  Dir& d = dir();
  EXPECT_FALSE(d.knows(0));
  cache.merge_known(d, 100, 200);
  EXPECT_FALSE(d.knows(99));
  EXPECT_TRUE(d.knows(100));
  EXPECT_TRUE(d.knows(199));
  EXPECT_FALSE(d.knows(200));
  cache.merge_known(d, 200, 300);
  EXPECT_TRUE(d.knows(100) && d.knows(299));
  cache.merge_known(d, 50, 150);
  EXPECT_TRUE(d.knows(50) && d.knows(299));
  cache.merge_known(d, 1000, 1100);
  EXPECT_FALSE(d.knows(150));
  EXPECT_TRUE(d.knows(1000));
  EXPECT_FALSE(d.complete());
  cache.merge_known(d, 0, 1000);
  cache.merge_known(d, 1100, Dir::kEndHash);
  EXPECT_TRUE(d.complete());
}

TEST_F(CacheTest, AnAbsentNameIsKeptOnlyWhereItTellsSomething) {
  Dir& d = dir();
  cache.merge_absent(d, name_hash("no"), "no");
  ASSERT_NE(cache.find_entry(d, "no"), nullptr);
  EXPECT_EQ(cache.find_entry(d, "no")->kind, EntryKind::null);
  EXPECT_FALSE(cache.find_entry(d, "no")->dirty());
  // Version 0: whatever the store or an event says is newer.
  cache.merge_entry(d, name_hash("no"), "no", file(kFile, 1));
  EXPECT_EQ(cache.find_entry(d, "no")->kind, EntryKind::primary);
  cache.merge_absent(d, name_hash("no"), "no");
  EXPECT_EQ(cache.find_entry(d, "no")->kind, EntryKind::primary);
  d.set_complete();
  cache.merge_absent(d, name_hash("never"), "never");
  EXPECT_EQ(cache.find_entry(d, "never"), nullptr);
}

// -- the tree -----------------------------------------------------------------------------------

TEST_F(CacheTest, ADirectoryHangsBelowItsParentOnceThatIsThere) {
  Cache c;
  c.apply_header(Lsn{1}, false, header(kChild, 1, kDir));
  EXPECT_EQ(c.find_dir(kChild)->parent, nullptr);
  EXPECT_EQ(Cache::path_of(*c.find_dir(kChild)), "?#100002");
  c.apply_header(Lsn{1}, false, header(kDir, 1));
  c.apply_header(Lsn{1}, false, header(kRootIno, 1));
  c.attach_all();
  EXPECT_EQ(Cache::path_of(*c.find_dir(kChild)), "/d/d");
  EXPECT_TRUE(Cache::is_below(c.find_dir(kChild), c.find_dir(kDir)));
  EXPECT_FALSE(Cache::is_below(c.find_dir(kDir), c.find_dir(kChild)));
  // A rename hangs it elsewhere.
  c.apply_header(Lsn{2}, true, header(kChild, 2, kRootIno));
  EXPECT_EQ(c.find_dir(kChild)->parent, c.find_dir(kRootIno));
  EXPECT_EQ(c.find_dir(kDir)->children, 0u);
  EXPECT_EQ(c.find_dir(kRootIno)->children, 2u);
}

TEST_F(CacheTest, ADiscardedDirectoryIsGoneDirtyOrNotAndItsChildrenDangle) {
  cache.apply_header(Lsn{2}, true, header(kChild, 2, kDir));
  cache.apply_header(Lsn{2}, true, header(kDir, 2));
  cache.apply_entry(Lsn{2}, true, kDir, "f", file(kFile, 2));
  EXPECT_EQ(cache.dirty_count(), 3u);
  cache.discard_dir(kDir);
  EXPECT_EQ(cache.find_dir(kDir), nullptr);
  EXPECT_EQ(cache.find_inode(kFile), nullptr);
  EXPECT_EQ(cache.dirty_count(), 1u);
  EXPECT_EQ(cache.find_dir(kChild)->parent, nullptr);
  EXPECT_EQ(cache.find_dir(kRootIno)->children, 0u);
  cache.discard_dir(kDir);  // twice is once
}

// -- dirty items --------------------------------------------------------------------------------

TEST_F(CacheTest, DirtyItemsStandInTheOrderInWhichTheyBecameDirty) {
  cache.apply_entry(Lsn{2}, true, kDir, "a", file(Ino{0x200001}, 2));
  cache.apply_header(Lsn{3}, true, header(kDir, 3));
  cache.apply_entry(Lsn{4}, true, kDir, "b", file(Ino{0x200002}, 4));
  // Changed again: the tail of the journal still needs the older event.
  cache.apply_entry(Lsn{5}, true, kDir, "a", file(Ino{0x200001}, 5));
  DirtyItem* a = cache.oldest_dirty();
  EXPECT_EQ(a, cache.find_entry(dir(), "a"));
  EXPECT_EQ(a->since, Lsn{2});
  EXPECT_EQ(cache.next_dirty(a), &dir());
  DirtyItem* items[] = {a};
  cache.wait_from(items, Lsn{6});
  EXPECT_EQ(cache.oldest_dirty(), &dir());
  Dentry* b = cache.find_entry(dir(), "b");
  EXPECT_EQ(cache.next_dirty(b), a);
  EXPECT_EQ(cache.next_dirty(a), nullptr);
  EXPECT_EQ(a->since, Lsn{6});
  cache.mark_clean(dir());
  EXPECT_EQ(cache.oldest_dirty(), b);
  EXPECT_EQ(cache.dirty_count(), 2u);
}

// The front of the list says which segments of the journal are still needed.
TEST_F(CacheTest, AnItemThatChangedDuringItsWriteBackWaitsBeforeWhatBecameDirtyLater) {
  cache.apply_entry(Lsn{2}, true, kDir, "a", file(Ino{0x200001}, 2));
  // Taken for write-back here; then others come, and it changes again.
  cache.apply_entry(Lsn{4}, true, kDir, "b", file(Ino{0x200002}, 4));
  cache.apply_entry(Lsn{5}, true, kDir, "a", file(Ino{0x200001}, 5));
  Dentry* a = cache.find_entry(*cache.find_dir(kDir), "a");
  DirtyItem* items[] = {a};
  cache.wait_from(items, Lsn{3});
  EXPECT_EQ(cache.oldest_dirty(), a);
  EXPECT_EQ(a->since, Lsn{3});
  EXPECT_EQ(cache.dirty_count(), 2u);
}

// Logged again at the head, behind a trace that names the same version.
TEST_F(CacheTest, AVersionThatATraceNamedBecomesDirtyByItsEvent) {
  cache.apply_header(Lsn{2}, false, header(kDir, 7));
  cache.apply_header(Lsn{3}, true, header(kDir, 7));
  EXPECT_TRUE(cache.find_dir(kDir)->dirty());
  EXPECT_EQ(cache.oldest_dirty()->since, Lsn{3});
  cache.apply_entry(Lsn{4}, false, kDir, "f", file(kFile, 8));
  cache.apply_entry(Lsn{5}, true, kDir, "f", file(kFile, 8));
  EXPECT_TRUE(cache.find_entry(*cache.find_dir(kDir), "f")->dirty());
  cache.apply_entry(Lsn{6}, true, kDir, "f", file(kFile, 7));
  EXPECT_EQ(cache.find_entry(*cache.find_dir(kDir), "f")->version, Version{8});
}

TEST_F(CacheTest, AWrittenBackNullEntryStaysWhileAFetchMayBringItsNameBack) {
  for (bool pinned : {true, false}) {
    cache.apply_entry(Lsn{2}, true, kDir, "f", gone(pinned ? 2 : 3));
    dir().pins = pinned ? 1 : 0;
    cache.mark_clean(*cache.find_entry(dir(), "f"));
    EXPECT_EQ(cache.find_entry(dir(), "f") != nullptr, pinned);
    dir().pins = 0;
  }
}

// -- memory -------------------------------------------------------------------------------------

TEST_F(CacheTest, EvictionDropsWhatIsCleanAndForgetsWhatWasKnown) {
  for (int i = 0; i < 100; ++i)
    cache.merge_entry(dir(), name_hash(std::to_string(i)), std::to_string(i),
                      file(Ino{0x200000u + static_cast<unsigned>(i)}, 2));
  dir().set_complete();
  // Looked at since the hand last passed: the first visit only takes note.
  cache.evict(0, 100);
  EXPECT_EQ(cache.usage().entries, 100u);
  evict_all();
  EXPECT_EQ(cache.usage().entries, 0u);
  EXPECT_EQ(cache.find_inode(Ino{0x200000}), nullptr);
  EXPECT_EQ(cache.find_dir(kDir), nullptr);
  EXPECT_NE(cache.find_dir(kRootIno), nullptr);  // roots stay
}

TEST_F(CacheTest, EvictionForgetsTheRangeOfADirectoryThatStays) {
  cache.merge_entry(dir(), name_hash("f"), "f", file(kFile, 2));
  cache.apply_entry(Lsn{2}, true, kDir, "dirty", file(Ino{0x200001}, 3));
  dir().set_complete();
  evict_all();
  EXPECT_EQ(cache.find_entry(dir(), "f"), nullptr);
  EXPECT_FALSE(dir().knows(name_hash("f")));
}

TEST_F(CacheTest, EvictionNeverDropsWhatIsDirtyPinnedOrNeeded) {
  cache.apply_entry(Lsn{2}, true, kDir, "dirty", file(kFile, 2));
  cache.apply_entry(Lsn{2}, true, kDir, "gone", gone(2));
  cache.apply_header(Lsn{1}, false, header(kChild, 1, kDir));
  cache.merge_entry(*cache.find_dir(kChild), name_hash("clean"), "clean", file(Ino{0x200009}, 1));
  cache.find_dir(kChild)->pins = 1;
  evict_all();
  EXPECT_NE(cache.find_inode(kFile), nullptr);
  EXPECT_NE(cache.find_entry(dir(), "gone"), nullptr);
  ASSERT_NE(cache.find_dir(kChild), nullptr);
  EXPECT_NE(cache.find_entry(*cache.find_dir(kChild), "clean"), nullptr);
  cache.find_dir(kChild)->pins = 0;
  evict_all();
  EXPECT_EQ(cache.find_dir(kChild), nullptr);
  EXPECT_NE(cache.find_dir(kDir), nullptr);  // holds dirty entries
  while (cache.dirty_count() > 0) cache.mark_clean(*cache.oldest_dirty());
  evict_all();
  EXPECT_EQ(cache.find_dir(kDir), nullptr);
}

TEST_F(CacheTest, EvictionKeepsAnEmptyDirectoryThatIsOnlyInTheJournal) {
  cache.apply_header(Lsn{2}, true, header(kChild, 1, kDir, 0700));
  evict_all();
  ASSERT_NE(cache.find_dir(kChild), nullptr);
  EXPECT_EQ(cache.oldest_dirty(), cache.find_dir(kChild));
  cache.mark_clean(*cache.find_dir(kChild));
  evict_all();
  EXPECT_EQ(cache.find_dir(kChild), nullptr);
}

TEST_F(CacheTest, EvictionStopsAtTheLimitAndAtTheSteps) {
  for (int i = 0; i < 1000; ++i)
    cache.merge_entry(dir(), name_hash(std::to_string(i)), std::to_string(i),
                      file(Ino{0x200000u + static_cast<unsigned>(i)}, 2));
  size_t half = cache.usage().bytes / 2;
  cache.evict(half, 10);
  EXPECT_GT(cache.usage().entries, 980u);
  for (int i = 0; i < 4; ++i) cache.evict(half, kManySteps);
  EXPECT_LE(cache.usage().bytes, half);
  EXPECT_GT(cache.usage().entries, 0u);
}

TEST(CacheUsage, IsExactOverAnyHistory) {
  uint64_t state = 42;
  auto below = [&state](uint64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
  };
  Cache cache;
  for (uint64_t v = 1; v <= 20'000; ++v) {
    Ino dir{0x100000 + below(20)};
    std::string name(1 + below(40), static_cast<char>('a' + below(26)));
    switch (below(8)) {
      case 0: {
        DirHeader h = header(dir, v, Ino{0x100000 + below(20)});
        if (h.at.parent == dir) h.at.parent = kRootIno;
        if (below(2)) h.inode.set_extra({.symlink = "", .xattrs = {{"user.x", name}}});
        cache.apply_header(Lsn{v}, below(2), h);
        break;
      }
      case 1:
        cache.apply_entry(Lsn{v}, below(2), dir, name, gone(v));
        break;
      case 2:
        if (DirtyItem* item = cache.oldest_dirty()) cache.mark_clean(*item);
        break;
      case 3:
        if (below(50) == 0) cache.discard_dir(dir);
        break;
      case 4:
        cache.evict(cache.usage().bytes / 2, 5);
        break;
      default: {
        EntryValue value = file(Ino{0x200000 + below(500)}, v);
        if (below(3) == 0) value.inode.set_extra({.symlink = name, .xattrs = {}});
        cache.apply_entry(Lsn{v}, below(2), dir, name, value);
      }
    }
    if (v % 1000) continue;
    size_t dirs = 0, entries = 0, dirty = 0;
    cache.for_each_dir([&](Dir& d) {
      ++dirs;
      dirty += d.dirty();
      for (auto& [hash, first] : d.entries)
        for (Dentry* e = first; e; e = e->same_hash) {
          ++entries;
          dirty += e->dirty();
        }
    });
    EXPECT_EQ(cache.usage().dirs, dirs);
    EXPECT_EQ(cache.usage().entries, entries);
    EXPECT_EQ(cache.usage().dirty, dirty);
  }
  for (uint64_t i = 0; i < 20; ++i) cache.discard_dir(Ino{0x100000 + i});
  EXPECT_EQ(cache.usage().bytes, 0u);
  EXPECT_EQ(cache.usage().entries, 0u);
  EXPECT_EQ(cache.oldest_dirty(), nullptr);
}

}  // namespace
}  // namespace graftfs
