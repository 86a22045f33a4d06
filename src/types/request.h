#pragma once
// What a client asks a rank, and what it is answered. One struct an operation; names of fields
// are those of the man pages.

#include <cerrno>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "types/boxed.h"
#include "types/credentials.h"
#include "types/entry.h"
#include "types/inode.h"
#include "types/locks.h"

namespace graftfs {

// `name` may not be "." or ".."; the client resolves those.
struct LookupArgs {
  Ino dir;
  std::string name;
};
struct LookupParentArgs {
  Ino dir;
};  // ".."
struct GetattrArgs {
  Ino ino;
};  // also open_by_handle: ESTALE where the ino is gone

enum SetattrValid : uint32_t {
  kSetMode = 1 << 0,
  kSetUid = 1 << 1,
  kSetGid = 1 << 2,
  kSetSize = 1 << 3,
  kSetAtime = 1 << 4,
  kSetMtime = 1 << 5,
  kSetAtimeNow = 1 << 6,  // with kSetAtime
  kSetMtimeNow = 1 << 7,  // with kSetMtime
  kSetCtime = 1 << 8,
  kKillSuidgid = 1 << 9,  // clear suid (and sgid, by Linux's rules)
};
struct SetattrArgs {
  Ino ino;
  uint32_t valid = 0;
  uint32_t mode = 0, uid = 0, gid = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;  // with kSetSize: what the data store holds afterwards, if it is known
  Timespec atime, mtime, ctime;
  // ftruncate, and times that the kernel kept of an open file: they need no permission any more.
  bool by_handle = false;
};
// mode: permissions only for mkdir, create and symlink; with the type for mknod.
struct MknodArgs {
  Ino dir;
  std::string name;
  uint32_t mode = 0, umask = 0, rdev = 0;
};
struct MkdirArgs {
  Ino dir;
  std::string name;
  uint32_t mode = 0, umask = 0;
};
// open(O_CREAT): makes the file or, unless `exclusive`, opens the one that is there. `flags` as
// in open(2). The file is held by the session afterwards, as with OpenArgs.
struct CreateArgs {
  Ino dir;
  std::string name;
  uint32_t mode = 0, umask = 0;
  bool exclusive = false;
  uint32_t flags = 0;
};
struct SymlinkArgs {
  Ino dir;
  std::string name;
  std::string target;
};
struct ReadlinkArgs {
  Ino ino;
};
struct LinkArgs {
  Ino ino;
  Ino dir;
  std::string name;
};
struct UnlinkArgs {
  Ino dir;
  std::string name;
};
struct RmdirArgs {
  Ino dir;
  std::string name;
};
// flags: RENAME_NOREPLACE, RENAME_EXCHANGE (linux/fs.h).
struct RenameArgs {
  Ino dir;
  std::string name;
  Ino new_dir;
  std::string new_name;
  uint32_t flags = 0;
};
// Checks permission for the access mode in `flags` and holds the inode: it is not purged before
// every session that holds it has sent Release for each of its holds.
struct OpenArgs {
  Ino ino;
  uint32_t flags = 0;
};
struct ReleaseArgs {
  Ino ino;
  uint32_t count = 1;
};
// Data was written (it is in the data store already): the file reaches at least `end`.
struct WroteArgs {
  Ino ino;
  uint64_t end = 0;     // 0: the size stays (punch hole, keep size)
  uint64_t blocks = 0;  // as the data store says
  bool kill_suidgid = false;
  bool only_blocks = false;  // nothing was written: the data store corrects what was said before
};
// Data was read: updates atime as relatime does.
struct ReadArgs {
  Ino ino;
};
// Entries in hash order behind `cookie` (0: from the start; "." and ".." are the client's). With
// `plus`, attributes, too. A page holds up to `max` entries, and never ends between entries of
// the same hash.
struct ReaddirArgs {
  Ino dir;
  uint64_t cookie = 0;
  uint32_t max = 0;
  bool plus = false;
};
struct GetxattrArgs {
  Ino ino;
  std::string name;
};
struct ListxattrArgs {
  Ino ino;
};
struct SetxattrArgs {
  Ino ino;
  std::string name;
  std::string value;
  uint32_t flags = 0;
};
struct RemovexattrArgs {
  Ino ino;
  std::string name;
};
struct AccessArgs {
  Ino ino;
  uint32_t mask = 0;
};
// Takes a lock, gives it back, or asks who stands against it (Reply::lock). A `wait` is answered
// when it is granted, or EINTR once a `cancel` of the same number has come.
enum class LockOp : uint8_t { test, set, wait, unlock, cancel };
struct LockArgs {
  LockOp op = LockOp::test;
  LockRange range;
  uint64_t number = 0;  // of a wait, within its session
};
struct StatfsArgs {};
// Completion: everything this session was answered before is durable, file data included.
struct SyncArgs {};

using Args = std::variant<LookupArgs, LookupParentArgs, GetattrArgs, SetattrArgs, MknodArgs,
                          MkdirArgs, CreateArgs, SymlinkArgs, ReadlinkArgs, LinkArgs, UnlinkArgs,
                          RmdirArgs, RenameArgs, OpenArgs, ReleaseArgs, WroteArgs, ReadArgs,
                          ReaddirArgs, GetxattrArgs, ListxattrArgs, SetxattrArgs, RemovexattrArgs,
                          AccessArgs, StatfsArgs, SyncArgs, LockArgs>;

// What an answer had told of, when its request was lost after that and is sent again: the same ino
// is made, with the same times.
struct Redo {
  Ino ino;
  Timespec when;
  friend bool operator==(const Redo&, const Redo&) = default;
};

// A session numbers its requests from 1. `oldest`: every request below it has been answered, so
// the rank may forget their results. A request that is sent again (same seq) is not executed
// twice.
struct Request {
  SessionId session;
  uint64_t seq = 0;  // 0: not to be remembered (changes nothing, or nobody will resend it)
  uint64_t oldest = 0;
  Credentials cred;
  Args args;
  std::optional<Redo> redo;
};

// Answers that a router acts on and nobody else sees (docs/protocols/subtrees.md). kAskRank: this
// rank is not the authority, `home` is, or nobody here knows who (kNobody).
inline constexpr int kAskRank = EREMOTE;
inline constexpr RankId kNobody{0xffff};

struct ListedEntry {
  std::string name;
  NameHash cookie = 0;
  Ino ino;
  uint32_t type = 0;         // S_IFMT bits
  std::optional<Stat> stat;  // with `plus`, where it was at hand
  bool here = false;         // its attributes live in the directory that is listed
};

struct StatfsReply {
  uint64_t block_size = 0, blocks = 0, blocks_free = 0, blocks_available = 0;
  uint64_t files = 0, files_free = 0;
  friend bool operator==(const StatfsReply&, const StatfsReply&) = default;
};

struct Reply {
  int err = 0;       // errno; then nothing else counts
  Stat stat;         // of the inode the operation is about, after it (lookup, getattr, create, ...)
  std::string data;  // readlink: target; getxattr: value; listxattr: names, each with its NUL
  std::vector<ListedEntry> entries;  // readdir
  bool end = false;                  // readdir: nothing behind the last entry
  // create: whether the file was made. unlink, rmdir, rename: whether an inode lost its last
  // name; stat tells which one, and the session now holds it once (as if opened) until it sends
  // Release.
  bool created = false;
  bool orphaned = false;
  Boxed<StatfsReply> statfs;
  Boxed<LockRange> lock;  // that stands against the one that was asked about
  RankId home;            // the authority for the inode that `stat` is about
  bool partial = false;   // it is another rank than the one that answers: of stat only ino and
                          // mode's type are set
  Lsn lsn;                // the event that carried it out; 0: it changed nothing
  // What may be kept, and for how long: docs/protocols/leases.md.
  Ino leased;              // `stat`, as long as this directory is leased; 0: it may not
  bool named = false;      // what the request's directory and name (or the listing) lead to
  Boxed<Stat> dir;         // of the directory that was changed, as long as it is leased itself
  bool may_write = false;  // the session has the right to write to the file that was made or cut
  uint64_t order = 0;      // of this rank's answers and recalls; 0: nothing may be kept
};

const char* op_name(const Args& args);
// The inode at whose authority the operation is carried out; 0: any rank will do.
Ino key_ino(const Args& args);

}  // namespace graftfs
