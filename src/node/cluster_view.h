#pragma once
// What a rank's thread knows of the cluster: a copy that the node makes after each look.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cluster/beats.h"

namespace graftfs::node {

struct RankView {
  Epoch epoch;
  cluster::NodeId node = 0;
  bool alive = false;  // somebody runs it who is not dead
  bool here = false;   // in this process
  std::vector<std::string> addresses;
  friend bool operator==(const RankView&, const RankView&) = default;
};

// Never changed after it was made; shared by threads.
struct ClusterView {
  RankId root;
  std::map<RankId, RankView> ranks;
  std::map<RankId, RankId> heirs;  // of ranks that are gone
  friend bool operator==(const ClusterView&, const ClusterView&) = default;

  const RankView* find(RankId rank) const {
    auto it = ranks.find(rank);
    return it == ranks.end() ? nullptr : &it->second;
  }
};
using ViewPtr = std::shared_ptr<const ClusterView>;

inline ClusterView view_of(const cluster::Beats& beats) {
  ClusterView view;
  view.root = beats.table().root;
  view.heirs = beats.table().heirs;
  for (const auto& [rank, line] : beats.table().ranks) {
    RankView& r = view.ranks[rank];
    r.epoch = line.epoch;
    r.node = line.node;
    r.here = line.node == beats.me().id && line.node != 0;
    const cluster::NodeRecord* node = beats.node_of(rank);
    r.alive = node != nullptr;
    if (!node) continue;
    auto known = node->addresses.find(rank);
    if (known != node->addresses.end()) r.addresses = known->second;
  }
  return view;
}

}  // namespace graftfs::node
