#include "node/control.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/fault.h"
#include "server/authority.h"
#include "server/migrate.h"
#include "server/rank_core.h"

namespace graftfs::node {

using nlohmann::json;

namespace {
constexpr double kWorthNaming = 0.02;  // of all that happens
constexpr size_t kMostNamed = 64;
}  // namespace

struct Controls::Line final : net::ConnectionEvents {
  Line(Controls& c, uint64_t line_id, std::unique_ptr<net::Connection> connected)
      : controls(c), id(line_id), connection(std::move(connected)) {}
  void received(Message message) override { controls.received(*this, std::move(message)); }
  void disconnected(const Error&) override { controls.drop(*this); }

  Controls& controls;
  const uint64_t id;
  std::unique_ptr<net::Connection> connection;
};

Controls::Controls(Rank& rank) : rank_(rank) {}
Controls::~Controls() { *alive_ = false; }

void Controls::add(std::unique_ptr<net::Connection> connection) {
  auto line = std::make_unique<Line>(*this, ++last_line_, std::move(connection));
  line->connection->set_events(line.get());
  lines_.emplace(line->id, std::move(line));
}

// May be called from inside its events.
void Controls::drop(Line& line) {
  auto node = lines_.extract(line.id);
  line.connection->set_events(nullptr);
  line.connection->close();
  rank_.executor().post([gone = std::shared_ptr<Line>(std::move(node.mapped()))] {});
}

void Controls::received(Line& line, Message message) {
  auto* control = std::get_if<msg::Control>(&message.body);
  json request = control ? json::parse(control->request, nullptr, false) : json();
  if (!request.is_object()) {
    MARK("node.control.nonsense");
    return drop(line);
  }
  ask(request, [this, alive = alive_, id = line.id, number = control->number](Result<json> result) {
    auto found = *alive ? lines_.find(id) : lines_.end();
    if (!*alive || found == lines_.end()) return;
    msg::ControlAnswer answer{.number = number};
    if (result)
      answer.answer = result->dump(-1, ' ', false, json::error_handler_t::replace);
    else
      answer.err = result.error().code, answer.answer = result.error().message;
    found->second->connection->send(Message{rank_.id(), RankId{}, std::move(answer)});
  });
}

void Controls::ask(const json& request, Answer answer) {
  const json what = request.value("ask", json());
  if (rank_.failed()) return answer(fail(EIO, "this rank has failed; see its log"));
  if (what == "subtrees") return answer(subtrees());
  if (what == "load") return answer(load());
  if (what != "move" && what != "weigh")
    return answer(fail(EINVAL, "this version does not know what it is asked"));
  const json root = request.value("root", json()), to = request.value("to", json());
  if (!root.is_number_unsigned() || !to.is_number_unsigned())
    return answer(fail(EINVAL, "a directory's inode number and a rank are missing"));
  const Ino ino{root.get<uint64_t>()};
  // Numbers that no rank can have stay what they are in the answer.
  if (to.get<uint64_t>() >= kNobody.v)
    return answer(fail(EINVAL, fmt::format("there is no rank {}; 'graftfs rank list' shows those "
                                           "there are",
                                           to.get<uint64_t>())));
  const RankId rank{to.get<uint16_t>()};
  if (what == "move") {
    return rank_.migrations().start(ino, rank, [answer](Result<void> moved) {
      if (!moved) return answer(std::unexpected(std::move(moved).error()));
      answer(json::object());
    });
  }
  rank_.migrations().weigh(ino, rank, [answer](Result<MovePlan> plan) {
    if (!plan) return answer(std::unexpected(std::move(plan).error()));
    answer(
        json{{"directories", plan->dirs}, {"entries", plan->entries}, {"unwritten", plan->dirty}});
  });
}

// The hidden directories of ranks are subtrees, too; they are told apart, because nobody moves
// them.
json Controls::subtrees() {
  json all = json::array();
  for (const auto& [root, import] : rank_.state().imports) {
    json bounds = json::array();
    for (const auto& [ino, bound] : import.bounds)
      bounds.push_back({{"root", ino.v}, {"rank", bound.rank.v}});
    json s = {{"root", root.v},
              {"path", import.path},
              {"parent", import.parent.v},
              {"rank", rank_.id().v},
              {"moves", import.moves},
              {"settled", import.settled},
              {"hidden", is_hidden_dir(root)},
              {"bounds", std::move(bounds)}};
    const Dir* dir = rank_.cache().find_dir(root);
    if (dir && !dir->is_foreign() && dir->inode().extra)
      if (auto pin = pin_of(dir->inode())) s["pin"] = pin->v;
    if (auto plan = rank_.migrations().plan(root)) {
      s["cached_directories"] = plan->dirs;
      s["cached_entries"] = plan->entries;
    }
    all.push_back(std::move(s));
  }
  return {{"rank", rank_.id().v}, {"subtrees", std::move(all)}};
}

// The directories below which most happens. What lies around or in a pinned one is pinned with it,
// and what has something in it or around it that came a moment ago came then.
json Controls::load() {
  Migrations& migrations = rank_.migrations();
  const Nanos now = rank_.executor().now();
  const Heat::Window window = migrations.heat().take(now);
  const Cache& cache = rank_.cache();
  std::map<Ino, double> below;
  double total = 0;
  for (const auto& [ino, count] : window.counts) {
    total += count;
    const Dir* dir = cache.find_dir(Ino{ino});
    if (!dir || is_hidden_dir(import_of(rank_.state(), *dir))) continue;
    for (const Dir* d = dir; d && !d->is_foreign(); d = d->parent) {
      below[d->ino()] += count;
      if (rank_.state().is_root(d->ino())) break;
    }
  }
  std::vector<const Dir*> pinned;
  rank_.core().cache().for_each_dir([&](const Dir& dir) {
    if (!dir.is_foreign() && dir.inode().extra && pin_of(dir.inode())) pinned.push_back(&dir);
  });
  std::vector<std::pair<double, Ino>> hottest;
  for (const auto& [ino, count] : below)
    if (ino != kRootIno && count >= kWorthNaming * total) hottest.emplace_back(count, ino);
  std::sort(hottest.begin(), hottest.end(), std::greater<>());
  if (hottest.size() > kMostNamed) hottest.resize(kMostNamed);
  auto touches = [](const Dir& a, const Dir& b) {
    return Cache::is_below(&a, &b) || Cache::is_below(&b, &a);
  };
  const double seconds = window.seconds > 0 ? window.seconds : 1;
  json all = json::array();
  for (const auto& [count, ino] : hottest) {
    const Dir& dir = *cache.find_dir(ino);
    bool is_pinned = false;
    for (const Dir* p : pinned) is_pinned = is_pinned || touches(dir, *p);
    double here_for = -1;
    for (const auto& [root, when] : migrations.arrivals()) {
      const Dir* came = cache.find_dir(root);
      const double age = static_cast<double>(now - when) / kSecond;
      if (came && !came->is_foreign() && touches(dir, *came) && (here_for < 0 || age < here_for))
        here_for = age;
    }
    all.push_back({{"root", ino.v},
                   {"path", full_path(rank_.state(), dir)},
                   {"load", count / seconds},
                   {"pinned", is_pinned},
                   {"here_for_s", here_for}});
  }
  return {{"rank", rank_.id().v},
          {"seconds", window.seconds},
          {"load", window.seconds > 0 ? total / seconds : 0},
          {"takes", !migrations.is_leaving()},
          {"subtrees", std::move(all)}};
}

}  // namespace graftfs::node
