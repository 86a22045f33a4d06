#pragma once

// The FUSE settings of every mount that is compared with another one. The null
// file system is the ceiling for GraftFS only as long as both negotiate the
// same things with the kernel, so they stand here once.

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

#include <cstddef>

namespace graftfs {

// One request carries up to 1 MiB: 256 pages, the kernel's default limit
// (fs.fuse.max_pages_limit). libfuse asks for as many pages as max_write needs.
inline constexpr unsigned kSessionMaxWrite = 1U << 20;
inline constexpr unsigned kSessionMaxReadahead = 1U << 20;

// Requests that the kernel may have in flight without anyone waiting for them
// (read-ahead, asynchronous direct I/O, releases).
inline constexpr unsigned kSessionMaxBackground = 64;
inline constexpr unsigned kSessionCongestionThreshold = 48;

// Wanted where the kernel has it.
inline constexpr unsigned kSessionWanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
                                           FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                                           FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS;

// Never wanted, although libfuse turns some of them on by itself: splicing
// costs more than a copy for requests below some 100 KiB; the write-back cache
// would make the kernel the owner of sizes and times; a truncating open would
// have to be sent although no other one is (open and opendir answer ENOSYS once,
// where the kernel knows what that means); and with one kernel per mount nothing
// changes behind its back, so cached pages stay when an mtime differs.
inline constexpr unsigned kSessionUnwanted = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                             FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE |
                                             FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC;

// What libfuse is mounted with: the kernel checks permissions, device nodes and set-uid bits work,
// as on any file system with several users.
inline constexpr const char* kSessionMountOptions = "default_permissions,dev,suid";

// To be called first in the `init` operation; a file system may then add what
// its own operations need (locks, ACLs).
inline void apply_session_settings(fuse_conn_info* connection) {
  connection->max_write = kSessionMaxWrite;
  connection->max_readahead = kSessionMaxReadahead;
  connection->max_background = kSessionMaxBackground;
  connection->congestion_threshold = kSessionCongestionThreshold;
  connection->time_gran = 1;
  connection->want &= ~kSessionUnwanted;
  connection->want |= connection->capable & kSessionWanted;
}

}  // namespace graftfs
