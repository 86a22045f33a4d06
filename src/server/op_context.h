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
#include "events/two_party.h"
#include "types/wire.h"

namespace graftfs {

class Rank;

// What an operation lacks: a piece of the tree, which is fetched, or (from `frozen` on) that others
// are done with something, for which it is parked until Rank::wake().
struct Need {
  enum Kind : uint8_t {
    none,
    dir,
    inode,
    entry,
    range,
    inos,
    frozen,       // ino: the root of a subtree that is changing hands
    busy,         // from: the operation that has marked what this one needs
    recall,       // from: the recall that has to be answered
    two_party,    // from: the number of this operation's part at other ranks
    remote_stat,  // ino: attributes that another rank was asked for
    lock,         // ino: something on it that is given back
  } kind = none;
  Ino ino;            // dir: the directory; inode: a file or directory; entry, range: in it
  std::string name;   // entry
  NameHash from = 0;  // range: entries from this hash on; inos: a fresh range of inos; or a number
  friend auto operator<=>(const Need&, const Need&) = default;
};

// Why an operation ends early: an errno, something that is missing, or another rank's business.
struct Stop {
  int err = 0;
  Need need;
  std::optional<RankId> ask;  // who is the authority for `of`, or knows more; kNobody: unknown
  Ino of;
};

// What was looked for on behalf of an operation and is not here: nowhere, or at `home`.
struct Absent {
  Need need;
  std::optional<RankId> home;
};
template <class T>
using Found = std::expected<T, Stop>;
using Outcome = std::expected<void, Stop>;
inline std::unexpected<Stop> stop(int err) { return std::unexpected(Stop{err, {}, {}, {}}); }
inline std::unexpected<Stop> ask_rank(Ino of, RankId home) {
  return std::unexpected(Stop{0, {}, home, of});
}

// An inode at hand: a directory, or the entry (in its directory or in ~linked) that embeds it.
struct Target {
  Dir* dir = nullptr;        // set if it is a directory
  Dentry* dentry = nullptr;  // set if it is not

  const Inode& inode() const { return dir ? dir->inode() : dentry->inode; }
  Ino ino() const { return inode().ino; }
  bool is_dir() const { return dir != nullptr; }
};

// Both of a name: the entry itself and what it leads to.
struct NamedTarget {
  Dentry* entry = nullptr;  // kind primary, dir_link or remote_link
  Target target;            // empty where it is `remote`
  bool remote = false;      // the inode is another rank's
  RankId home = kNobody;    // whose, as far as it is known
};

// What an operation asks of another rank, or (`at` this one) marks here. `at` is a hint; kNobody:
// whoever it is; of the token nothing is said.
struct Asked {
  RankId at = kNobody;
  msg::Intent intent;
  friend bool operator==(const Asked& a, const Asked& b) { return a.intent == b.intent; }
};

// What was asked, and what the answers were, in that order. (Of one's own there are none.)
struct Prepared {
  std::vector<Asked> asked;
  std::vector<msg::IntentValue> values;
  Timespec now;  // the time that everybody's change bears

  // Of the first intent of that kind; null: there is none.
  const msg::IntentValue* find(msg::IntentKind kind) const;
};

class OpContext {
 public:
  // `two_party`: the number of what this request has asked others to do; 0: nothing.
  OpContext(Rank& rank, const Request& request, const std::vector<Absent>& absent,
            uint64_t two_party, Reply& reply)
      : rank_(rank), request_(request), absent_(absent), two_party_(two_party), reply_(reply) {}

  const Credentials& cred() const { return request_.cred; }
  Reply& reply() { return reply_; }
  SessionId session() const { return request_.session; }
  const Request& request() const { return request_; }
  Rank& rank() { return rank_; }
  Timespec now() const;
  bool read_only() const;  // EROFS mount
  // What new entries would need is not there (journal or store is full): ENOSPC.
  bool out_of_space() const;
  // EMLINK for one more directory in it. The number of those there are is shown.
  bool has_all_links(const Dir& dir);

  // The directory: ENOTDIR where the ino is a file's, ESTALE where it is nothing's. A directory
  // that was removed (nlink 0) is found too.
  Found<Dir*> dir(Ino ino);
  // Any inode: ESTALE where there is none.
  Found<Target> inode(Ino ino);
  // The entry of that name; nullptr where the directory surely has none.
  Found<Dentry*> entry(Dir& dir, std::string_view name);
  // The entry and its inode: ENOENT where there is none. Where the inode is another rank's:
  // lookup() stops with EXDEV, lookup_any() says so.
  Found<NamedTarget> lookup(Dir& dir, std::string_view name);
  Found<NamedTarget> lookup_any(Dir& dir, std::string_view name);
  // Makes sure that entries from `from` on are cached, up to at least one page or the end;
  // returns the hash up to which (exclusive) they are.
  Found<NameHash> range(Dir& dir, NameHash from);

  // Wherever the operation shows something of a directory (or of an inode embedded there), the
  // reply waits as the volume's durability demands. dir() calls it for the directory's own
  // attributes (Recent::kSelf), entry() and inode() for the name, inode() and range() for all of
  // a directory.
  void shows(const Dir& dir);
  void shows(const Dir& dir, NameHash name);

  // Another rank's operation is about to change the inode, or to leave it.
  bool is_marked(Ino ino) const;
  // The subtree is on its way to this rank.
  bool is_arriving(Ino root) const;
  // Next free ino; ENOSPC where ranges are used up and none could be had, or a Stop that waits.
  Found<Ino> new_ino();
  // The rank's hidden directories.
  Found<Dir*> linked_dir();
  Found<Dir*> orphans_dir();

  // What participants have answered to what was asked last; null: nothing yet.
  const Prepared* prepared() const;
  // The same for exactly these: the operation waits until they have, or ends with an error. From
  // now on its Change is one of all of them.
  Found<const Prepared*> others(std::vector<Asked> asked);
  // What is changed, is changed by several ranks, each at a time of its own: never back in time.
  bool with_others() const;
  bool is_alone() const;            // there are no other ranks
  bool is_rank(RankId rank) const;  // there is one of that number
  // The directory has been given a place where it is to be.
  void pinned(Ino dir);

  // The client now holds the inode, which it has opened; 0: whose last name is gone. It is not
  // purged before as many Release.
  void hold(Ino ino, uint32_t count);
  void release(Ino ino, uint32_t count);
  bool holds(Ino ino) const;
  // The client may write to the file, which it has just made, without asking.
  void grant_write(Ino ino);
  // The client gets the right to write to it, which the operation uses; or what to wait for. Not
  // in the reconnect window.
  Outcome own_write(Ino ino);

  Lsn show_written() const { return show_written_; }
  Lsn show_durable() const { return show_durable_; }
  Lsn logged() const { return logged_; }  // the event of the change that was made; 0: none

 private:
  friend class Change;
  Found<Dir*> any_dir(Ino ino);  // also a hidden one
  const Absent* absent(const Need& need) const;
  // Why a request may not go on with this directory now, if so.
  std::optional<Stop> hindrance(const Dir& dir) const;
  std::unexpected<Stop> missing(Need need) const { return std::unexpected(Stop{0, need}); }

  Rank& rank_;
  const Request& request_;
  const std::vector<Absent>& absent_;  // what was fetched for this request and is not there
  uint64_t two_party_;
  bool with_others_ = false;  // what is changed, is changed by all that have prepared
  Timespec others_now_;       // then: at that time
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
  // The inode that this change puts at a name.
  Inode& inode_in(Dir& dir, std::string_view name) { return entry_item(dir, name).value.inode; }
  // Sets or removes a name. Keeps the directory's number of entries. Call touch() for its times.
  void put(Dir& dir, std::string_view name, EntryValue value);
  void remove(Dir& dir, std::string_view name);

  // The name's inode loses a link, where `entry` is being removed or replaced (the caller puts
  // something in its place, or nothing): sets nlink and ctime; the last one moves the inode to
  // ~orphans and is noted in the reply (orphaned), the session holding it once. A directory
  // (which must be empty) loses all its links and is linked from ~orphans.
  void drop_link(const NamedTarget& named, Dir& orphans);
  // The same for a file in a ~linked directory, whose name is another rank's.
  void drop_remote_link(const Target& target, Dir& orphans);
  // What the operation does to the map of subtrees. Only in operations on several authorities.
  void map(MapChange change) { map_.push_back(std::move(change)); }

  // Logs and applies. The reply's stat is left to the caller (the cache now has the new state).
  // `result`: the inode the answer to a resent request tells about. Where others have to be asked
  // first it stops, having done nothing.
  [[nodiscard]] Outcome commit(Ino result);

  // For a participant: first that nobody holds anything of it (not even the session that it is for:
  // what that learns of it comes from another rank), then, with the decision, the event.
  [[nodiscard]] Outcome ask_holders(SessionId except = {});
  Lsn commit_part(const ProtocolId& op);

 private:
  void drop_file(const Target& target, Dir* linked, Dir& orphans);
  uint32_t dir_index(Dir& dir);
  EntryItem& entry_item(Dir& dir, std::string_view name);
  void orphan(Inode inode, Dir& orphans);
  void purge_unheld();

  OpContext& cx_;
  TreeEvent& event_;
  absl::InlinedVector<Dir*, 8> touched_;  // parallel to event_.dirs; null: a new directory
  std::vector<MapChange> map_;
  Timespec now_;
  Ino orphan_;
};

// Bind the value, or leave the operation.
#define GET_(tmp, decl, expr)                               \
  auto tmp = (expr);                                        \
  if (!tmp) return std::unexpected(std::move(tmp).error()); \
  decl = std::move(*tmp)
#define GET(decl, expr) GET_(GRAFTFS_CONCAT(get_, __LINE__), decl, expr)

}  // namespace graftfs
