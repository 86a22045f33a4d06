#include "sim/describe.h"

#include <fmt/format.h>

namespace graftfs::sim {
namespace {

struct DescribeArgs {
  std::string operator()(const LookupArgs& a) { return name(a.dir, a.name); }
  std::string operator()(const MknodArgs& a) { return name(a.dir, a.name); }
  std::string operator()(const MkdirArgs& a) { return name(a.dir, a.name); }
  std::string operator()(const CreateArgs& a) { return name(a.dir, a.name); }
  std::string operator()(const SymlinkArgs& a) { return name(a.dir, a.name); }
  std::string operator()(const UnlinkArgs& a) { return name(a.dir, a.name); }
  std::string operator()(const RmdirArgs& a) { return name(a.dir, a.name); }
  std::string operator()(const LinkArgs& a) {
    return fmt::format("{:#x} {}", a.ino.v, name(a.dir, a.name));
  }
  std::string operator()(const RenameArgs& a) {
    return fmt::format("{} {} flags {}", name(a.dir, a.name), name(a.new_dir, a.new_name), a.flags);
  }
  std::string operator()(const SetattrArgs& a) {
    return fmt::format("{:#x} valid {:#x} size {}", a.ino.v, a.valid, a.size);
  }
  std::string operator()(const WroteArgs& a) { return fmt::format("{:#x} end {}", a.ino.v, a.end); }
  template <class A>
  std::string operator()(const A& a) {
    if constexpr (requires { a.ino; }) return fmt::format("{:#x}", a.ino.v);
    if constexpr (requires { a.dir; }) return fmt::format("{:#x}", a.dir.v);
    return {};
  }
  static std::string name(Ino dir, const std::string& n) {
    return fmt::format("{:#x}/{}", dir.v, n.substr(0, 12));
  }
};

// What there is to be said of messages between ranks beside their names.
struct DescribeBody {
  static std::string id(const ProtocolId& id) {
    return fmt::format(" {}.{}.{}", id.rank.v, id.epoch.v, id.number);
  }
  std::string operator()(const msg::Prepare& m) {
    constexpr const char* kNames[] = {"token",     "take_name", "swap_name", "add_link",
                                      "drop_link", "drop_dir",  "hang"};
    std::string out = id(m.op);
    for (const msg::Intent& i : m.intents)
      out += fmt::format(" {} {:#x} in {:#x}/{};", kNames[static_cast<size_t>(i.kind)], i.ino.v,
                         i.dir.v, i.name);
    return out;
  }
  std::string operator()(const msg::Refused& m) {
    constexpr const char* kWhy[] = {"busy", "ask", "error"};
    return fmt::format("{} {} (phase {}): errno {}, rank {}", id(m.op),
                       kWhy[static_cast<size_t>(m.why)], m.phase, m.err, m.home.v);
  }
  std::string operator()(const msg::Decide& m) {
    return id(m.op) + (m.commit ? " commit" : " abort");
  }
  std::string operator()(const msg::TellOp& m) {
    constexpr const char* kFates[] = {"aborted", "committed", "undecided"};
    return fmt::format("{} {}", id(m.op), kFates[static_cast<size_t>(m.fate)]);
  }
  std::string operator()(const msg::Ancestry& m) { return fmt::format(" {:#x}", m.ino.v); }
  std::string operator()(const msg::AncestryIs& m) {
    std::string out = m.known ? " known:" : " not known";
    for (Ino ino : m.chain) out += fmt::format(" {:#x}", ino.v);
    return out + fmt::format(", above {:#x}, ask rank {}", m.above.v, m.rank.v);
  }
  std::string operator()(const msg::BoundMoved& m) {
    return fmt::format(" {:#x} to rank {}, move {}", m.root.v, m.rank.v, m.moves);
  }
  std::string operator()(const msg::BoundMovedDone& m) {
    return fmt::format(" {:#x}, move {}", m.root.v, m.moves);
  }
  std::string operator()(const msg::PathChanged& m) {
    return fmt::format(" {:#x} in {}", m.root.v, m.path);
  }
  static std::string bounds(const std::vector<msg::BoundItem>& bounds) {
    std::string out;
    for (const msg::BoundItem& b : bounds)
      out += fmt::format(" bound {:#x} (rank {}) in {:#x};", b.ino.v, b.rank.v, b.parent.v);
    return out;
  }
  std::string operator()(const msg::MigrateOffer& m) {
    return fmt::format("{} {:#x} in {:#x}, move {};", id(m.id), m.root.v, m.parent.v, m.moves) +
           bounds(m.bounds);
  }
  std::string operator()(const msg::MigrateFinal& m) {
    return fmt::format("{} {:#x} in {:#x};", id(m.id), m.root.v, m.parent.v) + bounds(m.bounds);
  }
  template <class M>
  std::string operator()(const M& m) {
    if constexpr (requires { id(m.op); }) return id(m.op);
    if constexpr (requires { id(m.id); }) return id(m.id);
    return {};
  }
};

}  // namespace

std::string describe_message(const Message& m) {
  if (m.body.index() <= Message{{}, {}, msg::Found{}}.body.index() &&
      !std::holds_alternative<msg::Hail>(m.body))
    return {};
  return fmt::format("{} -> {}: {}{}", m.from.v, m.to.v, message_name(m.body),
                     std::visit(DescribeBody{}, m.body));
}

std::string describe_request(const Request& r) {
  return fmt::format("{:04x}:{} {} {}", r.session.v & 0xffff, r.seq, op_name(r.args),
                     std::visit(DescribeArgs{}, r.args));
}

}  // namespace graftfs::sim
