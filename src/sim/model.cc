#include "sim/model.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

namespace graftfs::sim {

struct Model::Call {
  const Request& request;
  const Reply& actual;
  bool logged;
  Timespec now;
  bool late;
  Expected out;

  std::nullptr_t fail(int err) {
    out.err = err;
    return nullptr;
  }
  // A directory's names change.
  void touch(ModelNode& n) {
    n.stat.mtime = late ? std::max(n.stat.mtime, now) : now;
    n.stat.ctime = late ? std::max(n.stat.ctime, now) : now;
    if (late) n.late = std::max(n.late, now);
  }
  void show(const ModelNode& n, Part::What what = Part::all, const std::string& name = {}) {
    out.shown.push_back({n.stat.ino, what, name});
  }
  void change(const ModelNode& n) {
    out.logs = true;
    out.changed.push_back({n.stat.ino, Part::self, {}});
  }
  void change_name(const ModelNode& dir, const std::string& name) {
    out.logs = true;
    out.changed.push_back({dir.stat.ino, Part::name, name});
  }
  void stat(const ModelNode& n) {
    out.has_stat = true;
    out.stat = n.stat;
  }
};

Model::Model() {
  ModelNode& root = nodes_[kRootIno];
  root.stat.ino = kRootIno;
  root.stat.mode = S_IFDIR | 0755;
  root.stat.nlink = 2;
  root.parent = kRootIno;
}

const ModelNode* Model::find(Ino ino) const {
  auto it = nodes_.find(ino);
  return it == nodes_.end() ? nullptr : &it->second;
}
ModelNode* Model::node(Ino ino) {
  auto it = nodes_.find(ino);
  return it == nodes_.end() ? nullptr : &it->second;
}
bool Model::is_orphan(Ino ino) const {
  const ModelNode* n = find(ino);
  return n && n->stat.nlink == 0;
}
void Model::forget(Ino ino) { nodes_.erase(ino); }

Expected Model::execute(const Request& request, const Reply& actual, bool logged, Timespec now,
                        bool late) {
  Call call{request, actual, logged, now, late, {}};
  settle_times(actual.stat);
  for (const ListedEntry& e : actual.entries)
    if (e.stat) settle_times(*e.stat);
  std::visit([&](const auto& args) { run(call, args); }, request.args);
  if (call.out.err) {
    call.out.logs = false;
    call.out.changed.clear();
    call.out.has_stat = false;
  }
  return std::move(call.out);
}

void Model::settle_times(const Stat& actual) {
  ModelNode* n = node(actual.ino);
  if (!n || n->late == Timespec{}) return;
  if (actual.mtime == n->late && n->stat.mtime < n->late) n->stat.mtime = n->late;
  if (actual.ctime == n->late && n->stat.ctime < n->late) n->stat.ctime = n->late;
}

void Model::note_change(const Expected& expected, SessionId session, Lsn lsn) {
  for (const Part& part : expected.changed) {
    for (const Part& changed : {part, part.whole()}) {
      Mark& mark = marks_[changed];
      if (mark.session != session) mark.other = mark.last;
      mark.session = session;
      mark.last = lsn;
    }
  }
}

Lsn Model::reveals(const Expected& expected, SessionId session, Durability mode) const {
  Lsn newest;
  for (const Part& part : expected.shown) {
    // Orphans all live in one hidden directory, and only who holds one sees it: the rank does not
    // make them wait for each other.
    auto at = marks_.find(part);
    if (at == marks_.end() || !find(part.ino) || is_orphan(part.ino)) continue;
    const Mark& mark = at->second;
    const bool own = mode == Durability::posix && mark.session == session;
    newest = std::max(newest, own ? mark.other : mark.last);
  }
  return newest;
}

// -- resolving ----------------------------------------------------------------------------------

ModelNode* Model::any(Call& call, Ino ino) {
  ModelNode* n = node(ino);
  if (!n) return call.fail(ESTALE);
  if (n->stat.nlink == 0) call.out.may_be_stale = true;
  call.show(*n);
  return n;
}

ModelNode* Model::dir(Call& call, Ino ino) {
  // Its type is as old as its ino: a file that is no directory shows nothing by that.
  if (ModelNode* n = node(ino); n && !n->stat.is_dir()) {
    if (n->stat.nlink == 0) call.out.may_be_stale = true, call.show(*n);
    return call.fail(ENOTDIR);
  }
  ModelNode* n = node(ino);
  if (!n) return call.fail(ESTALE);
  if (n->stat.nlink == 0) call.out.may_be_stale = true;
  call.show(*n, Part::self);
  return n;
}

ModelNode* Model::parent_for(Call& call, Ino ino, const std::string& name) {
  ModelNode* n = dir(call, ino);
  if (!n) return nullptr;
  if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos)
    return call.fail(EINVAL);
  if (name.size() > 255) return call.fail(ENAMETOOLONG);
  return n;
}

// Whether there is such a name. That alone shows nothing of what it leads to.
bool Model::taken(Call& call, const ModelNode& dir, const std::string& name) {
  call.show(dir, Part::name, name);
  return dir.names.contains(name);
}

// What the name leads to; null without an error where there is no such name.
ModelNode* Model::named(Call& call, ModelNode& dir, const std::string& name) {
  call.show(dir, Part::name, name);
  auto it = dir.names.find(name);
  if (it == dir.names.end()) return nullptr;
  ModelNode* n = node(it->second);
  call.show(*n);
  return n;
}

bool Model::is_below(Ino ino, Ino ancestor) const {
  for (;;) {
    if (ino == ancestor) return true;
    const ModelNode* n = find(ino);
    // A directory that was removed hangs nowhere any more.
    if (!n || ino == kRootIno || n->stat.nlink == 0) return false;
    ino = n->parent;
  }
}

void Model::run(Call& call, const LookupArgs& a) {
  ModelNode* d = parent_for(call, a.dir, a.name);
  if (!d) return;
  ModelNode* n = named(call, *d, a.name);
  if (!n) return void(call.fail(ENOENT));
  call.stat(*n);
}

void Model::run(Call& call, const LookupParentArgs& a) {
  ModelNode* d = dir(call, a.dir);
  if (!d) return;
  if (d->stat.nlink == 0) return void(call.fail(ENOENT));
  ModelNode* up = any(call, d->parent);
  if (up) call.stat(*up);
}

void Model::run(Call& call, const GetattrArgs& a) {
  if (ModelNode* n = any(call, a.ino)) call.stat(*n);
}

void Model::run(Call& call, const AccessArgs& a) {
  ModelNode* n = any(call, a.ino);
  if (!n) return;
  if ((a.mask & 1) && !n->stat.is_dir() && !(n->stat.mode & 0111)) return void(call.fail(EACCES));
  call.stat(*n);
}

// -- making -------------------------------------------------------------------------------------

ModelNode* Model::make(Call& call, Ino dir, const std::string& name, uint32_t mode) {
  ModelNode& d = *node(dir);
  if (d.stat.nlink == 0) return call.fail(ENOENT);
  call.out.may_be_full = true;
  if (call.actual.err == ENOSPC) return call.fail(0);
  Ino ino = call.actual.stat.ino;
  if (!ino || is_hidden_dir(ino) || ino == kRootIno || used_.contains(ino)) {
    // An ino was handed out twice, or none: show it as a difference.
    call.out.has_stat = true;
    call.out.stat.ino = Ino{0};
    return nullptr;
  }
  used_.insert(ino);
  ModelNode& n = nodes_[ino];
  n.stat.ino = ino;
  n.stat.mode = mode;
  n.stat.nlink = S_ISDIR(mode) ? 2 : 1;
  n.stat.uid = call.request.cred.uid;
  n.stat.gid = call.request.cred.gid;
  if (d.stat.mode & S_ISGID) {
    n.stat.gid = d.stat.gid;
    if (S_ISDIR(mode)) n.stat.mode |= S_ISGID;
  }
  n.stat.atime = n.stat.mtime = n.stat.ctime = n.stat.btime = call.now;
  n.parent = dir;
  d.names[name] = ino;
  d.stat.size++;
  call.touch(d);
  if (S_ISDIR(mode)) d.stat.nlink++;
  call.change_name(d, name);
  call.change(n);
  return &n;
}

void Model::run(Call& call, const MknodArgs& a) {
  ModelNode* d = parent_for(call, a.dir, a.name);
  if (!d) return;
  if (taken(call, *d, a.name)) return void(call.fail(EEXIST));
  uint32_t type = a.mode & S_IFMT ? a.mode & S_IFMT : S_IFREG;
  if (d->stat.nlink != 0 && type == S_IFDIR) return void(call.fail(EPERM));
  ModelNode* n = make(call, a.dir, a.name, (type | (a.mode & 07777)) & ~(a.umask & 0777));
  if (!n) return;
  if (type == S_IFCHR || type == S_IFBLK) n->stat.rdev = a.rdev;
  call.stat(*n);
}

void Model::run(Call& call, const MkdirArgs& a) {
  ModelNode* d = parent_for(call, a.dir, a.name);
  if (!d) return;
  if (taken(call, *d, a.name)) return void(call.fail(EEXIST));
  ModelNode* n = make(call, a.dir, a.name, (S_IFDIR | (a.mode & 01777)) & ~(a.umask & 0777));
  if (n) call.stat(*n);
}

void Model::run(Call& call, const SymlinkArgs& a) {
  if (a.target.empty()) return void(call.fail(ENOENT));
  if (a.target.size() >= 4096) return void(call.fail(ENAMETOOLONG));
  ModelNode* d = parent_for(call, a.dir, a.name);
  if (!d) return;
  if (taken(call, *d, a.name)) return void(call.fail(EEXIST));
  ModelNode* n = make(call, a.dir, a.name, S_IFLNK | 0777);
  if (!n) return;
  n->target = a.target;
  n->stat.size = a.target.size();
  call.stat(*n);
}

void Model::run(Call& call, const CreateArgs& a) {
  ModelNode* d = parent_for(call, a.dir, a.name);
  if (!d) return;
  if (a.exclusive && taken(call, *d, a.name)) return void(call.fail(EEXIST));
  if (ModelNode* there = named(call, *d, a.name)) {
    return open(call, *there, a.flags | O_CREAT);
  }
  ModelNode* n = make(call, a.dir, a.name, (S_IFREG | (a.mode & 07777)) & ~(a.umask & 0777));
  if (!n) return;
  call.out.created = true;
  call.stat(*n);
}

void Model::open(Call& call, ModelNode& n, uint32_t flags) {
  bool writes = (flags & O_ACCMODE) != O_RDONLY;
  if (n.stat.is_symlink()) return void(call.fail(ELOOP));
  if (n.stat.is_dir() && (writes || (flags & (O_CREAT | O_TRUNC)))) return void(call.fail(EISDIR));
  if ((flags & O_TRUNC) && n.stat.is_regular()) {
    n.stat.size = 0;
    n.stat.mtime = n.stat.ctime = call.now;
    call.change(n);
  }
  call.stat(n);
}

void Model::run(Call& call, const OpenArgs& a) {
  if (ModelNode* n = any(call, a.ino)) open(call, *n, a.flags);
}

// Of what was removed by a rank that had no session of this client, it may be gone already.
void Model::run(Call& call, const ReleaseArgs& a) {
  const ModelNode* n = node(a.ino);
  if (!n || n->stat.nlink > 0) return;
  call.out.may_be_stale = true;
  call.show(*n);
}

void Model::run(Call& call, const LinkArgs& a) {
  ModelNode* n = others_last_ ? nullptr : any(call, a.ino);
  if (!n && !others_last_) return;
  ModelNode* d = parent_for(call, a.dir, a.name);
  if (!d) return;
  if (taken(call, *d, a.name)) return void(call.fail(EEXIST));
  if (others_last_) n = any(call, a.ino);
  if (!n) return;
  if (d->stat.nlink == 0) return void(call.fail(ENOENT));
  if (n->stat.is_dir()) return void(call.fail(EPERM));
  if (n->stat.nlink == 0) return void(call.fail(ENOENT));
  call.out.may_be_full = true;
  if (call.actual.err == ENOSPC) return;
  d->names[a.name] = a.ino;
  d->stat.size++;
  call.touch(*d);
  n->stat.nlink++;
  n->stat.ctime = call.now;
  call.change_name(*d, a.name);
  call.change(*n);
  call.stat(*n);
}

// -- removing -----------------------------------------------------------------------------------

// One name of it is gone.
void Model::drop(Call& call, ModelNode& victim) {
  victim.stat.ctime = call.now;
  victim.stat.nlink = victim.stat.is_dir() ? 0 : victim.stat.nlink - 1;
  call.change(victim);
  if (victim.stat.nlink == 0) call.out.orphaned = true;
}

void Model::run(Call& call, const UnlinkArgs& a) {
  ModelNode* d = parent_for(call, a.dir, a.name);
  if (!d) return;
  ModelNode* n = named(call, *d, a.name);
  if (!n) return void(call.fail(ENOENT));
  if (n->stat.is_dir()) return void(call.fail(EISDIR));
  d->names.erase(a.name);
  d->stat.size--;
  call.touch(*d);
  call.change_name(*d, a.name);
  drop(call, *n);
  call.stat(*n);
}

void Model::run(Call& call, const RmdirArgs& a) {
  ModelNode* d = parent_for(call, a.dir, a.name);
  if (!d) return;
  ModelNode* n = named(call, *d, a.name);
  if (!n) return void(call.fail(ENOENT));
  if (!n->stat.is_dir()) return void(call.fail(ENOTDIR));
  if (!n->names.empty()) return void(call.fail(ENOTEMPTY));
  d->names.erase(a.name);
  d->stat.size--;
  d->stat.nlink--;
  call.touch(*d);
  call.change_name(*d, a.name);
  drop(call, *n);
  call.stat(*n);
}

void Model::run(Call& call, const RenameArgs& a) {
  constexpr uint32_t kNoReplace = 1, kExchange = 2;
  bool exchange = a.flags & kExchange;
  if ((a.flags & ~(kNoReplace | kExchange)) || (exchange && (a.flags & kNoReplace)))
    return void(call.fail(EINVAL));
  ModelNode* from = parent_for(call, a.dir, a.name);
  if (!from) return;
  ModelNode* to = parent_for(call, a.new_dir, a.new_name);
  if (!to) return;
  ModelNode* n = named(call, *from, a.name);
  if (!n) return void(call.fail(ENOENT));
  if ((a.flags & kNoReplace) && taken(call, *to, a.new_name)) return void(call.fail(EEXIST));
  ModelNode* there = named(call, *to, a.new_name);
  if (!there && exchange) return void(call.fail(ENOENT));
  bool moves_dir = n->stat.is_dir();
  bool meets_dir = there && there->stat.is_dir();
  auto loops = [&] {
    if (moves_dir && is_below(a.new_dir, n->stat.ino))
      call.fail(EINVAL);
    else if (meets_dir && is_below(a.dir, there->stat.ino))
      call.fail(exchange ? EINVAL : ENOTEMPTY);
    return call.out.err != 0;
  };
  if (!others_last_ && loops()) return;
  if (n == there) return call.stat(*n);
  if (!there && to->stat.nlink == 0) return void(call.fail(ENOENT));
  if (there && !exchange && moves_dir != meets_dir)
    return void(call.fail(moves_dir ? ENOTDIR : EISDIR));
  if (meets_dir && !exchange && !there->names.empty()) return void(call.fail(ENOTEMPTY));
  if (others_last_ && loops()) return;

  if (exchange) {
    from->names[a.name] = there->stat.ino;
    there->parent = a.dir;
    there->stat.ctime = call.now;
    call.change(*there);
    if (meets_dir) to->stat.nlink--, from->stat.nlink++;
  } else {
    from->names.erase(a.name);
    from->stat.size--;
    if (!there) to->stat.size++;
    if (meets_dir) to->stat.nlink--;
    if (there) drop(call, *there);
  }
  if (moves_dir) from->stat.nlink--, to->stat.nlink++;
  to->names[a.new_name] = n->stat.ino;
  n->parent = a.new_dir;
  n->stat.ctime = call.now;
  call.touch(*from);
  call.touch(*to);
  call.change_name(*from, a.name);
  call.change_name(*to, a.new_name);
  call.change(*n);
  call.stat(call.out.orphaned ? *there : *n);
}

// -- attributes ---------------------------------------------------------------------------------

void Model::run(Call& call, const SetattrArgs& a) {
  ModelNode* n = any(call, a.ino);
  if (!n) return;
  Stat& s = n->stat;
  if (a.valid & kSetSize) {
    if (s.is_dir()) return void(call.fail(EISDIR));
    if (!s.is_regular()) return void(call.fail(EINVAL));
  }
  if ((a.valid & kSetMode) && s.is_symlink()) return void(call.fail(EOPNOTSUPP));
  s.ctime = call.now;
  if (a.valid & kSetSize) {
    s.size = a.size;
    s.mtime = call.now;
  }
  if (a.valid & (kSetUid | kSetGid)) {
    if (!s.is_dir()) {
      s.mode &= ~uint32_t{S_ISUID};
      if (s.mode & S_IXGRP) s.mode &= ~uint32_t{S_ISGID};
    }
    if (a.valid & kSetUid) s.uid = a.uid;
    if (a.valid & kSetGid) s.gid = a.gid;
  }
  if (a.valid & kSetMode) s.mode = (s.mode & S_IFMT) | (a.mode & 07777);
  if (a.valid & kSetAtime) s.atime = a.valid & kSetAtimeNow ? call.now : a.atime;
  if (a.valid & kSetMtime) s.mtime = a.valid & kSetMtimeNow ? call.now : a.mtime;
  call.change(*n);
  call.stat(*n);
}

void Model::run(Call& call, const WroteArgs& a) {
  ModelNode* n = any(call, a.ino);
  if (!n) return;
  if (n->stat.is_dir()) return void(call.fail(EISDIR));
  if (!n->stat.is_regular()) return void(call.fail(EINVAL));
  n->stat.size = std::max(n->stat.size, a.end);
  if (!a.only_blocks) n->stat.mtime = n->stat.ctime = call.now;
  call.change(*n);
  call.stat(*n);
}

// relatime
void Model::access(Call& call, ModelNode& n) {
  Stat& s = n.stat;
  bool due = s.atime <= s.mtime || s.atime <= s.ctime || call.now.sec - s.atime.sec >= 86400;
  call.out.atime_skipped = due && !call.logged;
  if (!due || !call.logged) return;
  s.atime = call.now;
  call.change(n);
}

void Model::run(Call& call, const ReadArgs& a) {
  ModelNode* n = any(call, a.ino);
  if (!n) return;
  access(call, *n);
  call.stat(*n);
}

void Model::run(Call& call, const ReadlinkArgs& a) {
  ModelNode* n = any(call, a.ino);
  if (!n) return;
  if (!n->stat.is_symlink()) return void(call.fail(EINVAL));
  access(call, *n);
  call.out.data = n->target;
  call.stat(*n);
}

// The page must be the next entries in hash order; how many is up to the rank.
void Model::run(Call& call, const ReaddirArgs& a) {
  ModelNode* d = dir(call, a.dir);
  if (!d) return;
  call.show(*d);
  access(call, *d);
  call.stat(*d);
  std::map<std::pair<NameHash, std::string>, Ino> rest;
  for (const auto& [name, ino] : d->names) {
    NameHash hash = name_hash(name);
    if (hash > a.cookie) rest[{hash, name}] = ino;
  }
  const auto& page = call.actual.entries;
  auto wrong = [&](std::string what) { call.out.data = std::move(what); };
  if (page.empty() && !rest.empty()) return wrong("an empty page before the end");
  auto it = rest.begin();
  for (const ListedEntry& e : page) {
    if (it == rest.end()) return wrong("there is no entry '" + e.name + "'");
    if (e.name != it->first.second)
      return wrong("entry '" + e.name + "' instead of '" + it->first.second + "'");
    const ModelNode& n = *node(it->second);
    if (e.ino != it->second || e.cookie != it->first.first || e.type != (n.stat.mode & S_IFMT))
      return wrong(fmt::format("entry '{}' is {:#x} of type {:#o} instead of {:#x} of type {:#o}",
                               e.name, e.ino.v, e.type, it->second.v, n.stat.mode & S_IFMT));
    if (e.stat) {
      Stat s = *e.stat;
      s.blocks = 0;
      if (s != n.stat)
        return wrong("entry '" + e.name + "': " + describe_stat(s) + " instead of " +
                     describe_stat(n.stat));
      call.show(n);
    }
    ++it;
  }
  if (call.actual.end != (it == rest.end())) return wrong("the end is not where it should be");
}

// -- extended attributes --------------------------------------------------------------------------

namespace {
bool is_user(const std::string& name) { return name.starts_with("user."); }
bool takes_user(const Stat& s) { return s.is_regular() || s.is_dir(); }
}  // namespace

void Model::run(Call& call, const GetxattrArgs& a) {
  ModelNode* n = any(call, a.ino);
  if (!n) return;
  auto it = n->xattrs.find(a.name);
  if (it == n->xattrs.end()) return void(call.fail(ENODATA));
  call.out.data = it->second;
  call.stat(*n);
}

void Model::run(Call& call, const ListxattrArgs& a) {
  ModelNode* n = any(call, a.ino);
  if (!n) return;
  for (const auto& [name, value] : n->xattrs) call.out.data.append(name).push_back('\0');
  call.stat(*n);
}

void Model::run(Call& call, const SetxattrArgs& a) {
  constexpr uint32_t kCreate = 1, kReplace = 2;
  ModelNode* n = any(call, a.ino);
  if (!n) return;
  if (is_user(a.name) && !takes_user(n->stat)) return void(call.fail(EPERM));
  bool exists = n->xattrs.contains(a.name);
  if (exists && (a.flags & kCreate)) return void(call.fail(EEXIST));
  if (!exists && (a.flags & kReplace)) return void(call.fail(ENODATA));
  call.out.may_be_full = true;
  if (call.actual.err == ENOSPC) return;
  n->xattrs[a.name] = a.value;
  n->stat.ctime = call.now;
  call.change(*n);
  call.stat(*n);
}

void Model::run(Call& call, const RemovexattrArgs& a) {
  ModelNode* n = any(call, a.ino);
  if (!n) return;
  if (is_user(a.name) && !takes_user(n->stat)) return void(call.fail(EPERM));
  if (!n->xattrs.erase(a.name)) return void(call.fail(ENODATA));
  n->stat.ctime = call.now;
  call.change(*n);
  call.stat(*n);
}

void Model::run(Call&, const StatfsArgs&) {}
void Model::run(Call&, const SyncArgs&) {}

// -- comparing ------------------------------------------------------------------------------------

std::string describe_stat(const Stat& s) {
  auto t = [](Timespec x) { return fmt::format("{}.{:09}", x.sec, x.nsec); };
  return fmt::format(
      "ino {:#x} mode {:o} uid {} gid {} nlink {} size {} rdev {} atime {} mtime {} "
      "ctime {} btime {}",
      s.ino.v, s.mode, s.uid, s.gid, s.nlink, s.size, s.rdev, t(s.atime), t(s.mtime), t(s.ctime),
      t(s.btime));
}

std::string difference(const Expected& e, const Reply& actual, bool logged) {
  if (actual.err == ESTALE && e.may_be_stale) return {};
  if (actual.err == ENOSPC && e.may_be_full) return {};
  if (actual.err != e.err) return fmt::format("errno {} instead of {}", actual.err, e.err);
  if (logged != e.logs) return logged ? "an event was logged for nothing" : "no event was logged";
  if (e.err) return {};
  if (e.has_stat) {
    Stat s = actual.stat;
    s.blocks = 0;
    if (s != e.stat) return "got  " + describe_stat(s) + "\n    want " + describe_stat(e.stat);
  }
  if (actual.data != e.data) return fmt::format("data '{}' instead of '{}'", actual.data, e.data);
  if (actual.created != e.created) return "`created` is wrong";
  if (actual.orphaned != e.orphaned) return "`orphaned` is wrong";
  return {};
}

}  // namespace graftfs::sim
