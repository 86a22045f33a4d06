#pragma once
// Clearing setuid, setgid and file capabilities on writes, without a question before each.
//
// A kernel that does not know that the file system does it asks for the security.capability
// attribute before every write(2). FUSE_HANDLE_KILLPRIV_V2 (Linux 5.12) turns that round: writes,
// truncations and changes of owner carry a flag that says whether the caller may keep the bits.
// libfuse 3.14 neither negotiates it nor passes the flags on. So the answer to INIT is completed
// on its way out, and the flag is read from the request before libfuse parses it.

#include <fuse_lowlevel.h>

#include <cstddef>

namespace graftfs::fuse {

// read and writev of the session's custom I/O (fuse_session_custom_io).
struct InitPatch {
  bool offered = false;   // by the kernel
  bool answered = false;  // INIT is over; nothing is looked at any more
};
ssize_t patched_read(int fd, void* buf, size_t size, InitPatch& patch);
ssize_t patched_writev(int fd, struct iovec* iov, int count, InitPatch& patch);

// Whether a WRITE or SETATTR request says that the caller may not keep the bits.
bool kills_suidgid(const void* request, size_t size);

}  // namespace graftfs::fuse
