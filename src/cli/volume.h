#pragma once
// Opening a volume, for every command.

#include <memory>
#include <string>

#include "base/blocking_pool.h"
#include "base/event_loop.h"
#include "base/wait.h"
#include "cli/settings.h"
#include "server/rank.h"
#include "store/rados/name.h"
#include "store/volume.h"

namespace graftfs::cli {

// The number in every frame of a volume's journals: the first 8 bytes of its uuid.
uint64_t volume_number(const std::string& uuid);

// A volume as it was named on the command line, in the one form that names it everywhere: an
// absolute path, or rados:POOL... with what --conf and --id said.
std::string volume_name(const std::string& text);
// Its conf and id as the settings say, where they say something.
std::string with_settings(const std::string& volume, const Settings& settings);
// --conf and --id, which every command takes.
struct CephFlags {
  std::string conf, id;
};
CephFlags& ceph_flags();

// Where this machine keeps what belongs to a volume and is not in it: sockets, the log. The
// volume's directory itself, or for one on Ceph a directory below /run/graftfs (or
// $XDG_RUNTIME_DIR).
std::string run_dir(const std::string& volume);
// Makes it. The path is run_dir()'s.
Result<std::string> make_run_dir(const std::string& volume);
// Whether there is such a volume, before anything else is done.
Result<void> check_volume(const std::string& volume);
// Applies the file, or what the volume itself says.
Result<void> load_settings(const std::string& file, const std::string& volume, Settings& settings);

VolumeOptions volume_options(const Settings& settings);
// But for what only the process knows: which rank, its journal, its log.
RankOptions rank_options(const Settings& settings, const local::VolumeFile& file,
                         const std::string& volume);

// Set once `format` is done: from then on a volume without a journal is damaged.
inline constexpr char kFormattedKey[] = "volume/formatted";

// A loop, a pool and a store, for commands that do one thing and end.
class OpenVolume {
 public:
  // `new_sums`: see local::DirsOptions.
  static Result<std::unique_ptr<OpenVolume>> open(const std::string& volume,
                                                  const Settings& settings = {},
                                                  bool new_sums = false);
  EventLoop& loop() { return loop_; }
  BlockingPool& pool() { return pool_; }
  Volume& volume() { return *volume_; }
  Store& store() { return *store_; }
  uint64_t number() const { return volume_number(volume_->file().uuid); }

  // Runs the loop until the task is done.
  template <class T>
  T wait(Task<T> task) {
    return wait_for(loop_, std::move(task));
  }

 private:
  OpenVolume() : pool_("graftfs-tool", 2) {}

  EventLoop loop_;
  BlockingPool pool_;
  std::shared_ptr<Volume> volume_;
  std::unique_ptr<Store> store_;
};

}  // namespace graftfs::cli
