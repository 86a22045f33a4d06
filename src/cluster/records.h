#pragma once
// The text of cluster state: one `name = value` a line. And what a node says of itself.

#include <charconv>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/table.h"

namespace graftfs::cluster {

// Walks over lines. A line without " = " has an empty name.
class LineReader {
 public:
  explicit LineReader(std::string_view text) : rest_(text) {}
  bool next();
  std::string_view line() const { return line_; }
  std::string_view name() const { return name_; }
  std::string_view value() const { return value_; }

 private:
  std::string_view rest_, line_, name_, value_;
};

// Walks over words that are separated by single spaces.
class Words {
 public:
  explicit Words(std::string_view text) : rest_(text) {}
  bool word(std::string_view& out);
  template <class T>
  bool number(T& out, int base) {
    std::string_view text;
    if (!word(text)) return false;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
    return error == std::errc() && end == text.data() + text.size();
  }
  bool end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

// `cluster/node-ID`: written by that node alone, again with each beat.
struct NodeRecord {
  NodeId id = 0;
  uint64_t beat = 0;
  uint32_t lease_ms = 0;
  bool standby = false;  // runs nothing, and would like to
  // The process, so that one that is stopped can be told from a later one of the same number.
  std::string machine;  // its boot id
  int32_t pid = 0;
  uint64_t started = 0;                                  // from /proc/PID/stat
  std::map<RankId, std::vector<std::string>> addresses;  // of the ranks that it runs
  friend bool operator==(const NodeRecord&, const NodeRecord&) = default;
};

inline constexpr std::string_view kNodePrefix = "cluster/node-";
std::string node_key(NodeId id);
std::string encode(const NodeRecord& record);
// The id is the key's. EUCLEAN where it makes no sense; so is a record that a power cut has torn.
Result<NodeRecord> decode_node(std::string_view key, std::string_view text);

}  // namespace graftfs::cluster
