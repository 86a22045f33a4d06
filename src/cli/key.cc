// `graftfs key`: who may come in over tcp, and what they may do.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/volume.h"
#include "net/keys.h"
#include "node/volume_key.h"

namespace graftfs::cli {
namespace {

using nlohmann::json;

constexpr char kIssued[] = "cluster/keys/issued-", kRevoked[] = "cluster/keys/revoked-";

std::string today() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

Result<int> issue(const std::string& name, const net::KeyLimits& limits) {
  std::string volume = volume_name(name);
  if (!limits.path.starts_with('/'))
    return fail(EINVAL, fmt::format("--path: '{}' does not begin with '/'; it is a path within the "
                                    "volume",
                                    limits.path));
  TRY_ASSIGN(auto open, OpenVolume::open(volume));
  TRY_ASSIGN(std::string secret, node::volume_key(open->volume()));
  net::ClientKey key = net::issue_key(secret, limits);
  if (auto sane = net::limits_of(key.id); !sane)
    return fail(EINVAL, "the path or the label is too long, or holds a zero byte");
  json about = {{"path", limits.path},
                {"read_only", limits.read_only},
                {"squash_root", limits.squash_root},
                {"label", limits.label},
                {"issued", today()}};
  // For 'key list' only: what the key allows stands in the key itself.
  TRY(open->wait(open->store().state().set(kIssued + net::name_of_key(key.id), 0, about.dump())));
  fmt::print("{}\n", net::show_key(key));
  return 0;
}

// By the key itself, or by its name.
Result<std::string> name_of(const std::string& text) {
  if (auto key = net::parse_key(text)) return net::name_of_key(key->id);
  if (text.size() == 16 && text.find_first_not_of("0123456789abcdef") == text.npos) return text;
  return fail(EINVAL,
              fmt::format("'{}' is neither a key nor a key's name; see 'graftfs key list'", text));
}

Result<int> revoke(const std::string& name_given, const std::string& text) {
  std::string volume = volume_name(name_given);
  TRY_ASSIGN(std::string name, name_of(text));
  TRY_ASSIGN(auto open, OpenVolume::open(volume));
  auto set = open->wait(open->store().state().set(kRevoked + name, 0, today()));
  if (!set && set.error().code != ESTALE) return std::unexpected(set.error());
  fmt::print("key {} is revoked\n", name);
  return 0;
}

Result<int> list(const std::string& name_given, bool as_json) {
  std::string volume = volume_name(name_given);
  TRY_ASSIGN(auto open, OpenVolume::open(volume));
  StateStore& state = open->store().state();
  TRY_ASSIGN(auto issued, open->wait(state.list(kIssued)));
  TRY_ASSIGN(auto revoked, open->wait(state.list(kRevoked)));
  std::map<std::string, json> keys;
  for (const auto& [key, value] : issued) {
    json about = json::parse(value.value, nullptr, false);
    keys[key.substr(std::string_view(kIssued).size())] = about.is_object() ? about : json::object();
  }
  for (const auto& [key, value] : revoked)
    keys[key.substr(std::string_view(kRevoked).size())]["revoked"] = value.value;
  if (as_json) {
    json all = json::array();
    for (auto& [name, about] : keys) {
      about["name"] = name;
      all.push_back(about);
    }
    fmt::print("{}\n", all.dump(2));
    return 0;
  }
  fmt::print("{:<18}{:<22}{:<24}{}\n", "NAME", "ISSUED", "MAY", "LABEL");
  for (const auto& [name, about] : keys) {
    std::string may = about.contains("revoked") ? "nothing (revoked)" : about.value("path", "?");
    if (!about.contains("revoked")) {
      if (about.value("read_only", false)) may += ", read";
      if (about.value("squash_root", false)) may += ", not as root";
    }
    fmt::print("{:<18}{:<22}{:<24}{}\n", name, about.value("issued", "?"), may,
               about.value("label", ""));
  }
  return 0;
}

}  // namespace

void add_key(CLI::App& app) {
  struct Args {
    std::string volume, key;
    net::KeyLimits limits;
    bool json = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* group = add_command(app, "key", "Keys for clients that come over tcp",
                                "  graftfs key issue /srv/v --label laptop > laptop.key\n"
                                "  graftfs key list /srv/v\n"
                                "  graftfs key revoke /srv/v 0123456789abcdef\n");
  group->require_subcommand(1);

  CLI::App* make =
      add_command(*group, "issue", "Print a new key",
                  "  graftfs key issue /srv/v > client.key && chmod 600 client.key\n"
                  "  graftfs key issue /srv/v --path /projects --read-only --label ci\n");
  make->add_option("VOLUME", args->volume, "the volume")->required();
  make->add_option("--path", args->limits.path, "nothing outside of this directory (/)")
      ->type_name("PATH");
  make->add_flag("--read-only", args->limits.read_only, "no changes");
  make->add_flag("--squash-root", args->limits.squash_root, "root is nobody");
  make->add_option("--label", args->limits.label, "for people")->type_name("TEXT");
  on_run(make, [args] { return issue(args->volume, args->limits); });

  CLI::App* end = add_command(*group, "revoke", "End a key; who uses it is cut off",
                              "  graftfs key revoke /srv/v 0123456789abcdef\n"
                              "  graftfs key revoke /srv/v \"$(cat client.key)\"\n");
  end->add_option("VOLUME", args->volume, "the volume")->required();
  end->add_option("KEY", args->key, "the key, or its name")->required();
  on_run(end, [args] { return revoke(args->volume, args->key); });

  CLI::App* show = add_command(*group, "list", "Show which keys were issued and revoked",
                               "  graftfs key list /srv/v\n"
                               "  graftfs key list /srv/v --json\n");
  show->add_option("VOLUME", args->volume, "the volume")->required();
  show->add_flag("--json", args->json, "a JSON array");
  on_run(show, [args] { return list(args->volume, args->json); });
}

}  // namespace graftfs::cli
