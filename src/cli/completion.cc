// Completions are made from the command tree itself, so that they cannot fall behind it.
#include <fmt/format.h>

#include "cli/command.h"

namespace graftfs::cli {
namespace {

struct Entry {
  std::string path;                                        // "graftfs journal dump"
  std::vector<std::pair<std::string, std::string>> words;  // with what they are for
};

void collect(const CLI::App& app, const std::string& path, std::vector<Entry>& out) {
  Entry entry{path, {}};
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    entry.words.emplace_back(sub->get_name(), sub->get_description());
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames())
      entry.words.emplace_back("--" + name, option->get_description());
  out.push_back(entry);
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    collect(*sub, path + " " + sub->get_name(), out);
}

std::string quoted(std::string text) {
  for (size_t at = 0; (at = text.find('\'', at)) != text.npos; at += 4)
    text.replace(at, 1, "'\\''");
  return "'" + text + "'";
}

// Both shells walk the words before the cursor down the tree, then offer what that place has.
std::string shell_case(const std::vector<Entry>& entries) {
  std::string out;
  for (const Entry& entry : entries) {
    std::string words;
    for (const auto& [word, about] : entry.words) words += (words.empty() ? "" : " ") + word;
    out += fmt::format("    {}) words={} ;;\n", quoted(entry.path), quoted(words));
  }
  return out;
}

std::string bash(const std::vector<Entry>& entries) {
  std::string known;
  for (const Entry& entry : entries) known += fmt::format("{}|", quoted(entry.path));
  known.pop_back();
  return fmt::format(
      "# graftfs completion bash > /etc/bash_completion.d/graftfs\n"
      "_graftfs() {{\n"
      "  local place=graftfs words='' i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case \"$place ${{COMP_WORDS[i]}}\" in\n"
      "      {}) place=\"$place ${{COMP_WORDS[i]}}\" ;;\n"
      "    esac\n"
      "  done\n"
      "  case $place in\n{}  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n"
      "  COMPREPLY+=($(compgen -f -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n"
      "}}\n"
      "complete -o filenames -F _graftfs graftfs\n",
      known, shell_case(entries));
}

std::string zsh(const std::vector<Entry>& entries) {
  std::string known;
  for (const Entry& entry : entries) known += fmt::format("{}|", quoted(entry.path));
  known.pop_back();
  return fmt::format(
      "#compdef graftfs\n"
      "# graftfs completion zsh > \"${{fpath[1]}}/_graftfs\"\n"
      "_graftfs() {{\n"
      "  local place=graftfs offered='' i\n"
      "  for ((i = 2; i < CURRENT; i++)); do\n"
      "    case \"$place $words[i]\" in\n"
      "      ({}) place=\"$place $words[i]\" ;;\n"
      "    esac\n"
      "  done\n"
      "  () {{ local words; case $place in\n{}  esac; offered=$words }}\n"
      "  compadd -- ${{=offered}}\n"
      "  _files\n"
      "}}\n"
      "_graftfs \"$@\"\n",
      known, shell_case(entries));
}

std::string fish(const std::vector<Entry>& entries) {
  std::string out = "# graftfs completion fish > ~/.config/fish/completions/graftfs.fish\n";
  for (const Entry& entry : entries) {
    std::string rest = entry.path.substr(std::string_view("graftfs").size());
    std::string condition = rest.empty() ? "__fish_use_subcommand" : "";
    for (size_t at = 0; at < rest.size();) {
      size_t end = rest.find(' ', at + 1);
      std::string word = rest.substr(at + 1, end == rest.npos ? end : end - at - 1);
      condition += (condition.empty() ? "" : "; and ") + ("__fish_seen_subcommand_from " + word);
      at = end == rest.npos ? rest.size() : end;
    }
    for (const auto& [word, about] : entry.words) {
      bool flag = word.starts_with("--");
      out += fmt::format("complete -c graftfs -n {} {} {} -d {}\n", quoted(condition),
                         flag ? "-l" : "-a", flag ? word.substr(2) : word, quoted(about));
    }
  }
  return out;
}

}  // namespace

void add_completion(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = add_command(app, "completion", "Print completions for a shell",
                                  "  source <(graftfs completion bash)\n"
                                  "  graftfs completion fish | source\n");
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  on_run(command, [shell, &app]() -> Result<int> {
    std::vector<Entry> entries;
    collect(app, "graftfs", entries);
    std::string text = *shell == "bash"  ? bash(entries)
                       : *shell == "zsh" ? zsh(entries)
                                         : fish(entries);
    fmt::print("{}", text);
    return 0;
  });
}

}  // namespace graftfs::cli
