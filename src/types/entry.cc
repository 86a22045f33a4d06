#include "types/entry.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "base/crc32c.h"

namespace graftfs {
namespace {

uint32_t value_crc(Ino dir, std::string_view key, std::string_view body) {
  char ino[8];
  std::memcpy(ino, &dir.v, 8);
  return crc32c(body, crc32c(key, crc32c({ino, 8})));
}

std::string seal(Ino dir, std::string_view key, std::string body_behind_4_bytes) {
  uint32_t crc = value_crc(dir, key, std::string_view(body_behind_4_bytes).substr(4));
  std::memcpy(body_behind_4_bytes.data(), &crc, 4);
  return body_behind_4_bytes;
}

// The bytes behind a checksum that fits.
Result<std::string_view> unseal(Ino dir, std::string_view key, std::string_view bytes) {
  uint32_t crc = 0;
  if (bytes.size() >= 4) std::memcpy(&crc, bytes.data(), 4);
  if (bytes.size() < 4 || crc != value_crc(dir, key, bytes.substr(4)))
    return damaged("its checksum does not fit");
  return bytes.substr(4);
}

std::string where(Ino dir, std::string_view key) {
  if (key.empty()) return fmt::format("the header of directory {:#x}", dir.v);
  auto split = split_entry_key(key);
  return fmt::format("entry '{}' of directory {:#x}", split ? split->name : "?", dir.v);
}

Error damage_at(Ino dir, std::string_view key, std::string_view what) {
  return Error{EUCLEAN, fmt::format("{} is damaged ({}); run 'graftfs fsck' on the volume to see "
                                    "what else is, and to repair it",
                                    where(dir, key), what)};
}

}  // namespace

NameHash name_hash(std::string_view name) {
  NameHash h = XXH64(name.data(), name.size(), 0) >> 1;
  return h < kFirstHash ? h + kFirstHash : h;
}

std::string entry_key(NameHash hash, std::string_view name) {
  std::string key;
  key.reserve(8 + name.size());
  uint64_t be = __builtin_bswap64(hash);
  key.append(reinterpret_cast<const char*>(&be), 8);
  key.append(name);
  return key;
}

std::string entry_key(std::string_view name) { return entry_key(name_hash(name), name); }

std::optional<SplitKey> split_entry_key(std::string_view key) {
  if (key.size() <= 8 || key.size() > 8 + kNameMax) return std::nullopt;
  uint64_t be;
  std::memcpy(&be, key.data(), 8);
  return SplitKey{__builtin_bswap64(be), key.substr(8)};
}

void encode_entry_body(ByteWriter& w, const EntryValue& v) {
  w.u8(static_cast<uint8_t>(v.kind));
  w.varint(v.version.v);
  switch (v.kind) {
    case EntryKind::null:
      break;
    case EntryKind::primary:
      encode_inode(w, v.inode);
      break;
    case EntryKind::dir_link:
    case EntryKind::remote_link:
      w.varint(v.ino.v);
      w.varint(v.type >> 12);
      break;
  }
}

void decode_entry_body(ByteReader& r, EntryValue& v) {
  uint8_t kind = r.u8();
  if (kind > static_cast<uint8_t>(EntryKind::remote_link)) return r.fail();
  v.kind = static_cast<EntryKind>(kind);
  v.version = Version{r.varint()};
  v.ino = Ino{};
  v.type = 0;
  if (v.kind == EntryKind::primary) {
    decode_inode(r, v.inode);
    v.ino = v.inode.ino;
    v.type = v.inode.mode & S_IFMT;
    if (v.inode.is_dir()) r.fail();
  } else if (v.kind != EntryKind::null) {
    v.ino = Ino{r.varint()};
    uint64_t type = r.varint();
    if (type > 15 || !v.ino) return r.fail();
    v.type = static_cast<uint32_t>(type) << 12;
  }
}

void encode_header_body(ByteWriter& w, const DirHeader& h) {
  w.varint(h.version.v);
  w.varint(h.at.parent.v);
  w.string(h.at.name);
  encode_inode(w, h.inode);
}

void decode_header_body(ByteReader& r, DirHeader& h) {
  h.version = Version{r.varint()};
  h.at.parent = Ino{r.varint()};
  h.at.name = r.string();
  decode_inode(r, h.inode);
  if (!h.inode.is_dir() || h.at.name.size() > kNameMax) r.fail();
}

std::string encode_entry_value(Ino dir, std::string_view key, const EntryValue& value) {
  std::string body(4, '\0');
  ByteWriter w(body);
  encode_entry_body(w, value);
  return seal(dir, key, std::move(body));
}

Result<EntryValue> decode_entry_value(Ino dir, std::string_view key, std::string_view bytes) {
  auto body = unseal(dir, key, bytes);
  if (!body) return std::unexpected(damage_at(dir, key, body.error().message));
  ByteReader r(*body);
  EntryValue value;
  decode_entry_body(r, value);
  if (!r.done() || value.kind == EntryKind::null)
    return std::unexpected(damage_at(dir, key, "its fields make no sense"));
  return value;
}

std::string encode_dir_header(Ino dir, const DirHeader& header) {
  std::string body(4, '\0');
  ByteWriter w(body);
  encode_header_body(w, header);
  return seal(dir, {}, std::move(body));
}

Result<DirHeader> decode_dir_header(Ino dir, std::string_view bytes) {
  auto body = unseal(dir, {}, bytes);
  if (!body) return std::unexpected(damage_at(dir, {}, body.error().message));
  ByteReader r(*body);
  DirHeader header;
  decode_header_body(r, header);
  if (!r.done() || header.inode.ino != dir)
    return std::unexpected(damage_at(dir, {}, "its fields make no sense"));
  return header;
}

int check_name(std::string_view name) {
  if (name.size() > kNameMax) return ENAMETOOLONG;
  if (name.empty() || name == "." || name == "..") return EINVAL;
  if (name.find('/') != name.npos || name.find('\0') != name.npos) return EINVAL;
  return 0;
}

}  // namespace graftfs
