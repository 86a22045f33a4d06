#pragma once
// What the model's costs are on this machine: measured on the real rank, the real connections and
// the real disk, in this process.

#include "harness/benchmark.h"
#include "sim/parallel/costs.h"

namespace graftfs::bench {

struct MeasuredCosts {
  sim::Costs all;
  // A create without its write-back, which begins later: what a short run has of it.
  sim::Costs::Operation create_alone;
};

MeasuredCosts measure_costs(const Context& context);
Json to_json(const MeasuredCosts& costs);

}  // namespace graftfs::bench
