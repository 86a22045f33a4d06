#pragma once
// The kill points of every store, under the same names whichever implementation is underneath.
//
//   points::JournalWrite::before();   // KILL_POINT("store.journal.write.before")
//
// `before` is hit when nothing has happened yet, `after` when the call has done what its
// completion promises and the caller does not know it yet. Both are hit inside the call's
// coroutine, so that Killed travels to whoever awaits it.

#include "base/fault.h"

#define GRAFTFS_STORE_POINT(Type, name)                           \
  struct Type {                                                   \
    static void before() { KILL_POINT("store." name ".before"); } \
    static void after() { KILL_POINT("store." name ".after"); }   \
  }

namespace graftfs::points {

GRAFTFS_STORE_POINT(JournalCreate, "journal.create");
GRAFTFS_STORE_POINT(JournalWrite, "journal.write");
GRAFTFS_STORE_POINT(JournalSync, "journal.sync");
GRAFTFS_STORE_POINT(JournalRemove, "journal.remove");
GRAFTFS_STORE_POINT(DirsCommit, "dirs.commit");
GRAFTFS_STORE_POINT(DataWrite, "data.write");
GRAFTFS_STORE_POINT(DataTruncate, "data.truncate");
GRAFTFS_STORE_POINT(DataAllocate, "data.allocate");
GRAFTFS_STORE_POINT(DataCopy, "data.copy");
GRAFTFS_STORE_POINT(DataSync, "data.sync");
GRAFTFS_STORE_POINT(DataSyncAll, "data.sync_all");
GRAFTFS_STORE_POINT(DataRemove, "data.remove");
GRAFTFS_STORE_POINT(StateSet, "state.set");
GRAFTFS_STORE_POINT(OwnJournal, "journal.own");

}  // namespace graftfs::points

#undef GRAFTFS_STORE_POINT
