#include "tools/explain.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "events/registry.h"
#include "events/trace.h"

namespace graftfs::tools {
namespace {

std::string time_text(Timespec t) {
  std::time_t sec = t.sec;
  std::tm utc{};
  if (!gmtime_r(&sec, &utc)) return fmt::format("{} s", t.sec);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}.{:03} UTC", utc, t.nsec / 1'000'000);
}

const char* type_text(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symbolic link";
    case S_IFCHR:
      return "character device";
    case S_IFBLK:
      return "block device";
    case S_IFIFO:
      return "named pipe";
    case S_IFSOCK:
      return "socket";
  }
  return "thing of an unknown type";
}

std::optional<TreeEvent> decode(const Frame& frame) {
  const EventKind* kind = find_event(frame.header.type);
  if (!kind || kind->type < EventType::ino_release || kind->type > EventType::rename) return {};
  ByteReader r(frame.payload);
  TreeEvent event;
  event.type = kind->type;
  if (!decode_traces(r, [](const DirHeader&) {}) || !decode_tree_event(r, event)) return {};
  return event;
}

// What changed between two states of an inode.
std::string difference(const Inode& a, const Inode& b) {
  std::string out;
  auto add = [&out](std::string text) { out += (out.empty() ? "" : ", ") + text; };
  if (a.mode != b.mode) add(fmt::format("mode {:o} became {:o}", a.mode & 07777, b.mode & 07777));
  if (a.uid != b.uid || a.gid != b.gid)
    add(fmt::format("owner {}:{} became {}:{}", a.uid, a.gid, b.uid, b.gid));
  if (a.nlink != b.nlink) add(fmt::format("links {} became {}", a.nlink, b.nlink));
  if (a.size != b.size)
    add(fmt::format("{} {} became {}", b.is_dir() ? "entries" : "size", a.size, b.size));
  if (a.xattrs() != b.xattrs()) add("extended attributes changed");
  if (out.empty() && a.mtime != b.mtime) add(fmt::format("modified at {}", time_text(b.mtime)));
  if (out.empty() && a.atime != b.atime) add(fmt::format("read at {}", time_text(b.atime)));
  if (out.empty() && a.ctime != b.ctime) add(fmt::format("changed at {}", time_text(b.ctime)));
  return out;
}

// Follows one ino through the events.
class Follower {
 public:
  Follower(const ReplayedJournal& journal, Ino ino) : journal_(journal), ino_(ino) {}

  // The words for an event that concerns the ino; empty: it does not.
  std::string look(const TreeEvent& event) {
    std::string words;
    auto add = [&words](const std::string& text) {
      if (!text.empty()) words += (words.empty() ? "" : "; ") + text;
    };
    for (const DirItem& item : event.dirs)
      if (item.header.inode.ino == ino_ && item.dirty) add(dir_words(item, event));
    for (const EntryItem& item : event.entries) add(entry_words(item, event));
    if (!words.empty() && event.seq)
      words += fmt::format(" (request {} of session {:x})", event.seq, event.session.v);
    return words;
  }

 private:
  std::string path(Ino dir, const std::string& name) const {
    if (is_orphans_dir(dir)) return "the list of what waits to be purged";
    if (is_hidden_dir(dir)) return "the keep of files with several names";
    const Dir* d = journal_.cache.find_dir(dir);
    std::string base = d ? Cache::path_of(*d) : fmt::format("?#{:x}", dir.v);
    return (base == "/" ? "" : base) + "/" + name;
  }

  std::string inode_words(const Inode& inode) {
    std::string words;
    if (!known_)
      words = fmt::format("mode {:o}, owner {}:{}, {} {}", inode.mode & 07777, inode.uid, inode.gid,
                          inode.is_dir() ? "entries" : "size", inode.size);
    else
      words = difference(*known_, inode);
    known_ = inode;
    return words;
  }

  std::string dir_words(const DirItem& item, const TreeEvent& event) {
    Inode inode = item.header.inode;
    if (!item.full && known_) {  // only these are there
      Inode touched = *known_;
      touched.mtime = inode.mtime;
      touched.ctime = inode.ctime;
      touched.nlink = inode.nlink;
      touched.size = inode.size;
      inode = touched;
    }
    bool made = item.full && item.header.version == Version{1};
    std::string words = (made ? "made as a directory: " : "") + inode_words(inode);
    for (const EntryItem& e : event.entries) {
      if (event.dirs[e.dir].header.inode.ino != ino_) continue;
      words += fmt::format("{}'{}' {}", words.empty() ? "" : ", ", e.name,
                           e.value.kind == EntryKind::null ? "went" : "came or changed");
    }
    return words;
  }

  std::string entry_words(const EntryItem& item, const TreeEvent& event) {
    Ino dir = event.dirs[item.dir].header.inode.ino;
    std::pair<Ino, std::string> name(dir, item.name);
    if (item.value.kind == EntryKind::null || item.value.ino != ino_) {
      if (!names_.erase(name)) return {};
      if (event.type == EventType::ino_release) return "purged: its data and its number are gone";
      return is_hidden_dir(dir) ? fmt::format("left {}", path(dir, item.name))
                                : fmt::format("lost the name {}", path(dir, item.name));
    }
    bool fresh = names_.insert(name).second;
    std::string words;
    if (fresh && is_hidden_dir(dir)) {
      words = fmt::format("put into {}", path(dir, item.name));
    } else if (fresh) {
      bool made = !known_ && event.type == EventType::link && event.result == ino_ &&
                  item.value.kind == EntryKind::primary;
      words = made ? fmt::format("created as a {} named {}", type_text(item.value.type),
                                 path(dir, item.name))
                   : fmt::format("found under the name {}", path(dir, item.name));
      if (known_) words = fmt::format("got the name {}", path(dir, item.name));
    }
    if (item.value.kind != EntryKind::primary) return words;
    std::string change = inode_words(item.value.inode);
    if (!words.empty() && !change.empty()) words += ": ";
    words += change;
    if (!item.value.inode.symlink().empty() && fresh)
      words += fmt::format(", pointing to '{}'", item.value.inode.symlink());
    return words;
  }

  const ReplayedJournal& journal_;
  Ino ino_;
  std::optional<Inode> known_;
  std::set<std::pair<Ino, std::string>> names_;
};

// The ino that the journal last saw under a name, even if it is gone.
Ino last_under_name(const ReplayedJournal& journal, Ino dir, const std::string& name) {
  Ino found;
  for_each_frame(journal.view.scan, SegmentId{0}, [&](const Frame& frame) {
    if (auto event = decode(frame))
      for (const EntryItem& item : event->entries)
        if (item.name == name && event->dirs[item.dir].header.inode.ino == dir) {
          if (item.value.kind != EntryKind::null)
            found = item.value.ino;
          else if (!found && event->result)
            found = event->result;
        }
    return true;
  });
  return found;
}

}  // namespace

Task<Result<EntryValue>> find_entry(const Cache& cache, DirStore& store, Ino dir,
                                    std::string name) {
  EntryValue known;
  bool cached = false;
  if (const Dir* d = cache.find_dir(dir)) {
    if (const Dentry* e = cache.find_entry(*d, name)) {
      known = EntryValue{e->kind, e->version, e->ino, e->type, e->inode};
      cached = true;
    }
  }
  EntryKey key = entry_key(name);
  CO_TRY_ASSIGN(auto bytes, co_await store.read_entry(dir, key));
  if (!bytes) co_return known;
  CO_TRY_ASSIGN(EntryValue stored, decode_entry_value(dir, key, *bytes));
  if (cached && known.version >= stored.version) co_return known;
  co_return stored;
}

Task<Result<FoundPath>> resolve_path(const ReplayedJournal& journal, DirStore& store,
                                     std::string path) {
  Ino at = kRootIno;
  std::string walked;
  size_t from = 0;
  while (from < path.size()) {
    size_t end = std::min(path.find('/', from), path.size());
    std::string name = path.substr(from, end - from);
    from = end + 1;
    if (name.empty() || name == ".") continue;
    if (int err = check_name(name))
      co_return fail(err, fmt::format("'{}' in {} cannot be the name of a file", name, path));
    walked += "/" + name;
    CO_TRY_ASSIGN(EntryValue value, co_await find_entry(journal.cache, store, at, name));
    if (value.kind == EntryKind::null) {
      bool last = path.find_first_not_of('/', from) == path.npos || from >= path.size();
      Ino gone = last ? last_under_name(journal, at, name) : Ino{};
      if (!gone)
        co_return fail(ENOENT, fmt::format("there is no {}, and the journal does not remember one; "
                                           "if you know its inode number, ask for that",
                                           walked));
      co_return FoundPath{gone, true};
    }
    at = value.ino;
  }
  co_return FoundPath{at, false};
}

std::vector<Explanation> explain(const ReplayedJournal& journal, Ino ino) {
  std::vector<Explanation> out;
  Follower follower(journal, ino);
  for_each_frame(journal.view.scan, SegmentId{0}, [&](const Frame& frame) {
    if (Lsn{frame.header.lsn} > journal.view.last) return false;
    auto event = decode(frame);
    if (!event) return true;
    std::string words = follower.look(*event);
    if (words.empty()) return true;
    out.push_back({Lsn{frame.header.lsn}, frame.segment, frame.offset,
                   find_event(frame.header.type)->name, std::move(words)});
    return true;
  });
  return out;
}

std::string describe_now(const ReplayedJournal& journal, Ino ino) {
  if (const Dir* dir = journal.cache.find_dir(ino))
    return fmt::format("it is the directory {} with {} entries", Cache::path_of(*dir),
                       dir->inode().size);
  const Dentry* e = journal.cache.find_inode(ino);
  if (!e) return "the journal does not hold its present state; the store may";
  if (e->inode.nlink == 0) return "it has no name any more and waits to be purged";
  return fmt::format("it is a {} of {} bytes, mode {:o}, owner {}:{}, {} name{}",
                     type_text(e->inode.mode), e->inode.size, e->inode.mode & 07777, e->inode.uid,
                     e->inode.gid, e->inode.nlink, e->inode.nlink == 1 ? "" : "s");
}

nlohmann::json to_json(const Explanation& e) {
  return {{"lsn", e.lsn.v},
          {"segment", e.segment.v},
          {"offset", e.offset},
          {"type", e.type},
          {"words", e.words}};
}

}  // namespace graftfs::tools
