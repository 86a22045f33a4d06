#include "cluster/watch.h"

#include <algorithm>

namespace graftfs::cluster {

std::vector<NodeId> Watch::look(Nanos now, const std::vector<Sighting>& seen) {
  std::vector<NodeId> died;
  std::set<NodeId> listed;
  for (const Sighting& s : seen) {
    listed.insert(s.node);
    auto [it, fresh] = nodes_.try_emplace(s.node, Known{s.version, now, false, 0});
    Known& known = it->second;
    if (fresh) continue;
    if (known.version != s.version) {
      // It may have been stopped; it is another matter whether it still has its ranks.
      known = Known{s.version, now, false, 0};
    } else if (!known.dead && now - known.since >= patience()) {
      known.dead = true;
      known.died = now;
      died.push_back(s.node);
    }
  }
  std::erase_if(nodes_, [&](const auto& node) { return !listed.contains(node.first); });
  std::sort(died.begin(), died.end());
  return died;
}

void Watch::prove_dead(NodeId node) {
  auto it = nodes_.find(node);
  if (it == nodes_.end() || it->second.dead) return;
  it->second.dead = true;
  it->second.died = it->second.since;
}

bool Watch::is_dead(NodeId node) const {
  auto it = nodes_.find(node);
  return it == nodes_.end() || it->second.dead;
}

bool Watch::is_alive(NodeId node) const { return !is_dead(node); }

uint64_t Watch::last_beat(NodeId node) const {
  auto it = nodes_.find(node);
  return it == nodes_.end() ? 0 : it->second.version;
}

Nanos Watch::dead_since(NodeId node) const {
  auto it = nodes_.find(node);
  return it == nodes_.end() ? 0 : it->second.died;
}

bool should_take(const Orphan& orphan, NodeId me, const std::vector<Member>& living, Nanos now,
                 Nanos lease) {
  const Member* mine = nullptr;
  const Member* first = nullptr;
  bool standby = false;
  for (const Member& m : living) {
    if (m.id == me) mine = &m;
    if (m.standby) {
      standby = true;
      continue;
    }
    if (!first || m.ranks < first->ranks || (m.ranks == first->ranks && m.id < first->id))
      first = &m;
  }
  if (!mine) return false;
  if (mine->standby) return true;
  const Nanos waited = now - orphan.since;
  if (waited >= lease / 4 + 2 * lease) return true;
  return !standby && first == mine && waited >= lease / 4;
}

}  // namespace graftfs::cluster
