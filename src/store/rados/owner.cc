#include "store/rados/owner.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <iterator>

namespace graftfs::rados {
namespace {

// Boot id and process namespace: a pid says something only in both.
std::string this_machine() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string boot;
  in >> boot;
  char space[64];
  ssize_t n = ::readlink("/proc/self/ns/pid", space, sizeof space);
  return fmt::format("{}/{}", boot, std::string_view(space, n > 0 ? static_cast<size_t>(n) : 0));
}

// When a process began; 0: there is none, or it has ended and waits for its parent.
uint64_t started_at(int32_t pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(in)), {});
  // The name in parentheses may hold anything.
  size_t at = text.rfind(')');
  if (at == std::string::npos || at + 2 >= text.size() || text[at + 2] == 'Z') return 0;
  std::string_view rest = std::string_view(text).substr(at + 2);
  for (int i = 0; i < 19; ++i) rest.remove_prefix(std::min(rest.size(), rest.find(' ') + 1));
  uint64_t started = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), started);
  return started;
}

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  for (char& c : name)
    if (c == '\n') c = '?';
  return name;
}

bool take(std::string_view& rest, std::string_view name, std::string& value) {
  size_t end = rest.find('\n');
  if (end == rest.npos || !rest.starts_with(name) || !rest.substr(name.size()).starts_with(" = "))
    return false;
  value = rest.substr(name.size() + 3, end - name.size() - 3);
  rest.remove_prefix(end + 1);
  return true;
}
template <class T>
bool take(std::string_view& rest, std::string_view name, T& number) {
  std::string text;
  if (!take(rest, name, text)) return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

OwnerRecord this_process(uint64_t client, std::string address) {
  OwnerRecord me;
  me.host = host_name();
  me.machine = this_machine();
  me.pid = ::getpid();
  me.started = started_at(me.pid);
  me.client = client;
  me.address = std::move(address);
  return me;
}

std::string encode(const OwnerRecord& o) {
  return fmt::format(
      "host = {}\nmachine = {}\npid = {}\nstarted = {}\nclient = {}\naddress = {}\n"
      "early = {:d}\n",
      o.host, o.machine, o.pid, o.started, o.client, o.address, o.early);
}

Result<OwnerRecord> decode_owner(std::string_view bytes, const std::string& shown) {
  OwnerRecord o;
  if (bytes.empty()) return o;
  int early = 0;
  if (!take(bytes, "host", o.host) || !take(bytes, "machine", o.machine) ||
      !take(bytes, "pid", o.pid) || !take(bytes, "started", o.started) ||
      !take(bytes, "client", o.client) || !take(bytes, "address", o.address) ||
      !take(bytes, "early", early) || !bytes.empty())
    return damaged(fmt::format("{}: its owner makes no sense; restore it from a backup", shown));
  o.early = early != 0;
  return o;
}

bool has_ended_here(const OwnerRecord& owner) {
  return owner.machine == this_machine() && started_at(owner.pid) != owner.started;
}

}  // namespace graftfs::rados
