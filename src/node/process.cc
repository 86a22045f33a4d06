// Processes of this machine: which they are, and the end of those that may do nothing any more.

#include <signal.h>

#include <fstream>

#include "base/fault.h"
#include "node/node.h"

namespace graftfs::node {

std::string this_machine() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  in >> id;
  return id;
}

namespace {
// What /proc says of a process behind its name, which stands in parentheses and may hold anything.
std::string stat_of(int32_t pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(in)), {});
  size_t at = text.rfind(')');
  return at == std::string::npos ? std::string() : text.substr(std::min(at + 2, text.size()));
}
}  // namespace

bool is_stopped(int32_t pid) {
  std::string text = stat_of(pid);
  return text.starts_with("T ") || text.starts_with("t ");
}

uint64_t started_at(int32_t pid) {
  std::string text = stat_of(pid);
  cluster::Words words(text);
  std::string_view word;
  // The 20th field.
  for (int i = 0; i < 19; ++i) words.word(word);
  uint64_t started = 0;
  return words.word(word) &&
                 std::from_chars(word.data(), word.data() + word.size(), started).ec == std::errc()
             ? started
             : 0;
}

int end_fenced(const std::vector<cluster::NodeRecord>& nodes,
               const std::function<bool(RankId, cluster::NodeId)>& owns,
               const std::string& machine) {
  int ended = 0;
  for (const cluster::NodeRecord& node : nodes) {
    if (node.machine != machine || machine.empty() || node.addresses.empty()) continue;
    bool fenced = false;
    for (const auto& [rank, addresses] : node.addresses) fenced = fenced || !owns(rank, node.id);
    if (!fenced || node.pid <= 1 || node.started == 0 || started_at(node.pid) != node.started)
      continue;
    MARK("node.fenced_process_ended");
    ended += ::kill(node.pid, SIGKILL) == 0;
  }
  return ended;
}

}  // namespace graftfs::node
