#include <fmt/format.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "base/mounts.h"
#include "cli/command.h"
#include "cli/status_socket.h"
#include "cli/volume.h"

extern char** environ;

namespace graftfs::cli {
namespace {

// The daemon writes everything back before it ends.
constexpr int kEndTimeoutMs = 15 * 60 * 1000;

Result<void> unmount_as_user(const std::string& dir, bool lazy) {
  std::string words[] = {"fusermount3", "-u", lazy ? "-z" : "-q", "--", dir};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(),
                  words[3].data(), words[4].data(), nullptr};
  pid_t child = 0;
  if (int error = ::posix_spawnp(&child, argv[0], nullptr, nullptr, argv, environ))
    return fail(error, fmt::format("cannot run fusermount3: {}; install the package fuse3",
                                   std::strerror(error)));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) return {};
  return fail(EBUSY, fmt::format("{} cannot be unmounted: it is busy or not yours ('fuser -vm {}' "
                                 "shows who uses it)",
                                 dir, dir));
}

Result<void> unmount(const std::string& dir, bool lazy) {
  if (::geteuid() != 0) return unmount_as_user(dir, lazy);
  if (::umount2(dir.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) return {};
  int error = errno;
  if (error == EBUSY)
    return fail(error, fmt::format("{} is busy: a process has a file open or its working directory "
                                   "there ('fuser -vm {}' shows which); end it, or use --lazy",
                                   dir, dir));
  return fail(error, fmt::format("{} cannot be unmounted: {}", dir, std::strerror(error)));
}

Result<int> umount_command(const std::string& name, bool lazy) {
  std::string dir = volume_name(name);
  auto there = find_mount(dir);
  if (!there || there->type != "fuse.graftfs") {
    // A volume may be named instead.
    std::string point = mount_point_of(dir);
    if (point.empty())
      return fail(EINVAL, fmt::format("{} is not a mounted volume; 'findmnt -t fuse.graftfs' lists "
                                      "what is mounted",
                                      name));
    dir = point;
    there = find_mount(dir);
  }
  auto served = ask_daemon(run_dir(there->source), mount_socket(dir));
  if (!served) served = ask_daemon(run_dir(there->source));
  // A dead daemon's mount is busy for nobody.
  TRY(unmount(dir, lazy || !served));
  if (!served) {
    fmt::print(stderr,
               "graftfs: the process that served {} had died; the next mount recovers the "
               "volume\n",
               dir);
    return 0;
  }
  if (lazy) return 0;
  if (!wait_for_exit(served->pid, kEndTimeoutMs))
    return fail(ETIMEDOUT, fmt::format("{} is unmounted, but process {} is still writing to {}; "
                                       "its log says why",
                                       dir, served->pid, there->source));
  return 0;
}

}  // namespace

void add_umount(CLI::App& app) {
  struct Args {
    std::string dir;
    bool lazy = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* command =
      add_command(app, "umount", "Unmount; returns when everything is written and the daemon gone",
                  "  graftfs umount /mnt\n"
                  "  graftfs umount --lazy /mnt      # now for new users, later for those in it\n");
  command->add_option("DIR", args->dir, "the mount point (or the volume)")->required();
  command->add_flag("--lazy", args->lazy, "detach it although it is busy");
  on_run(command, [args] { return umount_command(args->dir, args->lazy); });
}

}  // namespace graftfs::cli
