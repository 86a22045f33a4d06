#include <fmt/format.h>

#include <charconv>

#include "net/net.h"

namespace graftfs::net {

Result<Address> parse_address(std::string_view text) {
  auto bad = [&](const char* why) {
    return fail(EINVAL, fmt::format("'{}' is no address: {}; use unix:PATH or tcp:ADDRESS:PORT",
                                    text, why));
  };
  size_t colon = text.find(':');
  if (colon == text.npos) return bad("it names no kind");
  std::string_view kind = text.substr(0, colon), rest = text.substr(colon + 1);
  Address address;
  if (rest.empty()) return bad("nothing follows the colon");
  if (rest.find('\0') != rest.npos) return bad("it holds a zero byte");
  if (kind == "local" || kind == "unix") {
    address.kind = kind == "local" ? Address::local : Address::unix_socket;
    address.text = rest;
    if (kind == "unix" && rest.size() > 107) return bad("a socket's path has at most 107 bytes");
    return address;
  }
  if (kind != "tcp") return bad("there is no such kind");
  address.kind = Address::tcp;
  size_t last = rest.rfind(':');
  if (last == rest.npos) return bad("it has no port");
  std::string_view host = rest.substr(0, last), port = rest.substr(last + 1);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (port.empty() || error != std::errc() || end != port.data() + port.size())
    return bad("its port is no number up to 65535");
  if (host.empty()) return bad("it has no address before the port");
  address.text = host;
  return address;
}

std::string show(const Address& address) {
  switch (address.kind) {
    case Address::local:
      return "local:" + address.text;
    case Address::unix_socket:
      return "unix:" + address.text;
    case Address::tcp:
      break;
  }
  bool v6 = address.text.find(':') != std::string::npos;
  return fmt::format("tcp:{}{}{}:{}", v6 ? "[" : "", address.text, v6 ? "]" : "", address.port);
}

}  // namespace graftfs::net
