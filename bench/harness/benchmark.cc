#include "harness/benchmark.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <limits>

#include "harness/statistics.h"

namespace graftfs::bench {

bool Context::wants(const std::string& phase) const {
  return only.empty() || std::find(only.begin(), only.end(), phase) != only.end();
}

double Check::margin() const {
  double least = std::numeric_limits<double>::min();
  return relation == Relation::kAtLeast ? measured / std::max(bar, least)
                                        : bar / std::max(measured, least);
}

void Report::at_least(std::string what, double measured, double bar) {
  checks.push_back({std::move(what), measured, Check::Relation::kAtLeast, bar});
}

void Report::at_most(std::string what, double measured, double bar) {
  checks.push_back({std::move(what), measured, Check::Relation::kAtMost, bar});
}

bool Report::holds() const {
  return std::all_of(checks.begin(), checks.end(), [](const Check& c) { return c.holds(); });
}

std::vector<Benchmark>& registry() {
  static std::vector<Benchmark> all;
  return all;
}

Registration::Registration(std::string name, std::string summary, BenchmarkFunction run,
                           bool only_by_name) {
  auto& all = registry();
  auto at = std::upper_bound(all.begin(), all.end(), name,
                             [](const std::string& n, const Benchmark& b) { return n < b.name; });
  all.insert(at, Benchmark{std::move(name), std::move(summary), std::move(run), only_by_name});
}

namespace {

const char* relation_sign(const Check& check) {
  return check.relation == Check::Relation::kAtLeast ? ">=" : "<=";
}

// The check that is nearest to its bar, or furthest below it.
const Check* tightest(const Report& report) {
  auto found =
      std::min_element(report.checks.begin(), report.checks.end(),
                       [](const Check& a, const Check& b) { return a.margin() < b.margin(); });
  return found == report.checks.end() ? nullptr : &*found;
}

}  // namespace

// `ratio` and `bar` are those of the tightest check, so that one line tells how
// far a benchmark is from failing; figures.checks has them all.
Json to_json(const std::string& name, const Report& report, const std::string& command) {
  Json figures = report.figures;
  Json checks = Json::array();
  for (const Check& check : report.checks) {
    checks.push_back({{"what", check.what},
                      {"measured", rounded(check.measured)},
                      {"relation", relation_sign(check)},
                      {"bar", check.bar},
                      {"holds", check.holds()}});
  }
  figures["checks"] = std::move(checks);
  const Check* worst = tightest(report);
  Json object = Json::object();
  object["name"] = name;
  object["figures"] = std::move(figures);
  object["reference"] = report.reference;
  object["ratio"] = worst == nullptr ? Json() : Json(rounded(worst->measured));
  object["bar"] = worst == nullptr ? Json() : Json(worst->bar);
  object["holds"] = report.holds();
  object["durability"] = report.durability;
  object["cache"] = report.cache;
  object["command"] = command;
  return object;
}

namespace {

std::string shown(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

bool is_table(const Json& value) {
  return value.is_array() && !value.empty() &&
         std::all_of(value.begin(), value.end(), [](const Json& row) {
           return row.is_object() && std::none_of(row.begin(), row.end(), [](const Json& cell) {
                    return cell.is_structured();
                  });
         });
}

// A column for each object, as there are fewer of them than of what they say.
void print_columns(const Json& objects, int indent) {
  constexpr int kName = 42, kCell = 11;
  for (const auto& [key, ignored] : objects.front().items()) {
    fmt::print("{:{}}{:<{}}", "", indent, key, kName - indent);
    for (const Json& object : objects)
      fmt::print(" {:>{}}", object.contains(key) ? shown(object[key]) : "", kCell - 1);
    fmt::print("\n");
  }
}

void print_values(const Json& object, int indent) {
  for (const auto& [key, value] : object.items()) {
    if (is_table(value)) {
      fmt::print("{:{}}{}\n", "", indent, key);
      print_columns(value, indent + 2);
    } else if (value.is_object()) {
      fmt::print("{:{}}{}\n", "", indent, key);
      print_values(value, indent + 2);
    } else {
      fmt::print("{:{}}{:<{}} {}\n", "", indent, key, 40 - indent, shown(value));
    }
  }
}

}  // namespace

void print_table(const std::string& name, const Report& report, const std::string& command) {
  fmt::print("{}: {}\n", name, report.holds() ? "holds" : "DOES NOT HOLD");
  for (const Check& check : report.checks) {
    fmt::print("  {:<44} {:>10.4g}  {} {:<8g} {}\n", check.what, check.measured,
               relation_sign(check), check.bar, check.holds() ? "" : "<-- below the bar");
  }
  fmt::print("  figures\n");
  print_values(report.figures, 4);
  fmt::print("  reference\n");
  print_values(report.reference, 4);
  fmt::print("  durability: {}\n  cache: {}\n  command: {}\n\n", report.durability, report.cache,
             command);
  std::fflush(stdout);
}

void progress(const std::string& line) { fmt::print(stderr, "{}\n", line); }

}  // namespace graftfs::bench
