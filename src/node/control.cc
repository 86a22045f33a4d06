#include "node/control.h"

#include <nlohmann/json.hpp>

#include "base/fault.h"
#include "server/migrate.h"

namespace graftfs::node {

using nlohmann::json;

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

}  // namespace graftfs::node
