#pragma once
// Opening a volume, for every command.

#include <memory>
#include <string>

#include "base/blocking_pool.h"
#include "base/event_loop.h"
#include "base/wait.h"
#include "cli/settings.h"
#include "server/rank.h"
#include "store/local/local_store.h"

namespace graftfs::cli {

// The number in every frame of a volume's journals: the first 8 bytes of its uuid.
uint64_t volume_number(const std::string& uuid);

LocalOptions store_options(const Settings& settings);
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
  LocalStore& store() { return *store_; }
  uint64_t number() const { return volume_number(store_->volume_file().uuid); }

  // Runs the loop until the task is done.
  template <class T>
  T wait(Task<T> task) {
    return wait_for(loop_, std::move(task));
  }

 private:
  OpenVolume() : pool_("graftfs-tool", 2) {}

  EventLoop loop_;
  BlockingPool pool_;
  std::unique_ptr<LocalStore> store_;
};

}  // namespace graftfs::cli
