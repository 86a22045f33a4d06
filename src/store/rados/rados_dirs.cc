#include "store/rados/rados_dirs.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <iterator>
#include <map>

#include "base/fault.h"
#include "store/points.h"

namespace graftfs::rados {
namespace {

constexpr char kEntry = 'e';
constexpr size_t kKeysInOperation = 4096, kBytesInOperation = 4 << 20;
constexpr uint64_t kKeysInAnswer = 1024;  // as many as an OSD gives at once by default
constexpr char kToken[] = "o";            // + rank: the owner's token that wrote last
constexpr char kBig[] = "f";              // in the head of a big directory: the number of fragments
constexpr size_t kMostCounted = 65536;

std::string omap_key(std::string_view key) {
  std::string full;
  full.reserve(1 + key.size());
  full += kEntry;
  full += key;
  return full;
}
std::string big_endian(uint64_t v) {
  v = std::byteswap(v);
  return std::string(reinterpret_cast<const char*>(&v), sizeof v);
}
uint64_t from_big_endian(std::string_view bytes) {
  uint64_t v = 0;
  std::memcpy(&v, bytes.data(), sizeof v);
  return std::byteswap(v);
}

using Puts = std::map<std::string, bufferlist>;

struct Omap {
  bufferlist header;
  std::map<std::string, bufferlist> first, rest;
  bool more = false;
};

// Nobody has written there yet who took the owner's rank. They are omap keys, since attributes of
// an object that is made by this very operation cannot be compared.
void guard(WriteOp& op, const Tokens& tokens, Puts& put) {
  std::map<std::string, std::pair<bufferlist, Compare>> guards;
  for (auto [rank, token] : tokens) {
    const std::string name = fmt::format("{}{}", kToken, rank);
    guards[name] = {to_buffer(big_endian(token + 1)), Compare::less};
    put[name] = to_buffer(big_endian(token));
  }
  if (!guards.empty()) op.omap_cmp(std::move(guards));
}

// The write operations of one object, in the order in which they are to be sent.
class Writes {
 public:
  // `small`: it must not have become big.
  Writes(const Tokens& tokens, bool small) : tokens_(tokens), small_(small) {}

  void erase(std::string_view key) {
    erase_.insert(omap_key(key));
    added(key.size());
  }
  void put(std::string_view key, std::string_view value) {
    std::string full = omap_key(key);
    erase_.erase(full);
    put_[std::move(full)] = to_buffer(value);
    added(key.size() + value.size());
  }
  // `header`: of a head.
  std::vector<WriteOp> make(const std::optional<std::string>& header) {
    WriteOp last = next();
    if (header) last.omap_set_header(to_buffer(*header));
    ops_.push_back(std::move(last));
    return std::move(ops_);
  }

 private:
  void added(size_t bytes) {
    bytes_ += bytes;
    if (++keys_ < kKeysInOperation && bytes_ < kBytesInOperation) return;
    MARK("store.rados.commit_in_parts");
    ops_.push_back(next());
  }
  // What there is so far, behind the guards.
  WriteOp next() {
    WriteOp op;
    op.create(false);
    if (small_) op.omap_cmp({{kBig, {bufferlist(), Compare::equal}}});
    guard(op, tokens_, put_);
    if (!erase_.empty()) op.omap_rm_keys(erase_);
    if (!put_.empty()) op.omap_set(put_);
    erase_.clear();
    put_.clear();
    keys_ = bytes_ = 0;
    return op;
  }

  const Tokens& tokens_;
  const bool small_;
  std::vector<WriteOp> ops_;
  std::set<std::string> erase_;
  Puts put_;
  size_t keys_ = 0, bytes_ = 0;
};

}  // namespace

// -- lists --------------------------------------------------------------------------------------

Task<Result<std::vector<Ino>>> InoList::next(Session& session, Ino from, size_t max) {
  if (from != next_ || all_.empty()) {
    auto done = session.list_inos(ino_of_);
    Result<std::vector<Ino>> all = co_await done;
    if (!all) co_return all;
    all_ = std::move(*all);
  }
  auto begin = std::lower_bound(all_.begin(), all_.end(), from);
  auto end = begin +
             static_cast<ptrdiff_t>(std::min<size_t>(static_cast<size_t>(all_.end() - begin), max));
  std::vector<Ino> inos(begin, end);
  if (end == all_.end())
    all_.clear();
  else
    next_ = Ino{inos.empty() ? from.v : inos.back().v + 1};
  co_return inos;
}

// -- directories --------------------------------------------------------------------------------

Task<Result<std::optional<std::string>>> RadosDirs::read_header(Ino dir) {
  std::vector<Ino> dirs{dir};
  CO_TRY_ASSIGN(auto headers, co_await read_headers(std::move(dirs)));
  co_return std::move(headers.front());
}

Task<Result<std::vector<std::optional<std::string>>>> RadosDirs::read_headers(
    std::vector<Ino> dirs) {
  CO_TRY(session_.alive());
  std::vector<Promised<Answer<Omap>>> reads;
  reads.reserve(dirs.size());
  for (Ino dir : dirs) {
    auto out = std::make_shared<Omap>();
    ReadOp op;
    op.omap_get_header(&out->header);
    reads.push_back(session_.read(dir_object(dir), std::move(op), out));
  }
  std::vector<std::optional<std::string>> headers(dirs.size());
  Result<void> result;
  for (size_t i = 0; i < dirs.size(); ++i) {
    Answer<Omap> answer = co_await reads[i];
    if (answer.code == -ENOENT) continue;
    if (answer.code < 0) {
      if (result) result = session_.failed(answer.code, "read", dir_object(dirs[i]));
      continue;
    }
    if (answer.out->header.length() > 0) headers[i] = to_text(answer.out->header);
  }
  if (!result) co_return std::unexpected(std::move(result).error());
  co_return headers;
}

Task<Result<std::optional<std::string>>> RadosDirs::read_entry(Ino dir, EntryKey key) {
  CO_TRY(session_.alive());
  const std::string name = omap_key(key);
  std::optional<std::string> value;
  std::string object = dir_object(dir);
  for (bool head = true;; head = false) {
    auto out = std::make_shared<Omap>();
    ReadOp op;
    op.omap_get_vals_by_keys({name, kBig}, &out->first);
    Answer<Omap> answer = co_await session_.read(object, std::move(op), out);
    if (answer.code == -ENOENT) co_return value;
    if (answer.code < 0) co_return session_.failed(answer.code, "read", object);
    if (auto it = out->first.find(name); it != out->first.end()) value = to_text(it->second);
    if (!head || !out->first.contains(kBig)) co_return value;
    // What the fragment has is newer.
    object = fragment_object(dir, key);
  }
}

// Of one object. `big`: whether it is the head of a directory that has more.
Task<Result<std::vector<DirEntryBytes>>> RadosDirs::read_object(std::string object, EntryKey from,
                                                                size_t max, bool& big) {
  std::vector<DirEntryBytes> entries;
  // The operation lists what is behind a key; the first one is asked for by name.
  std::string after = omap_key(from);
  bool with_first = !from.empty();
  while (entries.size() < max) {
    auto out = std::make_shared<Omap>();
    ReadOp op;
    std::set<std::string> names{kBig};
    if (with_first) names.insert(after);
    op.omap_get_vals_by_keys(names, &out->first);
    op.omap_get_vals2(after, std::string(1, kEntry),
                      std::min<uint64_t>(max - entries.size(), kKeysInAnswer), &out->rest,
                      &out->more);
    Answer<Omap> answer = co_await session_.read(object, std::move(op), out);
    if (answer.code == -ENOENT) break;
    if (answer.code < 0) co_return session_.failed(answer.code, "read", object);
    big = out->first.erase(kBig) > 0;
    for (const auto* part : {&out->first, &out->rest})
      for (const auto& [key, value] : *part)
        if (entries.size() < max) entries.push_back({key.substr(1), to_text(value)});
    if (!out->more || out->rest.empty()) break;
    after = out->rest.rbegin()->first;
    with_first = false;
  }
  co_return entries;
}

Task<Result<std::vector<DirEntryBytes>>> RadosDirs::read_entries(Ino dir, EntryKey from,
                                                                 size_t max) {
  CO_TRY(session_.alive());
  if (max == 0) co_return std::vector<DirEntryBytes>{};
  bool big = false, ignored = false;
  std::string head = dir_object(dir);
  CO_TRY_ASSIGN(auto older, co_await read_object(head, from, max, big));
  if (!big) co_return older;
  MARK("store.rados.big_directory_read");
  std::vector<DirEntryBytes> newer;
  for (unsigned f = fragment_of(from); f < kFragments && newer.size() < max; ++f) {
    std::string object = fragment_object(dir, f);
    const size_t left = max - newer.size();
    CO_TRY_ASSIGN(auto part, co_await read_object(object, from, left, ignored));
    std::move(part.begin(), part.end(), std::back_inserter(newer));
  }
  // Both in the order of keys; of two of the same name the fragment's is newer.
  std::vector<DirEntryBytes> entries;
  for (auto a = newer.begin(), b = older.begin();
       entries.size() < max && (a != newer.end() || b != older.end());) {
    if (b == older.end() || (a != newer.end() && a->key <= b->key)) {
      if (b != older.end() && a->key == b->key) ++b;
      entries.push_back(std::move(*a++));
    } else {
      entries.push_back(std::move(*b++));
    }
  }
  co_return entries;
}

Task<Result<std::optional<Location>>> RadosDirs::locate(Ino ino) {
  CO_TRY(session_.alive());
  auto out = std::make_shared<Omap>();
  ReadOp op;
  op.omap_get_vals_by_keys({big_endian(ino.v)}, &out->first);
  Answer<Omap> answer = co_await session_.read(location_object(ino), std::move(op), out);
  std::optional<Location> location;
  if (answer.code == -ENOENT) co_return location;
  if (answer.code < 0) co_return session_.failed(answer.code, "read", location_object(ino));
  if (out->first.empty()) co_return location;
  std::string bytes = to_text(out->first.begin()->second);
  if (bytes.size() < sizeof(uint64_t))
    co_return damaged(fmt::format("{}/{}: the location of {} is too short; run 'graftfs fsck'",
                                  session_.name().shown(), location_object(ino), ino));
  location = Location{Ino{from_big_endian(bytes)}, bytes.substr(sizeof(uint64_t))};
  co_return location;
}

Task<Result<bool>> RadosDirs::is_big(Ino dir) {
  auto out = std::make_shared<Omap>();
  ReadOp op;
  op.omap_get_vals_by_keys({kBig}, &out->first);
  Answer<Omap> answer = co_await session_.read(dir_object(dir), std::move(op), out);
  if (answer.code == -ENOENT) co_return false;
  if (answer.code < 0) co_return session_.failed(answer.code, "read", dir_object(dir));
  co_return !out->first.empty();
}

// Counts a directory into which much was written, and has it grow where it is big.
Task<Result<void>> RadosDirs::grow(Ino dir) {
  written_.erase(dir);
  bool big = false;
  std::string head = dir_object(dir);
  EntryKey from;
  CO_TRY_ASSIGN(auto entries, co_await read_object(head, from, big_from_, big));
  if (!big && entries.size() < big_from_) co_return Result<void>{};
  if (!big) {
    MARK("store.rados.directory_grows");
    WriteOp op;
    op.assert_exists();
    op.omap_set({{kBig, to_buffer(fmt::format("{}", kFragments))}});
    int code = co_await session_.write(head, std::move(op));
    if (code < 0) co_return session_.failed(code, "write", head);
  }
  big_.insert(dir);
  co_return Result<void>{};
}

void RadosDirs::send(const DirUpdate& u, std::vector<Sent>& sent) {
  const std::string head = dir_object(u.dir);
  auto send_all = [&](const std::string& object, std::vector<WriteOp> ops) {
    for (WriteOp& op : ops) sent.push_back({object, session_.write(object, std::move(op)), &u});
  };
  if (u.remove) {
    WriteOp op;
    std::map<std::string, std::pair<bufferlist, Compare>> small;
    small[kBig] = {bufferlist(), Compare::equal};
    op.omap_cmp(std::move(small));
    op.remove();
    sent.push_back({head, session_.write(head, std::move(op)), &u});
    return;
  }
  if (!u.header && u.put.empty() && u.erase.empty()) return;
  const bool big = big_.contains(u.dir);
  Writes main(*tokens_, !big);
  std::map<unsigned, Writes> fragments;
  auto fragment = [&](const EntryKey& key) -> Writes& {
    return fragments.try_emplace(fragment_of(key), *tokens_, false).first->second;
  };
  for (const EntryKey& key : u.erase) {
    main.erase(key);
    if (big) fragment(key).erase(key);
  }
  for (const auto& [key, value] : u.put) {
    if (big) {
      fragment(key).put(key, value);
      main.erase(key);
    } else {
      main.put(key, value);
    }
  }
  for (auto& [number, writes] : fragments)
    send_all(fragment_object(u.dir, number), writes.make(std::nullopt));
  send_all(head, main.make(u.header));
  if (!big && !u.put.empty()) {
    if (written_.size() >= kMostCounted) written_.clear();
    written_[u.dir] += u.put.size();
  }
}

// The head goes last: it says that there are others.
Task<Result<void>> RadosDirs::remove_big(Ino dir) {
  std::vector<Sent> sent;
  for (unsigned f = 0; f < kFragments; ++f) {
    WriteOp op;
    op.remove();
    const std::string object = fragment_object(dir, f);
    sent.push_back({object, session_.write(object, std::move(op)), nullptr});
  }
  Result<void> result;
  for (Sent& s : sent) {
    int code = co_await s.done;
    if (code < 0 && code != -ENOENT && result) result = session_.failed(code, "remove", s.object);
  }
  if (!result) co_return result;
  WriteOp op;
  op.remove();
  const std::string head = dir_object(dir);
  int code = co_await session_.write(head, std::move(op));
  if (code < 0 && code != -ENOENT) co_return session_.failed(code, "remove", head);
  big_.erase(dir);
  co_return Result<void>{};
}

Task<Result<void>> RadosDirs::commit(std::vector<DirUpdate> updates) {
  points::DirsCommit::before();
  CO_TRY(session_.alive());
  for (const DirUpdate& u : updates)
    if (auto it = written_.find(u.dir); it != written_.end() && it->second >= big_from_)
      CO_TRY(co_await grow(u.dir));
  std::vector<Sent> sent;
  // By shard: where an ino is now; nullopt: nowhere.
  std::map<std::string, std::map<Ino, std::optional<std::string>>> locations;
  for (const DirUpdate& u : updates) {
    for (const auto& [ino, key] : u.located)
      locations[location_object(ino)][ino] = big_endian(u.dir.v) + key;
    for (Ino ino : u.unlocated) locations[location_object(ino)][ino] = std::nullopt;
  }
  for (const auto& [object, inos] : locations) {
    Puts put;
    std::set<std::string> erase;
    for (const auto& [ino, at] : inos) {
      if (at)
        put[big_endian(ino.v)] = to_buffer(*at);
      else
        erase.insert(big_endian(ino.v));
    }
    WriteOp op;
    op.create(false);
    guard(op, *tokens_, put);
    if (!put.empty()) op.omap_set(put);
    if (!erase.empty()) op.omap_rm_keys(erase);
    sent.push_back({object, session_.write(object, std::move(op)), nullptr});
  }
  for (const DirUpdate& u : updates) send(u, sent);
  Result<void> result;
  std::vector<const DirUpdate*> again;
  for (Sent& s : sent) {
    int code = co_await s.done;
    if (code >= 0 || (code == -ENOENT && s.update && s.update->remove)) continue;
    // A guard: it is big, which was not known here, or somebody was faster.
    if (code == -ECANCELED && s.update && !big_.contains(s.update->dir) && result) {
      Ino dir = s.update->dir;
      auto big = co_await is_big(dir);
      if (big && *big) {
        if (again.empty() || again.back() != s.update) again.push_back(s.update);
        continue;
      }
    }
    if (result) result = session_.failed(code, "write", s.object);
  }
  if (!result) co_return result;
  sent.clear();
  for (const DirUpdate* u : again) {
    MARK("store.rados.big_directory_found");
    big_.insert(u->dir);
    if (u->remove)
      CO_TRY(co_await remove_big(u->dir));
    else
      send(*u, sent);
  }
  for (Sent& s : sent) {
    int code = co_await s.done;
    if (code < 0 && result) result = session_.failed(code, "write", s.object);
  }
  if (result) points::DirsCommit::after();
  co_return result;
}

Task<Result<std::vector<Ino>>> RadosDirs::list_dirs(Ino from, size_t max) {
  // Object 0 has no header and is no directory.
  auto listing = listed_.next(session_, from, max);
  Result<std::vector<Ino>> inos = co_await listing;
  co_return inos;
}

// -- state --------------------------------------------------------------------------------------

namespace {

std::string version_key(std::string_view key) { return fmt::format("v/{}", key); }
std::string value_key(std::string_view key) { return fmt::format("d/{}", key); }

// "VERSION\n", then the value.
Result<StateValue> decode_state(Session& session, std::string_view key, std::string_view bytes) {
  StateValue value;
  auto [end, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), value.version);
  if (error != std::errc() || end == bytes.data() + bytes.size() || *end != '\n')
    return damaged(fmt::format("{}/{}: '{}' makes no sense; restore it from a backup",
                               session.name().shown(), kStateObject, key));
  value.value = bytes.substr(static_cast<size_t>(end - bytes.data()) + 1);
  return value;
}

}  // namespace

Task<Result<StateValue>> RadosState::get(std::string key) {
  CO_TRY(session_.alive());
  auto out = std::make_shared<Omap>();
  ReadOp op;
  op.omap_get_vals_by_keys({value_key(key)}, &out->first);
  Answer<Omap> answer = co_await session_.read(kStateObject, std::move(op), out);
  if (answer.code < 0) co_return session_.failed(answer.code, "read", kStateObject);
  if (out->first.empty()) co_return StateValue{};
  co_return decode_state(session_, key, to_text(out->first.begin()->second));
}

Task<Result<uint64_t>> RadosState::set(std::string key, uint64_t expected, std::string value) {
  points::StateSet::before();
  CO_TRY(session_.alive());
  const uint64_t version = expected + 1;
  WriteOp op;
  op.assert_exists();
  // A key that is not there compares as empty.
  std::map<std::string, std::pair<bufferlist, Compare>> guard;
  guard[version_key(key)] = {to_buffer(expected ? fmt::format("{}", expected) : std::string()),
                             Compare::equal};
  op.omap_cmp(std::move(guard));
  std::map<std::string, bufferlist> put;
  put[version_key(key)] = to_buffer(fmt::format("{}", version));
  put[value_key(key)] = to_buffer(fmt::format("{}\n{}", version, value));
  op.omap_set(put);
  int code = co_await session_.write(kStateObject, std::move(op));
  if (code == -ECANCELED)
    co_return fail(ESTALE, fmt::format("state '{}' is not at version {} any more", key, expected));
  if (code < 0) co_return session_.failed(code, "write", kStateObject);
  points::StateSet::after();
  co_return version;
}

Task<Result<std::vector<std::pair<std::string, StateValue>>>> RadosState::list(std::string prefix) {
  CO_TRY(session_.alive());
  std::vector<std::pair<std::string, StateValue>> all;
  std::string after, filter = value_key(prefix);
  for (;;) {
    auto out = std::make_shared<Omap>();
    ReadOp op;
    op.omap_get_vals2(after, filter, kKeysInAnswer, &out->rest, &out->more);
    Answer<Omap> answer = co_await session_.read(kStateObject, std::move(op), out);
    if (answer.code < 0) co_return session_.failed(answer.code, "read", kStateObject);
    for (const auto& [key, bytes] : out->rest) {
      std::string name = key.substr(2);
      CO_TRY_ASSIGN(StateValue value, decode_state(session_, name, to_text(bytes)));
      all.emplace_back(std::move(name), std::move(value));
    }
    if (!out->more || out->rest.empty()) break;
    after = out->rest.rbegin()->first;
  }
  co_return all;
}

Task<Result<void>> RadosState::remove(std::string key) {
  CO_TRY(session_.alive());
  WriteOp op;
  op.assert_exists();
  op.omap_rm_keys({version_key(key), value_key(key)});
  int code = co_await session_.write(kStateObject, std::move(op));
  if (code < 0) co_return session_.failed(code, "write", kStateObject);
  co_return Result<void>{};
}

}  // namespace graftfs::rados
