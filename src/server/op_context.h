#pragma once
// What an operation sees: lookups in the cache, and the change it makes.
//
// An operation is a plain function `Outcome op(OpContext&, const XArgs&)` in its own file under
// ops/, always in the same order: resolve, permission, POSIX checks, conflicts, change, reply. It
// runs from start to end without suspending. Where something is not cached, a lookup returns a
// Stop that says what is missing; the operation returns it at once (GET does), having changed
// nothing; the rank fetches the piece and runs the operation again from its start.

#include <expected>
#include <string_view>

#include "cache/cache.h"
#include "events/event.h"
#include "types/request.h"

namespace graftfs {

class Rank;

// A piece of the tree that an operation lacks.
struct Need {
  enum Kind : uint8_t { none, dir, inode, entry, range, inos } kind = none;
  Ino ino;           // dir: the directory; inode: a file or directory; entry, range: in it
  std::string name;  // entry
  NameHash from = 0;  // range: entries from this hash on; inos: a fresh range of inos
  friend auto operator<=>(const Need&, const Need&) = default;
};

// Why an operation ends early: an errno, or a piece that is missing.
struct Stop {
  int err = 0;
  Need need;
};
template <class T>
using Found = std::expected<T, Stop>;
using Outcome = std::expected<void, Stop>;
inline std::unexpected<Stop> stop(int err) { return std::unexpected(Stop{err, {}}); }

// An inode at hand: a directory, or the entry (in its directory or in ~linked) that embeds it.
struct Target {
  Dir* dir = nullptr;       // set if it is a directory
  Dentry* dentry = nullptr;  // set if it is not

  const Inode& inode() const { return dir ? dir->inode() : dentry->inode; }
  Ino ino() const { return inode().ino; }
  bool is_dir() const { return dir != nullptr; }
};

// Both of a name: the entry itself and what it leads to.
struct NamedTarget {
  Dentry* entry = nullptr;  // kind primary, dir_link or remote_link
  Target target;
};

class OpContext {
 public:
  OpContext(Rank& rank, const Request& request, const std::vector<Need>& absent, Reply& reply)
      : rank_(rank), request_(request), absent_(absent), reply_(reply) {}

  const Credentials& cred() const { return request_.cred; }
  Reply& reply() { return reply_; }
  SessionId session() const { return request_.session; }
  const Request& request() const { return request_; }
  Rank& rank() { return rank_; }
  Timespec now() const;
  bool read_only() const;  // EROFS mount
  // What new entries would need is not there (journal or store is full): ENOSPC.
  bool out_of_space() const;
  uint32_t max_dir_link() const;

  // The directory: ENOTDIR where the ino is a file's, ESTALE where it is nothing's. A directory
  // that was removed (nlink 0) is found too.
  Found<Dir*> dir(Ino ino);
  // Any inode: ESTALE where there is none.
  Found<Target> inode(Ino ino);
  // The entry of that name; nullptr where the directory surely has none.
  Found<Dentry*> entry(Dir& dir, std::string_view name);
  // The entry and its inode: ENOENT where there is none.
  Found<NamedTarget> lookup(Dir& dir, std::string_view name);
  // Makes sure that entries from `from` on are cached, up to at least one page or the end;
  // returns the hash up to which (exclusive) they are.
  Found<NameHash> range(Dir& dir, NameHash from);

  // Wherever the operation shows something of a directory (or of an inode embedded there), the
  // reply waits as the volume's durability demands. dir(), inode(), entry() call it by themselves.
  void shows(const Dir& dir);

  // Next free ino; ENOSPC where ranges are used up and none could be had, or a Stop that waits.
  Found<Ino> new_ino();
  // The rank's hidden directories.
  Found<Dir*> linked_dir();
  Found<Dir*> orphans_dir();

  // The client now holds the inode (open): it is not purged before as many Release.
  void hold(Ino ino, uint32_t count = 1);
  void release(Ino ino, uint32_t count);

  Lsn show_written() const { return show_written_; }
  Lsn show_durable() const { return show_durable_; }
  Lsn logged() const { return logged_; }  // the event of the change that was made; 0: none

 private:
  friend class Change;
  Found<Dir*> any_dir(Ino ino);  // also a hidden one
  bool is_absent(const Need& need) const;
  std::unexpected<Stop> missing(Need need) const { return std::unexpected(Stop{0, need}); }

  Rank& rank_;
  const Request& request_;
  const std::vector<Need>& absent_;  // what was fetched for this request and is not there
  Reply& reply_;
  Lsn logged_;
  Lsn show_written_, show_durable_;  // the reply waits until the journal is there
};

// A change of the tree, being built. Nothing happens before commit(), which logs one event and
// applies it; an abandoned Change leaves no trace. References it hands out live as long as it.
//
// Every directory that is touched gets one new version, which all of its items carry.
class Change {
 public:
  Change(OpContext& context, EventType type);

  Timespec now() const { return now_; }

  // The directory's header as it will be. Touched directories get mtime and ctime `now` from
  // touch(); edit_dir() sets only ctime and logs the whole header (chmod, xattrs, move).
  DirHeader& touch(Dir& dir);
  DirHeader& edit_dir(Dir& dir);
  // A directory that does not exist yet; `header.version` is set here.
  DirHeader& new_dir(DirHeader header);
  // The inode as it will be: a directory's (as edit_dir, but ctime is the caller's) or a file's,
  // in the entry that embeds it (the directory's times do not change).
  Inode& edit(const Target& target);
  // Sets or removes a name. Keeps the directory's number of entries. Call touch() for its times.
  void put(Dir& dir, std::string_view name, EntryValue value);
  void remove(Dir& dir, std::string_view name);

  // The name's inode loses a link, where `entry` is being removed or replaced (the caller puts
  // something in its place, or nothing): sets nlink and ctime; the last one moves the inode to
  // ~orphans and is noted in the reply (orphaned), the session holding it once. A directory
  // (which must be empty) loses all its links and is linked from ~orphans.
  void drop_link(const NamedTarget& named, Dir& orphans, Dir& linked);

  // Logs and applies. The reply's stat is left to the caller (the cache now has the new state).
  // `result`: the inode the answer to a resent request tells about.
  void commit(Ino result);

 private:
  uint32_t dir_index(Dir& dir);
  EntryItem& entry_item(Dir& dir, std::string_view name);
  void orphan(Inode inode, Dir& orphans);

  OpContext& cx_;
  TreeEvent& event_;
  absl::InlinedVector<Dir*, 8> touched_;  // parallel to event_.dirs; null: a new directory
  Timespec now_;
  Ino orphan_;
};

// Bind the value, or leave the operation.
#define GET_(tmp, decl, expr)                                 \
  auto tmp = (expr);                                          \
  if (!tmp) return std::unexpected(std::move(tmp).error());   \
  decl = std::move(*tmp)
#define GET(decl, expr) GET_(GRAFTFS_CONCAT(get_, __LINE__), decl, expr)

}  // namespace graftfs
