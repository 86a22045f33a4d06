#pragma once
// How commands talk to the ranks that serve a volume.

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "cli/volume.h"
#include "client/router.h"
#include "node/finder.h"

namespace graftfs::cli {

// A directory as a person names it: a path below a mount, or VOLUME:/PATH. Its volume, and the path
// from there. EINVAL with a sentence where it is neither.
Result<std::pair<std::string, std::string>> volume_and_path(const std::string& text);
// VOLUME, or a directory at or below a mount of it.
Result<std::string> volume_of(const std::string& text);

// Of one command, in its thread. Everything that is asked has an answer within `limit`, or ends
// with ETIMEDOUT; what a rank has begun by then goes on. The session of lookups ends with this
// object.
class ClusterClient {
 public:
  // EHOSTDOWN where no process serves the volume for others, with what to do about it.
  static Result<std::unique_ptr<ClusterClient>> open(const std::string& volume);
  ~ClusterClient();
  ClusterClient(const ClusterClient&) = delete;
  ClusterClient& operator=(const ClusterClient&) = delete;

  EventLoop& loop() { return open_->loop(); }
  template <class T>
  T wait(Task<T> task) {
    return open_->wait(std::move(task));
  }
  // In order.
  std::vector<RankId> ranks() const { return finder_->map().ranks; }
  // With the role `control`.
  void dial(RankId rank, net::ConnectFn done) { finder_->dial_control(rank, std::move(done)); }
  Result<nlohmann::json> ask(RankId rank, const nlohmann::json& request, Nanos limit);
  // As root: whoever may open the volume's sockets is its operator.
  Result<Reply> call(Args args, Nanos limit);
  // The directory that the path leads to, and who has it. Errors name the path.
  struct Found {
    Ino ino;
    RankId home;
    std::optional<std::string> pin;
  };
  Result<Found> find_directory(const std::string& path, Nanos limit);

 private:
  explicit ClusterClient(std::unique_ptr<OpenVolume> open) : open_(std::move(open)) {}

  std::unique_ptr<OpenVolume> open_;
  std::unique_ptr<node::Finder> finder_;
  std::unique_ptr<Router> router_;
  SessionId session_;
};

}  // namespace graftfs::cli
