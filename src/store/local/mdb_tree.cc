#include "store/local/mdb_tree.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>

namespace graftfs::local::mdb {
namespace {

constexpr size_t kLeastPage = 512, kMostPage = 32768;  // as LMDB
constexpr size_t kPageNoSize = sizeof(PageNo);

PageNo read_number(const char* at) {
  PageNo number;
  std::memcpy(&number, at, sizeof number);
  return number;
}

}  // namespace

Result<std::unique_ptr<Map>> Map::open(const std::string& file, size_t size) {
  Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return os_fail(errno, "open", file);
  void* base = ::mmap(nullptr, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (base == MAP_FAILED) return os_fail(errno, "map", file);
  return std::unique_ptr<Map>(new Map(std::move(fd), static_cast<const char*>(base), size));
}

Map::~Map() { ::munmap(const_cast<char*>(base_), size_); }

bool Map::look_again(size_t bytes) const {
  struct stat st = {};
  if (bytes > size_ || ::fstat(file_.get(), &st) != 0) return false;
  length_ = st.st_size;
  return bytes <= static_cast<size_t>(st.st_size);
}

Result<Snapshot> read_meta(const Map& map, int slot) {
  constexpr const char* kCutOff = "it ends within the meta pages";
  if (!map.holds(2 * kLeastPage)) return damaged(kCutOff);
  // The page size stands in the meta pages, so the first says where the second is.
  Meta meta;
  std::memcpy(&meta, map.base() + sizeof(PageHeader), sizeof meta);
  size_t page_size = meta.free.pad;
  bool good = meta.magic == kMagic && page_size >= kLeastPage && page_size <= kMostPage &&
              (page_size & (page_size - 1)) == 0;
  if (good && !map.holds(2 * page_size)) return damaged(kCutOff);
  if (good && slot == 1) {
    std::memcpy(&meta, map.base() + page_size + sizeof(PageHeader), sizeof meta);
    good = meta.magic == kMagic && meta.free.pad == page_size;
  }
  if (!good || meta.version != kVersion || meta.last_page >= map.size() / page_size) {
    return damaged(fmt::format("the meta page {} makes no sense", slot));
  }
  Snapshot s;
  s.txn = meta.txn;
  s.page_size = page_size;
  s.last_page = meta.last_page;
  s.free = meta.free;
  s.main = meta.main;
  return s;
}

Result<Snapshot> newest_meta(const Map& map) {
  TRY_ASSIGN(Snapshot a, read_meta(map, 0));
  TRY_ASSIGN(Snapshot b, read_meta(map, 1));
  return a.txn >= b.txn ? a : b;
}

bool Page::node(size_t i, Node& out) const {
  uint16_t at;
  std::memcpy(&at, bytes_ + sizeof(PageHeader) + 2 * i, sizeof at);
  if (at < header().upper || at + sizeof(NodeHeader) > page_size_ || at % 2 != 0) return false;
  const auto& node = *reinterpret_cast<const NodeHeader*>(bytes_ + at);
  const char* key = bytes_ + at + sizeof(NodeHeader);
  size_t room = page_size_ - at - sizeof(NodeHeader);
  if (node.key_size > room) return false;
  out.key = {key, node.key_size};
  out.flags = node.flags;
  out.size = sizeof(NodeHeader) + node.key_size;
  if (is_leaf()) {
    size_t size = node.low | size_t{node.high} << 16;
    size_t held = node.flags & kBigData ? kPageNoSize : size;
    if (held > room - node.key_size) return false;
    out.data = {key + node.key_size, held};
    out.child = size;  // what an overflow page holds of it
    out.size += held;
  } else {
    out.data = {};
    out.child = node.low | PageNo{node.high} << 16 | PageNo{node.flags} << 32;
  }
  out.size += out.size % 2;
  return true;
}

bool Page::is_sound(bool ordered) const {
  size_t total = 0;
  Node previous, now;
  for (size_t i = 0; i < count(); ++i, previous = now) {
    if (!node(i, now)) return false;
    total += now.size;
    // The first key of a branch page means nothing.
    if (ordered && i > (is_leaf() ? 0 : 1) && previous.key >= now.key) return false;
  }
  return total == page_size_ - header().upper;
}

std::unexpected<Error> Tree::bad(PageNo number, const char* what) const {
  return damaged(fmt::format("the page at offset {} {}", number * snapshot_.page_size, what));
}

Result<void> Tree::take(const Page& page, size_t i, Page::Node& node) const {
  if (page.node(i, node)) [[likely]]
    return {};
  return bad(page.header().number, "has a node that leaves it");
}

Result<Page> Tree::page(PageNo number, int level) const {
  if (number < 2 || number > snapshot_.last_page) {
    return damaged(fmt::format("a page points to page {} of {}", number, snapshot_.last_page + 1));
  }
  const char* bytes = map_.base() + number * snapshot_.page_size;
  if (!map_.holds((number + 1) * snapshot_.page_size)) return bad(number, "is behind its end");
  if (!sums_.check(number, bytes, snapshot_.page_size)) {
    return bad(number, "has a wrong checksum");
  }
  Page page(bytes, snapshot_.page_size);
  const PageHeader& h = page.header();
  bool leaf = level + 1 == db_.depth;
  if (h.number != number || h.flags != (leaf ? kLeaf : kBranch)) {
    return bad(number, "is not the one that belongs there");
  }
  if (h.lower < sizeof(PageHeader) || h.lower % 2 != 0 || h.lower > h.upper ||
      h.upper > snapshot_.page_size || h.upper % 2 != 0 ||
      page.count() < (leaf || !ordered_ ? 1 : 2)) {
    return bad(number, "has a header that makes no sense");
  }
  return page;
}

Result<std::string_view> Tree::overflow(PageNo number, size_t size) const {
  size_t pages = (sizeof(PageHeader) - 1 + size) / snapshot_.page_size + 1;
  if (number < 2 || number > snapshot_.last_page || pages > snapshot_.last_page - number + 1) {
    return damaged(
        fmt::format("a record points to page {} of {}", number, snapshot_.last_page + 1));
  }
  const char* bytes = map_.base() + number * snapshot_.page_size;
  if (!map_.holds((number + pages) * snapshot_.page_size)) return bad(number, "is behind its end");
  for (size_t i = 0; i < pages; ++i) {
    if (!sums_.check(number + i, bytes + i * snapshot_.page_size, snapshot_.page_size)) {
      return bad(number + i, "has a wrong checksum");
    }
  }
  const auto& h = *reinterpret_cast<const PageHeader*>(bytes);
  size_t said = h.lower | size_t{h.upper} << 16;
  if (h.number != number || h.flags != kOverflow || said != pages) {
    return bad(number, "is not the one that belongs there");
  }
  return std::string_view(bytes + sizeof(PageHeader), size);
}

// Branch: behind the last node whose key is <= `key`, the first one standing for anything less.
// Leaf: the first whose key is >= `key`.
Result<size_t> Tree::search(const Page& page, std::string_view key) const {
  bool leaf = page.is_leaf();
  size_t low = leaf ? 0 : 1, high = page.count();
  Page::Node node;
  while (low < high) {
    size_t middle = (low + high) / 2;
    TRY(take(page, middle, node));
    bool right = leaf ? node.key < key : node.key <= key;
    (right ? low : high) = right ? middle + 1 : middle;
  }
  return low;
}

Result<void> Tree::seek(std::string_view key, Path& path) const {
  path.depth = 0;
  path.has_low = path.has_high = false;
  if (db_.root == kNoPage) return {};
  if (db_.depth < 1 || db_.depth > kMaxDepth) return damaged("a tree's depth makes no sense");
  PageNo number = db_.root;
  for (int level = 0;; ++level) {
    TRY_ASSIGN(Page p, page(number, level));
    TRY_ASSIGN(size_t at, search(p, key));
    Page::Node node;
    path.depth = level + 1;
    if (p.is_leaf()) {
      path.levels[level] = {p, at};
      if (!ordered_) return {};
      // A pointer to another part of the tree would hide what is here.
      Page::Node last;
      TRY(take(p, 0, node));
      TRY(take(p, p.count() - 1, last));
      if ((path.has_low && node.key < path.low) || (path.has_high && last.key >= path.high)) {
        return bad(number, "holds keys that do not belong there");
      }
      return {};
    }
    path.levels[level] = {p, at - 1};
    if (at < p.count()) {
      TRY(take(p, at, node));
      path.high = node.key;
      path.has_high = true;
    }
    TRY(take(p, at - 1, node));
    if (at > 1) {
      path.low = node.key;
      path.has_low = true;
    }
    number = node.child;
  }
}

Result<void> Tree::seek_near(std::string_view key, Path& path) const {
  if (!path.covers(key)) return seek(key, path);
  TRY_ASSIGN(path.leaf().index, search(path.leaf().page, key));
  return {};
}

Result<bool> Tree::next_leaf(Path& path) const {
  int level = path.depth - 2;
  while (level >= 0 && path.levels[level].index + 1 >= path.levels[level].page.count()) --level;
  if (level < 0) return false;
  ++path.levels[level].index;
  for (; level + 1 < path.depth; ++level) {
    Page::Node node;
    const Path::Level& here = path.levels[level];
    TRY(take(here.page, here.index, node));
    TRY_ASSIGN(Page below, page(node.child, level + 1));
    path.levels[level + 1] = {below, 0};
  }
  path.has_low = path.has_high = false;
  return true;
}

Result<void> Tree::record(Path& path, std::string_view& key, std::string_view& value) const {
  Page::Node node;
  const Path::Level& leaf = path.leaf();
  TRY(take(leaf.page, leaf.index, node));
  key = node.key;
  value = node.data;
  if (node.flags & kBigData) {
    TRY_ASSIGN(value, overflow(read_number(node.data.data()), node.child));
  }
  return {};
}

Result<bool> Tree::find(std::string_view key, std::string_view& value) const {
  Path path;
  TRY(seek(key, path));
  if (path.depth == 0 || path.leaf().index >= path.leaf().page.count()) return false;
  std::string_view found;
  Page::Node node;
  TRY(take(path.leaf().page, path.leaf().index, node));
  if (node.key != key) return false;
  TRY(record(path, found, value));
  return true;
}

Result<void> Tree::scan(std::string_view from,
                        const std::function<bool(std::string_view, std::string_view)>& fn) const {
  Path path;
  TRY(seek(from, path));
  if (path.depth == 0) return {};
  for (;;) {
    for (; path.leaf().index < path.leaf().page.count(); ++path.leaf().index) {
      std::string_view key, value;
      TRY(record(path, key, value));
      if (!fn(key, value)) return {};
    }
    TRY_ASSIGN(bool more, next_leaf(path));
    if (!more) return {};
  }
}

Result<void> Tree::descend(PageNo number, int level, bool last) const {
  for (;; ++level) {
    TRY_ASSIGN(Page p, page(number, level));
    if (p.is_leaf()) return {};
    Page::Node node;
    TRY(take(p, last ? p.count() - 1 : 0, node));
    number = node.child;
  }
}

Result<void> Tree::check_for_write(Path& path, bool erase) const {
  if (path.depth == 0) return {};
  if (path.leaf().index < path.leaf().page.count()) {
    std::string_view key, value;
    TRY(record(path, key, value));
  }
  if (!erase) return {};
  for (int level = 0; level + 1 < path.depth; ++level) {
    const Path::Level& here = path.levels[level];
    for (size_t i : {size_t{0}, here.index - 1, here.index + 1}) {
      if (i >= here.page.count()) continue;  // also what is before the first
      Page::Node node;
      TRY(take(here.page, i, node));
      TRY(descend(node.child, level + 1, false));
      TRY(descend(node.child, level + 1, true));
    }
  }
  return {};
}

Result<void> Tree::walk(const std::function<bool(PageNo)>& wanted,
                        const std::function<void(PageNo)>& fn) const {
  if (db_.root == kNoPage || !wanted(db_.root)) return {};
  if (db_.depth < 1 || db_.depth > kMaxDepth) return damaged("a tree's depth makes no sense");
  return walk_page(db_.root, 0, {}, {wanted, fn});
}

Result<void> Tree::walk_page(PageNo number, int level, Bounds bounds, const Walk& walk) const {
  TRY_ASSIGN(Page p, page(number, level));
  if (!p.is_sound(ordered_)) return bad(number, "has nodes that make no sense");
  walk.fn(number);
  for (size_t i = 0; i < p.count(); ++i) {
    Page::Node node, next;
    TRY(take(p, i, node));
    bool says_nothing = !ordered_ || (!p.is_leaf() && i == 0);
    if (!says_nothing &&
        ((bounds.low && node.key < *bounds.low) || (bounds.high && node.key >= *bounds.high))) {
      return bad(number, "holds keys that do not belong there");
    }
    if (!p.is_leaf()) {
      if (!walk.wanted(node.child)) continue;
      Bounds below{i > 0 ? std::optional(node.key) : bounds.low, bounds.high};
      if (i + 1 < p.count()) {
        TRY(take(p, i + 1, next));
        below.high = next.key;
      }
      TRY(walk_page(node.child, level + 1, below, walk));
    } else if (node.flags & kBigData) {
      PageNo first = read_number(node.data.data());
      if (!walk.wanted(first)) continue;
      TRY_ASSIGN(std::string_view value, overflow(first, node.child));
      size_t pages = (sizeof(PageHeader) - 1 + value.size()) / snapshot_.page_size + 1;
      for (size_t k = 0; k < pages; ++k) walk.fn(first + k);
    }
  }
  return {};
}

Result<Db> find_db(const Map& map, PageSums& sums, const Snapshot& snapshot,
                   std::string_view name) {
  std::string_view value;
  Db db;
  TRY_ASSIGN(bool found, Tree(map, sums, snapshot, snapshot.main).find(name, value));
  if (!found) return fail(ENOENT, fmt::format("there is no tree '{}'", name));
  if (value.size() != sizeof db) return damaged(fmt::format("the tree '{}' has no root", name));
  std::memcpy(&db, value.data(), sizeof db);
  return db;
}

Result<std::vector<bool>> free_pages(const Map& map, PageSums& sums, const Snapshot& snapshot) {
  std::vector<bool> free(snapshot.last_page + 1);
  Result<void> sound;
  auto take = [&](std::string_view, std::string_view value) {
    size_t held = value.size() / kPageNoSize;
    PageNo count = held > 0 ? read_number(value.data()) : 0;
    if (held == 0 || count > held - 1) {
      sound = damaged("its list of free pages has a record that makes no sense");
      return false;
    }
    for (size_t i = 1; i <= count; ++i) {
      PageNo number = read_number(value.data() + i * kPageNoSize);
      if (number < 2 || number > snapshot.last_page || free[number]) {
        sound = damaged(fmt::format("its list of free pages names page {} wrongly", number));
        return false;
      }
      free[number] = true;
    }
    return true;
  };
  TRY(Tree(map, sums, snapshot, snapshot.free).scan({}, take));
  TRY(sound);
  return free;
}

Result<void> walk_all(const Map& map, PageSums& sums, const Snapshot& snapshot,
                      const std::function<bool(PageNo)>& wanted,
                      const std::function<void(PageNo)>& fn) {
  TRY(Tree(map, sums, snapshot, snapshot.free).walk(wanted, fn));
  Tree main(map, sums, snapshot, snapshot.main);
  TRY(main.walk(wanted, fn));
  std::vector<Db> dbs;
  TRY(main.scan({}, [&](std::string_view, std::string_view value) {
    Db db;
    if (value.size() == sizeof db) {
      std::memcpy(&db, value.data(), sizeof db);
      dbs.push_back(db);
    }
    return true;
  }));
  for (const Db& db : dbs) TRY(Tree(map, sums, snapshot, db).walk(wanted, fn));
  return {};
}

}  // namespace graftfs::local::mdb
