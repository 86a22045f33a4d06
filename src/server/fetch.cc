// Getting from the store what an operation lacks.
#include <fmt/format.h>

#include <algorithm>

#include "base/fault.h"
#include "events/ino_alloc.h"
#include "server/migrate.h"
#include "server/rank.h"
#include "types/ino_bits.h"

namespace graftfs {
namespace {

// A range of inos is asked for when less than this part of one is left.
constexpr uint64_t kLowPart = 16;
constexpr const char* kNextIno = "next-ino";
constexpr size_t kRangePage = 1024;
constexpr uint64_t kEndOfInos = uint64_t{1} << kInoBits;

// Nothing is evicted from a pinned directory, and its null entries stay, so that what is being
// read from the store cannot bring back what the cache knows to be gone.
class Pin {
 public:
  explicit Pin(Dir& dir) : dir_(dir) { dir_.pins++; }
  ~Pin() { dir_.pins--; }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;

 private:
  Dir& dir_;
};

// Whether the directory's entry leads to it; nothing was awaited since it was merged.
bool is_child(const Cache& cache, const Dir& dir, const DirHeader& child) {
  const Dentry* e = cache.find_entry(dir, child.at.name);
  return e && e->kind == EntryKind::dir_link && e->ino == child.inode.ino;
}

// A pin that could not be followed before the directory left the memory.
void note_pin(Migrations& migrations, const DirHeader& header) {
  if (header.inode.extra && pin_of(header.inode)) migrations.pinned(header.inode.ino);
}

}  // namespace

void Rank::fetch(Need need, PendingPtr pending) {
  auto [it, fresh] = fetching_.try_emplace(need);
  it->second.push_back(std::move(pending));
  if (!fresh) {
    MARK("fetch.joined");
    return;
  }
  stats_.fetches++;
  tasks_.spawn(fetch_task(std::move(need)));
}

Task<Result<Place>> Rank::fetch_need(Need need) {
  Result<Place> found = Place{Place::ours};
  Result<bool> here = true;
  switch (need.kind) {
    case Need::dir:
      found = co_await fetch_dir(need.ino);
      break;
    case Need::inode:
      found = co_await fetch_inode(need.ino);
      break;
    case Need::entry:
      here = co_await fetch_entry(need.ino, need.name);
      break;
    case Need::range:
      here = co_await fetch_range(need.ino, need.from);
      break;
    case Need::inos:
      here = co_await fetch_inos();
      break;
    default:
      break;
  }
  if (!here)
    found = std::unexpected(here.error());
  else if (!*here)
    found = Place{Place::absent};
  // Another process has taken the rank: nobody is told anything any more.
  if (!found && found.error().code == ESTALE) {
    MARK("fetch.fenced");
    journal_failed(found.error());
  }
  co_return found;
}

Task<void> Rank::fetch_task(Need need) {
  Need piece = need;
  Result<Place> found = co_await fetch_need(std::move(piece));
  auto node = fetching_.extract(need);
  for (PendingPtr& pending : node.mapped()) {
    if (!found) {
      if (found.error().is_damage()) say(describe(found.error()));
      Reply reply;
      reply.err = found.error().code;
      if (pending->hungry) hungry_--;
      answer({}, {}, std::move(reply), std::move(pending->done));
      continue;
    }
    switch (found->what) {
      case Place::ours:
        break;
      case Place::absent:
        pending->absent.push_back({need, std::nullopt});
        break;
      case Place::other:
        pending->absent.push_back({need, found->rank});
        break;
      case Place::frozen:
        park(Need{Need::frozen, found->import, {}, 0}, std::move(pending));
        continue;
    }
    run(std::move(pending));
  }
}

// Whether a climb ends at this directory because it is not ours; `absent` where it does not end.
Place Rank::is_root_of_other(Ino ino) const {
  if (const Bound* bound = state_.find_bound(ino)) return {Place::other, bound->rank, {}};
  auto forward = state_.forwards.find(ino);
  if (forward != state_.forwards.end()) return {Place::other, forward->second.to, {}};
  if (is_hidden_dir(ino)) {
    RankId heir = rank_of_hidden_dir(ino);
    if (!peers_) return {Place::other, heir, {}};
    heir = peers_->heir(heir);
    const std::vector<RankId> ranks = peers_->ranks();
    const bool exists = std::find(ranks.begin(), ranks.end(), heir) != ranks.end();
    // Of this rank, which is about to go, or of one that nobody has named an heir of.
    return {Place::other, exists && heir != options_.rank ? heir : kNobody, {}};
  }
  if (ino == kRootIno) return {Place::other, ask_root(), {}};
  return {Place::absent};
}

// Why a climb ends at this directory, as far as is known without reading it.
std::optional<Place> Rank::ends_at(Ino ino) const {
  auto import = state_.imports.find(ino);
  const bool root = import != state_.imports.end();
  if (root && !import->second.settled) return Place{Place::frozen, kNobody, ino};
  const Dir* d = cache_.find_dir(ino);
  if (d && d->is_foreign()) return Place{Place::other, d->foreign, {}};
  if (root || d) return std::nullopt;
  Place other = is_root_of_other(ino);
  if (other.what == Place::absent) return std::nullopt;
  return other;
}

// Brings the directory and its ancestors up to the root of its import into the cache. The way up is
// read first; what turns out to be another rank's leaves no trace.
Task<Result<Place>> Rank::fetch_dir(Ino ino) {
  std::vector<ReadHeader> way;  // from `ino` up, not cached
  HeaderReads::Reader reader(header_reads_);
  for (Ino next = ino;;) {
    if (auto end = ends_at(next)) co_return *end;
    Dir* d = cache_.find_dir(next);
    DirHeader header;
    if (!d || !d->fetched) {
      const uint64_t read_at = reader.now();
      CO_TRY_ASSIGN(auto bytes, co_await store_.dirs().read_header(next));
      if (reader.is_old(next, read_at)) {
        MARK("fetch.dir.committed_meanwhile");
        continue;
      }
      // It may have come meanwhile, or begun to, or a subtree that it is a bound of.
      if (auto end = ends_at(next)) co_return *end;
      d = cache_.find_dir(next);
      if (bytes) {
        CO_TRY_ASSIGN(header, decode_dir_header(next, *bytes));
        if (d && !d->is_foreign()) d = cache_.merge_header(header);
      } else if (d) {
        d->fetched = true;
      } else if (next == ino) {
        co_return Place{Place::absent};
      } else if (!is_alone()) {
        co_return Place{Place::other, ask_root(), {}};
      } else {
        co_return damaged(
            fmt::format("directory {:#x}, an ancestor of {:#x}, is not in the "
                        "store; run 'graftfs fsck {}'",
                        next.v, ino.v, options_.volume_name));
      }
    }
    if (d) {
      cache_.attach(*d);
      header.at.parent = d->header.at.parent;
    } else {
      way.push_back({header, reader.now()});
    }
    if (state_.is_root(next) ||
        (d && d->parent && (d->parent->parent || state_.is_root(d->parent->ino()))))
      break;
    next = header.at.parent;
    if (!next && !is_alone()) co_return Place{Place::other, ask_root(), {}};
    if (!next)
      co_return damaged(fmt::format("directory {:#x} hangs nowhere; run 'graftfs fsck {}'",
                                    way.empty() ? ino.v : way.back().header.inode.ino.v,
                                    options_.volume_name));
    // An attached directory has its own ancestors.
    Dir* above = cache_.find_dir(next);
    if (above && !above->is_foreign() && (above->parent || state_.is_root(next)) &&
        (above->fetched || !state_.is_root(next)))
      break;
  }
  co_return co_await hang(std::move(way), reader);
}

// Puts what was read on the way up below what is cached, from the top down. With other ranks about,
// a header in the store may be older than they know: what counts is the parent's entry.
Task<Result<Place>> Rank::hang(std::vector<ReadHeader> way, const HeaderReads::Reader& reader) {
  const bool check = !is_alone();
  while (!way.empty()) {
    auto [header, read_at] = std::move(way.back());
    way.pop_back();
    const Ino ino = header.inode.ino;
    if (check && !state_.is_root(ino)) {
      Dir* above = cache_.find_dir(header.at.parent);
      if (!above || above->is_foreign()) {
        // It was evicted, or has gone to another rank: the operation starts over.
        MARK("fetch.dir.parent_gone");
        co_return Place{Place::ours};
      }
      std::string name = header.at.name;
      Dentry* e = cache_.find_entry(*above, name);
      if (!e && !above->knows(name_hash(name))) {
        CO_TRY(co_await fetch_entry(above->ino(), name));
        above = cache_.find_dir(header.at.parent);
        if (!above || above->is_foreign()) co_return Place{Place::ours};
        e = cache_.find_entry(*above, name);
      }
      if (!e || e->kind != EntryKind::dir_link || e->ino != ino) {
        MARK("fetch.dir.old_header");
        // What has been removed stays removed: its header came late, from an owner that is dead,
        // and no other rank knows more.
        if (is_orphans_dir(header.at.parent)) co_return Place{Place::absent};
        Place other = is_root_of_other(ino);
        if (other.what == Place::absent) other = Place{Place::other, ask_root(), {}};
        co_return other;
      }
    }
    if (auto end = ends_at(ino)) co_return *end;
    if (reader.is_old(ino, read_at)) {
      // The operation starts over.
      MARK("fetch.way.committed_meanwhile");
      co_return Place{Place::ours};
    }
    cache_.merge_header(header);
    note_pin(*migrations_, header);
  }
  co_return Place{Place::ours};
}

Task<Result<Place>> Rank::fetch_inode(Ino ino) {
  CO_TRY_ASSIGN(Place place, co_await fetch_dir(ino));
  if (place.what != Place::absent) co_return place;
  // What other ranks have not written back yet only they know.
  const Place nowhere = is_alone() ? Place{Place::absent} : Place{Place::other, kNobody, {}};
  std::optional<Location> tried;
  for (;;) {
    CO_TRY_ASSIGN(auto location, co_await store_.dirs().locate(ino));
    if (cache_.find_inode(ino)) co_return Place{Place::ours};
    if (!location) co_return nowhere;
    // It was not there twice: the index is older than what the cache knows.
    if (tried && tried->dir == location->dir && tried->key == location->key) co_return nowhere;
    auto key = split_entry_key(location->key);
    if (!key)
      co_return damaged(
          fmt::format("the location of inode {:#x} is damaged; run 'graftfs fsck "
                      "{}'",
                      ino.v, options_.volume_name));
    std::string name(key->name);
    CO_TRY_ASSIGN(Place dir, co_await fetch_dir(location->dir));
    if (dir.what == Place::other || dir.what == Place::frozen) co_return dir;
    const bool dir_found = dir.what == Place::ours;
    if (dir_found && cache_.find_dir(location->dir)) {
      CO_TRY(co_await fetch_entry(location->dir, name));
      if (cache_.find_inode(ino)) co_return Place{Place::ours};
    } else if (dir_found) {
      MARK("fetch.inode.evicted_meanwhile");
      continue;
    }
    tried = std::move(location);
  }
}

Task<Result<bool>> Rank::fetch_entry(Ino ino, std::string name) {
  Dir* d = cache_.find_dir(ino);
  if (!d) co_return true;  // evicted meanwhile: the operation starts over
  Pin pin(*d);
  EntryKey key = entry_key(name);
  CO_TRY_ASSIGN(auto bytes, co_await store_.dirs().read_entry(ino, key));
  NameHash hash = name_hash(name);
  if (!bytes) {
    cache_.merge_absent(*d, hash, name);
    co_return true;
  }
  CO_TRY_ASSIGN(EntryValue value, decode_entry_value(ino, key, *bytes));
  cache_.merge_entry(*d, hash, name, value);
  co_return true;
}

Task<Result<bool>> Rank::fetch_range(Ino ino, NameHash from) {
  Dir* d = cache_.find_dir(ino);
  if (!d) co_return true;
  Pin pin(*d);
  size_t max = kRangePage;
  for (;;) {
    EntryKey first = entry_key(from, "");
    CO_TRY_ASSIGN(auto page, co_await store_.dirs().read_entries(ino, first, max));
    bool end = page.size() < max;
    NameHash last = from;
    std::vector<Ino> children;
    for (const DirEntryBytes& entry : page) {
      auto key = split_entry_key(entry.key);
      if (!key)
        co_return damaged(
            fmt::format("an entry of directory {:#x} has a damaged key; run "
                        "'graftfs fsck {}'",
                        ino.v, options_.volume_name));
      CO_TRY_ASSIGN(EntryValue value, decode_entry_value(ino, entry.key, entry.value));
      cache_.merge_entry(*d, key->hash, key->name, value);
      last = key->hash;
      if (value.kind == EntryKind::dir_link && !cache_.find_dir(value.ino))
        children.push_back(value.ino);
    }
    // The last hash may go on behind the page.
    NameHash to = end ? Dir::kEndHash : last;
    if (to > from) {
      cache_.merge_known(*d, from, to);
      if (children.empty()) co_return true;
      // Who lists a directory asks for its children next.
      HeaderReads::Reader reader(header_reads_);
      const uint64_t read_at = reader.now();
      CO_TRY_ASSIGN(auto headers, co_await store_.dirs().read_headers(children));
      for (size_t i = 0; i < headers.size(); ++i) {
        if (!headers[i] || cache_.find_dir(children[i])) continue;
        if (reader.is_old(children[i], read_at)) continue;
        CO_TRY_ASSIGN(DirHeader header, decode_dir_header(children[i], *headers[i]));
        // With other ranks about, the header may be older than they know, and the child not ours.
        if (header.at.parent != ino || (!is_alone() && !is_child(cache_, *d, header))) continue;
        cache_.merge_header(header);
        note_pin(*migrations_, header);
      }
      co_return true;
    }
    MARK("fetch.range.one_hash_fills_a_page");
    max *= 4;
  }
}

void Rank::note_ino_wanted() {
  if (inos_left() >= options_.ino_range / kLowPart) return;
  auto [it, fresh] = fetching_.try_emplace(Need{.kind = Need::inos});
  if (fresh) tasks_.spawn(fetch_task(it->first));
}

uint64_t Rank::inos_left() const {
  uint64_t left = 0;
  for (const InoRange& range : state_.inos) left += range.end - range.next;
  return left;
}

Task<Result<bool>> Rank::fetch_inos() {
  if (options_.read_only) co_return inos_left() > 0;
  if (inos_left() > options_.ino_range / kLowPart) co_return true;
  for (;;) {
    std::string key = kNextIno;
    CO_TRY_ASSIGN(StateValue next, co_await store_.state().get(key));
    uint64_t from = kFirstFreeIno;
    if (!next.value.empty()) from = std::strtoull(next.value.c_str(), nullptr, 10);
    if (from < kFirstFreeIno || from > kEndOfInos - options_.ino_range) co_return false;
    std::string value = std::to_string(from + options_.ino_range);
    auto set = co_await store_.state().set(key, next.version, value);
    if (!set && set.error().code == ESTALE) continue;  // another rank was faster
    if (!set) co_return std::unexpected(set.error());
    KILL_POINT("rank.inos.taken");
    std::string payload;
    ByteWriter w(payload);
    encode_ino_alloc(w, from, from + options_.ino_range);
    std::erase_if(state_.inos, [](const InoRange& range) { return range.next == range.end; });
    // Nothing of it is given out before it is durably known to be ours: of a range that a machine
    // has lost nobody would look for the data of files that were lost with it.
    inos_usable_below_ = from;
    log_raw(EventType::ino_alloc, payload);
    CO_TRY(co_await journal_->sync());
    inos_usable_below_ = UINT64_MAX;
    co_return true;
  }
}

}  // namespace graftfs
