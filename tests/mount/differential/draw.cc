#include "differential/draw.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace graftfs::mounttest {

// "a" and "b" are mostly directories, "c" and "d" mostly not.
std::string Draw::name(Likely what) {
  if (one_in(80)) return std::string(of<size_t>({254, 255, 256}), 'n');
  const bool directory =
      what == Likely::anything ? one_in(2) : (what == Likely::directory) != one_in(6);
  return directory ? of<const char*>({"a", "b"}) : of<const char*>({"c", "d"});
}

std::string Draw::path(Likely last) {
  if (one_in(150)) return "";
  std::string out = one_in(3) ? "/" : "";
  if (one_in(150)) {  // as long as a path may be, or longer
    const size_t size = of<size_t>({4094, 4095, 4096});
    while (out.size() + 3 <= size) out += "./";
    return out + std::string(size - out.size(), 'a');
  }
  const size_t depth = of<size_t>({1, 1, 1, 1, 1, 2, 2, 3});
  for (size_t i = 0; i < depth; ++i) {
    if (i) out += one_in(20) ? "//" : "/";
    out +=
        one_in(40) ? of<const char*>({".", ".."}) : name(i + 1 < depth ? Likely::directory : last);
  }
  if (one_in(30)) out += "/";
  if (one_in(90)) out += "/.";
  return out;
}

mode_t Draw::mode() {
  mode_t m =
      of<mode_t>({0755, 0777, 0777, 0644, 0666, 0666, 0600, 0700, 0770, 0, 0444, 0111, 0070, 0007});
  if (one_in(3)) m |= of<mode_t>({S_ISUID, S_ISGID, S_ISVTX, S_ISUID | S_ISGID, 07000});
  return m;
}

uint64_t Draw::offset() {
  return of<uint64_t>({0, 0, 1, 100, 4095, 4096, 5000, 8192, 40'000, 65'536, 130'000});
}

uint64_t Draw::length() { return of<uint64_t>({1, 10, 100, 4096, 4097, 10'000, 70'000}); }

std::string Draw::bytes() {
  std::string out(one_in(30) ? 0 : length(), static_cast<char>('a' + below(26)));
  for (size_t i = 0; i < out.size(); i += 97) out[i] = static_cast<char>(below(256));
  return out;
}

uid_t Draw::uid() { return of<uid_t>({0, 1001, 1001, 1002, 1003}); }
gid_t Draw::gid() { return of<gid_t>({0, 2001, 2001, 2002, 2003}); }

Identity Draw::identity() {
  if (one_in(2)) return {};
  Identity id{uid(), gid(), {}};
  for (size_t n = below(3); n; --n) id.groups.push_back(gid());
  return id;
}

std::string q(const std::string& path) {
  return path.size() > 100 ? fmt::format("\"{}...\"({})", path.substr(0, 8), path.size())
                           : '"' + path + '"';
}

namespace {

Step draw_process_call(Draw& d) {
  if (d.one_in(5)) {
    const mode_t mask = d.of<mode_t>({0, 022, 077, 027, 0777});
    return {fmt::format("umask({:o})", mask), [=](Caller&) {
              umask(mask);
              return std::string("ok");
            }};
  }
  const Identity id = d.identity();
  return {
      fmt::format("become uid {} gid {} groups [{}]", id.uid, id.gid, fmt::join(id.groups, " ")),
      [=](Caller& c) {
        c.become(id);
        return std::string("ok");
      }};
}

// Something to work on.
std::vector<Step> draw_start(Draw& d) {
  std::vector<Step> out;
  for (const char* dir : {"a", "b", "a/b"}) {
    const mode_t mode = d.of<mode_t>({0777, 0777, 0755, 01777, 02777, 03777});
    const uid_t uid = d.uid();
    const gid_t gid = d.gid();
    out.push_back({fmt::format("make directory {} {:o} {}:{}", dir, mode, uid, gid), [=](Caller&) {
                     bool ok = mkdir(dir, 0777) == 0 && chown(dir, uid, gid) == 0 &&
                               chmod(dir, mode) == 0;
                     return outcome(ok ? 0 : -1);
                   }});
  }
  int slot = 0;
  for (const char* file : {"c", "a/d", "b/c"}) {
    const mode_t mode = d.mode();
    const int flags = d.of({O_RDWR, O_RDWR, O_RDWR | O_APPEND, O_WRONLY});
    const uid_t uid = d.uid();
    const gid_t gid = d.gid();
    out.push_back({fmt::format("{} = make file {} {:o} {}:{}, open({:#o})", slot, file, mode, uid,
                               gid, flags),
                   [=](Caller& c) {
                     int fd = open(file, flags | O_CREAT | O_EXCL, 0666);
                     bool ok = fd >= 0 && write(fd, file, 1) == 1 && fchown(fd, uid, gid) == 0 &&
                               fchmod(fd, mode) == 0;
                     return ok ? c.put(slot, fd) : outcome(-1);
                   }});
    ++slot;
  }
  return out;
}

}  // namespace

std::vector<Step> draw_sequence(uint64_t seed, size_t steps) {
  Draw d(seed);
  std::vector<Step> out = draw_start(d);
  while (out.size() < steps) {
    const uint64_t which = d.below(100);
    out.push_back(which < 45   ? draw_name_call(d)
                  : which < 70 ? draw_attribute_call(d)
                  : which < 92 ? draw_data_call(d)
                               : draw_process_call(d));
  }
  return out;
}

}  // namespace graftfs::mounttest
