#pragma once
// Where the checks of a mounted file system run.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

namespace graftfs::mounttest {

// A volume of its own, mounted by this process for the whole program; or, with the environment
// variable GRAFTFS_CHECK_DIR, any directory: run on ext4 or XFS, the checks check themselves.
class Mounted {
 public:
  static Mounted& get();
  // The mount point. Empty where mounting is impossible here, and `why` says so.
  const std::string& dir() const { return dir_; }
  const std::string& why() const { return why_; }
  bool is_graftfs() const { return server_ != nullptr; }
  // The volume's directory.
  const std::string& volume() const { return volume_; }
  // Unmounts, stops the rank and starts and mounts everything again.
  void remount();
  ~Mounted();

 private:
  struct Server;
  Mounted();
  std::string dir_, why_, volume_, root_;
  std::unique_ptr<Server> server_;
};

// Each test gets an empty directory and works in it.
class MountTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  bool is_graftfs() const { return Mounted::get().is_graftfs(); }
  std::string path(const std::string& name) const { return dir_ + "/" + name; }
  const std::string& dir() const { return dir_; }

 private:
  std::string dir_;
};

// 0 or errno.
inline int err(long r) { return r < 0 ? errno : 0; }

// Runs `fn` in a child process as another user (with one supplementary group, if it is not 0)
// and returns what it returned, an errno for example.
int as_user(unsigned uid, unsigned gid, unsigned group, const std::function<int()>& fn);

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& bytes, int mode = 0644);

}  // namespace graftfs::mounttest
