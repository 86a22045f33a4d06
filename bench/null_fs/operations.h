#pragma once

#include <mutex>

#include "null_fs/memory_tree.h"
#include "null_fs/session_settings.h"

namespace graftfs::null_fs {

// What the FUSE operations work on; the session's user data. One lock for
// everything: with one thread it costs nothing, with several it is what bounds
// them, and the work under it is far less than the trip through the kernel.
struct NullFs {
  MemoryTree tree;
  std::mutex lock;
  double timeout_s = 0;  // of entries and attributes in the kernel
  // Whether the kernel does without open and opendir once they answer ENOSYS.
  bool can_skip_open = false;
  bool can_skip_opendir = false;
};

const fuse_lowlevel_ops& operations();

}  // namespace graftfs::null_fs
