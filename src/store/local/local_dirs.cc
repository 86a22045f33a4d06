#include "store/local/local_dirs.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/fault.h"
#include "store/points.h"

namespace graftfs::local {
namespace {

// Reads of more than this go to the pool.
constexpr size_t kInlineEntries = 128;
constexpr size_t kInlineHeaders = 16;

using Header = std::optional<std::string>;

void append_be(std::string& out, uint64_t v) {
  v = std::byteswap(v);
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}
uint64_t read_be(std::string_view bytes) {
  uint64_t v = 0;
  std::memcpy(&v, bytes.data(), sizeof v);
  return std::byteswap(v);
}
std::string header_key(Ino dir) {
  std::string key;
  append_be(key, dir.v);
  key.push_back('\0');
  return key;
}
std::string entry_key(Ino dir, std::string_view key) {
  std::string full;
  full.reserve(9 + key.size());
  append_be(full, dir.v);
  full.push_back('\1');
  full.append(key);
  return full;
}
std::string ino_key(Ino ino) {
  std::string key;
  append_be(key, ino.v);
  return key;
}

Result<Header> get_copy(LmdbEnv& env, LmdbEnv::Db db, const std::string& key) {
  Header value;
  TRY(env.read([&](const LmdbEnv::View& view) -> Result<void> {
    TRY_ASSIGN(auto found, env.get(view, db, key));
    if (found) value.emplace(*found);
    return {};
  }));
  return value;
}

Result<std::vector<DirEntryBytes>> scan_entries(LmdbEnv& env, Ino dir, const EntryKey& from,
                                                size_t max) {
  std::vector<DirEntryBytes> entries;
  std::string start = entry_key(dir, from);
  std::string prefix = start.substr(0, 9);
  if (max == 0) return entries;
  TRY(env.read([&](const LmdbEnv::View& view) -> Result<void> {
    return env.scan(view, LmdbEnv::dirs, start, [&](std::string_view key, std::string_view value) {
      if (!key.starts_with(prefix)) return false;
      entries.push_back({EntryKey(key.substr(9)), std::string(value)});
      return entries.size() < max;
    });
  }));
  return entries;
}

Result<std::vector<Header>> get_headers(LmdbEnv& env, const std::vector<Ino>& dirs) {
  std::vector<Header> headers(dirs.size());
  TRY(env.read([&](const LmdbEnv::View& view) -> Result<void> {
    for (size_t i = 0; i < dirs.size(); ++i) {
      TRY_ASSIGN(auto found, env.get(view, LmdbEnv::dirs, header_key(dirs[i])));
      if (found) headers[i].emplace(*found);
    }
    return {};
  }));
  return headers;
}

Result<std::vector<Ino>> scan_dirs(LmdbEnv& env, Ino from, size_t max) {
  std::vector<Ino> inos;
  if (max == 0) return inos;
  TRY(env.read([&](const LmdbEnv::View& view) -> Result<void> {
    // From header to header, skipping the entries between them.
    Ino next = from;
    for (bool more = true; more && inos.size() < max;) {
      more = false;
      TRY(env.scan(view, LmdbEnv::dirs, header_key(next),
                   [&](std::string_view key, std::string_view) {
                     if (key.size() < 9) return true;
                     Ino ino{read_be(key)};
                     if (key[8] == '\0') inos.push_back(ino);
                     next = ino.next();
                     more = ino.v != UINT64_MAX;
                     return false;
                   }));
    }
    return {};
  }));
  return inos;
}

Result<void> apply(LmdbEnv& env, const LmdbEnv::Write& write,
                   const std::vector<DirUpdate>& updates) {
  {
    LmdbEnv::Batch dirs(env, write, LmdbEnv::dirs);
    for (const DirUpdate& u : updates) {
      if (u.remove) {
        TRY(dirs.erase_prefix(ino_key(u.dir)));
        continue;
      }
      if (u.header) TRY(dirs.put(header_key(u.dir), *u.header));
      for (const EntryKey& key : u.erase) TRY(dirs.erase(entry_key(u.dir, key)));
      // In key order: the cursor then stays on its page.
      std::vector<const std::pair<EntryKey, std::string>*> puts;
      puts.reserve(u.put.size());
      for (const auto& put : u.put) puts.push_back(&put);
      std::stable_sort(puts.begin(), puts.end(),
                       [](auto* a, auto* b) { return a->first < b->first; });
      std::string key;
      for (const auto* put : puts) {
        key = entry_key(u.dir, put->first);
        TRY(dirs.put(key, put->second));
      }
    }
  }
  LmdbEnv::Batch locations(env, write, LmdbEnv::locations);
  for (const DirUpdate& u : updates) {
    std::vector<const std::pair<Ino, EntryKey>*> located;
    located.reserve(u.located.size());
    for (const auto& l : u.located) located.push_back(&l);
    std::stable_sort(located.begin(), located.end(),
                     [](auto* a, auto* b) { return a->first < b->first; });
    std::string value;
    for (const auto* l : located) {
      value.clear();
      append_be(value, u.dir.v);
      value.append(l->second);
      TRY(locations.put(ino_key(l->first), value));
    }
    for (Ino ino : u.unlocated) TRY(locations.erase(ino_key(ino)));
  }
  return {};
}

}  // namespace

Task<Result<Header>> LocalDirs::read_header(Ino dir) {
  std::string key = header_key(dir);
  if (!options_.all_reads_on_pool) co_return get_copy(*env_, LmdbEnv::dirs, key);
  auto done =
      start_job(pool_, executor_, [env = env_, key] { return get_copy(*env, LmdbEnv::dirs, key); });
  Result<Header> result = co_await done;
  co_return result;
}

Task<Result<std::vector<Header>>> LocalDirs::read_headers(std::vector<Ino> dirs) {
  if (dirs.size() <= kInlineHeaders && !options_.all_reads_on_pool) {
    co_return get_headers(*env_, dirs);
  }
  auto done = start_job(pool_, executor_,
                        [env = env_, dirs = std::move(dirs)] { return get_headers(*env, dirs); });
  Result<std::vector<Header>> result = co_await done;
  co_return result;
}

Task<Result<Header>> LocalDirs::read_entry(Ino dir, EntryKey name) {
  std::string key = entry_key(dir, name);
  if (!options_.all_reads_on_pool) co_return get_copy(*env_, LmdbEnv::dirs, key);
  auto done =
      start_job(pool_, executor_, [env = env_, key] { return get_copy(*env, LmdbEnv::dirs, key); });
  Result<Header> result = co_await done;
  co_return result;
}

Task<Result<std::vector<DirEntryBytes>>> LocalDirs::read_entries(Ino dir, EntryKey from,
                                                                 size_t max) {
  if (max <= kInlineEntries && !options_.all_reads_on_pool) {
    co_return scan_entries(*env_, dir, from, max);
  }
  auto done = start_job(pool_, executor_, [env = env_, dir, from = std::move(from), max] {
    return scan_entries(*env, dir, from, max);
  });
  Result<std::vector<DirEntryBytes>> result = co_await done;
  co_return result;
}

Task<Result<std::optional<Location>>> LocalDirs::locate(Ino ino) {
  std::string key = ino_key(ino);
  Result<Header> bytes;
  if (options_.all_reads_on_pool) {
    auto done = start_job(pool_, executor_,
                          [env = env_, key] { return get_copy(*env, LmdbEnv::locations, key); });
    bytes = co_await done;
  } else {
    bytes = get_copy(*env_, LmdbEnv::locations, key);
  }
  if (!bytes) co_return std::unexpected(std::move(bytes).error());
  std::optional<Location> location;
  if (*bytes) {
    const std::string& b = **bytes;
    if (b.size() < sizeof(uint64_t)) {
      co_return damaged(fmt::format("{}: the location of {} is too short; run 'graftfs fsck'",
                                    env_->file_name(), ino));
    }
    location = Location{Ino{read_be(b)}, b.substr(sizeof(uint64_t))};
  }
  co_return location;
}

Task<Result<void>> LocalDirs::commit(std::vector<DirUpdate> updates) {
  points::DirsCommit::before();
  auto done =
      start_job(writer_, executor_, [env = env_, fences = fences_, updates = std::move(updates)] {
        return env->write([&](const LmdbEnv::Write& write) -> Result<void> {
          TRY(apply(*env, write, updates));
          KILL_POINT("store.dirs.committing");
          return fences->hold();
        });
      });
  Result<void> result = co_await done;
  if (result) points::DirsCommit::after();
  co_return result;
}

Task<Result<std::vector<Ino>>> LocalDirs::list_dirs(Ino from, size_t max) {
  auto done =
      start_job(pool_, executor_, [env = env_, from, max] { return scan_dirs(*env, from, max); });
  Result<std::vector<Ino>> result = co_await done;
  co_return result;
}

}  // namespace graftfs::local
