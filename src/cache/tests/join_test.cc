// Whole subtrees that come and go: Cache::join, discard_dirs, sweep.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "cache/cache.h"

namespace graftfs {
namespace {

constexpr uint64_t kDirs = 12, kNames = 40, kInodes = 300;

Ino dir_ino(uint64_t n) { return Ino{0x100000 + n}; }

// One step of a history that two caches may go through in the same way.
struct Step {
  uint64_t lsn = 0;
  bool dirty = false, header = false;
  uint64_t dir = 0, parent = 0, name = 0, ino = 0;
  EntryKind kind = EntryKind::primary;
};

std::vector<Step> history(uint64_t seed, uint64_t first, uint64_t last) {
  std::mt19937_64 random(seed);
  std::vector<Step> steps;
  for (uint64_t lsn = first; lsn < last; ++lsn) {
    Step s;
    s.lsn = lsn;
    s.dirty = random() % 3 != 0;
    s.header = random() % 4 == 0;
    s.dir = random() % kDirs;
    s.parent = s.dir == 0 ? 0 : random() % s.dir;
    s.name = random() % kNames;
    s.ino = random() % kInodes;
    s.kind = random() % 5 == 0 ? EntryKind::null : EntryKind::primary;
    steps.push_back(s);
  }
  return steps;
}

void play(Cache& cache, const std::vector<Step>& steps) {
  for (const Step& s : steps) {
    if (s.header) {
      DirHeader h;
      h.version = Version{s.lsn};
      h.inode.ino = dir_ino(s.dir);
      h.inode.mode = S_IFDIR | 0755;
      h.inode.nlink = 2;
      if (s.dir) h.at = {dir_ino(s.parent), "d"};
      cache.apply_header(Lsn{s.lsn}, s.dirty, h);
      continue;
    }
    EntryValue v;
    v.kind = s.kind;
    v.version = Version{s.lsn};
    if (s.kind == EntryKind::primary) {
      v.inode.ino = v.ino = Ino{0x200000 + s.dir * kInodes + s.name};
      v.inode.mode = S_IFREG | 0644;
      v.inode.size = s.ino;
    }
    cache.apply_entry(Lsn{s.lsn}, s.dirty, dir_ino(s.dir), "name" + std::to_string(s.name), v);
  }
}

// Everything a cache holds, as text; the dirty items in their order.
std::map<std::string, std::string> contents(const Cache& cache) {
  std::map<std::string, std::string> out;
  cache.for_each_dir([&](const Dir& d) {
    const std::string dir = fmt::format("{:x}", d.ino().v);
    out[dir] = fmt::format("v{} parent {:x} children {} dirty {}", d.header.version.v,
                           d.parent ? d.parent->ino().v : 0, d.children, d.dirty() ? d.since.v : 0);
    for (const auto& [hash, first] : d.entries)
      for (const Dentry* e = first; e; e = e->same_hash)
        out[dir + "/" + e->name] = fmt::format(
            "v{} kind {} ino {:x} size {} dirty {} found {}", e->version.v,
            static_cast<int>(e->kind), e->ino.v, e->inode.size, e->dirty() ? e->since.v : 0,
            e->kind == EntryKind::primary && cache.find_inode(e->ino) == e);
  });
  // What has arrived, and then the rest: both in order.
  Lsn last, least;
  size_t turns = 0, items = 0;
  for (DirtyItem* item = cache.first_dirty(); item; item = cache.next_dirty(item)) {
    turns += item->since < last;
    last = item->since;
    if (items++ == 0 || item->since < least) least = item->since;
  }
  EXPECT_LE(turns, 1u) << "a dirty list is out of order";
  EXPECT_EQ(items, cache.dirty_count());
  if (items > 0) {
    EXPECT_EQ(cache.oldest_dirty()->since, least);
  }
  return out;
}

void expect_exact_usage(const Cache& cache) {
  size_t dirs = 0, entries = 0, dirty = 0;
  cache.for_each_dir([&](const Dir& d) {
    dirs++;
    dirty += d.dirty();
    for (const auto& [hash, first] : d.entries)
      for (const Dentry* e = first; e; e = e->same_hash) {
        entries++;
        dirty += e->dirty();
      }
  });
  EXPECT_EQ(cache.usage().dirs, dirs);
  EXPECT_EQ(cache.usage().entries, entries);
  EXPECT_EQ(cache.usage().dirty, dirty);
}

// Directories that only one of both knows: the same as if all had gone to one cache.
TEST(CacheJoin, IsAsIfAllHadBeenAppliedHere) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    std::vector<Step> here, there;
    for (const Step& s : history(seed, 1, 600)) (s.dir < 5 ? here : there).push_back(s);
    Cache one, two, aside;
    play(one, here);
    play(one, there);
    play(two, here);
    play(aside, there);
    two.join(aside);
    one.attach_all();
    two.attach_all();
    ASSERT_EQ(contents(one), contents(two));
    expect_exact_usage(two);
    EXPECT_EQ(aside.usage().dirs + aside.usage().entries + aside.usage().dirty, 0u);
    EXPECT_EQ(one.usage().bytes, two.usage().bytes);
  }
}

// What both know: the newer one counts, and is dirty where it was.
TEST(CacheJoin, TheNewerCounts) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Cache cache, aside;
    std::vector<Step> here, there;
    std::map<std::string, Step> newest;
    for (uint64_t d = 0; d < kDirs; ++d)
      here.push_back({.lsn = d + 1, .header = true, .dir = d, .parent = d ? d - 1 : 0});
    there = here;
    for (const Step& s : history(seed, 100, 700)) {
      (s.lsn % 2 ? here : there).push_back(s);
      newest[fmt::format("{:x}{}", dir_ino(s.dir).v,
                         s.header ? "" : "/name" + std::to_string(s.name))] = s;
    }
    play(cache, here);
    play(aside, there);
    cache.join(aside);
    auto found = contents(cache);
    for (const auto& [name, step] : newest) {
      EXPECT_TRUE(found[name].starts_with(fmt::format("v{} ", step.lsn))) << name << found[name];
      EXPECT_TRUE(!step.dirty || found[name].find("dirty 0") == std::string::npos) << name;
    }
    expect_exact_usage(cache);
  }
}

TEST(CacheJoin, AStubGivesWay) {
  Cache cache, aside;
  auto steps = history(7, 1, 400);
  play(aside, steps);
  DirHeader root;
  root.version = Version{1};
  root.inode.ino = kRootIno;
  root.inode.mode = S_IFDIR | 0755;
  cache.apply_header(Lsn{1}, false, root);
  cache.put_stub(dir_ino(3), *cache.find_dir(kRootIno), RankId{4});
  cache.join(aside);
  EXPECT_FALSE(cache.find_dir(dir_ino(3))->is_foreign());
  expect_exact_usage(cache);
}

// What was discarded is gone at once, for whoever looks, and freed in pieces.
TEST(CacheDiscard, IsInvisibleAtOnceAndFreedLater) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    Cache one, two;
    auto steps = history(seed, 1, 600);
    play(one, steps);
    play(two, steps);
    std::vector<Ino> go;
    for (uint64_t d = 0; d < kDirs; ++d)
      if ((seed >> (d % 6)) & 1) go.push_back(dir_ino(d));
    for (Ino dir : go) one.discard_dir(dir);
    two.discard_dirs(go);
    EXPECT_EQ(contents(one), contents(two));
    // Some of it comes back before it was freed.
    auto more = history(seed + 1000, 600, 700);
    play(one, more);
    play(two, more);
    EXPECT_EQ(contents(one), contents(two));
    while (!two.sweep(3)) ASSERT_EQ(contents(one), contents(two));
    EXPECT_EQ(contents(one), contents(two));
    expect_exact_usage(two);
    EXPECT_EQ(one.usage().bytes, two.usage().bytes);
  }
}

}  // namespace
}  // namespace graftfs
