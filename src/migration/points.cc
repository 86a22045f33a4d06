#include "migration/points.h"

#include "base/fault.h"

namespace graftfs::migration {

const char* point_name(Point point) {
  switch (point) {
    case Point::export_offered:
      return "migration.export.offered";
    case Point::export_accepted:
      return "migration.export.accepted";
    case Point::export_part_sent:
      return "migration.export.part_sent";
    case Point::export_copied:
      return "migration.export.copied";
    case Point::export_recalled:
      return "migration.export.recalled";
    case Point::export_frozen:
      return "migration.export.frozen";
    case Point::export_quiet:
      return "migration.export.quiet";
    case Point::export_final_sent:
      return "migration.export.final_sent";
    case Point::export_imported_received:
      return "migration.export.imported_received";
    case Point::export_logged:
      return "migration.export.export_logged";
    case Point::export_durable:
      return "migration.export.export_durable";
    case Point::export_dropped:
      return "migration.export.dropped";
    case Point::export_finish_sent:
      return "migration.export.finish_sent";
    case Point::export_bound_moved_sent:
      return "migration.export.bound_moved_sent";
    case Point::export_finished_received:
      return "migration.export.finished_received";
    case Point::export_end_logged:
      return "migration.export.end_logged";
    case Point::import_offered:
      return "migration.import.offered";
    case Point::import_accepted:
      return "migration.import.accepted";
    case Point::import_part_received:
      return "migration.import.part_received";
    case Point::import_part_logged:
      return "migration.import.part_logged";
    case Point::import_part_durable:
      return "migration.import.part_durable";
    case Point::import_final_received:
      return "migration.import.final_received";
    case Point::import_logged:
      return "migration.import.import_logged";
    case Point::import_durable:
      return "migration.import.import_durable";
    case Point::import_imported_sent:
      return "migration.import.imported_sent";
    case Point::import_finish_received:
      return "migration.import.finish_received";
    case Point::import_absorbed:
      return "migration.import.absorbed";
    case Point::import_end_logged:
      return "migration.import.end_logged";
    case Point::import_end_durable:
      return "migration.import.end_durable";
    case Point::import_aborting:
      return "migration.import.aborting";
  }
  return "";
}

// A site is a type of its own, so each has to be written out.
void pass(Point point) {
  switch (point) {
    case Point::export_offered:
      return KILL_POINT("migration.export.offered");
    case Point::export_accepted:
      return KILL_POINT("migration.export.accepted");
    case Point::export_part_sent:
      return KILL_POINT("migration.export.part_sent");
    case Point::export_copied:
      return KILL_POINT("migration.export.copied");
    case Point::export_recalled:
      return KILL_POINT("migration.export.recalled");
    case Point::export_frozen:
      return KILL_POINT("migration.export.frozen");
    case Point::export_quiet:
      return KILL_POINT("migration.export.quiet");
    case Point::export_final_sent:
      return KILL_POINT("migration.export.final_sent");
    case Point::export_imported_received:
      return KILL_POINT("migration.export.imported_received");
    case Point::export_logged:
      return KILL_POINT("migration.export.export_logged");
    case Point::export_durable:
      return KILL_POINT("migration.export.export_durable");
    case Point::export_dropped:
      return KILL_POINT("migration.export.dropped");
    case Point::export_finish_sent:
      return KILL_POINT("migration.export.finish_sent");
    case Point::export_bound_moved_sent:
      return KILL_POINT("migration.export.bound_moved_sent");
    case Point::export_finished_received:
      return KILL_POINT("migration.export.finished_received");
    case Point::export_end_logged:
      return KILL_POINT("migration.export.end_logged");
    case Point::import_offered:
      return KILL_POINT("migration.import.offered");
    case Point::import_accepted:
      return KILL_POINT("migration.import.accepted");
    case Point::import_part_received:
      return KILL_POINT("migration.import.part_received");
    case Point::import_part_logged:
      return KILL_POINT("migration.import.part_logged");
    case Point::import_part_durable:
      return KILL_POINT("migration.import.part_durable");
    case Point::import_final_received:
      return KILL_POINT("migration.import.final_received");
    case Point::import_logged:
      return KILL_POINT("migration.import.import_logged");
    case Point::import_durable:
      return KILL_POINT("migration.import.import_durable");
    case Point::import_imported_sent:
      return KILL_POINT("migration.import.imported_sent");
    case Point::import_finish_received:
      return KILL_POINT("migration.import.finish_received");
    case Point::import_absorbed:
      return KILL_POINT("migration.import.absorbed");
    case Point::import_end_logged:
      return KILL_POINT("migration.import.end_logged");
    case Point::import_end_durable:
      return KILL_POINT("migration.import.end_durable");
    case Point::import_aborting:
      return KILL_POINT("migration.import.aborting");
  }
}

}  // namespace graftfs::migration
