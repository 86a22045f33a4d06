#pragma once
// The contract of a volume's storage. Implementations: memory/ (tests, and the simulator's
// disk), local/ (LMDB and plain files), later rados/. One contract suite runs over each.
//
// Every call is asynchronous, is made from the executor's thread and completes on it. Strings
// passed by view must live until completion. Completion means what each comment says; a call
// that is destroyed while suspended may or may not have happened. Beside each call stands the
// librados operation that carries it on a cluster, so that nothing above changes there.
//
// Errors: ENOSPC and EIO as the medium gives them; EUCLEAN where bytes were read that are not
// what was written; ESTALE once this owner was fenced; otherwise as commented. An error's
// message names the file (or object) and the offset.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"

namespace graftfs {

// ---------------------------------------------------------------------------------------------
// Directory objects: a header and entries ordered by key, both opaque bytes (the codecs are in
// types/, checksums included). RADOS: one omap per directory object.

using EntryKey = std::string;  // at most kMaxEntryKey bytes; ordered bytewise
inline constexpr size_t kMaxEntryKey = 8 + 255;

// Where an ino was last committed: the directory and the key of the entry that embeds it.
struct Location {
  Ino dir;
  EntryKey key;
};

struct DirUpdate {
  Ino dir;
  bool remove = false;  // the whole object, all entries; nothing else is set then
  std::optional<std::string> header;
  std::vector<std::pair<EntryKey, std::string>> put;
  std::vector<EntryKey> erase;
  // Inos that are now to be found in this directory under the key, and inos that are nowhere
  // any more.
  std::vector<std::pair<Ino, EntryKey>> located;
  std::vector<Ino> unlocated;
};

struct DirEntryBytes {
  EntryKey key;
  std::string value;
};

class DirStore {
 public:
  virtual ~DirStore() = default;
  // The header, or nullopt where there is no such directory. (rados: omap_get_header)
  virtual Task<Result<std::optional<std::string>>> read_header(Ino dir) = 0;
  // Headers of several directories, in the order asked. (rados: one operation an object)
  virtual Task<Result<std::vector<std::optional<std::string>>>> read_headers(
      std::vector<Ino> dirs) = 0;
  // One entry, or nullopt. (rados: omap_get_vals_by_keys)
  virtual Task<Result<std::optional<std::string>>> read_entry(Ino dir, EntryKey key) = 0;
  // Up to `max` entries with key >= from, in key order. Fewer than `max` means the end.
  // (rados: omap_get_vals2)
  virtual Task<Result<std::vector<DirEntryBytes>>> read_entries(Ino dir, EntryKey from,
                                                                size_t max) = 0;
  // Where `ino` was last committed. (rados: getxattr of the ino's first data object)
  virtual Task<Result<std::optional<Location>>> locate(Ino ino) = 0;
  // Applies the updates. Each directory's update is atomic; of several directories any subset
  // may survive a crash before completion (local: all or none). Completion: durable. On ENOSPC
  // or EIO nothing of the batch is visible. (rados: one write operation an object, guarded by
  // epoch: omap_set, omap_rm_keys, omap_set_header)
  virtual Task<Result<void>> commit(std::vector<DirUpdate> updates) = 0;
  // Every directory that has a header, in ino order, from `from`, up to `max`; for fsck.
  // (rados: nobjects listing of the pool's namespace)
  virtual Task<Result<std::vector<Ino>>> list_dirs(Ino from, size_t max) = 0;
};

// ---------------------------------------------------------------------------------------------
// The journal device of one rank: numbered segments of a fixed capacity, each written from its
// start, in several writes. RADOS: one striped object a segment.

struct SegmentInfo {
  SegmentId id;
  uint64_t capacity = 0;  // bytes that can be read; never-written bytes read as zeros or as an
                          // older segment's bytes (files are recycled)
};

class JournalDevice {
 public:
  virtual ~JournalDevice() = default;
  // Existing segments in id order.
  virtual Task<Result<std::vector<SegmentInfo>>> list() = 0;
  // Makes a segment of segment_capacity() bytes, preallocated (possibly a recycled one: old
  // bytes may show). Completion: its existence is durable. EEXIST, ENOSPC.
  virtual Task<Result<void>> create(SegmentId id) = 0;
  // Writes bytes, front to back: a process that dies meanwhile leaves the first part of them, a
  // power cut anything (below). After an error the next owner doubts all that was not synced
  // (unsynced_survived). Completion: survives the death of this process, not of the machine; what
  // was written and not synced may after a power cut be there, be missing, or be torn, each 512
  // bytes for itself, in any order. (rados: write, durable at once)
  virtual Task<Result<void>> write(SegmentId id, uint64_t offset, std::string_view bytes) = 0;
  // Completion: every write to the segment that completed before the call is durable. After a
  // failed sync nothing is known about those writes and the caller must not go on (the page
  // cache may have dropped them): it ends the rank.
  virtual Task<Result<void>> sync(SegmentId id) = 0;
  // Exactly `length` bytes, or fewer at the end of the segment.
  virtual Task<Result<std::string>> read(SegmentId id, uint64_t offset, uint64_t length) = 0;
  // Forgets the segment; its space may be kept for create(). Completion: durable.
  virtual Task<Result<void>> remove(SegmentId id) = 0;
  virtual uint64_t segment_capacity() const = 0;
  // A name for messages, such as "volume/journal/rank-0/0000000000000007.seg".
  virtual std::string name_of(SegmentId id) const = 0;
};

// ---------------------------------------------------------------------------------------------
// File data, by ino, sparse. RADOS: objects INO.BLOCK.
//
// The rank's inode decides the size; the store may hold bytes beyond it (a write whose event was
// lost). So a caller clips its reads, and every call that can make a file longer passes the size
// it knows (`valid_size`): bytes from there on are void and read as zeros afterwards.

struct DataInfo {
  uint64_t blocks = 0;  // 512-byte units held, for st_blocks
};

enum class AllocateMode : uint8_t { allocate, punch_hole, zero_range };

class DataStore {
 public:
  virtual ~DataStore() = default;
  // Completion: visible to reads, survives the death of the process.
  virtual Task<Result<DataInfo>> write(Ino ino, uint64_t offset, std::string_view bytes,
                                       uint64_t valid_size) = 0;
  // Fills `out` (length bytes); what was never written reads as zeros. Returns `length` always.
  // EUCLEAN where the medium has not kept what was written, and the file was at rest since.
  virtual Task<Result<void>> read(Ino ino, uint64_t offset, char* out, size_t length) = 0;
  // Everything from `size` on becomes void.
  virtual Task<Result<DataInfo>> truncate(Ino ino, uint64_t size) = 0;
  // allocate: reserves space (ENOSPC now instead of later). punch_hole, zero_range: the range
  // reads as zeros. EOPNOTSUPP where the medium cannot.
  virtual Task<Result<DataInfo>> allocate(Ino ino, AllocateMode mode, uint64_t offset,
                                          uint64_t length, uint64_t valid_size) = 0;
  // lseek SEEK_DATA / SEEK_HOLE within `size`; ENXIO as lseek(2).
  virtual Task<Result<uint64_t>> seek(Ino ino, uint64_t offset, bool data, uint64_t size) = 0;
  // Copies as if by read and write; may share blocks.
  virtual Task<Result<DataInfo>> copy(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                      uint64_t length, uint64_t valid_size) = 0;
  // Completion: all changes of this file that completed before the call are durable. Once a
  // sync of it has failed, EIO is returned to every sync until the volume is opened again.
  virtual Task<Result<void>> sync(Ino ino) = 0;
  // The same for all files. Cheap when nothing is unsynced.
  virtual Task<Result<void>> sync_all() = 0;
  // Whether any completed change is not known to be durable.
  virtual bool has_unsynced() const = 0;
  // Another process has changed the file: the next sync() or sync_all() covers that, too.
  virtual void note_written(Ino) {}
  // What is known of the file is asked again at the next call: others may have changed it since.
  virtual void forget(Ino) {}
  // Reads of what is not what was written are refused (EUCLEAN) until this is called: what is
  // stored is believed from now on. (rados: nothing; BlueStore has the checksums)
  virtual Task<Result<void>> believe(Ino) { co_return Result<void>{}; }
  // `fn` is told of each file that is found damaged, once.
  virtual void on_damage(std::function<void(const Error&)>) {}
  // Gives the space back. A file without data is not an error. (rados: remove, throttled)
  virtual Task<Result<void>> remove(Ino ino) = 0;
  // The same for several; after an error any of them may be gone.
  virtual Task<Result<void>> remove_many(std::vector<Ino> inos) {
    for (Ino ino : inos) CO_TRY(co_await remove(ino));
    co_return Result<void>{};
  }
  // Inos that have data, in order, from `from`, up to `max`; for fsck.
  virtual Task<Result<std::vector<Ino>>> list(Ino from, size_t max) = 0;
};

// ---------------------------------------------------------------------------------------------
// State: few small values with compare-and-set. RADOS: one omap, guarded. Keys that start with
// "cluster/" stay usable while any other process is stopped in any instruction, and those that
// start with "cluster/node-" survive the death of a process only, not a power cut.

struct StateValue {
  uint64_t version = 0;  // 0: there is none
  std::string value;
};

class StateStore {
 public:
  virtual ~StateStore() = default;
  virtual Task<Result<StateValue>> get(std::string key) = 0;
  // Sets the value if its version still is `expected` (0: must not exist). Completion: durable.
  // Returns the new version. ESTALE where the version differs.
  virtual Task<Result<uint64_t>> set(std::string key, uint64_t expected, std::string value) = 0;
  virtual Task<Result<std::vector<std::pair<std::string, StateValue>>>> list(
      std::string prefix) = 0;
  // Forgets a key of "cluster/" whose only writer has ended. Absent: no error.
  virtual Task<Result<void>> remove(std::string key) = 0;
};

// Who takes a journal, and from whom (docs/protocols/cluster.md, "Fencing").
enum class OwnMode : uint8_t {
  if_free,  // EBUSY while the owner's process lives
  take,     // by the failure detector: the owner is dead, stopped, or cut off
};
struct OwnOptions {
  OwnMode mode = OwnMode::if_free;
  uint64_t node = 0;  // the new owner, as the fence will say
  // What follows is for `take`.
  std::optional<Epoch> from;  // from the owner of this epoch only: ESTALE where there is a newer
  // How long an owner that is not known to be dead may go on; waited for before the journal is
  // read, unless `beat` (a key) is still at the version that was seen for as long already.
  Nanos lease = 0;
  std::string beat;
  uint64_t beat_version = 0;
};

struct StoreUsage {
  uint64_t block_size = 4096;
  uint64_t blocks = 0, blocks_free = 0, blocks_available = 0;
  uint64_t files = 0, files_free = 0;
};

// ---------------------------------------------------------------------------------------------
// One opened volume. Owned by the process's main; outlives every rank that uses it.

class Store {
 public:
  virtual ~Store() = default;
  virtual DirStore& dirs() = 0;
  virtual DataStore& data() = 0;
  virtual StateStore& state() = 0;

  // Makes this store the only one that may write rank `rank`'s journal: raises the rank's fence
  // (`cluster/fence-N`) to a new epoch, after which nothing that an older owner does counts. Its
  // commits of directories, and its creating and removing of segments and data, fail with ESTALE;
  // what it still writes to segments lies behind what the new owner reads. EBUSY, with the owner's
  // pid: its process lives, or another one is taking the journal. The device lives as long as the
  // store. (rados: blocklist, and the epoch guards every write)
  virtual Task<Result<JournalDevice*>> own_journal(RankId rank, OwnOptions options) = 0;
  Task<Result<JournalDevice*>> own_journal(RankId rank) { return own_journal(rank, OwnOptions()); }
  // The epoch under which this store owns the journal, made at least `at_least`: the owner's
  // journal begins with it. ESTALE where it is fenced.
  virtual Task<Result<Epoch>> raise_epoch(RankId rank, Epoch at_least) = 0;
  // Gives it up: the lock is free, the device and its commits are fenced.
  virtual Task<Result<void>> disown_journal(RankId rank) = 0;
  // The journal for reading only, by tools, also while a rank owns it.
  virtual Task<Result<JournalDevice*>> read_journal(RankId rank) = 0;

  // Whether writes that were completed but not synced by the previous owner of `rank`'s journal
  // are surely still there (it died, the machine and the mount it wrote through did not). False
  // after a power cut, and when in doubt; that doubt lasts, over owners that die early, until an
  // owner has synced a segment that it made. Valid after own_journal() or read_journal().
  virtual bool unsynced_survived(RankId rank) const = 0;

  virtual Task<Result<StoreUsage>> usage() = 0;
  // The shutdown ioctl: from now on nothing is written or synced; every call fails with EIO.
  virtual void shut_down() = 0;
  virtual std::string name() const = 0;  // for messages
};

}  // namespace graftfs
