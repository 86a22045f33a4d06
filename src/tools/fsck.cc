#include "tools/fsck.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "events/event.h"
#include "tools/subtree_map.h"

namespace graftfs::tools {
namespace {

class Checker {
 public:
  Checker(const FsckModel& model, const std::map<RankId, RankState*>& states,
          const std::set<Ino>& unsettled)
      : model_(model), states_(states), unsettled_(unsettled) {}

  std::vector<Problem> run() {
    for (const std::string& text : model_.unreadable)
      add(ProblemKind::unreadable, Ino{}, "", text,
          "what can be read of the directory is written anew");
    for (Ino ino : roots()) check_root(ino);
    reach();
    for (const auto& [ino, dir] : model_.dirs) check_dir(ino, dir);
    for (const auto& [ino, file] : model_.files) check_file(ino, file);
    check_data();
    check_ranges();
    for (Problem& p : problems_) p.note = p.note || unsettled_.contains(p.ino);
    return std::move(problems_);
  }

 private:
  // What must be there. A rank that never came to serve has perhaps not made its own.
  std::set<Ino> roots() const {
    std::set<Ino> all{kRootIno, linked_dir_ino(RankId{0}), orphans_dir_ino(RankId{0})};
    for (const auto& [rank, state] : states_)
      for (const auto& [root, import] : state->imports)
        if (is_hidden_dir(root) && state->is_root(orphans_dir_ino(rank))) all.insert(root);
    return all;
  }

  Problem& add(ProblemKind kind, Ino ino, std::string path, std::string sentence,
               std::string repair) {
    problems_.push_back({kind, ino, std::move(path), std::move(sentence), std::move(repair)});
    return problems_.back();
  }

  static bool is_top(Ino ino) { return ino == kRootIno || is_hidden_dir(ino); }

  bool exists(Ino dir) const {
    auto it = model_.dirs.find(dir);
    return it != model_.dirs.end() && (it->second.has_header || it->second.damaged);
  }

  void check_root(Ino ino) {
    auto it = model_.dirs.find(ino);
    if (it == model_.dirs.end() || (!it->second.has_header && !it->second.damaged))
      add(ProblemKind::missing_root, ino, model_.path_of(ino),
          fmt::format("directory {} is not there", model_.path_of(ino)), "it is made, empty");
  }

  // From the tops down along the names.
  void reach() {
    std::map<Ino, std::vector<Ino>> children;
    for (const auto& [ino, dir] : model_.dirs)
      for (const NameRef& link : dir.links) children[link.dir].push_back(ino);
    std::vector<Ino> queue;
    for (const auto& [ino, dir] : model_.dirs)
      if (is_top(ino)) queue.push_back(ino);
    while (!queue.empty()) {
      Ino ino = queue.back();
      queue.pop_back();
      if (!reached_.insert(ino).second) continue;
      for (Ino child : children[ino]) queue.push_back(child);
    }
  }

  void check_dir(Ino ino, const DirNode& dir) {
    std::string path = model_.path_of(ino);
    if (!exists(ino)) {
      for (const NameRef& link : dir.links)
        add(ProblemKind::missing_dir, ino, model_.path_of(link),
            fmt::format("{} leads to directory {}, which is not there", model_.path_of(link),
                        ino.v),
            "the name is removed")
            .name = link;
      return;
    }
    if (model_.files.contains(ino) && !model_.files.at(ino).homes.empty())
      add(ProblemKind::ino_twice, ino, path,
          fmt::format("{} and {} have the same inode number {}", path,
                      model_.path_of(model_.files.at(ino).homes.front()), ino.v),
          "nothing: copy the file elsewhere, remove it, and check again");
    if (dir.damaged)
      add(ProblemKind::damaged_dir, ino, path,
          fmt::format("directory {} (inode {}) holds something that is damaged: {}", path, ino.v,
                      dir.damage),
          "it is written anew with all that can be read; what it named and is not named any more "
          "goes to /lost+found");
    check_place(ino, dir, path);
    if (!dir.has_header) return;
    if (dir.header.inode.size != dir.entries)
      add(ProblemKind::entry_count, ino, path,
          fmt::format("directory {} says it has {} entries and has {}", path, dir.header.inode.size,
                      dir.entries),
          "the number is set right");
    uint32_t links = dir.header.inode.nlink;
    bool orphan = !dir.links.empty() && is_orphans_dir(dir.links.front().dir);
    uint32_t right = orphan ? 0 : 2 + dir.subdirs;
    if (!is_hidden_dir(ino) && links != right)
      add(ProblemKind::dir_links, ino, path,
          fmt::format("directory {} has link count {}, which should be {}", path, links, right),
          "the link count is set right");
    check_ino(ino, path);
  }

  void check_place(Ino ino, const DirNode& dir, const std::string& path) {
    if (is_top(ino)) return;
    if (dir.links.size() > 1)
      for (size_t i = 1; i < dir.links.size(); ++i)
        add(ProblemKind::dir_named_twice, ino, model_.path_of(dir.links[i]),
            fmt::format("directory {} has a second name, {}", path, model_.path_of(dir.links[i])),
            "the name that the directory itself does not know is removed")
            .name = dir.links[i];
    if (!reached_.contains(ino)) {
      // In a circle, one of them is lifted out; the others hang below it again.
      add(ProblemKind::lost_dir, ino, path,
          dir.links.empty()
              ? fmt::format("no name leads to directory {} (it was '{}' in directory {})", ino.v,
                            dir.header.at.name, dir.header.at.parent.v)
              : fmt::format("directory {} hangs in a circle or below what is lost", ino.v),
          dir.links.empty() ? fmt::format("it is named /lost+found/#{}", ino.v)
                            : "its upmost directory goes to /lost+found");
      return;
    }
    const NameRef& link = dir.links.front();
    if (dir.links.size() == 1 && dir.has_header &&
        dir.header.at != Backpointer{link.dir, link.name})
      add(ProblemKind::backpointer, ino, path,
          fmt::format("directory {} says it is '{}' in directory {}", path, dir.header.at.name,
                      dir.header.at.parent.v),
          "it is told where it is")
          .name = link;
  }

  void check_file(Ino ino, const FileNode& file) {
    if (file.homes.empty()) {
      for (const NameRef& name : file.remotes)
        add(ProblemKind::missing_file, ino, model_.path_of(name),
            fmt::format("{} leads to inode {}, which is not there", model_.path_of(name), ino.v),
            "the name is removed; if there is data, it goes to /lost+found")
            .name = name;
      return;
    }
    std::string path =
        model_.path_of(file.remotes.empty() ? file.homes.front() : file.remotes.front());
    const NameRef& home = file.homes.front();
    bool plain = !is_hidden_dir(home.dir);
    if (file.homes.size() > 1 || (plain && !file.remotes.empty())) {
      add(ProblemKind::file_named_twice, ino, path,
          fmt::format("inode {} is embedded in {}{}", ino.v, model_.path_of(home),
                      file.homes.size() > 1 ? " and in " + model_.path_of(file.homes[1])
                                            : " and has other names"),
          "its names become links to one inode");
    } else if (is_orphans_dir(home.dir)) {
      if (!file.remotes.empty() || file.inode.nlink != 0)
        add(ProblemKind::orphan, ino, path,
            fmt::format("inode {} waits to be purged, but it has {}", ino.v,
                        file.remotes.empty() ? fmt::format("link count {}", file.inode.nlink)
                                             : "the name " + model_.path_of(file.remotes.front())),
            file.remotes.empty() ? fmt::format("it is named /lost+found/#{}", ino.v)
                                 : "it is kept for its names");
    } else if (!plain && file.remotes.empty()) {
      add(ProblemKind::lost_file, ino, path,
          fmt::format("inode {} is kept for files with several names, and no name leads to it",
                      ino.v),
          fmt::format("it is named /lost+found/#{}", ino.v));
    } else {
      size_t names = plain ? 1 : file.remotes.size();
      if (file.inode.nlink != names)
        add(ProblemKind::file_links, ino, path,
            fmt::format("{} (inode {}) has link count {}, which should be {}", path, ino.v,
                        file.inode.nlink, names),
            "the link count is set right");
    }
    check_ino(ino, path);
  }

  void check_ino(Ino ino, const std::string& path) {
    for (const auto& [rank, state] : states_)
      for (const InoRange& range : state->inos)
        if (ino.v >= range.next && ino.v < range.end)
          add(ProblemKind::free_ino, ino, path,
              fmt::format("{} has inode number {}, which rank {} would give to a new file, too",
                          path, ino.v, rank),
              "the number is taken out of those that are free");
  }

  void check_ranges() {
    std::map<uint64_t, std::pair<uint64_t, RankId>> free;  // by first number
    for (const auto& [rank, state] : states_) {
      for (const InoRange& range : state->inos) {
        if (range.next >= range.end) continue;
        auto behind = free.lower_bound(range.end);
        if (behind != free.begin() && std::prev(behind)->second.first > range.next)
          add(ProblemKind::ino_range, Ino{range.next}, "",
              fmt::format("ranks {} and {} would both give numbers from {} to {} to new files",
                          std::prev(behind)->second.second, rank,
                          std::max(range.next, std::prev(behind)->first),
                          std::min(range.end, std::prev(behind)->second.first) - 1),
              "only the first of the two may");
        else
          free[range.next] = {range.end, rank};
      }
    }
  }

  void check_data() {
    for (Ino ino : model_.data) {
      if (auto it = model_.files.find(ino); it != model_.files.end() && !it->second.homes.empty())
        continue;
      add(ProblemKind::lost_data, ino, "",
          fmt::format("there is data of inode {}, which no file claims (normal after a power cut: "
                      "the file was never made durable)",
                      ino.v),
          fmt::format("it is named /lost+found/#{}", ino.v))
          .note = true;
    }
  }

  const FsckModel& model_;
  const std::map<RankId, RankState*>& states_;
  const std::set<Ino>& unsettled_;
  std::set<Ino> reached_;
  std::vector<Problem> problems_;
};

}  // namespace

const char* name_of(ProblemKind kind) {
  static constexpr const char* names[] = {
      "unreadable",       "damaged-dir",  "missing-root", "missing-dir",  "dir-named-twice",
      "lost-dir",         "backpointer",  "entry-count",  "dir-links",    "missing-file",
      "file-named-twice", "ino-twice",    "file-links",   "lost-file",    "orphan",
      "location",         "free-ino",     "lost-data",    "damaged-data", "two-authorities",
      "no-authority",     "lost-subtree", "bound",        "ino-range",    "unfinished"};
  static_assert(std::size(names) == static_cast<size_t>(ProblemKind::unfinished) + 1);
  return names[static_cast<size_t>(kind)];
}

nlohmann::json to_json(const Problem& p) {
  return {{"kind", name_of(p.kind)}, {"ino", p.ino.v},     {"path", p.path},
          {"problem", p.sentence},   {"repair", p.repair}, {"note", p.note}};
}

std::vector<Problem> check_model(const FsckModel& model, const std::map<RankId, RankState*>& states,
                                 const std::set<Ino>& unsettled) {
  std::vector<Problem> out = Checker(model, states, unsettled).run();
  for (Problem& p : SubtreeMap(model, states, unsettled).check()) out.push_back(std::move(p));
  return out;
}

Task<Result<std::vector<Problem>>> check_locations(const FsckModel& model, DirStore& store) {
  std::vector<Problem> out;
  for (const auto& [ino, file] : model.files) {
    if (file.homes.size() != 1 || file.homes.front().journaled) continue;
    const NameRef& home = file.homes.front();
    auto at = co_await store.locate(ino);
    if (!at && !at.error().is_damage()) co_return std::unexpected(at.error());
    if (at && *at && (*at)->dir == home.dir && (*at)->key == entry_key(home.name)) continue;
    Problem p;
    p.kind = ProblemKind::location;
    p.ino = ino;
    p.path = model.path_of(home);
    p.name = home;
    p.sentence = fmt::format("the index does not say that inode {} is in {}", ino.v, p.path);
    p.repair = "the index is set right";
    out.push_back(std::move(p));
  }
  co_return out;
}

Task<Result<FsckReport>> check_volume(JournalSource source, bool data) {
  CO_TRY_ASSIGN(VolumeView view, co_await replay_volume(source));
  KnownDirs known = view.known_dirs();
  CO_TRY_ASSIGN(FsckModel model, co_await read_model(*source.store, known));
  FsckReport report;
  report.problems = check_model(model, view.states(), view.unsettled);
  CO_TRY_ASSIGN(auto located, co_await check_locations(model, source.store->dirs()));
  for (Problem& p : located) report.problems.push_back(std::move(p));
  if (data) {
    CO_TRY_ASSIGN(auto damaged, co_await check_data(model, source.store->data()));
    for (Problem& p : damaged) report.problems.push_back(std::move(p));
  }
  if (view.unfinished > 0) {
    Problem p;
    p.kind = ProblemKind::unfinished;
    p.note = true;
    p.sentence = fmt::format(
        "{} operations between ranks are not finished (normal after a crash); what looks wrong "
        "about the {} files and directories that they concern is only noted",
        view.unfinished, view.unsettled.size());
    p.repair = fmt::format("the ranks do it as soon as {} is served", source.volume_name);
    report.problems.push_back(std::move(p));
  }
  report.ranks = view.journals.size();
  report.dirs = model.dirs.size();
  report.files = model.files.size();
  for (const auto& [ino, dir] : model.dirs) report.names += dir.entries;
  co_return report;
}

}  // namespace graftfs::tools
