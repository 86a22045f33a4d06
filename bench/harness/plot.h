#pragma once

#include <string>
#include <utility>
#include <vector>

namespace graftfs::bench {

// One line of a plot.
struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // x, y
  bool reference = false;                         // thin and dashed, without marks
};

// One plot; x is drawn on a scale of powers of two, y from 0 up (or, `log_y`, by powers of ten).
struct Panel {
  std::string title, x, y;
  std::vector<Series> series;
  bool log_y = false;
};

// The panels beside each other, as an SVG image.
std::string svg_of(const std::vector<Panel>& panels);

}  // namespace graftfs::bench
