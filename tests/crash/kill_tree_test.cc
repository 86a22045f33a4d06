// A real tree is unpacked while the process is killed again and again. Every answered operation
// is in a log outside, and is checked with checksums.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "crash_test.h"

namespace graftfs::crash {
namespace {

namespace fs = std::filesystem;

struct Item {
  std::string source, path;  // path: below the mount point
  enum class Type : uint8_t { dir, file, symlink } type;
  int answered = 0;  // steps of it that were answered
  uint64_t sum = 0;
  std::string target;
  uint32_t mode = 0;
};

// The first `files` files that the machine's own trees have, and the directories above them.
std::vector<Item> choose_tree(size_t files) {
  std::vector<Item> items;
  for (const char* root : {"/usr/include", "/usr/share"}) {
    std::error_code error;
    if (!fs::is_directory(root, error)) continue;
    items.push_back({root, fs::path(root).filename(), Item::Type::dir});
    for (auto it = fs::recursive_directory_iterator(
             root, fs::directory_options::skip_permission_denied, error);
         it != fs::recursive_directory_iterator() && files > 0; it.increment(error)) {
      Item item{it->path(), it->path().lexically_relative("/usr"), Item::Type::file};
      if (it->is_symlink(error)) {
        item.type = Item::Type::symlink;
        item.target = fs::read_symlink(it->path(), error);
      } else if (it->is_directory(error)) {
        item.type = Item::Type::dir;
      } else if (!it->is_regular_file(error) || it->file_size(error) > (4u << 20)) {
        continue;
      }
      if (item.type != Item::Type::dir) --files;
      item.mode = 0600 | static_cast<uint32_t>(items.size() % 64);
      items.push_back(std::move(item));
    }
  }
  return items;
}

class Unpacker {
 public:
  explicit Unpacker(std::string dir) : dir_(std::move(dir)) {}

  // Goes on with an item from the step that was not answered. 0, or what the step failed with. A
  // step that was not answered may have been carried out.
  int go_on(Item& item) {
    const std::string path = dir_ + "/" + item.path;
    if (item.type == Item::Type::dir) return step(item, ::mkdir(path.c_str(), 0755), EEXIST);
    if (item.type == Item::Type::symlink)
      return step(item, ::symlink(item.target.c_str(), path.c_str()), EEXIST);
    if (item.answered == 0) {
      int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
      if (fd >= 0) ::close(fd);
      if (int err = step(item, fd, EEXIST)) return err;
    }
    if (item.answered == 1) {
      std::ifstream in(item.source, std::ios::binary);
      std::ostringstream bytes;
      bytes << in.rdbuf();
      item.sum = checksum(bytes.str());
      errno = write_at(path, 0, 0, bytes.str());
      if (int err = step(item, errno ? -1 : 0, 0)) return err;
    }
    if (item.answered == 2) return step(item, ::chmod(path.c_str(), item.mode), 0);
    return 0;
  }

  // What differs from what was answered; empty: nothing.
  std::string check(const Item& item) const {
    const std::string path = dir_ + "/" + item.path;
    if (item.answered == 0) return "";
    struct stat st;
    if (::lstat(path.c_str(), &st) != 0) return path + ": " + std::strerror(errno);
    switch (item.type) {
      case Item::Type::dir:
        return S_ISDIR(st.st_mode) ? "" : path + " is no directory";
      case Item::Type::symlink: {
        std::error_code error;
        return fs::read_symlink(path, error) == item.target ? "" : path + " points elsewhere";
      }
      case Item::Type::file:
        break;
    }
    if (!S_ISREG(st.st_mode)) return path + " is no file";
    std::string bytes;
    if (item.answered >= 2) {
      if (int err = read_all(path, bytes)) return path + ": " + std::strerror(err);
      if (checksum(bytes) != item.sum)
        return fmt::format("{}: {} bytes with another checksum", path, bytes.size());
    }
    if (item.answered >= 3 && (st.st_mode & 07777) != item.mode) return path + " has another mode";
    return "";
  }

 private:
  static int step(Item& item, int result, int done_already) {
    int err = result < 0 ? errno : 0;
    if (err == done_already) err = 0;
    if (err == 0) item.answered++;
    return err;
  }
  std::string dir_;
};

class KillTreeTest : public CrashTest {
 protected:
  void unpack(bool strict) {
    const size_t files = setting("GRAFTFS_CRASH_FILES", 3000);
    const size_t kills = setting("GRAFTFS_CRASH_KILLS", 6);
    std::vector<Item> items = choose_tree(files);
    ASSERT_GT(items.size(), 500u) << "this machine has no tree to unpack";
    Machine machine({.strict = strict, .megabytes = 2048});
    Unpacker unpacker(machine.dir());
    size_t at = 0, killed = 0, checked = 0;
    double rate = 2000;  // items a second, so far
    while (at < items.size() || killed < kills) {
      const size_t left = items.size() - at, before = at;
      // The kills that are left fall into the time that is left.
      auto span_us =
          static_cast<uint64_t>(static_cast<double>(left) / rate * 1e6 * 2 /
                                static_cast<double>(kills - std::min(killed, kills) + 1));
      const bool kill = killed < kills;
      std::thread killer([&, delay = below(span_us + 1)] {
        if (!kill) return;
        std::this_thread::sleep_for(std::chrono::microseconds(delay));
        machine.crash();
      });
      auto began = std::chrono::steady_clock::now();
      int err = 0;
      while (at < items.size()) {
        err = unpacker.go_on(items[at]);
        if (err) break;
        if (items[at].type != Item::Type::file || items[at].answered == 3) ++at;
      }
      std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
      killer.join();
      if (at > before + 50) rate = static_cast<double>(at - before) / took.count();
      if (err) {
        ASSERT_TRUE(kill && is_gone(err)) << items[at].path << ": " << std::strerror(err);
      }
      if (!kill) break;
      ++killed;
      recover(machine, below(3) == 0 ? 1 : 0);
      // What was answered last is what could be missing; the rest is checked at the end.
      for (size_t i = at > 300 ? at - 300 : 0; i <= at && i < items.size(); ++i, ++checked)
        ASSERT_EQ(unpacker.check(items[i]), "") << "after kill " << killed;
    }
    for (const Item& item : items) ASSERT_EQ(unpacker.check(item), "");
    unmount(machine);
    machine.daemon().start();
    size_t found = 0;
    for (const Item& item : items) ASSERT_EQ(unpacker.check(item), "") << "after a clean unmount";
    for (const char* root : {"/include", "/share"}) {
      std::error_code error;
      for (auto it = fs::recursive_directory_iterator(machine.dir() + root, error);
           !error && it != fs::recursive_directory_iterator(); it.increment(error))
        ++found;
      EXPECT_FALSE(error) << error.message();
    }
    EXPECT_EQ(found + 2, items.size());
    unmount(machine);
    std::printf("%zu entries, %zu kills, %zu checks between\n", items.size(), killed, checked);
  }
};

TEST_F(KillTreeTest, ATreeIsUnpackedOverKills) { unpack(false); }

TEST_F(KillTreeTest, ATreeIsUnpackedOverKillsStrictly) { unpack(true); }

// The ioctl on the mount itself. flags: 0 everything is made durable first, 2 nothing is.
class ShutdownTest : public CrashTest {
 protected:
  void shut_down_and_check(bool strict, uint32_t flags, bool unsynced_is_promised) {
    Machine machine({.strict = strict});
    const std::string dir = machine.dir();
    ASSERT_EQ(write_at(dir + "/synced", O_CREAT, 0, "synced"), 0);
    ASSERT_EQ(sync_path(dir + "/synced"), 0);
    ASSERT_EQ(write_at(dir + "/answered", O_CREAT, 0, "answered"), 0);
    int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY);
    int file = ::open((dir + "/synced").c_str(), O_RDWR);
    ASSERT_EQ(shut_down(fd, flags), 0);
    struct stat st;
    std::string bytes;
    auto err = [](long result) { return result < 0 ? errno : 0; };
    EXPECT_EQ(err(::mkdir((dir + "/new").c_str(), 0755)), EIO);
    EXPECT_EQ(write_at(dir + "/other", O_CREAT, 0, "x"), EIO);
    EXPECT_EQ(err(::pwrite(file, "x", 1, 0)), EIO);
    EXPECT_EQ(err(::fsync(file)), EIO);
    EXPECT_EQ(err(::fsync(fd)), EIO);
    EXPECT_EQ(err(::stat((dir + "/unknown").c_str(), &st)), EIO);
    EXPECT_EQ(err(::unlink((dir + "/answered").c_str())), EIO);
    EXPECT_EQ(err(::chmod((dir + "/answered").c_str(), 0600)), EIO);
    ::close(fd);
    ::close(file);
    unmount(machine);
    machine.daemon().start();
    EXPECT_EQ(read_all(dir + "/synced", bytes), 0);
    EXPECT_EQ(bytes, "synced");
    int there = read_all(dir + "/answered", bytes);
    if (unsynced_is_promised || there == 0) {
      EXPECT_EQ(there, 0);
      EXPECT_EQ(bytes, "answered");
    }
    EXPECT_EQ(write_at(dir + "/again", O_CREAT, 0, "x"), 0);
    unmount(machine);
  }
};

TEST_F(ShutdownTest, WithoutASyncWhatWasSyncedIsThere) { shut_down_and_check(false, 2, false); }
TEST_F(ShutdownTest, WithASyncEverythingIsThere) { shut_down_and_check(false, 0, true); }
TEST_F(ShutdownTest, StrictlyEverythingIsThere) { shut_down_and_check(true, 2, true); }

TEST_F(ShutdownTest, IsForRootOnly) {
  Machine machine({});
  pid_t child = ::fork();
  if (child == 0) {
    int fd = ::open(machine.dir().c_str(), O_RDONLY | O_DIRECTORY);
    if (fd < 0 || ::setgid(1234) != 0 || ::setuid(1234) != 0) ::_exit(100);
    ::_exit(shut_down(fd, 2));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), EPERM);
  EXPECT_EQ(::mkdir((machine.dir() + "/still-there").c_str(), 0755), 0);
  unmount(machine);
}

}  // namespace
}  // namespace graftfs::crash
