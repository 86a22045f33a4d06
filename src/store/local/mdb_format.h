#pragma once
// What LMDB 0.9 writes to data.mdb, as far as pages are read and checked here (mdb_tree.h). It is
// the format of LMDB on a little-endian machine with 64 bits; docs/formats/store-local.md says
// what is relied upon.

#include <cstddef>
#include <cstdint>

namespace graftfs::local::mdb {

using PageNo = uint64_t;
inline constexpr PageNo kNoPage = ~PageNo{0};

enum PageFlags : uint16_t { kBranch = 0x01, kLeaf = 0x02, kOverflow = 0x04, kMeta = 0x08 };
enum NodeFlags : uint16_t { kBigData = 0x01, kSubDb = 0x02 };
enum DbFlags : uint16_t { kIntegerKeys = 0x08 };

struct PageHeader {
  PageNo number;
  uint16_t pad;
  uint16_t flags;
  // Of branch and leaf pages: the node offsets end at `lower`, the nodes begin at `upper`. Of
  // overflow pages the two are one number: of how many pages the run consists.
  uint16_t lower;
  uint16_t upper;
};
static_assert(sizeof(PageHeader) == 16 && offsetof(PageHeader, flags) == 10 &&
              offsetof(PageHeader, lower) == 12);

// Followed by the key, then the data: in a branch none, `low`, `high` and `flags` being the
// child's number; in a leaf `low` and `high` are its size, and with kBigData it is the number of
// the overflow page that holds it.
struct NodeHeader {
  uint16_t low;
  uint16_t high;
  uint16_t flags;
  uint16_t key_size;
};
static_assert(sizeof(NodeHeader) == 8);

struct Db {
  uint32_t pad;  // of the free list's: the page size
  uint16_t flags;
  uint16_t depth;
  uint64_t branch_pages, leaf_pages, overflow_pages;
  uint64_t entries;
  PageNo root;
};
static_assert(sizeof(Db) == 48);

struct Meta {
  uint32_t magic;
  uint32_t version;
  uint64_t address;
  uint64_t map_size;
  Db free;  // transaction -> the pages that it freed: their count, then their numbers
  Db main;  // name -> Db
  PageNo last_page;
  uint64_t txn;
};
static_assert(sizeof(Meta) == 136 && offsetof(Meta, txn) == 128);

inline constexpr uint32_t kMagic = 0xBEEFC0DE;
inline constexpr uint32_t kVersion = 1;
inline constexpr int kMaxDepth = 32;

}  // namespace graftfs::local::mdb
