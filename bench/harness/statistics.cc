#include "harness/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace graftfs::bench {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double percentile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(values.size())));
  return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

double median_ratio(const std::vector<double>& values, const std::vector<double>& references) {
  std::vector<double> ratios;
  for (size_t i = 0; i < std::min(values.size(), references.size()); i++) {
    ratios.push_back(values[i] / references[i]);
  }
  return median(std::move(ratios));
}

double rounded(double value, int digits) {
  if (value == 0 || !std::isfinite(value)) {
    return value;
  }
  double scale = std::pow(10.0, digits - 1 - std::floor(std::log10(std::fabs(value))));
  return std::round(value * scale) / scale;
}

}  // namespace graftfs::bench
