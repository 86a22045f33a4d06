#pragma once
// What the model's costs are on this machine: measured on the real rank, the real connections and
// the real disk, in this process.

#include "harness/benchmark.h"
#include "sim/parallel/costs.h"

namespace graftfs::bench {

sim::Costs measure_costs(const Context& context);
Json to_json(const sim::Costs& costs);

}  // namespace graftfs::bench
