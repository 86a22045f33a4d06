#include "fuse/killpriv.h"

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

namespace graftfs::fuse {

namespace {
template <class T>
bool body_of(const void* request, size_t size, T& out) {
  if (size < sizeof(fuse_in_header) + sizeof(T)) return false;
  std::memcpy(&out, static_cast<const char*>(request) + sizeof(fuse_in_header), sizeof(T));
  return true;
}
uint32_t opcode_of(const void* request, size_t size) {
  fuse_in_header header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, request, sizeof header);
  return header.opcode;
}
}  // namespace

ssize_t patched_read(int fd, void* buf, size_t size, InitPatch& patch) {
  ssize_t n = ::read(fd, buf, size);
  fuse_init_in init;
  if (n > 0 && !patch.answered && opcode_of(buf, n) == FUSE_INIT && body_of(buf, n, init))
    patch.offered = init.flags & FUSE_HANDLE_KILLPRIV_V2;
  return n;
}

ssize_t patched_writev(int fd, struct iovec* iov, int count, InitPatch& patch) {
  if (!patch.answered && count == 2 && iov[1].iov_len >= offsetof(fuse_init_out, unused)) {
    // The first answer of a session is the one to INIT.
    patch.answered = true;
    fuse_out_header header;
    std::memcpy(&header, iov[0].iov_base, sizeof header);
    if (patch.offered && header.error == 0)
      static_cast<fuse_init_out*>(iov[1].iov_base)->flags |= FUSE_HANDLE_KILLPRIV_V2;
  }
  // The kernel pins the page of each piece: an answer in one piece and one page is cheaper to send
  // than to leave in two.
  size_t total = 0;
  for (int i = 0; i < count; ++i) total += iov[i].iov_len;
  alignas(4096) static thread_local char whole[4096];
  if (count == 1 || total > sizeof whole) return ::writev(fd, iov, count);
  char* at = whole;
  for (int i = 0; i < count; ++i) {
    std::memcpy(at, iov[i].iov_base, iov[i].iov_len);
    at += iov[i].iov_len;
  }
  return ::write(fd, whole, total);
}

bool kills_suidgid(const void* request, size_t size) {
  switch (opcode_of(request, size)) {
    case FUSE_WRITE: {
      fuse_write_in in;
      return body_of(request, size, in) && in.write_flags & FUSE_WRITE_KILL_SUIDGID;
    }
    case FUSE_SETATTR: {
      fuse_setattr_in in;
      return body_of(request, size, in) && in.valid & FATTR_KILL_SUIDGID;
    }
    default:
      return false;
  }
}

}  // namespace graftfs::fuse
