// Calls on the bytes of files.

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "differential/draw.h"

namespace graftfs::mounttest {
namespace {

// A write to a FIFO moves its times on ext4; of a FUSE file system's FIFOs the kernel says nothing.
bool is_fifo(int fd) {
  struct stat st{};
  return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

Step draw_write(Draw& d) {
  const int slot = d.slot();
  const auto bytes = d.bytes();
  if (d.one_in(2))
    return {fmt::format("write({}, {})", slot, digest(bytes)), [=](Caller& c) {
              if (is_fifo(c.fds[slot])) return std::string("-");
              return outcome_value(write(c.fds[slot], bytes.data(), bytes.size()));
            }};
  const auto offset = d.offset();
  return {fmt::format("pwrite({}, {}, {})", slot, digest(bytes), offset), [=](Caller& c) {
            return outcome_value(pwrite(c.fds[slot], bytes.data(), bytes.size(), offset));
          }};
}

Step draw_read(Draw& d) {
  const int slot = d.slot();
  const auto offset = d.one_in(2) ? -1 : static_cast<off_t>(d.offset());
  const auto length = d.length();
  return {fmt::format("pread({}, {}, {})", slot, length, offset), [=](Caller& c) {
            std::string out(length, '\0');
            ssize_t n = offset < 0 ? read(c.fds[slot], out.data(), length)
                                   : pread(c.fds[slot], out.data(), length, offset);
            if (n < 0) return outcome(n);
            out.resize(n);
            return digest(out);
          }};
}

Step draw_truncate(Draw& d) {
  const off_t size = d.one_in(30) ? d.of<off_t>({-1, 1ll << 40}) : d.offset();
  if (d.one_in(2)) {
    const int slot = d.slot();
    return {fmt::format("ftruncate({}, {})", slot, size),
            [=](Caller& c) { return outcome(ftruncate(c.fds[slot], size)); }};
  }
  const auto path = d.file_path();
  return {fmt::format("truncate(\"{:.100}\", {})", path, size),
          [=](Caller&) { return outcome(truncate(path.c_str(), size)); }};
}

Step draw_fallocate(Draw& d) {
  const int slot = d.slot();
  const int mode = d.of({0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE,
                         FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0x4000});
  const auto offset = d.offset();
  const auto length = d.one_in(20) ? 0 : d.length();
  return {fmt::format("fallocate({}, {:#x}, {}, {})", slot, mode, offset, length),
          [=](Caller& c) { return outcome(fallocate(c.fds[slot], mode, offset, length)); }};
}

Step draw_seek(Draw& d) {
  const int slot = d.slot();
  const int whence = d.of({SEEK_SET, SEEK_END, SEEK_CUR, SEEK_DATA, SEEK_HOLE});
  const auto offset = static_cast<off_t>(d.offset()) * (d.one_in(10) ? -1 : 1);
  return {fmt::format("lseek({}, {}, {})", slot, offset, whence), [=](Caller& c) {
            struct stat st{};
            // What it means on anything else is the file system's to say.
            if (fstat(c.fds[slot], &st) == 0 && !S_ISREG(st.st_mode)) return std::string("-");
            const off_t at = lseek(c.fds[slot], offset, whence);
            // What is allocated and not written may be called data or a hole.
            if (whence >= SEEK_DATA) lseek(c.fds[slot], 0, SEEK_SET);
            const bool either = whence >= SEEK_DATA && offset >= 0 && offset < st.st_size;
            return either && (at >= 0 || errno == ENXIO) ? "-" : outcome_value(at);
          }};
}

Step draw_copy(Draw& d) {
  const int from = d.slot(), to = d.slot();
  const auto in = static_cast<off64_t>(d.offset()), out = static_cast<off64_t>(d.offset());
  const auto length = d.length();
  return {fmt::format("copy_file_range({}, {}, {}, {}, {})", from, in, to, out, length),
          [=](Caller& c) {
            off64_t a = in, b = out;
            return outcome_value(copy_file_range(c.fds[from], &a, c.fds[to], &b, length, 0));
          }};
}

// A store into a shared mapping, and its msync: when times move between the two is not said.
Step draw_map(Draw& d) {
  const int slot = d.slot();
  const auto offset = d.offset();
  const char byte = static_cast<char>(d.below(256));
  return {fmt::format("map({}), store {} at {}", slot, int(byte), offset), [=](Caller& c) {
            struct stat st{};
            if (fstat(c.fds[slot], &st) != 0) return outcome(-1);
            if (!S_ISREG(st.st_mode) || st.st_size <= off_t(offset) || st.st_size > 1 << 20)
              return std::string("-");
            void* map =
                mmap(nullptr, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, c.fds[slot], 0);
            if (map == MAP_FAILED) return outcome(-1);
            static_cast<char*>(map)[offset] = byte;
            int r = msync(map, st.st_size, MS_SYNC);
            munmap(map, st.st_size);
            return outcome(r);
          }};
}

Step draw_lock(Draw& d) {
  const int slot = d.slot();
  if (d.one_in(2)) {
    const int how = d.of({LOCK_SH, LOCK_EX, LOCK_UN}) | LOCK_NB;
    return {fmt::format("flock({}, {})", slot, how),
            [=](Caller& c) { return outcome(flock(c.fds[slot], how)); }};
  }
  // Locks of open files, which exclude each other within a process, too.
  struct flock range{};
  range.l_type = d.of<short>({F_RDLCK, F_WRLCK, F_UNLCK});
  range.l_start = static_cast<off_t>(d.below(3) * 100);
  range.l_len = static_cast<off_t>(d.of({0, 100, 150}));
  return {fmt::format("fcntl({}, F_OFD_SETLK, {} {}+{})", slot, range.l_type, range.l_start,
                      range.l_len),
          [=](Caller& c) {
            struct flock r = range;
            return outcome(fcntl(c.fds[slot], F_OFD_SETLK, &r));
          }};
}

Step draw_close_or_sync(Draw& d) {
  const int slot = d.slot();
  if (!d.one_in(3))
    return {fmt::format("fsync({})", slot), [=](Caller& c) { return outcome(fsync(c.fds[slot])); }};
  return {fmt::format("close({})", slot), [=](Caller& c) {
            int r = close(c.fds[slot]);
            const auto text = outcome(r);
            c.fds[slot] = -1;
            return text;
          }};
}

}  // namespace

Step draw_data_call(Draw& d) {
  switch (d.below(20)) {
    case 0 ... 5:
      return draw_write(d);
    case 6 ... 7:
      return draw_read(d);
    case 8 ... 10:
      return draw_truncate(d);
    case 11 ... 12:
      return draw_fallocate(d);
    case 13:
      return draw_seek(d);
    case 14 ... 15:
      return draw_copy(d);
    case 16:
      return draw_map(d);
    case 17:
      return draw_lock(d);
    default:
      return draw_close_or_sync(d);
  }
}

}  // namespace graftfs::mounttest
