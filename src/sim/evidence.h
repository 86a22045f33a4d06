#pragma once
// What the bytes of a journal on a disk prove, read without the journal's own scanner.

#include "base/ids.h"
#include "store/memory/memory_disk.h"

namespace graftfs::sim {

// The newest event of rank 0 that something on the disk vouches for after such a crash: a whole
// frame (the process died: a write that was seen by a later one was there) or a whole frame's word
// that so much was durable (power cut). A disk that lies can lose more than that without a trace.
Lsn evidence_on(const MemoryDisk& disk, uint64_t volume, CrashKind kind);

}  // namespace graftfs::sim
