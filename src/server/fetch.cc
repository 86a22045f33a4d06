// Getting from the store what an operation lacks.
#include <fmt/format.h>

#include "base/fault.h"
#include "events/ino_alloc.h"
#include "server/rank.h"

namespace graftfs {
namespace {

// Inos are taken from the store in ranges of this size, and a new range is asked for before the
// last one is used up.
constexpr uint64_t kInoRange = 1 << 20;
constexpr uint64_t kInosLow = 1 << 12;
constexpr const char* kNextIno = "next-ino";
constexpr size_t kRangePage = 1024;

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

Task<void> Rank::fetch_task(Need need) {
  Result<bool> found = true;
  switch (need.kind) {
    case Need::dir:
      found = co_await fetch_dir(need.ino);
      break;
    case Need::inode:
      found = co_await fetch_inode(need.ino);
      break;
    case Need::entry:
      found = co_await fetch_entry(need.ino, need.name);
      break;
    case Need::range:
      found = co_await fetch_range(need.ino, need.from);
      break;
    case Need::inos:
      found = co_await fetch_inos();
      break;
    case Need::none:
      break;
  }
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
    if (!*found) pending->absent.push_back(need);
    run(std::move(pending));
  }
}

// The directory and its ancestors up to the root of its subtree. False: there is no such
// directory.
Task<Result<bool>> Rank::fetch_dir(Ino ino) {
  bool found = false;
  for (Ino next = ino; next;) {
    Dir* d = cache_.find_dir(next);
    if (!d || !d->fetched) {
      // Nothing is there to be pinned. Were the answer older than its completion, the directory
      // could come, be changed, written back and evicted meanwhile, and this would bring its old
      // state back. It is not: the local store reads at once, the one in memory when it answers.
      CO_TRY_ASSIGN(auto bytes, co_await store_.dirs().read_header(next));
      d = cache_.find_dir(next);  // it may have come meanwhile
      if (bytes) {
        CO_TRY_ASSIGN(DirHeader header, decode_dir_header(next, *bytes));
        d = cache_.merge_header(header);
      } else if (d) {
        d->fetched = true;
      } else {
        if (next == ino) co_return false;
        co_return damaged(fmt::format("directory {:#x}, an ancestor of {:#x}, is not in the "
                                      "store; run 'graftfs fsck {}'",
                                      next.v, ino.v, options_.volume_name));
      }
    }
    found = true;
    if (state_.is_root(next)) break;
    cache_.attach(*d);
    next = d->header.at.parent;
    if (!next)
      co_return damaged(fmt::format("directory {:#x} hangs nowhere; run 'graftfs fsck {}'",
                                    d->ino().v, options_.volume_name));
    // An attached parent has its own ancestors.
    if (d->parent && (d->parent->parent || state_.is_root(next))) break;
  }
  co_return found;
}

Task<Result<bool>> Rank::fetch_inode(Ino ino) {
  CO_TRY_ASSIGN(bool is_dir, co_await fetch_dir(ino));
  if (is_dir) co_return true;
  std::optional<Location> tried;
  for (;;) {
    CO_TRY_ASSIGN(auto location, co_await store_.dirs().locate(ino));
    if (cache_.find_inode(ino)) co_return true;
    if (!location) co_return false;
    // It was not there twice: the index is older than what the cache knows.
    if (tried && tried->dir == location->dir && tried->key == location->key) co_return false;
    auto key = split_entry_key(location->key);
    if (!key)
      co_return damaged(fmt::format("the location of inode {:#x} is damaged; run 'graftfs fsck "
                                    "{}'",
                                    ino.v, options_.volume_name));
    std::string name(key->name);
    CO_TRY_ASSIGN(bool dir_found, co_await fetch_dir(location->dir));
    if (dir_found && cache_.find_dir(location->dir)) {
      CO_TRY(co_await fetch_entry(location->dir, name));
      if (cache_.find_inode(ino)) co_return true;
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
      if (!key) co_return damaged(fmt::format("an entry of directory {:#x} has a damaged key; run "
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
      CO_TRY_ASSIGN(auto headers, co_await store_.dirs().read_headers(children));
      for (size_t i = 0; i < headers.size(); ++i) {
        if (!headers[i] || cache_.find_dir(children[i])) continue;
        CO_TRY_ASSIGN(DirHeader header, decode_dir_header(children[i], *headers[i]));
        if (header.at.parent == ino) cache_.merge_header(header);
      }
      co_return true;
    }
    MARK("fetch.range.one_hash_fills_a_page");
    max *= 4;
  }
}

Task<Result<bool>> Rank::fetch_inos() {
  uint64_t left = 0;
  for (const InoRange& range : state_.inos) left += range.end - range.next;
  if (left > 0) co_return true;
  if (options_.read_only) co_return false;
  for (;;) {
    std::string key = kNextIno;
    CO_TRY_ASSIGN(StateValue next, co_await store_.state().get(key));
    uint64_t from = kFirstFreeIno;
    if (!next.value.empty()) from = std::strtoull(next.value.c_str(), nullptr, 10);
    if (from < kFirstFreeIno || from > UINT64_MAX - kInoRange) co_return false;
    std::string value = std::to_string(from + kInoRange);
    auto set = co_await store_.state().set(key, next.version, value);
    if (!set && set.error().code == ESTALE) continue;  // another rank was faster
    if (!set) co_return std::unexpected(set.error());
    KILL_POINT("rank.inos.taken");
    std::string payload;
    ByteWriter w(payload);
    encode_ino_alloc(w, from, from + kInoRange);
    std::erase_if(state_.inos, [](const InoRange& range) { return range.next == range.end; });
    log_raw(EventType::ino_alloc, payload);
    co_return true;
  }
}

}  // namespace graftfs
