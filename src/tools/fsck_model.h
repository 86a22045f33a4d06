#pragma once
// What fsck knows of a volume: every directory, every name, every inode, in memory.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "cache/cache.h"
#include "events/rank_state.h"
#include "store/store.h"
#include "types/entry.h"

namespace graftfs::tools {

// A name, and whether only the journal has it yet.
struct NameRef {
  Ino dir;
  std::string name;
  bool journaled = false;
  friend auto operator<=>(const NameRef&, const NameRef&) = default;
};

struct DirNode {
  bool has_header = false;
  bool damaged = false;  // something of it cannot be read
  std::string damage;    // what was said of that
  DirHeader header;
  uint64_t entries = 0;
  uint32_t subdirs = 0;
  Version newest;              // of its entries
  std::vector<NameRef> links;  // names that lead here
  bool reached = false;
};

struct FileNode {
  std::vector<NameRef> homes;    // entries that embed the inode; one in a sound volume
  std::vector<NameRef> remotes;  // names that point to it
  Inode inode;                   // of the newest home
  Version version;
};

struct FsckModel {
  std::map<Ino, DirNode> dirs;
  std::map<Ino, FileNode> files;
  std::vector<std::pair<NameRef, std::string>> bad_names;  // entries that make no sense, and why
  std::vector<Ino> data;                                   // inos that have data
  std::vector<std::string> unreadable;                     // what a store would not tell

  // "/a/b" as far as backpointers and links lead; "?#INO/..." below what does not hang anywhere.
  std::string path_of(Ino dir) const;
  std::string path_of(const NameRef& name) const;
};

// What replayed journals know of directories: each in the cache of the rank that has it.
struct KnownDir {
  const Cache* cache = nullptr;
  const Dir* dir = nullptr;
};
using KnownDirs = std::map<Ino, KnownDir>;

// Reads all of a store, with the newer state of the journals over it. Damaged values are left out
// and noted; fails only where the medium does.
Task<Result<FsckModel>> read_model(Store& store, const KnownDirs& known);

// Every readable entry of a directory, in key order. `damage`: what was said of others.
Task<Result<std::vector<DirEntryBytes>>> read_all_entries(DirStore& store, Ino dir,
                                                          std::string& damage);

}  // namespace graftfs::tools
