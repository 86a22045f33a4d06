// Listings: order, pages, cookies that stay, attributes at hand.

#include <algorithm>
#include <set>

#include "server/tests/ops_fixture.h"

namespace graftfs {
namespace {

class Readdir : public OpsTest {
 protected:
  // All names, in pages of `max`.
  std::vector<ListedEntry> list(Ino dir, uint32_t max, bool plus = false) {
    std::vector<ListedEntry> all;
    uint64_t cookie = 0;
    for (bool end = false; !end;) {
      Reply r = owner.readdir(dir, cookie, max, plus);
      EXPECT_EQ(r.err, 0);
      EXPECT_TRUE(r.end || !r.entries.empty()) << "a page that gets nowhere";
      if (r.err || (!r.end && r.entries.empty())) break;
      EXPECT_LE(r.entries.size(), std::max(max, 1u));
      end = r.end;
      for (ListedEntry& e : r.entries) all.push_back(std::move(e));
      if (!all.empty()) cookie = all.back().cookie;
    }
    return all;
  }
};
INSTANTIATE_TEST_SUITE_P(Ops, Readdir, kAllModes, mode_name);

TEST_P(Readdir, EveryNameOnceInHashOrderWhateverThePage) {
  Ino dir = make_dir(owner, kRootIno, "d");
  std::set<std::string> names;
  const uint32_t count = GetParam() == CacheMode::replayed ? 12 : 60;  // recoveries add up
  for (uint32_t i = 0; i < count; ++i) {
    names.insert("file" + std::to_string(i));
    make_file(owner, dir, "file" + std::to_string(i));
  }
  for (uint32_t max : {0u, 1u, 7u, count - 1, count, 1000u}) {
    SCOPED_TRACE(max);
    auto all = list(dir, max);
    ASSERT_EQ(all.size(), names.size());
    std::set<std::string> seen;
    for (const ListedEntry& e : all) {
      seen.insert(e.name);
      EXPECT_EQ(e.cookie, name_hash(e.name));
      EXPECT_EQ(e.type, uint32_t{S_IFREG});
      EXPECT_FALSE(e.stat.has_value());
    }
    EXPECT_EQ(seen, names);
    EXPECT_TRUE(std::is_sorted(all.begin(), all.end(),
                               [](auto& a, auto& b) { return a.cookie < b.cookie; }));
  }
}

TEST_P(Readdir, CookiesStayWhileNamesComeAndGo) {
  Ino dir = make_dir(owner, kRootIno, "d");
  for (int i = 0; i < 20; ++i) make_file(owner, dir, "f" + std::to_string(i));
  auto before = list(dir, 1000);
  ASSERT_EQ(before.size(), 20u);
  Reply half = owner.readdir(dir, 0, 10);
  ASSERT_EQ(half.entries.size(), 10u);
  EXPECT_FALSE(half.end);
  // The names read already go, and others come.
  for (const ListedEntry& e : half.entries) ASSERT_EQ(owner.unlink(dir, e.name).err, 0);
  for (int i = 0; i < 5; ++i) make_file(owner, dir, "new" + std::to_string(i));
  Reply rest = owner.readdir(dir, half.entries.back().cookie, 1000);
  EXPECT_TRUE(rest.end);
  std::set<std::string> seen;
  for (const ListedEntry& e : rest.entries) EXPECT_TRUE(seen.insert(e.name).second);
  for (size_t i = 10; i < before.size(); ++i) EXPECT_TRUE(seen.contains(before[i].name));
  for (size_t i = 0; i < 10; ++i) EXPECT_FALSE(seen.contains(before[i].name));
}

TEST_P(Readdir, AttributesOfEveryKind) {
  Ino dir = make_dir(owner, kRootIno, "d", 0744);
  Ino file = make_file(owner, dir, "file", 0600);
  Ino sub = make_dir(owner, dir, "sub");
  Ino fifo = owner.mknod(dir, "fifo", S_IFIFO | 0600).stat.ino;
  Ino link = owner.symlink(dir, "link", "t").stat.ino;
  Ino hard = make_file(owner, dir, "hard");
  ASSERT_EQ(owner.link(hard, kRootIno, "second").err, 0);
  struct {
    Ino ino;
    uint32_t type;
  } expected[] = {
      {file, S_IFREG}, {sub, S_IFDIR}, {fifo, S_IFIFO}, {link, S_IFLNK}, {hard, S_IFREG}};
  auto all = list(dir, 1000, true);
  ASSERT_EQ(all.size(), std::size(expected));
  for (const auto& x : expected) {
    auto e = std::find_if(all.begin(), all.end(), [&](auto& l) { return l.ino == x.ino; });
    ASSERT_NE(e, all.end());
    EXPECT_EQ(e->type, x.type);
    bool embedded = x.ino != sub && x.ino != hard;
    // What lives elsewhere is told where it is cached; the client looks up the rest.
    if (embedded || GetParam() == CacheMode::warm) {
      EXPECT_TRUE(e->stat.has_value()) << e->name;
    }
    if (e->stat) {
      EXPECT_EQ(*e->stat, owner.stat(x.ino));
    }
  }
  Reply names_only = other.readdir(dir, 0, 1000, true);
  EXPECT_EQ(names_only.entries.size(), all.size());
  for (const ListedEntry& e : names_only.entries)
    EXPECT_FALSE(e.stat) << "attributes need permission to search";
}

TEST_P(Readdir, EmptyAndWrong) {
  Ino dir = make_dir(owner, kRootIno, "d");
  Reply r = owner.readdir(dir);
  EXPECT_TRUE(r.end);
  EXPECT_TRUE(r.entries.empty());
  EXPECT_EQ(owner.readdir(make_file(owner, dir, "f")).err, ENOTDIR);
  EXPECT_EQ(owner.readdir(Ino{99999999}).err, ESTALE);
  Reply behind = owner.readdir(dir, Dir::kEndHash - 1);
  EXPECT_TRUE(behind.end);
  EXPECT_TRUE(behind.entries.empty());
  behind = owner.readdir(dir, UINT64_MAX);
  EXPECT_TRUE(behind.end);
  EXPECT_TRUE(behind.entries.empty());
  ASSERT_EQ(owner.unlink(dir, "f").err, 0);
  EXPECT_TRUE(owner.readdir(dir).entries.empty()) << "names that are gone are not listed";
}

TEST_P(Readdir, ManyRemovedNamesAreStillOnePage) {
  world.keep_cache();
  Ino dir = make_dir(owner, kRootIno, "d");
  for (int i = 0; i < 50; ++i) make_file(owner, dir, "f" + std::to_string(i));
  for (int i = 0; i < 50; ++i) {
    if (i == 17) continue;
    ASSERT_EQ(owner.unlink(dir, "f" + std::to_string(i)).err, 0);
  }
  Reply r = owner.readdir(dir, 0, 1);
  ASSERT_EQ(r.entries.size(), 1u);
  EXPECT_EQ(r.entries[0].name, "f17");
}

}  // namespace
}  // namespace graftfs
