#include <clocale>

#include "base/fault.h"
#include "cli/command.h"

int main(int argc, char** argv) {
  std::setlocale(LC_ALL, "");
  graftfs::fault::arm_from_environment();
  return graftfs::cli::run_command_line(argc, argv);
}
