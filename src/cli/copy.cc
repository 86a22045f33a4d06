// `graftfs copy`: a volume moves from one store to another.
#include "tools/copy.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "cli/command.h"
#include "cli/status_socket.h"
#include "cli/volume.h"
#include "node/volume_key.h"
#include "store/local/local_store.h"
#include "store/rados/rados_store.h"

namespace graftfs::cli {
namespace {

Result<std::string> read_config(const std::string& volume) {
  if (rados::is_rados(volume)) {
    TRY_ASSIGN(auto opened, RadosVolume::open(volume));
    return opened->config();
  }
  std::ifstream in(volume + "/" + kConfigName);
  return std::string((std::istreambuf_iterator<char>(in)), {});
}

Result<void> write_config(const std::string& volume, const std::string& text) {
  if (rados::is_rados(volume)) {
    TRY_ASSIGN(auto opened, RadosVolume::open(volume));
    return opened->set_config(text);
  }
  std::string path = volume + "/" + kConfigName;
  std::ofstream out(path, std::ios::trunc);
  out << text;
  out.close();
  if (!out) return fail(EIO, fmt::format("cannot write {}", path));
  return {};
}

Result<void> refuse_if_used(const std::string& name, Volume& volume) {
  if (auto served = ask_daemon(run_dir(name)))
    return fail(EBUSY, fmt::format("{} is mounted by process {}; unmount it first", volume.name(),
                                   served->pid));
  TRY_ASSIGN(auto user, volume.in_use());
  if (user) return fail(EBUSY, fmt::format("{} is in use ({})", volume.name(), *user));
  return {};
}

// The target is made with the source's identity: it is the same volume.
Result<void> make_target(const std::string& target, const local::VolumeFile& file,
                         const std::string& secret, const std::string& config) {
  auto made = rados::is_rados(target) ? RadosVolume::format(target, file)
                                      : LocalStore::format(target, file);
  if (!made && made.error().code != EEXIST) return std::unexpected(std::move(made).error());
  if (!made) {
    // One that a copy was begun with, or somebody's.
    TRY_ASSIGN(auto there, OpenVolume::open(target));
    StateStore& state = there->store().state();
    TRY_ASSIGN(StateValue formatted, there->wait(state.get(kFormattedKey)));
    const bool complete =
        formatted.version > 0 &&
        there->wait(tools::check_not_copying(state, there->volume().name())).has_value();
    if (there->volume().file().uuid != file.uuid || complete)
      return fail(EEXIST, fmt::format("{} is a volume already; name an empty place",
                                      there->volume().name()));
  }
  TRY(write_config(target, config));
  TRY_ASSIGN(auto opened, open_volume(target));
  TRY(opened->secret([&secret] { return secret; }));
  return {};
}

Result<int> copy_command(const std::string& source, const std::string& target, bool verify) {
  const std::string from_name = volume_name(source);
  const std::string to_name = rados::is_rados(target) ? volume_name(target) : target;
  Settings settings;
  TRY(load_settings("", from_name, settings));
  TRY_ASSIGN(auto from, OpenVolume::open(from_name, settings));
  TRY(refuse_if_used(from_name, from->volume()));
  TRY(from->wait(tools::check_not_copying(from->store().state(), from->volume().name())));
  TRY_ASSIGN(std::string secret, node::volume_key(from->volume()));
  TRY_ASSIGN(std::string config, read_config(from_name));
  TRY(make_target(to_name, from->volume().file(), secret, config));
  TRY_ASSIGN(auto to_volume, open_volume(to_name, volume_options(settings)));
  TRY(refuse_if_used(to_name, *to_volume));
  // On the loop of the source.
  TRY_ASSIGN(auto to, to_volume->use(from->loop(), from->pool()));
  tools::CopyOptions options;
  options.verify = verify;
  options.progress = [](const tools::CopyReport& r) {
    fmt::print(stderr, "graftfs: copied {} directories, {} files, {}\n", r.dirs, r.files,
               show_size(r.data_bytes));
  };
  TRY_ASSIGN(auto report, from->wait(tools::copy_volume(from->store(), *to, std::move(options))));
  fmt::print("{} is {} now: {} directories, {} files, {}, {} journal segments{}{}\n",
             to_volume->name(), from->volume().name(), report.dirs, report.files,
             show_size(report.data_bytes), report.segments,
             report.resumed ? " (since it went on)" : "", verify ? "; compared, and the same" : "");
  return 0;
}

}  // namespace

void add_copy(CLI::App& app) {
  struct Args {
    std::string from, to;
    bool no_verify = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* command = add_command(
      app, "copy", "Copy a volume to another place, such as from this machine to Ceph",
      "  graftfs copy /srv/v rados:pool/space --conf /etc/ceph/ceph.conf\n"
      "  graftfs copy rados:pool/space /srv/v\n"
      "\nNeither may be in use. What was cut off goes on when it is called again. The copy is the\n"
      "same volume: use one of the two, not both.\n");
  command->add_option("FROM", args->from, "the volume")->required();
  command->add_option("TO", args->to, "a new or empty directory, or rados:POOL[/NAMESPACE]")
      ->required();
  command->add_flag("--no-verify", args->no_verify, "do not read both again to compare them");
  on_run(command, [args] { return copy_command(args->from, args->to, !args->no_verify); });
}

}  // namespace graftfs::cli
