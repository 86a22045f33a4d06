#pragma once
// The writing side of one rank's journal: append, group commit, segments, trim.

#include <absl/functional/function_ref.h>

#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "base/executor.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"
#include "journal/format.h"
#include "store/store.h"

namespace graftfs {

// strict: every write is followed by a sync. posix: a write completes in the page cache; a sync
// follows within 5 ms of idleness, 100 ms at most, or when asked for.
enum class Durability : uint8_t { strict, posix };

struct JournalOptions {
  uint64_t volume = 0;
  RankId rank;
  Epoch epoch;
  Durability durability = Durability::posix;
  uint32_t segment_events = 8192;    // a segment ends after so many events, or when it is full
  uint32_t segments_per_major = 16;  // every so many segments one opens with a checkpoint
  Nanos idle_sync = 5 * kMillisecond;
  Nanos longest_unsynced = 100 * kMillisecond;
};

// What the journal asks of the rank that owns it.
class JournalHooks {
 public:
  virtual ~JournalHooks() = default;
  // A segment begins: append its checkpoint (if major) and the trace summary of the previous
  // segment. Nothing that was encoded before may be relied on from here on (traces are named
  // once a segment). Called inside append() and roll(), and, rarely, from the executor (where a
  // barrier did not fit); it must not append. A quarter of a segment is the most there is for it.
  virtual void begin_segment(SegmentId id, bool major, std::string& payload) = 0;
  // written() or durable() has moved, or there is another segment, or no space for one.
  virtual void journal_progress() = 0;
  // The journal cannot be trusted any more (a write or a sync failed): the rank must stop
  // answering. Called once; it must not destroy the journal.
  virtual void journal_failed(const Error& error) = 0;
};

struct SegmentState {
  SegmentId id;
  bool major = false;
  Lsn first;           // its segment_start
  uint64_t bytes = 0;  // used
};

// Owned by its rank, used from the rank's thread. Replies that depend on an event leave when
// written() (posix) or durable() (strict) has reached its LSN. After a crash a prefix of what was
// appended is found again: at least up to durable(); after the death of only the process, at
// least up to written(). After an error nothing more is written, and neither moves again.
//
// Natural batching: one write is under way at a time; what is appended meanwhile goes with the
// next. Durability covers file data: before the journal is synced, data.sync_all() has completed,
// so no event is durable before the data that it reveals (frame field safe_back; a barrier frame
// is appended where the newest frame could not say so itself).
//
// Destroying it stops everything; calls under way on the device must not outlive the bytes they
// were given, so either close() it or stop the device first. A crash between any two steps leaves
// a journal that scan_journal() reads without damage.
class Journal {
 public:
  // `resumes_after`: the last event that recovery kept (Lsn{0} for a new journal); `next_segment`
  // is above every segment on the device; `live`: the segments that recovery found and that
  // still count, oldest first.
  Journal(Executor& executor, JournalDevice& device, DataStore& data, JournalHooks& hooks,
          JournalOptions options, Lsn resumes_after, SegmentId next_segment,
          std::deque<SegmentState> live);
  ~Journal();

  // Makes what recovery kept durable (it may have been read from the page cache), creates the
  // first segment (major), writes and syncs its start, and removes segments that do not count.
  // Call once, before append.
  Task<Result<void>> start();

  // Appends one event to the buffer. `encode` appends the payload to the string (which holds
  // other bytes before it); it is called a second time, after begin_segment(), where the payload
  // did not fit the current segment. A payload of more than half a segment is a programmer's
  // error. Never blocks; after a failure the event goes nowhere.
  Lsn append(uint8_t type, absl::FunctionRef<void(std::string&)> encode);
  // Starts writing what was appended, unless a write is under way. Called at the end of a turn.
  void flush();
  // Completion: everything appended before the call is durable.
  Task<Result<void>> sync();
  // So many write-backs are complete in the directory store. Later barriers, those of trim among
  // them, say so: recovery then notices a store that has lost some (docs/recovery.md).
  void set_commits(uint64_t commits);
  // Asks that a sync happens soon without waiting for it.
  void want_sync();

  // The newest event or segment start. (Barriers have LSNs too, so written() and durable() may
  // be above it.)
  Lsn appended() const;
  Lsn written() const;
  Lsn durable() const;
  bool failed() const;
  // A segment could not be made for want of space (it is tried again every 100 ms). Usually there
  // is still one behind the current one: the rank refuses what adds, and trims with a checkpoint
  // in that one.
  bool out_of_space() const;
  // There is a segment behind the current one, so roll() has where to write to.
  bool can_roll() const;
  // The current segment is the last one, and less than this share of it is left. Who can wait,
  // waits for the next one: an event that has no segment is neither written nor answered, nor is
  // anything that is appended after it, and on a full disk that may be for ever.
  bool awaits_segment(double share) const;

  // Segments that count, oldest first; the last is being written.
  const std::deque<SegmentState>& segments() const;
  SegmentId current_segment() const;
  uint64_t live_bytes() const;  // of all of them
  // Begins a new segment now (re-logged items and a fresh checkpoint let the tail move).
  void roll(bool major);
  // Gives back every segment older than the newest major segment that is not above `keep_from`.
  // Never the current one. Completion: durable. An error of the device's remove() is returned and
  // leaves the rest to the next call.
  Task<Result<void>> trim(SegmentId keep_from);
  // Ends cleanly: writes, syncs, and marks what is durable with a last barrier.
  Task<Result<void>> close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace graftfs
