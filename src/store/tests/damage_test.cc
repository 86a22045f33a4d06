// Damage in what the directories are kept in: data.mdb and its checksums.

#include <gmock/gmock.h>

#include <fstream>
#include <map>

#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::HasSubstr;

std::string read_all(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write_all(const std::string& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
}

// A volume with trees several levels deep, values of all sizes, free pages, and what must be in
// it: a damaged one may say that it is, nothing else than that or the truth.
class DamageTest : public ::testing::Test {
 protected:
  using Entries = std::map<std::string, std::string>;

  void SetUp() override {
    ASSERT_OK(LocalStore::format(dir_.path));
    TestRandom random(11);
    open();
    ASSERT_TRUE(store_) << error_.message;
    for (int round = 0; round < 4; ++round) {
      std::vector<DirUpdate> batch;
      for (uint64_t d = 1; d <= 3; ++d) {
        DirUpdate u;
        u.dir = Ino{d};
        u.header = "header " + std::to_string(round);
        for (int i = 0; i < 600; ++i) {
          // Long keys: few a page.
          std::string key = fmt::format("{:06}", random.below(100000)) + std::string(200, 'k');
          bool big = i % 97 == 0;
          std::string value = pattern_bytes(big ? 9000 : 20 + random.below(200), random.next());
          model_[d][key] = value;
          u.put.emplace_back(key, value);
          u.located.emplace_back(Ino{1000 * d + i}, key);
        }
        if (round == 3) erase_some(random, u);
        batch.push_back(std::move(u));
      }
      ASSERT_OK(run(store_->dirs().commit(batch)));
    }
    close();
    good_ = read_all(file());
    good_sums_ = read_all(sums());
    ASSERT_GT(good_.size(), 400u * 4096);
  }
  void erase_some(TestRandom& random, DirUpdate& u) {
    for (auto it = model_[u.dir.v].begin(); it != model_[u.dir.v].end();) {
      if (random.below(4) == 0) {
        u.erase.push_back(it->first);
        std::erase_if(u.put, [&](const auto& put) { return put.first == it->first; });
        it = model_[u.dir.v].erase(it);
      } else {
        ++it;
      }
    }
  }

  std::string file() { return dir_.path + "/dirs/data.mdb"; }
  std::string sums() { return dir_.path + "/dirs/sums"; }
  void open(bool new_sums = false) {
    LocalOptions options;
    options.dirs_map_size = 64 << 20;
    options.dirs.new_sums = new_sums;
    error_ = Error{0, {}};
    auto opened = LocalStore::open(loop_, pool_, dir_.path, options);
    if (opened) {
      store_ = std::move(*opened);
    } else {
      error_ = opened.error();
    }
  }
  void close() { store_.reset(); }
  template <class T>
  T run(Task<T> task) {
    return graftfs::run(loop_, std::move(task));
  }

  // Whether everything is there. What is read must be true, or damaged by name.
  bool reads_truth() {
    bool whole = true;
    for (uint64_t d = 1; d <= 3; ++d) {
      auto header = run(store_->dirs().read_header(Ino{d}));
      if (header) {
        EXPECT_EQ(*header, "header 3");
      } else {
        expect_told(header.error());
      }
      auto entries = run(store_->dirs().read_entries(Ino{d}, "", 100000));
      whole &= header.has_value() && entries.has_value();
      if (!entries) {
        expect_told(entries.error());
        continue;
      }
      Entries found;
      for (auto& e : *entries) found[e.key] = e.value;
      EXPECT_TRUE(found == model_[d])
          << "directory " << d << " has " << found.size() << " entries, not " << model_[d].size();
    }
    return whole;
  }
  void expect_told(const Error& error) {
    EXPECT_EQ(error.code, EUCLEAN) << error.message;
    EXPECT_THAT(error.message, AnyOf(HasSubstr("data.mdb is damaged"), HasSubstr("sums is damaged"),
                                     HasSubstr("data.mdb was made by another version")));
  }
  // Changes of all kinds all over the trees. What is refused must not be half done.
  void change(TestRandom& random) {
    for (int i = 0; i < 6; ++i) {
      Ino dir{1 + random.below(3)};
      DirUpdate u;
      u.dir = dir;
      Entries after = model_[dir.v];
      for (int k = 0; k < 8 && !after.empty(); ++k) {
        auto it = after.lower_bound(fmt::format("{:06}", random.below(100000)));
        if (it == after.end()) continue;
        if (random.below(2) == 0) {
          u.erase.push_back(it->first);
          after.erase(it);
        } else {
          std::string value = pattern_bytes(random.below(300), random.next());
          std::string key = it->first + std::string(1, 'n');
          u.put.emplace_back(key, value);
          after[key] = value;
        }
      }
      auto done = run(store_->dirs().commit({u}));
      if (done) {
        model_[dir.v] = std::move(after);
      } else {
        expect_told(done.error());
      }
    }
  }

  // In memory, where there is such a directory: nothing here depends on the disk.
  TempDir dir_{fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path()};
  EventLoop loop_;
  BlockingPool pool_{"test", 2};
  std::unique_ptr<LocalStore> store_;
  Error error_{0, {}};
  std::map<uint64_t, Entries> model_;
  std::string good_, good_sums_;
};

TEST_F(DamageTest, AFlippedBitAnywhereIsToldOrDoesNotMatter) {
  TestRandom random(7);
  const auto model = model_;
  int told = 0;
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    model_ = model;
    // Half of them where it hurts most: in what a page says of itself.
    size_t page = random.below(good_.size() / 4096);
    size_t at = page * 4096 + (round % 2 == 0 ? random.below(4096) : random.below(160));
    std::string bad = good_;
    bad[at] ^= static_cast<char>(1 << random.below(8));
    write_all(file(), bad);
    write_all(sums(), good_sums_);
    open();
    if (!store_) {
      expect_told(error_);
      ++told;
      continue;
    }
    bool changes_first = round % 3 == 0;
    if (changes_first) change(random);
    bool whole = reads_truth();
    if (!changes_first) {
      change(random);
      whole &= reads_truth();
    }
    told += !whole;
    close();
    if (HasFailure()) FAIL() << "the bit was at offset " << at;
  }
  // The others hit pages that are free.
  EXPECT_GT(told, 80);
  EXPECT_LT(told, 300);
}

TEST_F(DamageTest, WithoutChecksumsPagesThatMakeNoSenseAreFound) {
  TestRandom random(8);
  int told = 0;
  for (int round = 0; round < 100; ++round) {
    size_t page = random.below(good_.size() / 4096);
    std::string bad = good_;
    bad[page * 4096 + random.below(40)] ^= static_cast<char>(1 << random.below(8));
    write_all(file(), bad);
    fs::remove(sums());
    open(round % 2 == 0);
    if (!store_) {
      expect_told(error_);
      ++told;
      continue;
    }
    // Values say themselves whether they are whole.
    for (uint64_t d = 1; d <= 3; ++d) {
      auto entries = run(store_->dirs().read_entries(Ino{d}, "", 100000));
      if (!entries) expect_told(entries.error());
      if (!entries) continue;
      for (auto& e : *entries) {
        auto it = model_[d].find(e.key);
        if (it == model_[d].end()) continue;
        EXPECT_EQ(e.value, it->second);
      }
    }
    const auto model = model_;
    change(random);
    model_ = model;
    close();
  }
  EXPECT_GT(told, 15);
}

TEST_F(DamageTest, AFlippedBitInTheChecksumsIsTold) {
  TestRandom random(9);
  const auto model = model_;
  for (int round = 0; round < 40; ++round) {
    model_ = model;
    std::string bad = good_sums_;
    bad[random.below(bad.size())] ^= static_cast<char>(1 << random.below(8));
    write_all(file(), good_);
    write_all(sums(), bad);
    open();
    if (store_) {
      // In the last record, which then was never written.
      EXPECT_TRUE(reads_truth());
      change(random);
      EXPECT_TRUE(reads_truth());
    } else {
      expect_told(error_);
    }
    close();
  }
}

TEST_F(DamageTest, ACrashBetweenPagesAndChecksumsIsMadeUpFor) {
  open();
  TestRandom random(3);
  change(random);
  close();
  std::string before = read_all(sums());
  open();
  DirUpdate u;
  u.dir = Ino{2};
  u.put = {{"0", "last"}};
  ASSERT_OK(run(store_->dirs().commit({u})));
  model_[2]["0"] = "last";
  close();
  std::string after = read_all(sums()), pages = read_all(file());
  ASSERT_NE(before, after);
  for (size_t cut : {before.size(), before.size() + 7, after.size() - 1}) {
    write_all(file(), pages);
    write_all(sums(), after.substr(0, cut));
    open();
    ASSERT_TRUE(store_) << error_.message;
    EXPECT_TRUE(reads_truth());
    close();
    EXPECT_EQ(read_all(sums()).size(), after.size());
  }
  // Two transactions behind is none that a crash could leave; nor is one ahead.
  write_all(sums(), good_sums_);
  open();
  expect_told(error_);
  write_all(file(), good_);
  write_all(sums(), after);
  open();
  expect_told(error_);
}

TEST_F(DamageTest, LostChecksumsAreMadeAnew) {
  fs::remove(sums());
  open();
  ASSERT_TRUE(store_) << error_.message;
  EXPECT_TRUE(reads_truth());
  close();
  EXPECT_TRUE(fs::exists(sums()));
  write_all(sums(), "nothing of the kind");
  open();
  expect_told(error_);
  open(true);
  ASSERT_TRUE(store_) << error_.message;
  EXPECT_TRUE(reads_truth());
}

TEST_F(DamageTest, AFileThatWasCutOffIsTold) {
  for (size_t size : {good_.size() / 2, size_t{8192}, size_t{4096}, size_t{100}}) {
    write_all(file(), good_.substr(0, size));
    open();
    EXPECT_FALSE(store_);
    expect_told(error_);
    close();
  }
}

TEST_F(DamageTest, TheFileOfChecksumsDoesNotGrowForEver) {
  open();
  TestRandom random(5);
  uintmax_t largest = 0;
  for (int i = 0; i < 600; ++i) {
    DirUpdate u;
    u.dir = Ino{1};
    for (int k = 0; k < 40; ++k) {
      auto it = model_[1].lower_bound(fmt::format("{:06}", random.below(100000)));
      if (it == model_[1].end()) continue;
      it->second = pattern_bytes(50, random.next());
      u.put.emplace_back(it->first, it->second);
    }
    ASSERT_OK(run(store_->dirs().commit({u})));
    largest = std::max(largest, fs::file_size(sums()));
  }
  close();
  EXPECT_LT(fs::file_size(sums()), largest);
  open();
  ASSERT_TRUE(store_) << error_.message;
  EXPECT_TRUE(reads_truth());
}

}  // namespace
}  // namespace graftfs
