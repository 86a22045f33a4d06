// What the local store has asked the kernel to make durable when it says that something is. The
// system calls that sync are replaced by ones that note what they cover: the bytes of a file, by
// inode, and the names that a directory had at that moment.

#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <set>

#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

namespace fs = std::filesystem;

class Synced {
 public:
  void clear() {
    std::lock_guard lock(mutex_);
    files_.clear();
    names_.clear();
    file_systems_ = 0;
  }
  void note_file(int fd) {
    struct stat st = {};
    if (::fstat(fd, &st) != 0) return;
    std::lock_guard lock(mutex_);
    files_.insert(st.st_ino);
    if (!S_ISDIR(st.st_mode)) return;
    auto& names = names_[st.st_ino];
    names.clear();
    fs::path path = fs::read_symlink(fs::path("/proc/self/fd") / std::to_string(fd));
    for (const auto& entry : fs::directory_iterator(path))
      names[entry.path().filename().string()] = inode(entry.path());
  }
  void note_file_system() {
    std::lock_guard lock(mutex_);
    ++file_systems_;
  }
  bool holds_file(const fs::path& path) const {
    std::lock_guard lock(mutex_);
    return files_.contains(inode(path));
  }
  // Whether a sync of the directory has seen this file under this name.
  bool holds_name(const fs::path& path) const {
    std::lock_guard lock(mutex_);
    auto dir = names_.find(inode(path.parent_path()));
    if (dir == names_.end()) return false;
    auto name = dir->second.find(path.filename().string());
    return name != dir->second.end() && name->second == inode(path);
  }
  int file_systems() const {
    std::lock_guard lock(mutex_);
    return file_systems_;
  }

 private:
  static ino_t inode(const fs::path& path) {
    struct stat st = {};
    return ::stat(path.c_str(), &st) == 0 ? st.st_ino : 0;
  }

  mutable std::mutex mutex_;
  std::set<ino_t> files_;
  std::map<ino_t, std::map<std::string, ino_t>> names_;
  int file_systems_ = 0;
};

Synced synced;

}  // namespace
}  // namespace graftfs

// These stand before the C library's; the store's helper threads call them, too.
extern "C" int fdatasync(int fd) {
  int result = static_cast<int>(::syscall(SYS_fdatasync, fd));
  if (result == 0) graftfs::synced.note_file(fd);
  return result;
}
extern "C" int fsync(int fd) {
  int result = static_cast<int>(::syscall(SYS_fsync, fd));
  if (result == 0) graftfs::synced.note_file(fd);
  return result;
}
extern "C" int syncfs(int fd) noexcept {
  int result = static_cast<int>(::syscall(SYS_syncfs, fd));
  if (result == 0) graftfs::synced.note_file_system();
  return result;
}

namespace graftfs {
namespace {

constexpr RankId kRank{0};

class LocalSync : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(LocalStore::format(dir_.path));
    LocalOptions options;
    options.journal.segment_capacity = 256 << 10;
    options.data.sync_files_max = 8;
    options.dirs_map_size = 1 << 24;
    auto opened = LocalStore::open(loop_, pool_, dir_.path, options);
    ASSERT_OK(opened);
    store_ = std::move(*opened);
    // The first sync of a volume is of all of it: what an earlier owner wrote is not known.
    ASSERT_OK(run(store_->data().sync_all()));
    synced.clear();
    auto owned = run(store_->own_journal(kRank));
    ASSERT_OK(owned);
    journal_ = *owned;
  }
  template <class T>
  T run(Task<T> task) {
    return graftfs::run(loop_, std::move(task));
  }
  void write(Ino ino, uint64_t size = 0) {
    EXPECT_OK(run(store_->data().write(ino, size, "x", size)));
  }
  fs::path data_file(Ino ino) {
    std::string name = fmt::format("{:016x}", ino.v);
    for (const auto& entry : fs::recursive_directory_iterator(dir_.path + "/data"))
      if (entry.path().filename() == name) return entry.path();
    return {};
  }
  fs::path segment(SegmentId id) {
    return dir_.path + fmt::format("/journal/rank-0/{:016x}.seg", id.v);
  }

  TempDir dir_;
  EventLoop loop_;
  BlockingPool pool_{"test", 2};
  std::unique_ptr<Store> store_;
  JournalDevice* journal_ = nullptr;
};

TEST_F(LocalSync, ANewFileIsDurableWithItsNameAndItsDirectorysName) {
  write(Ino{77});
  EXPECT_FALSE(synced.holds_file(data_file(Ino{77})));
  ASSERT_OK(run(store_->data().sync(Ino{77})));
  EXPECT_TRUE(synced.holds_file(data_file(Ino{77})));
  EXPECT_TRUE(synced.holds_name(data_file(Ino{77})));
  EXPECT_TRUE(synced.holds_name(data_file(Ino{77}).parent_path()));
  synced.clear();
  write(Ino{77}, 1);
  ASSERT_OK(run(store_->data().sync(Ino{77})));
  EXPECT_TRUE(synced.holds_file(data_file(Ino{77}))) << "a later write needs a sync of its own";
}

TEST_F(LocalSync, ASyncOfAllCoversEveryFileThatWasWritten) {
  for (uint64_t i = 0; i < 6; ++i) write(Ino{100 + i});
  ASSERT_TRUE(store_->data().has_unsynced());
  ASSERT_OK(run(store_->data().sync_all()));
  EXPECT_FALSE(store_->data().has_unsynced());
  for (uint64_t i = 0; i < 6; ++i) {
    fs::path file = data_file(Ino{100 + i});
    EXPECT_TRUE(synced.holds_file(file)) << file;
    EXPECT_TRUE(synced.holds_name(file)) << file;
    EXPECT_TRUE(synced.holds_name(file.parent_path())) << file;
  }
  EXPECT_EQ(synced.file_systems(), 0) << "few files are synced one by one";
}

TEST_F(LocalSync, ASyncOfManyFilesIsOneOfTheFileSystem) {
  for (uint64_t i = 0; i < 20; ++i) write(Ino{100 + i});
  ASSERT_OK(run(store_->data().sync_all()));
  EXPECT_FALSE(store_->data().has_unsynced());
  EXPECT_GE(synced.file_systems(), 1);
}

TEST_F(LocalSync, ARemovalNeedsASyncOfItsDirectory) {
  write(Ino{4});
  write(Ino{5});
  ASSERT_EQ(data_file(Ino{4}).parent_path(), data_file(Ino{5}).parent_path());
  ASSERT_OK(run(store_->data().sync_all()));
  ASSERT_OK(run(store_->data().remove(Ino{5})));
  EXPECT_TRUE(store_->data().has_unsynced());
  synced.clear();
  ASSERT_OK(run(store_->data().sync_all()));
  EXPECT_TRUE(synced.holds_name(data_file(Ino{4}))) << "the directory as it is without 5";
  EXPECT_FALSE(store_->data().has_unsynced());
  // Nothing was there, and no directory for it.
  std::vector<Ino> never = {Ino{1}, Ino{1u << 20}};
  ASSERT_OK(run(store_->data().remove_many(never)));
  ASSERT_OK(run(store_->data().sync_all()));
  EXPECT_FALSE(store_->data().has_unsynced());
}

TEST_F(LocalSync, AWriteOfAnyKindNeedsASync) {
  write(Ino{5});
  ASSERT_OK(run(store_->data().sync_all()));
  std::string big(1 << 20, 'b');
  ASSERT_OK(run(store_->data().write(Ino{5}, 0, big, 1)));
  EXPECT_TRUE(store_->data().has_unsynced());
  ASSERT_OK(run(store_->data().sync_all()));
  ASSERT_OK(run(store_->data().truncate(Ino{5}, 10)));
  EXPECT_TRUE(store_->data().has_unsynced());
  ASSERT_OK(run(store_->data().sync_all()));
  ASSERT_OK(run(store_->data().allocate(Ino{5}, AllocateMode::zero_range, 0, 5, 10)));
  EXPECT_TRUE(store_->data().has_unsynced());
  ASSERT_OK(run(store_->data().sync_all()));
  ASSERT_OK(run(store_->data().copy(Ino{5}, 0, Ino{6}, 0, 8, 0)));
  EXPECT_TRUE(store_->data().has_unsynced());
  synced.clear();
  ASSERT_OK(run(store_->data().sync_all()));
  EXPECT_TRUE(synced.holds_file(data_file(Ino{6})));
  EXPECT_TRUE(synced.holds_name(data_file(Ino{6})));
}

TEST_F(LocalSync, ASegmentThatWasCreatedIsThereAfterAPowerCut) {
  for (uint64_t i = 1; i <= 6; ++i) {
    ASSERT_OK(run(journal_->create(SegmentId{i})));
    EXPECT_TRUE(synced.holds_name(segment(SegmentId{i}))) << i;
    EXPECT_TRUE(synced.holds_file(segment(SegmentId{i}))) << "its zeros, " << i;
  }
}

TEST_F(LocalSync, ASegmentIsSyncedWhenItSaysSo) {
  ASSERT_OK(run(journal_->create(SegmentId{1})));
  synced.clear();
  ASSERT_OK(run(journal_->write(SegmentId{1}, 0, "frame")));
  EXPECT_FALSE(synced.holds_file(segment(SegmentId{1})));
  ASSERT_OK(run(journal_->sync(SegmentId{1})));
  EXPECT_TRUE(synced.holds_file(segment(SegmentId{1})));
}

}  // namespace
}  // namespace graftfs
