#include "harness/embedded_node.h"

#include <fmt/format.h>

#include "node/volume_key.h"
#include "server/migrate.h"

namespace graftfs::bench {
namespace {

template <class T>
T or_throw(Result<T> result) {
  if (!result) throw BenchmarkError(describe(result.error()));
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace

EmbeddedNode::EmbeddedNode(const std::filesystem::path& path, size_t ranks, RankOptions options) {
  or_throw(LocalStore::format(path));
  volume_ = or_throw(LocalVolume::open(path));
  node::NodeOptions o;
  o.ranks = ranks;
  o.rank = std::move(options);
  o.rank.volume = 7;
  o.rank.volume_name = path;
  o.secret = or_throw(node::volume_key(*volume_));
  node_ = std::make_unique<node::Node>(loop_, pool_, volume_, std::move(o));
  node_->lost = [](const std::string& why) { throw BenchmarkError("the node is lost: " + why); };
  or_throw(wait_for(loop_, node_->start()));
}

EmbeddedNode::~EmbeddedNode() { node_.reset(); }

Reply EmbeddedNode::call(RankId rank, Args args) {
  auto held = std::make_shared<Args>(std::move(args));
  return in_rank<Reply>(rank, [held](Rank& r, std::move_only_function<void(Reply)> done) {
    Request request;
    request.args = std::move(*held);
    r.submit(std::move(request), std::move(done));
  });
}

void EmbeddedNode::move(RankId from, Ino root, RankId to) {
  // It is given up where a disk that is busy with other things takes longer than its limits.
  constexpr int kTries = 20;
  for (int tries = 1;; ++tries) {
    auto moved = in_rank<Result<void>>(
        from, [root, to](Rank& r, std::move_only_function<void(Result<void>)> done) {
          r.migrations().start(root, to, std::move(done));
        });
    if (moved || tries == kTries) return or_throw(std::move(moved));
    wait_for(loop_, pause());
  }
}

Task<bool> EmbeddedNode::pause() {
  co_await sleep_for(loop_, 20 * kMillisecond);
  co_return true;
}

void EmbeddedNode::stop() {
  or_throw(wait_for(loop_, node_->stop()));
  node_.reset();
}

}  // namespace graftfs::bench
