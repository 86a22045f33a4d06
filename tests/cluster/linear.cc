#include "linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <unordered_set>

namespace graftfs {

// -- the tree -----------------------------------------------------------------------------------

Names::Node* Names::known(uint64_t ino) {
  for (Node& node : nodes_)
    if (node.ino == ino) return &node;
  return nullptr;
}

bool Names::put(int slot, bool is_dir) {
  if (slots_[slot] >= 0) return false;
  slots_[slot] = static_cast<int8_t>(nodes_.size());
  nodes_.push_back({.is_dir = is_dir});
  return true;
}

bool Names::drop(int slot) {
  at(slot)->nlink--;
  slots_[slot] = -1;
  return true;
}

// A number names one inode, for ever.
bool Names::learn(Node& node, uint64_t ino) {
  if (node.ino) return node.ino == ino;
  if (known(ino)) return false;
  node.ino = ino;
  return true;
}

bool Names::apply(const Op& op) {
  const bool unanswered = op.answered == kNever;
  const int err = unanswered ? 0 : op.err;
  Node* here = op.slot < 0 ? nullptr : at(op.slot);
  switch (op.kind) {
    case Op::make_file:
    case Op::make_dir:
      if (err == EEXIST) return here != nullptr;
      return err == 0 && put(op.slot, op.kind == Op::make_dir);
    case Op::unlink:
      if (err == ENOENT) return !here;
      if (err == EISDIR) return here && here->is_dir;
      return err == 0 && here && !here->is_dir && drop(op.slot);
    case Op::rmdir:
      if (err == ENOENT) return !here;
      if (err == ENOTDIR) return here && !here->is_dir;
      return err == 0 && here && here->is_dir && drop(op.slot);
    case Op::look:
      if (unanswered) return false;
      if (err == ENOENT) return !here;
      return err == 0 && here && here->is_dir == op.is_dir && learn(*here, op.ino);
    case Op::links: {
      if (unanswered) return false;
      Node* node = known(op.ino);
      return err == 0 && node && (node->is_dir || node->nlink == op.nlink);
    }
    case Op::link: {
      Node* node = known(op.ino);
      if (!node) return false;
      if (err == EEXIST) return here != nullptr;
      // The kernel says so, too, by a count that it has and that may be out of date: it means
      // nothing.
      if (err == ENOENT || err == ESTALE) return true;
      if (err != 0 || here || node->is_dir || node->nlink == 0) return false;
      node->nlink++;
      slots_[op.slot] = static_cast<int8_t>(node - nodes_.data());
      return true;
    }
    case Op::rename:
      if (err == ENOENT) return !here;
      if (err == EEXIST) return at(op.to) != nullptr;
      if (err != 0 || !here || at(op.to)) return false;
      std::swap(slots_[op.slot], slots_[op.to]);
      return true;
    case Op::replace: {
      Node* there = at(op.to);
      if (err == ENOENT) return !here;
      if (err == EISDIR) return there && there->is_dir;
      if (err != 0 || !here || here->is_dir || (there && there->is_dir)) return false;
      if (there) drop(op.to);
      std::swap(slots_[op.slot], slots_[op.to]);
      return true;
    }
    case Op::list: {
      if (unanswered || err != 0) return false;
      uint32_t there = 0;
      for (int s = 0; s < kMostSlots; ++s)
        if (slots_[s] >= 0) there |= 1u << s;
      return (there & op.among) == op.found;
    }
  }
  return false;
}

// Nodes have no numbers of their own here: which was made first cannot be seen.
std::string Names::key() const {
  std::string out;
  std::vector<int> order;
  auto say = [&](const Node& node) {
    out.append(reinterpret_cast<const char*>(&node.ino), sizeof node.ino);
    out.push_back(static_cast<char>(node.nlink << 1 | (node.is_dir ? 1 : 0)));
  };
  for (int8_t index : slots_) {
    if (index < 0) {
      out.push_back('\0');
      continue;
    }
    auto seen = std::find(order.begin(), order.end(), index);
    out.push_back(static_cast<char>(1 + (seen - order.begin())));
    if (seen != order.end()) continue;
    order.push_back(index);
    say(nodes_[index]);
  }
  std::vector<const Node*> gone;
  for (const Node& node : nodes_)
    if (node.ino && node.nlink == 0) gone.push_back(&node);
  std::sort(gone.begin(), gone.end(), [](auto* a, auto* b) { return a->ino < b->ino; });
  for (const Node* node : gone) say(*node);
  return out;
}

// -- the search ---------------------------------------------------------------------------------

namespace {

using Done = std::bitset<kMostOps>;

class Search {
 public:
  explicit Search(std::vector<Op> ops) : ops_(std::move(ops)) {
    if (ops_.size() > kMostOps) throw std::runtime_error("too long a history");
    std::stable_sort(ops_.begin(), ops_.end(),
                     [](const Op& a, const Op& b) { return a.called < b.called; });
    for (size_t i = 0; i < ops_.size(); ++i)
      if (ops_[i].answered != kNever) must_.set(i);
  }

  std::string run() {
    if (explain({}, Names())) return {};
    std::string text = "no order of these calls explains their answers:\n";
    for (size_t i = 0; i < ops_.size(); ++i)
      text += fmt::format("  {} {}\n", best_[i] ? "explained  " : "unexplained", describe(ops_[i]));
    return text;
  }

 private:
  bool explain(const Done& done, const Names& names) {
    if ((done & must_) == must_) return true;
    if (done.count() > best_.count()) best_ = done;
    if (!been_.insert(done.to_string() + names.key()).second) return false;
    // What was called after another one's answer cannot come before it.
    int64_t first_answer = kNever;
    for (size_t i = 0; i < ops_.size(); ++i)
      if (!done[i]) first_answer = std::min(first_answer, ops_[i].answered);
    for (size_t i = 0; i < ops_.size() && ops_[i].called <= first_answer; ++i) {
      if (done[i]) continue;
      Names after = names;
      if (!after.apply(ops_[i])) continue;
      Done more = done;
      more.set(i);
      if (explain(more, after)) return true;
    }
    return false;
  }

  std::vector<Op> ops_;
  Done must_, best_;
  std::unordered_set<std::string> been_;
};

const char* name_of(Op::Kind kind) {
  switch (kind) {
    case Op::make_file:
      return "make_file";
    case Op::make_dir:
      return "make_dir";
    case Op::unlink:
      return "unlink";
    case Op::rmdir:
      return "rmdir";
    case Op::look:
      return "look";
    case Op::links:
      return "links";
    case Op::link:
      return "link";
    case Op::rename:
      return "rename";
    case Op::replace:
      return "replace";
    case Op::list:
      return "list";
  }
  return "?";
}

}  // namespace

std::string describe(const Op& op) {
  std::string text = fmt::format("caller {}: {:<9}", op.caller, name_of(op.kind));
  if (op.slot >= 0) text += fmt::format(" slot {}", op.slot);
  if (op.to >= 0) text += fmt::format(" to {}", op.to);
  if (op.ino) text += fmt::format(" inode {:#x}", op.ino);
  if (op.kind == Op::look && op.err == 0) text += op.is_dir ? ", a directory" : ", a file";
  if (op.kind == Op::links) text += fmt::format(" has {} names", op.nlink);
  if (op.kind == Op::list) text += fmt::format(" finds {:#b} of {:#b}", op.found, op.among);
  if (op.answered == kNever)
    return text + fmt::format(": {}, from {} us on", std::strerror(op.err), op.called / 1000);
  return text + fmt::format(": {}, {} to {} us", op.err ? std::strerror(op.err) : "done",
                            op.called / 1000, op.answered / 1000);
}

std::string why_not_linearizable(std::vector<Op> history) {
  return Search(std::move(history)).run();
}

}  // namespace graftfs
