#pragma once
// What the simulated disk does wrong, and when.

#include <array>
#include <cstdint>
#include <vector>

#include "base/executor.h"

namespace graftfs {

enum class StoreCall : uint8_t {
  dirs_read,  // every read of DirStore
  dirs_commit,
  journal_list,
  journal_create,
  journal_write,
  journal_sync,
  journal_read,
  journal_remove,
  data_write,
  data_read,
  data_truncate,
  data_allocate,
  data_seek,
  data_copy,
  data_sync,
  data_sync_all,
  data_remove,
  data_list,
  state_get,
  state_set,
  own_journal,
  usage,
};
inline constexpr size_t kStoreCalls = static_cast<size_t>(StoreCall::usage) + 1;

enum class FaultKind : uint8_t {
  none,
  eio,          // the call fails; a journal or data write may have been carried out in part; a
                // sync has dropped what it covered
  enospc,       // the call fails with nothing done
  lost,         // a write reports success and does nothing
  misdirected,  // a journal write lands in another sector or another segment
  torn,         // a write reports success and some of its sectors were not written
  not_durable,  // a commit of directories is there, and gone after a power cut, unless another
                // commit has come behind it
};

// Faults of one disk: by chance (parts per million, drawn from the node's Random) and by script.
struct MemoryFaults {
  struct Chances {
    uint32_t eio_ppm = 0;
    uint32_t enospc_ppm = 0;
    uint32_t lost_ppm = 0;
    uint32_t misdirected_ppm = 0;
    uint32_t torn_ppm = 0;
    uint32_t volatile_ppm = 0;
    // Every call takes a time between the two; and now and then much longer.
    Nanos latency_min = 0;
    Nanos latency_max = 0;
    uint32_t stall_ppm = 0;
    Nanos stall = 0;
  };
  // The `nth` call (from 1, counted from when the script was set) of this kind fails so.
  struct Scripted {
    StoreCall call;
    uint64_t nth;
    FaultKind fault;
  };

  std::array<Chances, kStoreCalls> chances;
  std::vector<Scripted> script;

  Chances& operator[](StoreCall call) { return chances[static_cast<size_t>(call)]; }
};

}  // namespace graftfs
