#include <algorithm>

#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {
namespace {

// Attributes of what is cached; the client looks up the rest. Fetching the header of every child
// directory would make a page of a listing wait for as many reads.
std::optional<Stat> stat_at_hand(OpContext& cx, const Dentry& entry) {
  if (entry.kind == EntryKind::primary && !cx.is_marked(entry.ino)) return entry.inode;
  auto target = cx.inode(entry.ino);
  if (!target) return std::nullopt;
  return target->inode();
}

void list_one(OpContext& cx, const Dentry& entry, bool plus, std::vector<ListedEntry>& page) {
  ListedEntry listed;
  listed.name = entry.name;
  listed.cookie = entry.hash;
  listed.ino = entry.ino;
  listed.type = entry.type;
  if (plus) listed.stat = stat_at_hand(cx, entry);
  page.push_back(std::move(listed));
}

// The names of one hash, which stay on one page.
size_t count_names(const Dentry* entry) {
  size_t n = 0;
  for (; entry; entry = entry->same_hash) n += entry->kind != EntryKind::null;
  return n;
}

}  // namespace

Outcome readdir(OpContext& cx, const ReaddirArgs& args) {
  GET(Dir * dir, cx.dir(args.dir));
  Reply& reply = cx.reply();
  reply.entries.clear();
  const size_t max = std::max<size_t>(args.max, 1);
  // Whoever may list, but not search, sees names only.
  const bool plus = args.plus && may(cx, dir->inode(), kMayExec) == 0;

  NameHash from = args.cookie >= Dir::kEndHash ? Dir::kEndHash : args.cookie + 1;
  bool full = false;
  while (from < Dir::kEndHash && reply.entries.empty()) {
    GET(NameHash to, cx.range(*dir, from));
    for (auto it = dir->entries.lower_bound(from); it != dir->entries.end() && it->first < to;
         ++it) {
      size_t names = count_names(it->second);
      if (!reply.entries.empty() && reply.entries.size() + names > max) {
        full = true;
        break;
      }
      for (const Dentry* e = it->second; e; e = e->same_hash)
        if (e->kind != EntryKind::null) list_one(cx, *e, plus, reply.entries);
    }
    from = to;
  }
  reply.end = !full && from >= Dir::kEndHash;
  if (auto noted = note_access(cx, Target{.dir = dir}); !noted) return noted;
  return reply_stat(cx, dir->inode());
}

}  // namespace graftfs::ops
