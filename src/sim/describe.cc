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

}  // namespace

std::string describe_request(const Request& r) {
  return fmt::format("{:04x}:{} {} {}", r.session.v & 0xffff, r.seq, op_name(r.args),
                     std::visit(DescribeArgs{}, r.args));
}

}  // namespace graftfs::sim
