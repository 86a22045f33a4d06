#include "oracle.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace graftfs::crash {

using K = OpKind;

namespace {

bool is_dir(const OracleNode& n) { return S_ISDIR(n.mode); }

// A time that an operation may or may not have set.
void maybe(Interval& time, Interval when) {
  time.from = std::min(time.from, when.from);
  time.to = std::max(time.to, when.to);
}

}  // namespace

Oracle Oracle::prepared(Interval when) {
  Oracle o;
  OracleNode root;
  root.mode = S_IFDIR | 0755;
  root.mtime = when;
  o.nodes_[kRoot] = root;
  auto file = [&](const char* path, uint64_t seed, uint64_t size) {
    int id = o.add(o.place(path), S_IFREG | 0644, when);
    o.nodes_[id].bytes = bytes_for(seed, 0, size);
    return id;
  };
  file("f1", 1, kF1Size);
  file("f2", 2, kF2Size);
  file("big", 3, kBigSize);
  o.nodes_[file("x", 0, 0)].xattrs["user.old"] = "value";
  int h = file("h1", 4, 200);
  o.nodes_[kRoot].children["h2"] = h;
  o.add(o.place("d"), S_IFDIR | 0755, when);
  file("d/in", 5, 300);
  o.add(o.place("e"), S_IFDIR | 0755, when);
  o.nodes_[o.add(o.place("s"), S_IFLNK | 0777, when)].target = "f1";
  return o;
}

Oracle::Place Oracle::place(const std::string& path) const {
  Place p;
  int dir = kRoot;
  size_t at = 0;
  for (size_t slash; (slash = path.find('/', at)) != std::string::npos; at = slash + 1) {
    const auto& children = nodes_.at(dir).children;
    auto it = children.find(path.substr(at, slash - at));
    if (it == children.end()) {
      p.err = ENOENT;
      return p;
    }
    dir = it->second;
    if (!is_dir(nodes_.at(dir))) {
      p.err = ENOTDIR;
      return p;
    }
  }
  p.dir = dir;
  p.name = path.substr(at);
  const auto& children = nodes_.at(dir).children;
  if (auto it = children.find(p.name); it != children.end()) p.node = it->second;
  return p;
}

int Oracle::find(const std::string& path) const { return place(path).node; }

uint32_t Oracle::links(int id) const {
  if (is_dir(nodes_.at(id))) {
    uint32_t n = 2;
    for (const auto& [name, child] : nodes_.at(id).children) n += is_dir(nodes_.at(child));
    return n;
  }
  uint32_t n = 0;
  for (const auto& [other, node] : nodes_)
    for (const auto& [name, child] : node.children) n += child == id;
  return n;
}

int Oracle::add(const Place& at, uint32_t mode, Interval when) {
  int id = next_++;
  OracleNode& n = nodes_[id];
  n.mode = mode;
  n.mtime = when;
  nodes_[at.dir].children[at.name] = id;
  touch(at.dir, when);
  return id;
}

int Oracle::rename(const Operation& op, Interval when) {
  Place from = place(op.path), to = place(op.to);
  if (from.err) return from.err;
  if (to.err) return to.err;
  if (from.node < 0) return ENOENT;
  if (op.kind == K::rename_new && to.node >= 0) return EEXIST;
  if (op.kind == K::exchange) {
    if (to.node < 0) return ENOENT;
    nodes_[from.dir].children[from.name] = to.node;
    nodes_[to.dir].children[to.name] = from.node;
  } else {
    if (from.node == to.node) return 0;
    if (to.node >= 0) {
      bool dir = is_dir(nodes_[from.node]), dir_to = is_dir(nodes_[to.node]);
      if (dir && !dir_to) return ENOTDIR;
      if (!dir && dir_to) return EISDIR;
      if (dir_to && !nodes_[to.node].children.empty()) return ENOTEMPTY;
    }
    nodes_[from.dir].children.erase(from.name);
    nodes_[to.dir].children[to.name] = from.node;
  }
  touch(from.dir, when);
  touch(to.dir, when);
  // Whether a directory whose ".." changes is itself modified differs between file systems.
  if (from.dir != to.dir) {
    if (is_dir(nodes_[from.node])) maybe(nodes_[from.node].mtime, when);
    if (to.node >= 0 && is_dir(nodes_[to.node])) maybe(nodes_[to.node].mtime, when);
  }
  return 0;
}

Effect Oracle::change_bytes(const Operation& op, Interval when) {
  Effect e;
  const bool copies = op.kind == K::copy;
  Place at = place(op.path);
  if (at.err || at.node < 0) {
    e.err = at.err ? at.err : ENOENT;
    return e;
  }
  std::string source;
  if (copies) {
    source = nodes_[at.node].bytes.substr(0, op.length);
    bool from_dir = is_dir(nodes_[at.node]);
    at = place(op.to);
    if (at.err || at.node < 0) {
      e.err = at.err ? at.err : ENOENT;
    } else if (from_dir) {
      e.err = EISDIR;
    }
    if (e.err) return e;
  }
  OracleNode& n = nodes_[at.node];
  if (is_dir(n)) e.err = EISDIR;
  if (e.err) return e;
  auto put = [&](uint64_t offset, const std::string& bytes) {
    if (bytes.empty()) return;
    if (n.bytes.size() < offset + bytes.size()) n.bytes.resize(offset + bytes.size());
    n.bytes.replace(offset, bytes.size(), bytes);
    e.patches.push_back({at.node, offset, bytes});
  };
  switch (op.kind) {
    case K::write:
      put(op.offset, bytes_for(writer_of(op), op.offset, op.length));
      break;
    case K::append:
    case K::append_sync:
      put(n.bytes.size(), bytes_for(writer_of(op), 0, op.length));
      break;
    case K::copy:
      put(0, source);
      if (source.size() < op.length) e.err = EIO;  // carry_out() calls a short copy an error
      break;
    case K::truncate:
      if (op.length == n.bytes.size()) {
        maybe(n.mtime, when);
        return e;
      }
      n.bytes.resize(op.length);
      break;
    case K::allocate:
      if (n.bytes.size() < op.length) n.bytes.resize(op.length);
      break;
    case K::allocate_keep:
      maybe(n.mtime, when);
      return e;
    case K::punch: {
      uint64_t end = std::min<uint64_t>(n.bytes.size(), op.offset + op.length);
      if (end > op.offset) put(op.offset, std::string(end - op.offset, '\0'));
      break;
    }
    case K::zero:
      put(op.offset, std::string(op.length, '\0'));
      break;
    default:
      break;
  }
  n.mtime = when;
  return e;
}

std::vector<Oracle> Oracle::torn(const Operation& op, const Effect& effect, Interval when) const {
  constexpr uint64_t kPage = 4096;
  std::vector<Oracle> states;
  if (op.kind != K::write && op.kind != K::append && op.kind != K::append_sync) return states;
  for (const Patch& p : effect.patches) {
    for (uint64_t end = (p.offset / kPage + 1) * kPage; end < p.offset + p.bytes.size();
         end += kPage) {
      OracleNode& n = states.emplace_back(*this).nodes_[p.node];
      if (n.bytes.size() < end) n.bytes.resize(end);
      n.bytes.replace(p.offset, end - p.offset, p.bytes, 0, end - p.offset);
      n.mtime = when;
    }
  }
  return states;
}

Effect Oracle::apply(const Operation& op, Interval when) {
  Effect e;
  Place at = place(op.path);
  switch (op.kind) {
    case K::create:
    case K::mkdir:
    case K::symlink:
    case K::mkfifo: {
      if (at.err || at.node >= 0) {
        e.err = at.err ? at.err : EEXIST;
        return e;
      }
      uint32_t mode = op.kind == K::create    ? S_IFREG | 0644
                      : op.kind == K::mkdir   ? S_IFDIR | 0750
                      : op.kind == K::symlink ? S_IFLNK | 0777
                                              : S_IFIFO | 0640;
      int id = add(at, mode, when);
      if (op.kind == K::symlink) nodes_[id].target = op.to;
      return e;
    }
    case K::rename:
    case K::exchange:
    case K::rename_new:
      e.err = rename(op, when);
      return e;
    case K::write:
    case K::append:
    case K::append_sync:
    case K::truncate:
    case K::allocate:
    case K::allocate_keep:
    case K::punch:
    case K::zero:
    case K::copy:
      return change_bytes(op, when);
    default:
      break;
  }
  if (at.err || at.node < 0) {
    e.err = at.err ? at.err : ENOENT;
    return e;
  }
  OracleNode& n = nodes_[at.node];
  switch (op.kind) {
    case K::link: {
      Place to = place(op.to);
      if (to.err || to.node >= 0) {
        e.err = to.err ? to.err : EEXIST;
      } else if (is_dir(n)) {
        e.err = EPERM;
      } else {
        nodes_[to.dir].children[to.name] = at.node;
        touch(to.dir, when);
      }
      break;
    }
    case K::unlink:
    case K::rmdir:
      if (op.kind == K::unlink && is_dir(n)) {
        e.err = EISDIR;
      } else if (op.kind == K::rmdir && !is_dir(n)) {
        e.err = ENOTDIR;
      } else if (!n.children.empty()) {
        e.err = ENOTEMPTY;
      } else {
        nodes_[at.dir].children.erase(at.name);
        touch(at.dir, when);
      }
      break;
    case K::setxattr:
      n.xattrs[op.to] = bytes_for(writer_of(op), 0, op.length);
      break;
    case K::removexattr:
      if (n.xattrs.erase(op.to) == 0) e.err = ENODATA;
      break;
    case K::chmod:
      n.mode = (n.mode & S_IFMT) | op.number;
      break;
    case K::chown:
      n.uid = op.number, n.gid = kOtherGid;
      break;
    case K::utimens: {
      int64_t t = kUtimensSeconds * 1'000'000'000 + kUtimensNanos;
      n.mtime = {t, t};
      break;
    }
    default:
      break;
  }
  return e;
}

}  // namespace graftfs::crash
