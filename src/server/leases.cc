#include "server/leases.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/fault.h"
#include "server/migrate.h"
#include "server/rank.h"
#include "server/two_party.h"

namespace graftfs {
namespace {

// After that many recalls within that time a directory is not leased for a while.
constexpr uint32_t kHotRecalls = 8;
constexpr Nanos kHotWithin = 250 * kMillisecond;
constexpr Nanos kHotFor = kSecond;
// So long what was recalled stays recalled for whoever has asked for it.
constexpr Nanos kKeep = 10 * kMillisecond;

// The directory in which the request names something that its answer tells of.
Ino named_dir(const Args& args) {
  if (auto* a = std::get_if<LookupArgs>(&args)) return a->dir;
  if (auto* a = std::get_if<MknodArgs>(&args)) return a->dir;
  if (auto* a = std::get_if<MkdirArgs>(&args)) return a->dir;
  if (auto* a = std::get_if<CreateArgs>(&args)) return a->dir;
  if (auto* a = std::get_if<SymlinkArgs>(&args)) return a->dir;
  if (auto* a = std::get_if<LinkArgs>(&args)) return a->dir;
  if (auto* a = std::get_if<ReaddirArgs>(&args)) return a->plus ? a->dir : Ino{};
  return {};
}

// One whose own attributes the request has changed, if it has changed anything.
Ino changed_dir(const Args& args) {
  if (auto* a = std::get_if<UnlinkArgs>(&args)) return a->dir;
  if (auto* a = std::get_if<RmdirArgs>(&args)) return a->dir;
  if (auto* a = std::get_if<RenameArgs>(&args)) return a->new_dir;
  return std::holds_alternative<LookupArgs>(args) || std::holds_alternative<ReaddirArgs>(args)
             ? Ino{}
             : named_dir(args);
}

bool shows_more_than_version(const DirItem& item, const Inode& now) {
  const Inode& will = item.header.inode;
  return item.full || will.mtime != now.mtime || will.ctime != now.ctime ||
         will.nlink != now.nlink || will.size != now.size;
}

}  // namespace

bool Leases::Items::covers(const Items& other) const {
  if (all) return true;
  return (self || !other.self) && !other.all &&
         std::includes(names.begin(), names.end(), other.names.begin(), other.names.end()) &&
         std::includes(inos.begin(), inos.end(), other.inos.begin(), other.inos.end());
}

size_t Leases::leased(SessionId session) const {
  auto it = sessions_.find(session);
  return it == sessions_.end() ? 0 : it->second.order.size();
}

// -- giving ---------------------------------------------------------------------------------------

void Leases::give(const Request& request, Reply& reply, Lsn shown) {
  if (lines_->connected(request.session)) give_all(request, reply, shown);
  reply.order = next_order();  // also after what had to be recalled for it
}

void Leases::give_all(const Request& request, Reply& reply, Lsn shown) {
  const bool absent = reply.err == ENOENT && std::holds_alternative<LookupArgs>(request.args);
  if (reply.err && !absent) return;
  if (Ino in = named_dir(request.args)) {
    const Dir* dir = core_.cache().find_dir(in);
    reply.named = dir && lease(request.session, *dir);
    if (reply.named)
      for (ListedEntry& entry : reply.entries) {
        const Dentry* inode = entry.stat ? core_.cache().find_inode(entry.ino) : nullptr;
        entry.here = inode && inode->dir == dir;
      }
  }
  if (Ino changed = reply.lsn && !reply.partial ? changed_dir(request.args) : Ino{}) {
    const Dir* dir = core_.cache().find_dir(changed);
    // While names in it are marked its attributes are about to change, and nobody asks again.
    const TwoParty& others = core_.two_party();
    const bool marked = dir && !others.idle() && others.busy_names(*dir, 0);
    // What others have done there is not shown before it is durable.
    const Lsn newest = std::max(shown, core_.journal().durable());
    const bool hidden = dir && core_.rank().hidden_from(request.session, *dir) > newest;
    if (dir && !marked && !hidden && lease(request.session, *dir)) reply.dir = dir->inode();
  }
  // ".." is told while names in the parent are marked.
  if (absent || reply.partial || !reply.stat.ino ||
      std::holds_alternative<LookupParentArgs>(request.args))
    return;
  const Dir* home = core_.cache().find_dir(reply.stat.ino);
  if (!home)
    if (const Dentry* inode = core_.cache().find_inode(reply.stat.ino)) home = inode->dir;
  if (home && lease(request.session, *home)) reply.leased = home->ino();
}

bool Leases::lease(SessionId session, const Dir& dir) {
  const Ino ino = dir.ino();
  // What has no name is nobody else's business, and is not asked for again.
  if (dir.is_foreign() || ino == orphans_dir_ino(core_.id())) return false;
  auto at = dirs_.find(ino);
  if (at != dirs_.end()) {
    DirLeases& leases = at->second;
    if (!leases.recalls.empty() || core_.executor().now() < leases.closed_until) return false;
    auto held = leases.holders.find(session);
    if (held != leases.holders.end()) {
      std::list<Ino>& order = sessions_.at(session).order;
      order.splice(order.end(), order, held->second.place);
      held->second.given = order_ + 1;
      return true;
    }
  }
  if (core_.migrations().gives_away(dir)) return false;
  std::list<Ino>& order = sessions_[session].order;
  order.push_back(ino);
  dirs_[ino].holders[session] = {std::prev(order.end()), order_ + 1, 0};
  KILL_POINT("lease.given");
  if (order.size() > most_) {
    MARK("lease.too_many");
    const Ino oldest = order.front();
    begin({{oldest, Items{.self = true, .all = true}}}, {{oldest, session}}, nullptr);
    order.splice(order.end(), order, order.begin());  // the next one is another
  }
  return true;
}

// -- recalling ------------------------------------------------------------------------------------

// Of directories that others hold.
std::map<Ino, Leases::Items> Leases::items_of(SessionId except, const TreeEvent& event) const {
  std::map<Ino, Items> out;
  absl::InlinedVector<const Dir*, 8> held;
  for (const DirItem& item : event.dirs) {
    const Ino ino = item.header.inode.ino;
    auto at = dirs_.find(ino);
    const Dir* dir = at == dirs_.end() ? nullptr : core_.cache().find_dir(ino);
    const bool by_others = dir && at->second.holders.size() > at->second.holders.contains(except);
    held.push_back(by_others ? dir : nullptr);
    if (by_others && shows_more_than_version(item, dir->inode())) out[ino].self = true;
  }
  for (const EntryItem& item : event.entries) {
    const Dir* dir = held[item.dir];
    if (!dir) continue;
    const Dentry* now = core_.cache().find_entry(*dir, item.name);
    const bool was = now && now->kind != EntryKind::null;
    Items& items = out[dir->ino()];
    const Ino will = item.value.kind == EntryKind::null ? Ino{} : item.value.ino;
    if (!is_hidden_dir(dir->ino()) && (was ? now->ino : Ino{}) != will)
      items.names.insert(item.name);
    if (was && now->kind == EntryKind::primary) items.inos.insert(now->ino);
  }
  std::erase_if(out, [](const auto& of) {
    return !of.second.self && of.second.names.empty() && of.second.inos.empty();
  });
  return out;
}

const Leases::Recalling* Leases::covering(const DirLeases& leases, const Holder& holder,
                                          const Items& items, uint64_t* id) const {
  for (uint64_t recall : leases.recalls) {
    const Recalling& r = recalls_.at(recall);
    if (!r.holders.contains(holder) || !r.what.at(holder.first).covers(items)) continue;
    *id = recall;
    return &r;
  }
  return nullptr;
}

std::optional<Need> Leases::ask(SessionId except, const TreeEvent& event) {
  std::map<Ino, Items> what = items_of(except, event);
  std::set<Holder> holders;
  uint64_t wait_for = 0;
  for (const auto& [dir, items] : what) {
    const DirLeases& leases = dirs_.at(dir);
    for (const auto& [session, held] : leases.holders) {
      if (session == except) continue;
      uint64_t id = 0;
      const Recalling* r = covering(leases, {dir, session}, items, &id);
      if (!r) {
        holders.emplace(dir, session);
      } else if (r->unanswered > 0) {
        wait_for = id;
      }
    }
  }
  if (!holders.empty()) {
    std::erase_if(what, [&](const auto& of) {
      auto first = holders.lower_bound({of.first, SessionId{}});
      return first == holders.end() || first->first != of.first;
    });
    wait_for = begin(std::move(what), std::move(holders), nullptr);
  }
  if (!wait_for) return std::nullopt;
  return Need{Need::recall, {}, {}, wait_for};
}

// Whether it is recalled so often that nobody gains by having it.
bool Leases::is_hot(DirLeases& leases) const {
  const Nanos now = core_.executor().now();
  if (now - leases.since > kHotWithin) {
    leases.since = now;
    leases.count = 0;
  }
  if (++leases.count <= kHotRecalls) return false;
  MARK("lease.hot");
  leases.closed_until = now + kHotFor;
  return true;
}

uint64_t Leases::begin(std::map<Ino, Items> what, std::set<Holder> holders, Fn done) {
  const uint64_t id = ++last_recall_, order = next_order();
  Recalling& r = recalls_[id];
  for (auto& [dir, items] : what) {
    DirLeases& leases = dirs_.at(dir);
    // Whoever has been told nothing since the last recall is not asked a third time.
    bool idle = true;
    for (auto at = holders.lower_bound({dir, SessionId{}}); at != holders.end() && at->first == dir;
         ++at) {
      Held& held = leases.holders.at(at->second);
      idle = idle && held.given < held.recalled;
      held.recalled = order;
    }
    if (is_hot(leases) || idle) items.all = true;
    leases.recalls.push_back(id);
  }
  r.what = std::move(what);
  r.holders = std::move(holders);
  r.unanswered = r.holders.size();
  r.done = std::move(done);
  const Nanos now = core_.executor().now();
  for (const Holder& holder : r.holders) {
    const Items& items = r.what.at(holder.first);
    const uint64_t number = ++last_number_;
    asked_[number] = {id, holder, now};
    msg::Recall recall{.number = number, .order = order, .dir = holder.first};
    recall.self = items.self || items.all;
    recall.all = items.all;
    recall.names.assign(items.names.begin(), items.names.end());
    recall.inos.assign(items.inos.begin(), items.inos.end());
    // Who has no connection is waited for, too: it may go by what it was leased.
    if (lines_) lines_->send(holder.second, std::move(recall));
  }
  KILL_POINT("lease.recall_sent");
  watch();
  return id;
}

void Leases::receive(SessionId session, Message message) {
  if (std::holds_alternative<msg::Attach>(message.body)) return session_gone(session);
  auto* recalled = std::get_if<msg::Recalled>(&message.body);
  if (!recalled) return;
  auto asked = asked_.find(recalled->number);
  if (asked == asked_.end() || asked->second.holder.second != session) return;
  KILL_POINT("lease.recalled");
  answered(asked);
}

void Leases::answered(std::map<uint64_t, Asked>::iterator at) {
  const Asked asked = at->second;
  asked_.erase(at);
  Recalling& r = recalls_.at(asked.recall);
  if (r.what.at(asked.holder.first).all) drop(asked.holder);
  if (--r.unanswered == 0) over(asked.recall);
}

// Who has asked goes on. Until retire() it finds that it need not ask again.
void Leases::over(uint64_t id) {
  core_.executor().post([this, alive = alive_, id] {
    if (*alive) core_.wake(Need{Need::recall, {}, {}, id});
  });
  if (Fn done = std::move(recalls_.at(id).done)) core_.executor().post(std::move(done));
  core_.executor().post_after(kKeep, [this, alive = alive_, id] {
    if (*alive) retire(id);
  });
}

void Leases::retire(uint64_t id) {
  auto node = recalls_.extract(id);
  for (const auto& [dir, items] : node.mapped().what) {
    std::erase(dirs_.at(dir).recalls, id);
    tidy(dir);
  }
}

void Leases::drop(const Holder& holder) {
  auto at = dirs_.find(holder.first);
  if (at == dirs_.end()) return;
  auto held = at->second.holders.find(holder.second);
  if (held == at->second.holders.end()) return;
  auto session = sessions_.find(holder.second);
  session->second.order.erase(held->second.place);
  if (session->second.order.empty()) sessions_.erase(session);
  at->second.holders.erase(held);
  tidy(holder.first);
}

void Leases::tidy(Ino dir) {
  auto at = dirs_.find(dir);
  if (at == dirs_.end() || !at->second.holders.empty() || !at->second.recalls.empty()) return;
  const Nanos closed = at->second.closed_until - core_.executor().now();
  if (closed <= 0) {
    dirs_.erase(at);
    return;
  }
  core_.executor().post_after(closed, [this, alive = alive_, dir] {
    if (*alive) tidy(dir);
  });
}

// -- subtrees -------------------------------------------------------------------------------------

// What is not cached may be anywhere.
bool Leases::is_below(Ino dir, const Dir& root) const {
  const Dir* d = core_.cache().find_dir(dir);
  return !d || Cache::is_below(d, &root);
}

bool Leases::none_below(const Dir& root) {
  std::map<Ino, Items> what;
  std::set<Holder> holders;
  bool none = true;
  for (const auto& [dir, leases] : dirs_) {
    if (leases.holders.empty() || !is_below(dir, root)) continue;
    none = false;
    const Items everything{.self = true, .all = true};
    for (const auto& [session, held] : leases.holders) {
      uint64_t id = 0;
      const Recalling* r = covering(leases, {dir, session}, everything, &id);
      if (!r) {
        what[dir] = everything;
        holders.emplace(dir, session);
      }
    }
  }
  if (!holders.empty()) begin(std::move(what), std::move(holders), nullptr);
  return none;
}

void Leases::recall_tree(const Dir& root, Fn done) {
  std::map<Ino, Items> what;
  std::set<Holder> holders;
  for (const auto& [dir, leases] : dirs_) {
    if (leases.holders.empty() || !is_below(dir, root)) continue;
    what[dir] = Items{.self = true, .all = true};
    for (const auto& [session, held] : leases.holders) holders.emplace(dir, session);
  }
  if (holders.empty()) return core_.executor().post(std::move(done));
  MARK("lease.tree");
  begin(std::move(what), std::move(holders), std::move(done));
}

// -- sessions -------------------------------------------------------------------------------------

void Leases::session_gone(SessionId session) {
  std::vector<uint64_t> numbers;
  for (const auto& [number, asked] : asked_)
    if (asked.holder.second == session) numbers.push_back(number);
  for (uint64_t number : numbers) answered(asked_.find(number));
  auto at = sessions_.find(session);
  if (at == sessions_.end()) return;
  std::vector<Ino> dirs(at->second.order.begin(), at->second.order.end());
  for (Ino dir : dirs) drop({dir, session});
}

void Leases::watch() {
  if (asked_.empty() || !lines_ || std::exchange(watching_, true)) return;
  core_.executor().post_after(lines_->lease() / 8, [this, alive = alive_] {
    if (!*alive) return;
    watching_ = false;
    look_at_silent();
    watch();
  });
}

// The rank counts 5/4 of the lease, from its last answer: the client's own count ends before that.
// One that speaks, and does not answer a recall, loses its connection first: when it comes back it
// says that it keeps nothing.
void Leases::look_at_silent() {
  if (!lines_) return;
  const Nanos now = core_.executor().now();
  const Nanos patience = lines_->lease() + lines_->lease() / 4;
  std::set<SessionId> silent, mute;
  for (auto& [number, asked] : asked_) {
    const SessionId session = asked.holder.second;
    if (now - lines_->heard(session) >= patience) {
      silent.insert(session);
    } else if (now - asked.since >= patience && !std::exchange(asked.reminded, true)) {
      mute.insert(session);
    }
  }
  for (SessionId session : silent) {
    MARK("lease.evicted");
    lines_->evict(session,
                  fmt::format("others wait for what it was leased, and it has not been "
                              "heard of for {:.1f} s",
                              static_cast<double>(now - lines_->heard(session)) / kSecond));
    session_gone(session);
  }
  for (SessionId session : mute) {
    MARK("lease.mute");
    lines_->disconnect(session, "has not answered a recall in time");
  }
}

}  // namespace graftfs
