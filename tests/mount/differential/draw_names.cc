// Calls that make, remove, find and list names.

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "differential/draw.h"

namespace graftfs::mounttest {
namespace {

Step draw_open(Draw& d) {
  int flags = d.of({O_RDONLY, O_WRONLY, O_RDWR, O_RDWR}) | O_NONBLOCK | O_NOCTTY;
  if (!d.one_in(3)) flags |= O_CREAT;
  for (int flag : {O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_NOATIME, O_SYNC})
    if (d.one_in(flag == O_TRUNC || flag == O_APPEND ? 5 : 14)) flags |= flag;
  if (d.one_in(15)) flags |= O_PATH;
  // Without a new file O_EXCL means nothing that POSIX says, and with O_DIRECTORY O_CREAT none.
  if (!(flags & O_CREAT)) flags &= ~O_EXCL;
  const auto path = d.file_path();
  const mode_t mode = d.mode();
  const int slot = d.slot();
  return {fmt::format("{} = open({}, {:#o}, {:o})", slot, q(path), flags, mode),
          [=](Caller& c) { return c.put(slot, open(path.c_str(), flags, mode)); }};
}

Step draw_openat(Draw& d) {
  const int flags = d.of({O_RDONLY, O_RDWR | O_CREAT, O_RDONLY | O_DIRECTORY}) | O_NONBLOCK;
  const auto name = d.path();
  const int at = d.slot(), slot = d.slot();
  return {fmt::format("{} = openat({}, {}, {:#o})", slot, at, q(name), flags),
          [=](Caller& c) { return c.put(slot, openat(c.fds[at], name.c_str(), flags, 0666)); }};
}

Step draw_mkdir(Draw& d) {
  const auto path = d.dir_path();
  const mode_t mode = d.one_in(2) ? 0777 : d.mode();
  return {fmt::format("mkdir({}, {:o})", q(path), mode),
          [=](Caller&) { return outcome(mkdir(path.c_str(), mode)); }};
}

Step draw_mknod(Draw& d) {
  const auto path = d.file_path();
  const mode_t mode = d.mode() | d.of<mode_t>({S_IFREG, S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR,
                                               S_IFBLK, S_IFDIR, S_IFLNK, 0});
  const dev_t dev = d.of<dev_t>({0, makedev(1, 3), makedev(259, 70000)});
  return {fmt::format("mknod({}, {:o}, {})", q(path), mode, dev),
          [=](Caller&) { return outcome(mknod(path.c_str(), mode, dev)); }};
}

Step draw_symlink(Draw& d) {
  const auto target =
      d.one_in(40) ? std::string(d.of({255, 4000, 4094, 4095, 4096}), 't') : d.path();
  const auto path = d.file_path();
  return {fmt::format("symlink({}, {})", q(target), q(path)),
          [=](Caller&) { return outcome(symlink(target.c_str(), path.c_str())); }};
}

Step draw_link(Draw& d) {
  const auto from = d.file_path(), to = d.file_path();
  const int flags = d.of({0, 0, 0, AT_SYMLINK_FOLLOW});
  if (d.one_in(8)) {
    const int slot = d.slot();
    return {fmt::format("linkat({}, \"\", {}, AT_EMPTY_PATH)", slot, q(to)), [=](Caller& c) {
              return outcome(linkat(c.fds[slot], "", AT_FDCWD, to.c_str(), AT_EMPTY_PATH));
            }};
  }
  return {fmt::format("linkat({}, {}, {:#x})", q(from), q(to), flags), [=](Caller&) {
            return outcome(linkat(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags));
          }};
}

Step draw_unlink(Draw& d) {
  const auto path = d.file_path();
  return {fmt::format("unlink({})", q(path)),
          [=](Caller&) { return outcome(unlink(path.c_str())); }};
}

Step draw_rmdir(Draw& d) {
  const auto path = d.dir_path();
  return {fmt::format("rmdir({})", q(path)), [=](Caller&) { return outcome(rmdir(path.c_str())); }};
}

Step draw_rename(Draw& d) {
  const auto from = d.path(), to = d.path();
  // RENAME_WHITEOUT is refused here and known to ext4.
  const unsigned flags = d.of<unsigned>(
      {0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_NOREPLACE | RENAME_EXCHANGE, 1u << 7});
  return {fmt::format("renameat2({}, {}, {:#x})", q(from), q(to), flags), [=](Caller&) {
            return outcome(renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags));
          }};
}

Step draw_readlink(Draw& d) {
  const auto path = d.path();
  const size_t size = d.of<size_t>({1, 3, 5000});
  return {fmt::format("readlink({}, {})", q(path), size), [=](Caller&) {
            std::string out(size, '\0');
            ssize_t n = readlink(path.c_str(), out.data(), size);
            if (n < 0) return outcome(n);
            out.resize(n);
            return digest(out);
          }};
}

Step draw_stat(Draw& d) {
  const auto path = d.path();
  const int flags = d.of({0, AT_SYMLINK_NOFOLLOW});
  return {fmt::format("stat({}, {:#x})", q(path), flags), [=](Caller&) {
            struct stat st{};
            if (fstatat(AT_FDCWD, path.c_str(), &st, flags) != 0) return outcome(-1);
            return fmt::format("{:o}", st.st_mode);
          }};
}

Step draw_access(Draw& d) {
  const auto path = d.path();
  const int mode = d.of({F_OK, R_OK, W_OK, X_OK, R_OK | W_OK, R_OK | X_OK});
  const int flags = d.of({0, AT_EACCESS, AT_SYMLINK_NOFOLLOW});
  return {fmt::format("faccessat({}, {}, {:#x})", q(path), mode, flags),
          [=](Caller&) { return outcome(faccessat(AT_FDCWD, path.c_str(), mode, flags)); }};
}

Step draw_chdir(Draw& d) {
  const int slot = d.slot();
  if (d.one_in(2))
    return {fmt::format("fchdir({})", slot),
            [=](Caller& c) { return outcome(fchdir(c.fds[slot])); }};
  const auto path = d.one_in(2) ? std::string("/") : d.dir_path();
  return {fmt::format("chdir({})", q(path)), [=](Caller&) { return outcome(chdir(path.c_str())); }};
}

// From the start, or from where a position in the middle of it leads.
Step draw_list(Draw& d) {
  const auto path = d.dir_path();
  const bool again = d.one_in(2);
  return {fmt::format("list({}, {})", q(path), again), [=](Caller&) {
            DIR* dir = opendir(path.c_str());
            if (!dir) return outcome(-1);
            std::vector<std::string> names;
            long middle = -1;
            size_t before = 0;
            errno = 0;
            while (dirent* e = readdir(dir)) {
              names.emplace_back(std::string(e->d_name) + ":" + std::to_string(e->d_type));
              if (names.size() == 2) middle = telldir(dir), before = names.size();
            }
            if (errno) names.push_back(outcome(-1));
            if (again && middle >= 0) {
              seekdir(dir, middle);
              names.resize(before);
              while (dirent* e = readdir(dir))
                names.emplace_back(std::string(e->d_name) + ":" + std::to_string(e->d_type));
            }
            closedir(dir);
            std::ranges::sort(names);
            return fmt::format("{}", fmt::join(names, " "));
          }};
}

Step draw_list_slot(Draw& d) {
  const int slot = d.slot();
  return {fmt::format("list({})", slot), [=](Caller& c) {
            int fd = openat(c.fds[slot], ".", O_RDONLY | O_DIRECTORY);
            if (fd < 0) return outcome(fd);
            DIR* dir = fdopendir(fd);
            std::vector<std::string> names;
            errno = 0;
            while (dirent* e = readdir(dir)) names.emplace_back(e->d_name);
            if (errno) names.push_back(outcome(-1));
            closedir(dir);
            std::ranges::sort(names);
            return fmt::format("{}", fmt::join(names, " "));
          }};
}

Step draw_exec(Draw& d) {
  const auto path = d.path();
  return {fmt::format("execve({})", q(path)), [=](Caller&) {
            pid_t child = fork();
            if (child == 0) {
              char* none[] = {nullptr};
              execve(path.c_str(), none, none);
              _exit(errno);
            }
            int status = 0;
            waitpid(child, &status, 0);
            errno = WEXITSTATUS(status);
            return outcome(-1);
          }};
}

Step draw_handle(Draw& d) {
  const int at = static_cast<int>(d.below(kHandles));
  if (d.one_in(2)) {
    const auto path = d.path();
    return {fmt::format("handle {} = name_to_handle_at({})", at, q(path)), [=](Caller& c) {
              union {
                file_handle h;
                char space[sizeof(file_handle) + MAX_HANDLE_SZ];
              };
              h.handle_bytes = MAX_HANDLE_SZ;
              int mount_id;
              if (name_to_handle_at(AT_FDCWD, path.c_str(), &h, &mount_id, 0) != 0)
                return outcome(-1);
              c.handles[at].bytes.assign(space, sizeof(file_handle) + h.handle_bytes);
              return std::string("ok");
            }};
  }
  const int slot = d.slot();
  const int flags = d.of({O_RDONLY, O_RDWR, O_RDONLY | O_DIRECTORY, O_PATH}) | O_NONBLOCK;
  return {fmt::format("{} = open_by_handle_at({}, {:#o})", slot, at, flags), [=](Caller& c) {
            if (c.handles[at].bytes.empty()) return std::string("no handle");
            std::string copy = c.handles[at].bytes;
            return c.put(slot, open_by_handle_at(
                                   c.root, reinterpret_cast<file_handle*>(copy.data()), flags));
          }};
}

}  // namespace

Step draw_name_call(Draw& d) {
  using Fn = Step (*)(Draw&);
  static const std::vector<std::pair<int, Fn>> calls = {
      {10, draw_open}, {2, draw_openat}, {8, draw_mkdir}, {6, draw_mknod},  {4, draw_symlink},
      {5, draw_link},  {3, draw_unlink}, {3, draw_rmdir}, {9, draw_rename}, {1, draw_readlink},
      {2, draw_stat},  {2, draw_access}, {2, draw_chdir}, {2, draw_list},   {1, draw_list_slot},
      {1, draw_exec},  {3, draw_handle}};
  int all = 0;
  for (auto& [weight, fn] : calls) all += weight;
  int at = static_cast<int>(d.below(all));
  for (auto& [weight, fn] : calls)
    if ((at -= weight) < 0) return fn(d);
  return calls[0].second(d);
}

}  // namespace graftfs::mounttest
