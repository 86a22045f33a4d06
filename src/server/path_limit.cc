#include "server/path_limit.h"

#include "server/migrate.h"
#include "server/rank.h"
#include "server/rank_core.h"

namespace graftfs {
namespace {

constexpr size_t kLedTo = 16384;  // of a generation

}  // namespace

PathLimit::PathLimit(Rank& rank, std::string path) : rank_(rank), path_(std::move(path)) {
  while (path_.ends_with('/')) path_.pop_back();
}

PathLimit::Where PathLimit::place(const std::string& path) const {
  if (!path.starts_with('/')) return Where::unknown;  // its new path is on its way here
  auto is_at_or_below = [](std::string_view below, std::string_view above) {
    return below.starts_with(above) && (below.size() == above.size() || below[above.size()] == '/');
  };
  const std::string_view bare = path == "/" ? std::string_view() : std::string_view(path);
  if (is_at_or_below(bare, path_)) return Where::inside;
  return is_at_or_below(path_, bare) ? Where::above : Where::outside;
}

PathLimit::Where PathLimit::where(Ino ino, std::string* path) const {
  RankCore& core = rank_.core();
  const Dir* dir = core.cache().find_dir(ino);
  if (!dir) {
    const Dentry* file = core.cache().find_inode(ino);
    if (!file) return Where::unknown;
    dir = file->dir;
    if (is_hidden_dir(dir->ino()))
      return young_.contains(ino) || old_.contains(ino) ? Where::inside : Where::outside;
  }
  if (dir->is_foreign()) return Where::elsewhere;
  const Ino import = import_of(core.state(), *dir);
  if (!import) return Where::unknown;
  if (is_hidden_dir(import)) return young_.contains(ino) ? Where::inside : Where::outside;
  std::string full = full_path(core.state(), *dir);
  Where found = place(full);
  // A file of a directory on the way down is none of its business.
  if (found == Where::above && dir->ino() != ino) found = Where::outside;
  if (path) *path = std::move(full);
  return found;
}

PathLimit::Verdict PathLimit::inside(Ino ino) const {
  switch (where(ino)) {
    case Where::inside:
    case Where::elsewhere:  // it is answered who has it, and nothing else
      return {};
    case Where::unknown:
      return {Verdict::unknown, 0, ino};
    default:
      return {Verdict::denied, EACCES, {}};
  }
}

// The other inode of an operation on two: the one who would judge it is not asked for this client.
PathLimit::Verdict PathLimit::second(Ino ino) const {
  if (where(ino) == Where::elsewhere) return {Verdict::denied, EXDEV, {}};
  return inside(ino);
}

PathLimit::Verdict PathLimit::judge(const Args& args) const {
  const Ino key = key_ino(args);
  if (!key) return {};
  if (auto* set = std::get_if<SetxattrArgs>(&args); set && set->name == kPinName)
    return {Verdict::denied, EPERM, {}};
  std::string path;
  const Where found = where(key, &path);
  if (found == Where::above) {
    // The way down to what it may see, and no more of it.
    if (std::holds_alternative<GetattrArgs>(args)) return {};
    if (auto* lookup = std::get_if<LookupArgs>(&args)) {
      const Where next = place((path == "/" ? path : path + "/") + lookup->name);
      if (next == Where::above || next == Where::inside) return {};
    }
    return {Verdict::denied, EACCES, {}};
  }
  if (std::holds_alternative<LookupParentArgs>(args) && found == Where::inside) {
    const size_t slash = path.rfind('/');
    if (slash == path.npos || place(slash ? path.substr(0, slash) : "/") != Where::inside)
      return {Verdict::denied, EACCES, {}};
    return {};
  }
  if (auto verdict = inside(key); verdict.what != Verdict::allowed) return verdict;
  if (found == Where::elsewhere) return {};
  if (auto* link = std::get_if<LinkArgs>(&args)) return second(link->ino);
  if (auto* rename = std::get_if<RenameArgs>(&args)) return second(rename->dir);
  return {};
}

void PathLimit::note(const Reply& reply) {
  if (reply.err || reply.partial) return;
  auto led_to = [this](Ino ino) {
    const Dentry* file = rank_.core().cache().find_inode(ino);
    const Dir* dir = rank_.core().cache().find_dir(ino);
    const bool hidden = file ? is_hidden_dir(file->dir->ino())
                             : dir && is_hidden_dir(import_of(rank_.core().state(), *dir));
    if (!hidden) return;
    if (young_.size() >= kLedTo) old_ = std::exchange(young_, {});
    young_.insert(ino);
  };
  if (reply.stat.ino) led_to(reply.stat.ino);
  for (const ListedEntry& entry : reply.entries)
    if (entry.stat) led_to(entry.ino);
}

}  // namespace graftfs
