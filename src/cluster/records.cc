#include "cluster/records.h"

namespace graftfs::cluster {

bool LineReader::next() {
  if (rest_.empty()) return false;
  size_t end = rest_.find('\n');
  line_ = rest_.substr(0, end);
  rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
  size_t at = line_.find(" = ");
  name_ = at == std::string_view::npos ? std::string_view() : line_.substr(0, at);
  value_ = at == std::string_view::npos ? std::string_view() : line_.substr(at + 3);
  return true;
}

bool Words::word(std::string_view& out) {
  if (rest_.empty()) return false;
  size_t end = rest_.find(' ');
  out = rest_.substr(0, end);
  rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
  return !out.empty();
}

std::string node_key(NodeId id) { return fmt::format("{}{:016x}", kNodePrefix, id); }

std::string encode(const NodeRecord& r) {
  std::string text =
      fmt::format("beat = {}\nlease_ms = {}\nstandby = {}\nmachine = {}\npid = {}\nstarted = {}\n",
                  r.beat, r.lease_ms, r.standby ? 1 : 0, r.machine, r.pid, r.started);
  for (const auto& [rank, addresses] : r.addresses) {
    text += fmt::format("rank-{} =", rank);
    for (const std::string& address : addresses) text += " " + address;
    // A rank whose address is not known yet is one all the same.
    text += addresses.empty() ? " -\n" : "\n";
  }
  return text;
}

Result<NodeRecord> decode_node(std::string_view key, std::string_view text) {
  NodeRecord r;
  auto bad = [&](std::string_view what) {
    return damaged(fmt::format("{} makes no sense: '{}'", key, what));
  };
  Words id(key.substr(std::min(key.size(), kNodePrefix.size())));
  if (!key.starts_with(kNodePrefix) || !id.number(r.id, 16) || !id.end()) return bad(key);
  bool pid = false;
  for (LineReader lines(text); lines.next();) {
    std::string_view name = lines.name();
    Words words(lines.value());
    bool good = false;
    if (name == "beat") {
      good = words.number(r.beat, 10) && words.end();
    } else if (name == "lease_ms") {
      good = words.number(r.lease_ms, 10) && words.end();
    } else if (name == "standby") {
      int on = 0;
      good = words.number(on, 10) && words.end();
      r.standby = on != 0;
    } else if (name == "machine") {
      r.machine = lines.value();
      good = true;
    } else if (name == "pid") {
      good = pid = words.number(r.pid, 10) && words.end();
    } else if (name == "started") {
      good = words.number(r.started, 10) && words.end();
    } else if (name.starts_with("rank-")) {
      RankId rank;
      Words number(name.substr(5));
      good = number.number(rank.v, 10) && number.end();
      auto& addresses = r.addresses[rank];
      for (std::string_view address; words.word(address);)
        if (address != "-") addresses.emplace_back(address);
    }
    if (!good) return bad(lines.line());
  }
  if (!pid) return bad("");
  return r;
}

}  // namespace graftfs::cluster
