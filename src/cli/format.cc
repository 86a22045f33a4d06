#include "cli/format.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "cli/command.h"
#include "cli/setting_flags.h"
#include "cli/status_socket.h"
#include "cli/volume.h"
#include "server/rank.h"
#include "store/local/local_store.h"
#include "store/rados/rados_store.h"

namespace graftfs::cli {
namespace {

// What a volume's directory may hold; --force removes these and nothing else.
constexpr const char* kOurs[] = {
    local::kVolumeFile, "graftfs.volume.new", "dirs",        "journal", "data", "lock",
    kConfigName,        kSocketName,          "graftfs.log", "cluster", "key",  "key.new",
    kSocketsDir};

// Empties a volume that nobody uses.
Result<void> clear_volume(const std::string& volume) {
  if (rados::is_rados(volume)) return RadosVolume::erase(volume);
  namespace fs = std::filesystem;
  // A newer or damaged volume may be given up as well, but it must have been one.
  if (!fs::exists(fs::path(volume) / local::kVolumeFile)) return {};
  for (const auto& entry : fs::directory_iterator(volume)) {
    std::string name = entry.path().filename();
    bool ours = name == "lost+found";
    for (const char* known : kOurs) ours |= name == known;
    if (!ours)
      return fail(
          ENOTEMPTY,
          fmt::format("{} holds '{}', which is not GraftFS's; move it away first", volume, name));
  }
  int lock = ::open((volume + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0 || ::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    if (lock >= 0) ::close(lock);
    auto served = ask_daemon(volume);
    return fail(EBUSY, fmt::format("{} is in use{}; unmount it first", volume,
                                   served ? fmt::format(" by process {}", served->pid) : ""));
  }
  std::error_code error;
  // First, so that a crash in the middle leaves something that is not a volume.
  fs::remove(fs::path(volume) / local::kVolumeFile, error);
  for (const char* name : kOurs)
    if (!error && std::string_view(name) != "lock") fs::remove_all(fs::path(volume) / name, error);
  ::close(lock);
  if (error)
    return fail(error.value(), fmt::format("cannot empty {}: {}", volume, error.message()));
  return {};
}

Result<void> write_config(const std::string& volume, const SettingFlags& flags) {
  std::string text = "# Settings of this volume: the flags of 'graftfs mount', as keys.\n";
  for (const auto& [name, value] : flags.given()) text += fmt::format("{} = \"{}\"\n", name, value);
  if (rados::is_rados(volume)) {
    TRY_ASSIGN(auto opened, RadosVolume::open(volume));
    return opened->set_config(text);
  }
  std::string path = volume + "/" + kConfigName;
  std::ofstream out(path, std::ios::trunc);
  out << text;
  out.close();
  if (!out) return fail(EIO, fmt::format("cannot write {}: {}", path, std::strerror(errno)));
  return {};
}

// The rank makes the root and its hidden directories, and writes them to the store.
Task<Result<void>> make_root(EventLoop& loop, Store& store, RankOptions options) {
  Rank rank(loop, store, std::move(options));
  CO_TRY(co_await rank.start());
  if (::getuid() != 0) {
    SetattrArgs args;
    args.ino = kRootIno;
    args.valid = kSetUid | kSetGid;
    args.uid = ::getuid();
    args.gid = ::getgid();
    Request request;
    request.args = args;
    Promised<int> done(loop);
    rank.submit(std::move(request), [done](Reply reply) { done.set(reply.err); });
    int err = co_await done;
    if (err) co_return fail(err, "the root directory cannot be given to its owner");
  }
  CO_TRY(co_await rank.stop());
  std::string key = kFormattedKey, value = "yes";
  CO_TRY(co_await store.state().set(key, 0, value));
  co_return Result<void>{};
}

}  // namespace

Result<void> format_volume(const std::string& volume, const SettingFlags& flags, bool force) {
  Settings settings;
  TRY(flags.apply(settings));
  if (force) TRY(clear_volume(volume));
  if (rados::is_rados(volume)) {
    TRY(RadosVolume::format(volume));
  } else {
    TRY(LocalStore::format(volume));
  }
  TRY(write_config(volume, flags));
  TRY_ASSIGN(auto open, OpenVolume::open(volume, settings));
  RankOptions options;
  options.volume = open->number();
  options.volume_name = volume;
  options.trace = settings.trace;
  options.durability = Durability::strict;
  return open->wait(make_root(open->loop(), open->store(), std::move(options)));
}

void add_format(CLI::App& app) {
  struct Args {
    std::string volume;
    bool force = false;
    SettingFlags flags;
  };
  auto args = std::make_shared<Args>();
  CLI::App* command =
      add_command(app, "format", "Make an empty volume in a directory, or in a pool of Ceph",
                  "  graftfs format /srv/v\n"
                  "  graftfs format /srv/v --segment-size 4MiB\n"
                  "  graftfs format /srv/v --force    # throws away what is in it\n"
                  "  graftfs format rados:pool/space --conf /etc/ceph/ceph.conf --id me\n");
  command->add_option("VOLUME", args->volume, "a new or empty directory, or rados:POOL[/NAMESPACE]")
      ->required();
  command->add_flag("--force", args->force, "empty a volume that is there already");
  args->flags.add_to(command, true);
  on_run(command, [args]() -> Result<int> {
    const std::string volume =
        rados::is_rados(args->volume) ? volume_name(args->volume) : args->volume;
    TRY(format_volume(volume, args->flags, args->force));
    fmt::print("{} is a volume now; mount it with 'graftfs mount {} DIR'\n", args->volume,
               args->volume);
    return 0;
  });
}

}  // namespace graftfs::cli
