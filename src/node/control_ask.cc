#include "node/control_ask.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace graftfs::node {
namespace {

using nlohmann::json;

class Asking final : public net::ConnectionEvents {
 public:
  Asking(Executor& executor, RankId rank)
      : name_(fmt::format("rank {}", rank)), answer_(executor) {}
  ~Asking() override {
    if (connection_) connection_->set_events(nullptr);
  }
  void connected(Result<std::unique_ptr<net::Connection>> connection, const json& request) {
    if (!connection)
      return set(fail(EHOSTDOWN, fmt::format("{} cannot be reached ({})", name_,
                                             describe(connection.error()))));
    connection_ = std::move(*connection);
    connection_->set_events(this);
    connection_->send(Message{RankId{}, RankId{}, msg::Control{1, request.dump()}});
  }
  void received(Message message) override {
    auto* answer = std::get_if<msg::ControlAnswer>(&message.body);
    if (!answer) return;
    if (answer->err) return set(fail(answer->err, answer->answer));
    json parsed = json::parse(answer->answer, nullptr, false);
    if (parsed.is_discarded()) return set(fail(EBADMSG, name_ + " answers nonsense"));
    set(std::move(parsed));
  }
  void disconnected(const Error& why) override {
    set(fail(EHOSTDOWN, fmt::format("{} has gone away ({})", name_, describe(why))));
  }
  void too_late() { set(fail(ETIMEDOUT, name_ + " does not answer; try again")); }
  Promised<Result<json>> answer() const { return answer_; }

 private:
  void set(Result<json> result) {
    if (!answer_.is_set()) answer_.set(std::move(result));
  }
  std::string name_;
  Promised<Result<json>> answer_;
  std::unique_ptr<net::Connection> connection_;
};

}  // namespace

Task<Result<json>> ask_control(Executor& executor, RankId rank, DialControlFn dial, json request,
                               Nanos limit) {
  auto asking = std::make_shared<Asking>(executor, rank);
  std::weak_ptr<Asking> weak = asking;
  dial([weak, request](Result<std::unique_ptr<net::Connection>> connection) {
    if (auto there = weak.lock()) there->connected(std::move(connection), request);
  });
  executor.post_after(limit, [weak] {
    if (auto there = weak.lock()) there->too_late();
  });
  Promised<Result<json>> answer = asking->answer();
  co_return co_await answer;
}

}  // namespace graftfs::node
