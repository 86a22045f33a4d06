#pragma once
// Directory entries, directory headers, their order, their keys and values in a store
// (docs/formats/directory.md).

#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "types/inode.h"

namespace graftfs {

// Where a name stands in its directory: entries are ordered by this hash, then by name. It is
// the listing cookie, too. XXH64 with seed 0, shifted right once; below kFirstHash it is moved up
// by kFirstHash, which leaves the cookies below for "." and "..". 63 bits.
using NameHash = uint64_t;
inline constexpr NameHash kFirstHash = 16;
NameHash name_hash(std::string_view name);

enum class EntryKind : uint8_t {
  null = 0,         // there is no such name (a negative entry)
  primary = 1,      // the inode is embedded
  dir_link = 2,     // a child directory, whose inode lives with its contents
  remote_link = 3,  // a file with several names, whose inode lives in a ~linked directory
};

// What a name stands for. `version` is the version of the directory that wrote it.
struct EntryValue {
  EntryKind kind = EntryKind::null;
  Version version;
  Ino ino;            // of primary: inode.ino
  uint32_t type = 0;  // S_IFMT bits, also of links, so that a listing needs no inode
  Inode inode;        // primary only
};

// Where a directory hangs.
struct Backpointer {
  Ino parent;  // Ino{0}: nowhere (the root, a hidden directory)
  std::string name;
  friend bool operator==(const Backpointer&, const Backpointer&) = default;
};

// The header of a directory object: the directory's own inode (size: number of entries) and more.
struct DirHeader {
  Version version;
  Backpointer at;
  Inode inode;
};

// Keys order as (hash, name): the hash big endian, then the name.
std::string entry_key(NameHash hash, std::string_view name);
std::string entry_key(std::string_view name);
struct SplitKey {
  NameHash hash;
  std::string_view name;
};
std::optional<SplitKey> split_entry_key(std::string_view key);

// Values as they lie in a store: CRC32C over the directory's ino, the key and the bytes, so that
// a value that turns up in the wrong place is found out; then the bytes.
std::string encode_entry_value(Ino dir, std::string_view key, const EntryValue& value);
Result<EntryValue> decode_entry_value(Ino dir, std::string_view key, std::string_view bytes);
std::string encode_dir_header(Ino dir, const DirHeader& header);
Result<DirHeader> decode_dir_header(Ino dir, std::string_view bytes);

// The same without a checksum, for the journal, whose frames have one. The name is not included.
void encode_entry_body(ByteWriter& w, const EntryValue& value);
void decode_entry_body(ByteReader& r, EntryValue& value);
void encode_header_body(ByteWriter& w, const DirHeader& header);
void decode_header_body(ByteReader& r, DirHeader& header);

// ENAMETOOLONG, EINVAL for "", ".", "..", and for names with '/' or NUL; 0 where it is a name.
int check_name(std::string_view name);

}  // namespace graftfs
