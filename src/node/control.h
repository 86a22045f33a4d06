#pragma once
// What an operator's commands ask a rank, and tell it to do: JSON texts on connections of their
// own.

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "net/net.h"
#include "server/rank.h"

namespace graftfs::node {

// One for a rank, in its thread, made when that serves and destroyed before it. Each request is
// answered once, with an object or with an errno and a sentence, on the connection it came by, or
// nowhere where that broke: what was begun goes on. A crash forgets what was asked; a move that was
// under way ends as its journal says. Whoever says what makes no sense is disconnected.
//
//   {"ask": "subtrees"}                          what this rank serves, and where that ends
//   {"ask": "weigh", "root": INO, "to": RANK}    what would go along, or why it cannot
//   {"ask": "load"}                              accesses since it was asked last, and of what
//   {"ask": "move", "root": INO, "to": RANK}     answered when it is done
class Controls {
 public:
  explicit Controls(Rank& rank);
  ~Controls();
  Controls(const Controls&) = delete;
  Controls& operator=(const Controls&) = delete;

  void add(std::unique_ptr<net::Connection> connection);

 private:
  struct Line;
  using Answer = std::function<void(Result<nlohmann::json>)>;
  void received(Line& line, Message message);
  void drop(Line& line);
  void ask(const nlohmann::json& request, Answer answer);
  nlohmann::json subtrees();
  nlohmann::json load();

  Rank& rank_;
  uint64_t last_line_ = 0;
  std::map<uint64_t, std::unique_ptr<Line>> lines_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs::node
