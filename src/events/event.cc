#include "events/event.h"

#include <fmt/format.h>

#include <charconv>

namespace graftfs {
namespace {

enum DirFlags : uint8_t { kDirty = 1, kFull = 2, kOwnCtime = 4 };

void encode_dir(ByteWriter& w, const DirItem& item) {
  const Inode& i = item.header.inode;
  uint8_t flags = (item.dirty ? kDirty : 0) | (item.full ? kFull : 0);
  if (!item.full && i.ctime != i.mtime) flags |= kOwnCtime;
  w.u8(flags);
  if (item.full) return encode_header_body(w, item.header);
  w.varint(i.ino.v);
  w.varint(item.header.version.v);
  encode_time(w, i.mtime);
  if (flags & kOwnCtime) encode_time(w, i.ctime);
  w.varint(i.nlink);
  w.varint(i.size);
}

void decode_dir(ByteReader& r, DirItem& item) {
  uint8_t flags = r.u8();
  if (flags & ~(kDirty | kFull | kOwnCtime)) return r.fail();
  item.dirty = flags & kDirty;
  item.full = flags & kFull;
  if (item.full) return decode_header_body(r, item.header);
  Inode& i = item.header.inode;
  i.ino = Ino{r.varint()};
  item.header.version = Version{r.varint()};
  i.mtime = i.ctime = decode_time(r);
  if (flags & kOwnCtime) i.ctime = decode_time(r);
  uint64_t nlink = r.varint();
  if (nlink > UINT32_MAX) r.fail();
  i.nlink = static_cast<uint32_t>(nlink);
  i.size = r.varint();
}

}  // namespace

void encode_tree_event(ByteWriter& w, const TreeEvent& e) {
  w.varint(e.session.v);
  w.varint(e.seq);
  w.varint(e.seq - e.oldest);
  w.varint(e.result.v);
  w.u8(e.result_flags);
  w.varint(e.dirs.size());
  for (const DirItem& item : e.dirs) encode_dir(w, item);
  w.varint(e.entries.size());
  for (const EntryItem& item : e.entries) {
    w.u8(item.dirty ? kDirty : 0);
    w.varint(item.dir);
    w.string(item.name);
    encode_entry_body(w, item.value);
  }
}

bool decode_tree_event(ByteReader& r, TreeEvent& e) {
  e.session = SessionId{r.varint()};
  e.seq = r.varint();
  e.oldest = e.seq - r.varint();
  if (e.oldest > e.seq) return false;
  e.result = Ino{r.varint()};
  e.result_flags = r.u8();
  uint64_t dirs = r.varint();
  if (dirs > r.remaining()) return false;
  e.dirs.resize(dirs);
  for (DirItem& item : e.dirs) {
    decode_dir(r, item);
    if (!r.ok()) return false;
  }
  uint64_t entries = r.varint();
  if (entries > r.remaining()) return false;
  e.entries.resize(entries);
  for (EntryItem& item : e.entries) {
    uint8_t flags = r.u8();
    if (flags & ~kDirty) return false;
    item.dirty = flags & kDirty;
    uint64_t dir = r.varint();
    if (dir >= dirs) return false;
    item.dir = static_cast<uint32_t>(dir);
    item.name = r.string();
    if (check_name(item.name) != 0) return false;
    decode_entry_body(r, item.value);
    if (!r.ok()) return false;
  }
  return r.done();
}

bool apply_items(Cache& cache, Lsn lsn, const TreeEvent& e) {
  for (const DirItem& item : e.dirs) {
    bool known = item.full ? cache.apply_header(lsn, item.dirty, item.header)
                           : cache.apply_touch(lsn, item.dirty, item.header);
    if (!known) return false;
  }
  for (const EntryItem& item : e.entries) {
    if (!cache.apply_entry(lsn, item.dirty, e.dirs[item.dir].header.inode.ino, item.name,
                           item.value))
      return false;
  }
  return true;
}

std::string hidden_name(Ino ino) { return fmt::format("{:016x}", ino.v); }

Ino parse_hidden_name(std::string_view name) {
  uint64_t v = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), v, 16);
  if (name.size() != 16 || error != std::errc{} || end != name.data() + name.size()) return Ino{};
  return Ino{v};
}

}  // namespace graftfs
