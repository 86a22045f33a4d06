#pragma once

#include <vector>

namespace graftfs::bench {

// The middle value; of an even count, the mean of the two middle ones.
// `values` must not be empty.
double median(std::vector<double> values);

// The smallest value that at least `fraction` of all values do not exceed.
double percentile(std::vector<double> values, double fraction);

// values[i] / references[i], the two runs of one round each; the median of
// these is what a machine whose speed drifts disturbs least.
double median_ratio(const std::vector<double>& values, const std::vector<double>& references);

// Rounded to `digits` significant digits, as figures are printed.
double rounded(double value, int digits = 4);

}  // namespace graftfs::bench
