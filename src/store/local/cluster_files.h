#pragma once
// `cluster/*` state in files: VOLUME/cluster/KEY.VERSION (docs/formats/store-local.md).

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/local/local_common.h"
#include "store/store.h"

namespace graftfs::local {

// Compare-and-set without a lock, so that a process that is stopped anywhere holds up nobody: a
// version is a file that is written under another name and linked to its own, which fails where
// it exists. The newest few versions are kept, so that a listing meets one whatever happens
// meanwhile. Shared by the stores of a process; any thread, every call blocks. A crash leaves a
// version whole or absent, and perhaps a file `tmp-*`, which a later writer removes. After an
// error of set() the version may be there.
class ClusterFiles {
 public:
  explicit ClusterFiles(std::shared_ptr<Volume> volume) : volume_(std::move(volume)) {}
  Result<void> open();

  Result<StateValue> get(const std::string& key) const;
  Result<uint64_t> set(const std::string& key, uint64_t expected, std::string_view value) const;
  Result<std::vector<std::pair<std::string, StateValue>>> list(const std::string& prefix) const;
  Result<void> remove(const std::string& key) const;
  // Whether this version of the key, which was there, is still the newest. Two system calls.
  Result<bool> is_newest(const std::string& key, uint64_t version) const;

  std::string shown(const std::string& name) const { return volume_->path + "/cluster/" + name; }

 private:
  Result<std::vector<std::pair<std::string, uint64_t>>> versions(std::string_view wanted,
                                                                 bool prefix) const;
  Result<std::string> read_version(const std::string& name) const;
  Result<StateValue> read_newest(const std::string& name) const;
  std::string temporary() const;

  std::shared_ptr<Volume> volume_;
  Fd dir_;
};

inline constexpr std::string_view kClusterPrefix = "cluster/";

// That this process may act for the owner of a rank's journal. Shared by jobs; any thread.
class Fence {
 public:
  Fence(std::shared_ptr<const ClusterFiles> files, RankId rank, Epoch epoch, uint64_t version)
      : files_(std::move(files)), rank_(rank), epoch_(epoch), version_(version) {}
  // ESTALE once there is a newer owner, or it was given up.
  Result<void> holds() const;
  Epoch epoch() const { return epoch_; }
  uint64_t version() const { return version_; }
  void give_up() { given_up_ = true; }

 private:
  std::shared_ptr<const ClusterFiles> files_;
  RankId rank_;
  Epoch epoch_;
  uint64_t version_;
  std::atomic<bool> given_up_{false};
};

// All that one store owns.
class Fences {
 public:
  void set(RankId rank, std::shared_ptr<Fence> fence);
  std::shared_ptr<Fence> get(RankId rank) const;
  // ESTALE where one of them does not hold any more. Nothing owned: nothing is asked.
  Result<void> hold() const;

 private:
  mutable std::mutex mutex_;
  std::map<RankId, std::shared_ptr<Fence>> fences_;
};

}  // namespace graftfs::local
