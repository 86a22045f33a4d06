#include "client/lease_cache.h"

#include <fcntl.h>

#include <algorithm>

#include "base/fault.h"

namespace graftfs {
namespace {

constexpr size_t kMostSearchers = 16;  // of a directory

// What a request names and its answer tells of.
const std::string* told_name(const Args& args, Ino* dir) {
  auto is = [dir](const auto& a) {
    *dir = a.dir;
    return &a.name;
  };
  if (auto* a = std::get_if<LookupArgs>(&args)) return is(*a);
  if (auto* a = std::get_if<MknodArgs>(&args)) return is(*a);
  if (auto* a = std::get_if<MkdirArgs>(&args)) return is(*a);
  if (auto* a = std::get_if<CreateArgs>(&args)) return is(*a);
  if (auto* a = std::get_if<SymlinkArgs>(&args)) return is(*a);
  if (auto* a = std::get_if<LinkArgs>(&args)) return is(*a);
  return nullptr;
}

template <class Key>
void less(absl::flat_hash_map<Key, int>& counts, const Key& key) {
  auto at = counts.find(key);
  if (--at->second == 0) counts.erase(at);
}

}  // namespace

bool changes_what_is_kept(const Args& args) {
  if (auto* open = std::get_if<OpenArgs>(&args)) return open->flags & O_TRUNC;
  return !(
      std::holds_alternative<LookupArgs>(args) || std::holds_alternative<LookupParentArgs>(args) ||
      std::holds_alternative<GetattrArgs>(args) || std::holds_alternative<ReadlinkArgs>(args) ||
      std::holds_alternative<ReleaseArgs>(args) || std::holds_alternative<GetxattrArgs>(args) ||
      std::holds_alternative<ListxattrArgs>(args) || std::holds_alternative<AccessArgs>(args) ||
      std::holds_alternative<StatfsArgs>(args) || std::holds_alternative<SyncArgs>(args) ||
      std::holds_alternative<LockArgs>(args));
}

LeaseCache::Who LeaseCache::who(const Credentials& cred) {
  Credentials settled = cred;
  settled.settle();
  return {settled.uid, settled.gid, std::move(settled.groups)};
}

// -- answering ------------------------------------------------------------------------------------

LeaseCache::DirLease* LeaseCache::leased(Ino dir) {
  auto at = dirs_.find(dir);
  return at != dirs_.end() && valid_(at->second.rank) ? &at->second : nullptr;
}

bool LeaseCache::may_search(DirLease& lease, Ino dir, const Credentials& cred) const {
  if (caller_checks) return true;
  if (busy_inos_.contains(dir)) return false;  // its mode may be about to change
  return std::find(lease.searched.begin(), lease.searched.end(), who(cred)) != lease.searched.end();
}

const LeaseCache::Attr* LeaseCache::attr(Ino ino, RankId* rank) {
  if (wild_ > 0 || busy_inos_.contains(ino)) return nullptr;
  auto at = attrs_.find(ino);
  if (at == attrs_.end()) return nullptr;
  const DirLease* home = leased(at->second.home);
  if (!home) return nullptr;
  *rank = home->rank;
  return &at->second;
}

std::optional<Reply> LeaseCache::answer(const Credentials& cred, const Args& args) {
  Ino ino;
  Reply reply;
  if (auto* lookup = std::get_if<LookupArgs>(&args)) {
    DirLease* lease = leased(lookup->dir);
    if (!lease || !may_search(*lease, lookup->dir, cred)) return std::nullopt;
    auto at = lease->names.find(lookup->name);
    if (at == lease->names.end() || busy_names_.contains({lookup->dir, lookup->name}))
      return std::nullopt;
    if (!at->second) {
      ++hits_;
      reply.err = ENOENT;
      return reply;
    }
    ino = at->second;
  } else if (auto* getattr = std::get_if<GetattrArgs>(&args)) {
    ino = getattr->ino;
  } else {
    return std::nullopt;
  }
  const Attr* found = attr(ino, &reply.home);
  if (!found) return std::nullopt;
  ++hits_;
  reply.stat = found->stat;
  return reply;
}

// -- changes of this client -----------------------------------------------------------------------

// What the name leads to loses it, or gets another one.
void LeaseCache::victim(Change& change, Ino dir, const std::string& name) {
  DirLease* lease = leased(dir);
  auto at = lease ? lease->names.find(name) : decltype(lease->names.find(name)){};
  if (!lease || at == lease->names.end() || busy_names_.contains({dir, name})) {
    change.wild = true;
  } else if (at->second) {
    change.inos.push_back(at->second);
  }
}

LeaseCache::Change LeaseCache::touched(const Args& args) {
  Change c;
  Ino dir;
  if (const std::string* name = told_name(args, &dir); name && args.index() != 0) {
    c.names.push_back({dir, *name});
    c.inos.push_back(dir);
    if (auto* link = std::get_if<LinkArgs>(&args)) c.inos.push_back(link->ino);
    auto* create = std::get_if<CreateArgs>(&args);
    if (create && create->flags & O_TRUNC) victim(c, dir, *name);
    return c;
  }
  auto take = [&](Ino from, const std::string& name) {
    victim(c, from, name);
    c.names.push_back({from, name});
    c.inos.push_back(from);
  };
  if (auto* a = std::get_if<UnlinkArgs>(&args)) take(a->dir, a->name);
  if (auto* a = std::get_if<RmdirArgs>(&args)) take(a->dir, a->name);
  if (auto* a = std::get_if<RenameArgs>(&args)) {
    take(a->dir, a->name);
    take(a->new_dir, a->new_name);
  }
  if (auto* a = std::get_if<SetattrArgs>(&args)) c.inos.push_back(a->ino);
  if (auto* a = std::get_if<OpenArgs>(&args)) c.inos.push_back(a->ino);
  if (auto* a = std::get_if<WroteArgs>(&args)) c.inos.push_back(a->ino);
  if (auto* a = std::get_if<ReadArgs>(&args)) c.inos.push_back(a->ino);
  if (auto* a = std::get_if<ReaddirArgs>(&args)) c.inos.push_back(a->dir);
  if (auto* a = std::get_if<SetxattrArgs>(&args)) c.inos.push_back(a->ino);
  if (auto* a = std::get_if<RemovexattrArgs>(&args)) c.inos.push_back(a->ino);
  return c;
}

void LeaseCache::make_wild(Change& change) {
  if (std::exchange(change.wild, true)) return;
  MARK("lease_cache.wild");
  wild_++;
}

uint64_t LeaseCache::begin(const Args& args) {
  if (!changes_what_is_kept(args)) return 0;
  Change c = touched(args);
  for (const Name& name : c.names) {
    drop_name(name.first, name.second);
    busy_names_[name]++;
  }
  for (Ino ino : c.inos) {
    drop_inode(ino);
    busy_inos_[ino]++;
  }
  if (std::exchange(c.wild, false)) make_wild(c);
  changes_.emplace(++last_change_, std::move(c));
  return last_change_;
}

void LeaseCache::end(uint64_t change, const Args& args, const Reply* reply) {
  auto node = changes_.extract(change);
  if (node.empty()) return;
  Change& c = node.mapped();
  for (const Name& name : c.names) less(busy_names_, name);
  for (Ino ino : c.inos) less(busy_inos_, ino);
  if (!c.wild) return;
  wild_--;
  const bool told = reply && (std::holds_alternative<UnlinkArgs>(args) ||
                              std::holds_alternative<RmdirArgs>(args));
  if (told && (reply->err || reply->stat.ino)) {
    if (!reply->err) drop_inode(reply->stat.ino);
  } else {
    drop_attrs();
  }
}

// -- what ranks say -------------------------------------------------------------------------------

void LeaseCache::raise(RankId rank, uint64_t order) {
  uint64_t& floor = floor_[rank];
  floor = std::max(floor, order);
}

LeaseCache::DirLease* LeaseCache::lease_of(RankId rank, Ino dir) {
  auto at = dirs_.find(dir);
  // It was another rank's, which has recalled it all before it gave it away.
  if (at != dirs_.end() && at->second.rank != rank) {
    drop_dir(dir);
    at = dirs_.end();
  }
  if (at == dirs_.end()) at = dirs_.try_emplace(dir).first;
  at->second.rank = rank;
  return &at->second;
}

void LeaseCache::told(RankId rank, const Credentials& cred, const Args& args, const Reply& reply) {
  if (!reply.order || (!reply.named && !reply.leased && !reply.dir)) return;
  if (auto floor = floor_.find(rank); floor != floor_.end() && reply.order < floor->second) {
    MARK("lease_cache.late");
    return;
  }
  if (names_ >= kMost || attrs_.size() >= kMost) {
    MARK("lease_cache.full");
    drop_all();
  }
  Ino dir;
  const std::string* name = told_name(args, &dir);
  if (reply.named && name && (reply.err == 0 || reply.err == ENOENT)) {
    DirLease& lease = *lease_of(rank, dir);
    keep_name(lease, dir, *name, reply.err ? Ino{} : reply.stat.ino);
    let_in(lease, dir, cred);
  }
  if (reply.err) return;
  if (auto* readdir = std::get_if<ReaddirArgs>(&args); readdir && reply.named) {
    for (const ListedEntry& entry : reply.entries) {
      if (!entry.here || !entry.stat) continue;
      DirLease& lease = *lease_of(rank, readdir->dir);
      keep_name(lease, readdir->dir, entry.name, entry.ino);
      let_in(lease, readdir->dir, cred);
      keep_attr(rank, readdir->dir, *entry.stat);
    }
  }
  if (reply.leased) keep_attr(rank, reply.leased, reply.stat);
  if (reply.dir) keep_attr(rank, reply.dir->ino, *reply.dir);
}

// The rank has told the caller what the directory's names lead to.
void LeaseCache::let_in(DirLease& lease, Ino dir, const Credentials& cred) {
  if (caller_checks || busy_inos_.contains(dir)) return;
  Who caller = who(cred);
  if (std::find(lease.searched.begin(), lease.searched.end(), caller) != lease.searched.end())
    return;
  if (lease.searched.size() >= kMostSearchers) lease.searched.clear();
  lease.searched.push_back(std::move(caller));
}

void LeaseCache::keep_name(DirLease& lease, Ino dir, const std::string& name, Ino ino) {
  if (busy_names_.contains({dir, name})) return;
  auto [at, fresh] = lease.names.insert_or_assign(name, ino);
  names_ += fresh;
}

void LeaseCache::keep_attr(RankId rank, Ino home, const Stat& stat) {
  if (wild_ > 0 || busy_inos_.contains(stat.ino)) return;
  auto at = attrs_.find(stat.ino);
  if (at != attrs_.end() && at->second.home != home) drop_inode(stat.ino);
  lease_of(rank, home)->inos.insert(stat.ino);
  attrs_.insert_or_assign(stat.ino, Attr{stat, home});
}

void LeaseCache::recall(RankId rank, const msg::Recall& r) {
  recalls_++;
  raise(rank, r.order);
  for (auto& [number, change] : changes_)
    for (const Name& name : change.names)
      if (name.first == r.dir &&
          (r.all || std::find(r.names.begin(), r.names.end(), name.second) != r.names.end())) {
        // It leads to something else, or will.
        make_wild(change);
        break;
      }
  if (r.all) drop_dir(r.dir);
  if (r.self) drop_inode(r.dir);
  for (const std::string& name : r.names) drop_name(r.dir, name);
  for (Ino ino : r.inos) drop_inode(ino);
}

// -- forgetting -----------------------------------------------------------------------------------

void LeaseCache::drop_name(Ino dir, const std::string& name) {
  auto at = dirs_.find(dir);
  if (at != dirs_.end()) names_ -= at->second.names.erase(name);
}

// Who may search a directory follows from its attributes.
void LeaseCache::drop_inode(Ino ino) {
  if (auto dir = dirs_.find(ino); dir != dirs_.end()) dir->second.searched.clear();
  auto at = attrs_.find(ino);
  if (at == attrs_.end()) return;
  if (auto home = dirs_.find(at->second.home); home != dirs_.end()) home->second.inos.erase(ino);
  attrs_.erase(at);
}

void LeaseCache::drop_dir(Ino dir) {
  auto node = dirs_.extract(dir);
  if (node.empty()) return;
  names_ -= node.mapped().names.size();
  for (Ino ino : node.mapped().inos) attrs_.erase(ino);
}

void LeaseCache::drop_attrs() {
  attrs_.clear();
  for (auto& [dir, lease] : dirs_) {
    lease.inos.clear();
    lease.searched.clear();
  }
}

void LeaseCache::drop_all() {
  dirs_.clear();
  attrs_.clear();
  names_ = 0;
}

void LeaseCache::drop(RankId rank) {
  floor_.erase(rank);
  std::vector<Ino> dirs;
  for (const auto& [dir, lease] : dirs_)
    if (lease.rank == rank) dirs.push_back(dir);
  for (Ino dir : dirs) drop_dir(dir);
}

}  // namespace graftfs
