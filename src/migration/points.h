#pragma once
// The named kill points of a migration (docs/protocols/migration.md). The state machines say where
// one is passed, as an action among the others; whoever carries the actions out passes it.

#include <cstdint>
#include <span>

namespace graftfs::migration {

enum class Point : uint8_t {
  export_offered,
  export_accepted,
  export_part_sent,
  export_copied,
  export_recalled,
  export_frozen,
  export_quiet,
  export_final_sent,
  export_imported_received,
  export_logged,
  export_durable,
  export_dropped,
  export_finish_sent,
  export_bound_moved_sent,
  export_finished_received,
  export_end_logged,
  import_offered,
  import_accepted,
  import_part_received,
  import_part_logged,
  import_part_durable,
  import_final_received,
  import_logged,
  import_durable,
  import_imported_sent,
  import_finish_received,
  import_absorbed,
  import_end_logged,
  import_end_durable,
  import_aborting,
};

inline constexpr int kPoints = static_cast<int>(Point::import_aborting) + 1;

// As it is called in fault::sites().
const char* point_name(Point point);
// Passes the kill point: may throw fault::Killed, or end the process.
void pass(Point point);

}  // namespace graftfs::migration
