#pragma once
// Reads LMDB's trees without believing them.

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/local/local_common.h"
#include "store/local/mdb_format.h"
#include "store/local/page_sums.h"

namespace graftfs::local::mdb {

// data.mdb, mapped for reading. Any thread. What lies beyond the file's end raises SIGBUS.
class Map {
 public:
  static Result<std::unique_ptr<Map>> open(const std::string& file, size_t size);
  ~Map();
  const char* base() const { return base_; }
  size_t size() const { return size_; }
  // Whether the file has the first `bytes` bytes.
  bool holds(size_t bytes) const {
    return bytes <= length_.load(std::memory_order_relaxed) || look_again(bytes);
  }

 private:
  Map(Fd file, const char* base, size_t size) : file_(std::move(file)), base_(base), size_(size) {}
  bool look_again(size_t bytes) const;

  Fd file_;
  const char* base_;
  size_t size_;
  mutable std::atomic<size_t> length_{0};  // of the file, when it was last looked at
};

// One transaction's trees. The caller sees to it that its pages stay: by a read transaction, or
// by being the writer.
struct Snapshot {
  uint64_t txn = 0;
  size_t page_size = 0;
  PageNo last_page = 0;
  Db free = {}, main = {};
};

// The meta page in `slot` (0 or 1). EUCLEAN where it is not one.
Result<Snapshot> read_meta(const Map& map, int slot);
// That of the newest transaction.
Result<Snapshot> newest_meta(const Map& map);

// A branch or leaf page, whose header is checked; nodes are checked as they are taken.
class Page {
 public:
  Page() = default;
  Page(const char* bytes, size_t page_size) : bytes_(bytes), page_size_(page_size) {}
  const PageHeader& header() const { return *reinterpret_cast<const PageHeader*>(bytes_); }
  bool is_leaf() const { return header().flags & kLeaf; }
  size_t count() const { return (header().lower - sizeof(PageHeader)) / 2; }

  struct Node {
    std::string_view key;
    std::string_view data;  // of a leaf; with kBigData 8 bytes, the overflow page's number
    PageNo child = 0;       // of a branch
    uint16_t flags = 0;
    size_t size = 0;  // in the page
  };
  // False where it does not lie within the page.
  bool node(size_t i, Node& out) const;
  // Every node, their order (unless the keys are numbers), and that they fill their part of the
  // page: what LMDB believes when it changes the page.
  bool is_sound(bool ordered) const;

 private:
  const char* bytes_ = nullptr;
  size_t page_size_ = 0;
};

// One tree of a snapshot. Every page that is looked at is checked against its checksum the first
// time (PageSums), and its place in the tree each time: number, kind, depth, bounds. Errors are
// EUCLEAN and begin with the page's offset in the file.
class Tree {
 public:
  Tree(const Map& map, PageSums& sums, const Snapshot& snapshot, const Db& db)
      : map_(map), sums_(sums), snapshot_(snapshot), db_(db) {}

  // The way to a position in a leaf.
  struct Path {
    struct Level {
      Page page;
      size_t index = 0;
    };
    Level levels[kMaxDepth];
    int depth = 0;  // 0: the tree is empty
    // Keys that belong into this leaf are in [low, high); without the flags there is no bound.
    std::string_view low, high;
    bool has_low = false, has_high = false;
    Level& leaf() { return levels[depth - 1]; }
    bool covers(std::string_view key) const {
      return depth > 0 && (!has_low || low <= key) && (!has_high || key < high);
    }
  };

  // To the first record with key >= `key` in the leaf where `key` belongs; the index may be past
  // the leaf's last.
  Result<void> seek(std::string_view key, Path& path) const;
  // The same for a path that may already be in that leaf.
  Result<void> seek_near(std::string_view key, Path& path) const;
  // To the next leaf, its first record; false at the end.
  Result<bool> next_leaf(Path& path) const;
  // The record that the path stands at; the whole value, also from overflow pages.
  Result<void> record(Path& path, std::string_view& key, std::string_view& value) const;

  // As LMDB's get.
  Result<bool> find(std::string_view key, std::string_view& value) const;
  // Calls `fn` for each record with key >= `from` until it returns false.
  Result<void> scan(std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& fn) const;

  // Checks what LMDB may look at when it puts, or erases, the key of this path: the overflow
  // pages of its record and, for `erase`, what it may merge: on each level the page and its
  // neighbours, down to their first and last leaves.
  Result<void> check_for_write(Path& path, bool erase) const;

  // Calls `fn` for every page of the tree for which `wanted` is true, with what is below it;
  // a page that is not wanted is not looked at. All that LMDB believes in them is checked.
  Result<void> walk(const std::function<bool(PageNo)>& wanted,
                    const std::function<void(PageNo)>& fn) const;

 private:
  Result<Page> page(PageNo number, int level) const;
  Result<std::string_view> overflow(PageNo number, size_t size) const;
  Result<void> take(const Page& page, size_t i, Page::Node& node) const;
  Result<size_t> search(const Page& page, std::string_view key) const;
  Result<void> descend(PageNo number, int level, bool last) const;
  struct Bounds {
    std::optional<std::string_view> low, high;
  };
  struct Walk {
    const std::function<bool(PageNo)>& wanted;
    const std::function<void(PageNo)>& fn;
  };
  Result<void> walk_page(PageNo number, int level, Bounds bounds, const Walk& walk) const;
  std::unexpected<Error> bad(PageNo number, const char* what) const;

  const Map& map_;
  PageSums& sums_;
  const Snapshot& snapshot_;
  const Db db_;
  const bool ordered_ = !(db_.flags & kIntegerKeys);  // bytewise
};

// The root of a named tree. ENOENT where there is none.
Result<Db> find_db(const Map& map, PageSums& sums, const Snapshot& snapshot, std::string_view name);

// The pages that no transaction since `snapshot` could have found in use: those of its free list,
// by number. Each must lie within the file and stand there once.
Result<std::vector<bool>> free_pages(const Map& map, PageSums& sums, const Snapshot& snapshot);

// All pages that `snapshot` uses and `wanted` asks for, of all trees, without the meta pages.
Result<void> walk_all(const Map& map, PageSums& sums, const Snapshot& snapshot,
                      const std::function<bool(PageNo)>& wanted,
                      const std::function<void(PageNo)>& fn);

}  // namespace graftfs::local::mdb
