#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "base/mounts.h"
#include "cli/command.h"
#include "cli/daemon.h"
#include "cli/setting_flags.h"
#include "cli/volume.h"

namespace graftfs::cli {
namespace {

// What can be known before recovery.
Result<void> check_mountpoint(const std::string& dir) {
  struct stat st;
  if (::stat(dir.c_str(), &st) != 0) {
    int error = errno;
    if (error == ENOTCONN)
      return fail(error, fmt::format("{0} is a mount whose process has died; remove it with "
                                     "'graftfs umount {0}' and try again",
                                     dir));
    return fail(error,
                fmt::format("cannot mount on {}: {}{}", dir, std::strerror(error),
                            error == ENOENT ? fmt::format("; make it with 'mkdir {}'", dir) : ""));
  }
  if (!S_ISDIR(st.st_mode))
    return fail(ENOTDIR, fmt::format("cannot mount on {}: it is not a directory", dir));
  auto there = find_mount(dir);
  if (there && there->type == "fuse.graftfs")
    return fail(EBUSY, fmt::format("{} is mounted on {} already; unmount it first with 'graftfs "
                                   "umount {}'",
                                   there->source, dir, dir));
  return {};
}

int run_daemon(Notifier notifier, void* context) {
  Daemon daemon(std::move(*static_cast<DaemonOptions*>(context)), std::move(notifier));
  return daemon.run();
}

}  // namespace

void add_mount(CLI::App& app) {
  struct Args {
    std::string volume, dir, config;
    bool foreground = false;
    size_t ranks = 0;
    SettingFlags flags;
  };
  auto args = std::make_shared<Args>();
  CLI::App* command =
      add_command(app, "mount", "Mount a volume on a directory; returns when it is ready",
                  "  graftfs mount /srv/v /mnt\n"
                  "  graftfs mount /srv/v /mnt --durability strict\n"
                  "  graftfs mount /srv/v /mnt --recovery-target 500ms --memory 4GiB\n"
                  "  graftfs mount /srv/v /mnt --ranks 2          # if nobody serves it yet\n"
                  "  graftfs mount /srv/v /mnt --foreground       # for a service manager\n"
                  "  graftfs mount rados:pool/space /mnt --conf /etc/ceph/ceph.conf --id me\n"
                  "\nEvery flag can be a key of VOLUME/graftfs.toml (or of --config FILE):\n"
                  "  durability = \"strict\"\n");
  command->add_option("VOLUME", args->volume, "the volume")->required();
  command->add_option("DIR", args->dir, "where to mount it")->required();
  command
      ->add_option("--ranks", args->ranks,
                   "how many to host where no process serves the volume (those it has, or 1)")
      ->type_name("N")
      ->check(CLI::Range(size_t{1}, kMostRanks));
  command->add_option("--config", args->config, "a TOML file instead of VOLUME/graftfs.toml")
      ->type_name("FILE");
  command->add_flag("-f,--foreground", args->foreground,
                    "do not return; errors and the log go to standard error");
  args->flags.add_to(command, false);
  on_run(command, [args]() -> Result<int> {
    DaemonOptions options;
    options.volume = volume_name(args->volume);
    options.mountpoint = absolute_path(args->dir);
    options.foreground = args->foreground;
    options.ranks = args->ranks;
    if (!args->config.empty()) args->config = absolute_path(args->config);
    TRY(args->flags.apply(options.settings));  // the volume may be known by them
    options.volume = with_settings(options.volume, options.settings);
    TRY(load_settings(args->config, options.volume, options.settings));
    TRY(args->flags.apply(options.settings));
    options.volume = with_settings(options.volume, options.settings);
    TRY(check_volume(options.volume));
    if (!options.settings.log.empty()) options.settings.log = absolute_path(options.settings.log);
    TRY(check_mountpoint(options.mountpoint));
    if (options.foreground) return run_daemon(Notifier(), &options);
    return daemonize(run_daemon, &options);
  });
}

}  // namespace graftfs::cli
