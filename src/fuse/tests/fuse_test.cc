#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "fuse/cookies.h"
#include "fuse/dir_nodes.h"
#include "fuse/groups.h"
#include "fuse/kernel_refs.h"
#include "fuse/killpriv.h"

namespace graftfs::fuse {
namespace {

TEST(KernelRefs, AnOrphanIsReleasedWhenTheKernelForgetsIt) {
  KernelRefs refs;
  refs.add(Ino{7}, false);
  refs.add(Ino{7}, false);
  EXPECT_FALSE(refs.orphaned(Ino{7})) << "the kernel still knows it";
  EXPECT_FALSE(refs.forget(Ino{7}, 1));
  EXPECT_TRUE(refs.forget(Ino{7}, 1));
  EXPECT_EQ(refs.size(), 0u);
  EXPECT_FALSE(refs.forget(Ino{7}, 1)) << "only once";
}

TEST(KernelRefs, WhatHasANameIsNotReleased) {
  KernelRefs refs;
  refs.add(Ino{7}, false);
  EXPECT_FALSE(refs.forget(Ino{7}, 1));
  EXPECT_TRUE(refs.orphaned(Ino{8})) << "an ino that the kernel never saw can go at once";
}

TEST(KernelRefs, RemembersPrivilegedModes) {
  KernelRefs refs;
  refs.add(Ino{7}, true);
  refs.add(Ino{7}, false);
  EXPECT_TRUE(refs.privileged(Ino{7}));
  refs.set_privileged(Ino{7}, false);
  EXPECT_FALSE(refs.privileged(Ino{7}));
  EXPECT_FALSE(refs.privileged(Ino{9}));
}

constexpr Ino kDir{0x100007}, kOther{0x100008};
constexpr NodeName kHere{1, 77}, kThere{0x100009, 78};

TEST(DirNodes, ADirectoryIsItsInoUntilItTurnsUpElsewhere) {
  DirNodes nodes;
  const uint64_t first = nodes.found(kDir, kHere);
  EXPECT_EQ(first, kDir.v);
  EXPECT_EQ(nodes.found(kDir, kHere), first);
  EXPECT_EQ(nodes.found(kDir, {}), first) << "asked for without a name, it is where it was";
  const uint64_t second = nodes.found(kDir, kThere);
  EXPECT_NE(second, first) << "another client has moved it";
  EXPECT_EQ(ino_of_node(second), kDir);
  EXPECT_EQ(nodes.found(kDir, kThere), second);
  EXPECT_EQ(ino_of_node(nodes.found(kDir, kHere)), kDir);
}

TEST(DirNodes, WhatTheKernelMovesItselfKeepsItsNode) {
  DirNodes nodes;
  const uint64_t dir = nodes.found(kDir, kHere);
  nodes.moved(kHere, kThere, false);
  EXPECT_EQ(nodes.found(kDir, kThere), dir);
  const uint64_t other = nodes.found(kOther, kHere);
  nodes.moved(kHere, kThere, true);
  EXPECT_EQ(nodes.found(kDir, kHere), dir);
  EXPECT_EQ(nodes.found(kOther, kThere), other);
  nodes.moved(kHere, kThere, false);  // in place of the other one, which the kernel still knows
  EXPECT_EQ(nodes.found(kDir, kThere), dir);
  nodes.forget(kOther);
  nodes.moved(kThere, kHere, false);
  EXPECT_EQ(nodes.found(kDir, kHere), dir) << "forgetting the other one must not lose this one";
}

TEST(DirNodes, AHandleLeadsToTheNodeThatItWasMadeOf) {
  DirNodes nodes;
  (void)nodes.found(kDir, kHere);
  const uint64_t second = nodes.found(kDir, kThere);
  nodes.forget(kDir);
  EXPECT_EQ(nodes.size(), 0u);
  nodes.asked_for(second);
  EXPECT_EQ(nodes.found(kDir, {}), second);
  EXPECT_EQ(nodes.found(kDir, kThere), second) << "it is being connected to its name";
  nodes.asked_for(kDir.v);
  EXPECT_EQ(nodes.found(kDir, kThere), kDir.v);
  EXPECT_EQ(nodes.found(kRootIno, kHere), kRootIno.v);
}

TEST(ProcGroups, AreThoseOfTheProcess) {
  std::vector<gid_t> mine(256);
  int n = getgroups(static_cast<int>(mine.size()), mine.data());
  ASSERT_GE(n, 0);
  mine.resize(n);
  ProcGroups groups;
  for (gid_t g : mine) EXPECT_TRUE(groups.is_member(getpid(), g));
  EXPECT_FALSE(groups.is_member(getpid(), 4'000'000'000u));
  EXPECT_FALSE(groups.is_member(0, 0));
  EXPECT_FALSE(groups.is_member(-1, 0));
}

// Lists `hashes` (sorted) as the mount does, stopping after every `stop` entries.
std::vector<uint64_t> list(const std::vector<uint64_t>& hashes, size_t stop) {
  std::vector<uint64_t> seen;
  uint64_t cookie = kDotDot;
  for (;;) {
    CookieCounter counter;
    uint64_t from = CookieCounter::start(cookie);
    size_t passed = 0;
    uint64_t last = cookie;
    for (uint64_t h : hashes) {
      if (h <= from) continue;
      uint64_t c = counter.next(h);
      if (c <= cookie) continue;
      EXPECT_GT(c, last);
      last = c;
      seen.push_back(h);
      if (++passed == stop) break;
    }
    if (passed == 0) return seen;
    cookie = last;
  }
}

TEST(Cookies, ListingsStopAndGoOnAnywhere) {
  std::vector<uint64_t> hashes = {
      16, 16, 16, 17, 18, 500, 1ull << 40, 1ull << 40, (1ull << 40) + 1, (1ull << 63) - 10};
  for (size_t stop = 1; stop <= hashes.size() + 1; ++stop)
    EXPECT_EQ(list(hashes, stop), hashes) << "stopping after " << stop;
}

TEST(Cookies, AHundredNamesOfOneHash) {
  std::vector<uint64_t> hashes(100, 123'456'789'012);
  hashes.push_back(123'456'789'050);
  EXPECT_EQ(list(hashes, 7), hashes);
}

TEST(Cookies, AloneAHashIsItsOwnCookie) {
  CookieCounter counter;
  EXPECT_EQ(counter.next(1000), 1000u);
  EXPECT_EQ(counter.next(2000), 2000u);
  EXPECT_EQ(counter.next(2000), 2001u);
}

struct Pipe {
  int fd[2];
  Pipe() { EXPECT_EQ(pipe(fd), 0); }
  ~Pipe() {
    close(fd[0]);
    close(fd[1]);
  }
};

uint32_t flags_after(bool offered) {
  Pipe in, out;
  struct {
    fuse_in_header header{};
    fuse_init_in init{};
  } request;
  request.header.opcode = FUSE_INIT;
  request.header.len = sizeof request;
  request.init.flags = offered ? FUSE_HANDLE_KILLPRIV_V2 : 0;
  EXPECT_EQ(write(in.fd[1], &request, sizeof request), ssize_t(sizeof request));
  InitPatch patch;
  char buffer[4096];
  EXPECT_EQ(patched_read(in.fd[0], buffer, sizeof buffer, patch), ssize_t(sizeof request));
  fuse_out_header header{};
  fuse_init_out init{};
  init.flags = FUSE_BIG_WRITES;
  iovec iov[] = {{&header, sizeof header}, {&init, sizeof init}};
  EXPECT_EQ(patched_writev(out.fd[1], iov, 2, patch), ssize_t(sizeof header + sizeof init));
  fuse_init_out sent;
  EXPECT_EQ(read(out.fd[0], &header, sizeof header), ssize_t(sizeof header));
  EXPECT_EQ(read(out.fd[0], &sent, sizeof sent), ssize_t(sizeof sent));
  EXPECT_TRUE(patch.answered);
  return sent.flags;
}

TEST(Killpriv, IsNegotiatedWhereTheKernelOffersIt) {
  EXPECT_EQ(flags_after(true), uint32_t(FUSE_BIG_WRITES | FUSE_HANDLE_KILLPRIV_V2));
  EXPECT_EQ(flags_after(false), uint32_t(FUSE_BIG_WRITES));
}

TEST(Killpriv, IsReadFromWritesAndSetattrs) {
  struct {
    fuse_in_header header{};
    fuse_write_in body{};
  } w;
  w.header.opcode = FUSE_WRITE;
  EXPECT_FALSE(kills_suidgid(&w, sizeof w));
  w.body.write_flags = FUSE_WRITE_KILL_SUIDGID;
  EXPECT_TRUE(kills_suidgid(&w, sizeof w));
  EXPECT_FALSE(kills_suidgid(&w, sizeof w.header));
  struct {
    fuse_in_header header{};
    fuse_setattr_in body{};
  } s;
  s.header.opcode = FUSE_SETATTR;
  s.body.valid = FATTR_SIZE;
  EXPECT_FALSE(kills_suidgid(&s, sizeof s));
  s.body.valid |= FATTR_KILL_SUIDGID;
  EXPECT_TRUE(kills_suidgid(&s, sizeof s));
}

}  // namespace
}  // namespace graftfs::fuse
