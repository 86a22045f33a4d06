#include "sim/cluster/matrix.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "server/migrate.h"
#include "server/rank_core.h"

namespace graftfs::sim {
namespace {

// The exporter or coordinator, and the other side. Rank 0 has the root and gives the token.
constexpr RankId kOne{1}, kOther{2};
constexpr Nanos kPatience = 20 * kSecond;

std::string prefix_of(const MatrixCase& c, bool first) {
  if (c.operation == "migrate") return first ? "migration.export." : "migration.import.";
  return first ? "two_party.coordinator." : "two_party.participant.";
}

const char* name_of(Ending ending) {
  switch (ending) {
    case Ending::resume:
      return "resume";
    case Ending::takeover:
      return "takeover";
    default:
      return "zombie";
  }
}

ClusterConfig config_of(const MatrixCase& c) {
  ClusterConfig config;
  config.seed = crc32c(describe(c));
  SimRandom r(config.seed);
  config.durability = r.chance(50) ? Durability::posix : Durability::strict;
  config.trace = r.chance(70) ? TracePolicy::chunked : TracePolicy::full;
  config.ranks = 3;
  config.standbys = 1;
  config.clients = 2;
  config.workers = 2;
  config.operations = c.load ? 60 : 0;
  config.hints = c.ending == Ending::takeover;
  config.print = c.print;
  config.segment_events = static_cast<uint32_t>(16 + r.below(48));
  config.memory_limit = 1 << 20;
  return config;
}

class MatrixRun final : public Cluster {
 public:
  MatrixRun(const MatrixCase& c, std::map<std::string, uint64_t>& deaths)
      : Cluster(config_of(c)), case_(c), deaths_(deaths) {
    sites_[0] = prefix_of(c, true) + c.first;
    sites_[1] = prefix_of(c, false) + c.second;
    if (c.again) again_in_ = 1 + random_.below(30);
  }

 private:
  Task<void> middle() override;
  bool dies_here(Process& process, const fault::Site& site) override;
  Nanos restart_after() override {
    return case_.ending == Ending::resume ? Cluster::restart_after() : 3 * kSecond;
  }
  void after_step() override;
  Task<void> prepare_tree();
  Task<Ino> make(Ino dir, const char* name, bool is_dir);
  Task<void> call(std::vector<Args>& all);
  Args operation() const;

  const MatrixCase& case_;
  std::map<std::string, uint64_t>& deaths_;
  std::string sites_[2];
  bool armed_ = false;
  bool died_[2] = {false, false};
  uint64_t again_in_ = 0;
  RankId victim_;                // the first one
  Process* stopping_ = nullptr;  // stops at the end of this event
  std::vector<std::pair<Process*, RankId>> stopped_;
  std::map<std::string, Ino> inos_;
  bool done_ = false;
};

// -- what is there, and what is done
// ----------------------------------------------------------------

Task<void> MatrixRun::call(std::vector<Args>& all) {
  for (Args& args : all) {
    auto asked = ask(*clients_[0], std::move(args));
    Reply reply = co_await asked;
    if (reply.err) oracle_.fail(fmt::format("preparing the tree: errno {}", reply.err));
  }
}

Task<Ino> MatrixRun::make(Ino dir, const char* name, bool is_dir) {
  Args args;
  if (is_dir)
    args = MkdirArgs{dir, name, 0755, 0};
  else
    args = MknodArgs{dir, name, S_IFREG | 0644, 0, 0};
  auto asked = ask(*clients_[0], std::move(args));
  Reply reply = co_await asked;
  if (reply.err) oracle_.fail(fmt::format("making {}: errno {}", name, reply.err));
  inos_[name] = reply.stat.ino;
  co_return reply.stat.ino;
}

// /c is the first one's, /p the second one's; c* lie in /c, p* in /p.
Task<void> MatrixRun::prepare_tree() {
  const Ino c = co_await make(kRootIno, "c", true);
  const Ino p = co_await make(kRootIno, "p", true);
  const bool moves = case_.operation == "migrate";
  auto give = [this](Ino dir, RankId to) -> Task<void> {
    auto moved = co_await move(dir, to);
    if (!moved) oracle_.fail("preparing the tree: " + graftfs::describe(moved.error()));
  };
  co_await give(c, kOne);
  co_await give(p, kOther);
  // What moves has directories, files, a bound of another rank and one of its new owner in it, and
  // inodes of several names that live at three ranks.
  const Ino cd = co_await make(c, "cd", true);
  const Ino pd = co_await make(p, "pd", true);
  const Ino cf = co_await make(c, "cf", false);
  const Ino pf = co_await make(p, "pf", false);
  const Ino pg = co_await make(p, "pg", false);
  co_await make(kRootIno, "f", false);
  std::vector<Args> links;
  links.push_back(LinkArgs{pf, c, "pf-in-c"});
  links.push_back(LinkArgs{pg, c, "pg-in-c"});
  links.push_back(LinkArgs{cf, p, "cf-in-p"});
  links.push_back(LinkArgs{inos_["f"], cd, "f-in-cd"});
  links.push_back(UnlinkArgs{p, "pg"});  // its last name is /c/pg-in-c
  co_await call(links);
  const Ino ce = co_await make(c, "ce", true);
  const Ino cx = co_await make(c, "cx", true);
  const Ino px = co_await make(pd, "px", true);
  co_await give(ce, kOther);
  co_await give(px, kOne);
  co_await give(cx, RankId{0});
  co_await make(cd, "deep", true);
  co_await make(inos_["deep"], "deeper", false);
  co_await make(cx, "in-cx", false);
  co_await make(px, "in-px", false);
  if (moves) co_await make(ce, "in-ce", false);
}

Args MatrixRun::operation() const {
  const Ino c = inos_.at("c"), p = inos_.at("p");
  const std::string& op = case_.operation;
  if (op == "unlink") return UnlinkArgs{c, "pg-in-c"};
  if (op == "unlink-one") return UnlinkArgs{c, "pf-in-c"};
  if (op == "link") return LinkArgs{inos_.at("pf"), c, "new"};
  if (op == "rmdir") return RmdirArgs{c, "ce"};
  if (op == "rename") return RenameArgs{p, "pf", c, "new", 0};
  if (op == "rename-onto") return RenameArgs{p, "cf-in-p", c, "pg-in-c", 0};
  if (op == "rename-dir") return RenameArgs{p, "pd", c, "new", 0};
  if (op == "rename-dir-onto") return RenameArgs{p, "pd", c, "ce", 0};
  if (op == "exchange") return RenameArgs{p, "pf", c, "cf", 2};
  if (op == "exchange-dir") return RenameArgs{p, "pd", c, "cd", 2};
  if (op == "exchange-bound") return RenameArgs{p, "pf", c, "ce", 2};
  if (op == "loop") return RenameArgs{p, "pd", inos_.at("px"), "new", 0};
  CHECK(op == "refused", "there is no such operation: {}", op);
  return RenameArgs{p, "pf", c, "cd", 0};
}

Task<void> MatrixRun::middle() {
  co_await prepare_tree();
  if (!oracle_.failure().empty()) co_return;
  armed_ = true;
  quiet_ = false;
  if (case_.load)
    for (auto& client : clients_) start_work(*client);
  if (case_.operation == "migrate") {
    Host* host = serving(kOne);
    host->executor.post([this, host, root = inos_["c"]] {
      host->rank->migrations().start(root, kOther, [this](Result<void> moved) {
        moves_ += moved.has_value();
        done_ = true;
      });
    });
  } else {
    clients_[0]->executor.post([this] {
      clients_[0]->tasks.spawn([](MatrixRun& run) -> Task<void> {
        auto asked = run.ask(*run.clients_[0], run.operation());
        Reply reply = co_await asked;
        if (reply.err == 0 && reply.orphaned) {
          auto released = run.ask(*run.clients_[0], ReleaseArgs{reply.stat.ino, 1});
          Reply nothing = co_await released;
        }
        run.done_ = true;
      }(*this));
    });
  }
  // Until it is over, one way or the other.
  const Nanos end = queue_.now() + kPatience;
  auto over = [&] {
    const bool dead = died_[0] && case_.operation == "migrate";
    return (done_ || dead) && workers_left_ == 0 && stopped_.empty();
  };
  while (!over()) {
    co_await sleep_for(world_node_, kMillisecond);
    if (queue_.now() > end)
      co_return oracle_.fail(fmt::format("it does not end: {} requests are not answered{}",
                                         workers_left_ + !done_,
                                         stopped_.empty() ? "" : ", a rank was not taken over"));
  }
}

// -- death
// ------------------------------------------------------------------------------------------

bool MatrixRun::dies_here(Process& process, const fault::Site& site) {
  if (!armed_ || quiet_) return false;
  const RankId rank = process.rank_at(queue_.current());
  if (died_[0] || died_[1]) {
    if (rank == victim_ && again_in_ > 0 && --again_in_ == 0) {
      queue_.note(site.name);
      if (config_.print) fmt::print("{:>7} again, at {}\n", queue_.steps(), site.name);
      return true;
    }
  }
  for (int i : {0, 1}) {
    if (died_[i] || rank != (i == 0 ? kOne : kOther) || sites_[i] != site.name) continue;
    if (!died_[0] && !died_[1]) victim_ = rank;
    died_[i] = true;
    ++deaths_[site.name];
    queue_.note(site.name);
    if (config_.print) fmt::print("{:>7} at {}\n", queue_.steps(), site.name);
    if (case_.ending != Ending::zombie) return true;
    stopping_ = &process;
    stopped_.emplace_back(&process, rank);
    return false;
  }
  return false;
}

// It stops after the event in which it came to its point, and goes on a little later than somebody
// else serves its rank.
void MatrixRun::after_step() {
  if (stopping_) {
    ++stalls_;
    std::exchange(stopping_, nullptr)->stall(true);
  }
  std::erase_if(stopped_, [this](const auto& item) {
    auto [process, rank] = item;
    Host* host = serving(rank);
    if (process->alive() && process->stalled() && (!host || &host->process == process))
      return false;
    world_node_.post_after(static_cast<Nanos>(random_.below(50)) * kMillisecond,
                           [process] { process->stall(false); });
    return true;
  });
}

}  // namespace

std::string describe(const MatrixCase& c) {
  return fmt::format("{}:{}:{}:{}{}{}", c.operation, c.first, c.second, name_of(c.ending),
                     c.load ? ":load" : "", c.again ? ":again" : "");
}

std::vector<std::string> points_of(const std::string& prefix) {
  std::vector<std::string> points;
  for (const fault::Site* site : fault::sites())
    if (site->kind == fault::SiteKind::kill_point && std::string(site->name).starts_with(prefix))
      points.push_back(std::string(site->name).substr(prefix.size()));
  return points;
}

const std::vector<std::string>& two_party_operations() {
  static const std::vector<std::string> all{
      "unlink",     "unlink-one",      "link",     "rmdir",        "rename",         "rename-onto",
      "rename-dir", "rename-dir-onto", "exchange", "exchange-dir", "exchange-bound", "loop",
      "refused"};
  return all;
}

std::vector<MatrixCase> matrix_of(const std::string& operation, bool all) {
  std::vector<MatrixCase> cases;
  MatrixCase c;
  c.operation = operation;
  for (const std::string& first : points_of(prefix_of(c, true))) {
    for (const std::string& second : points_of(prefix_of(c, false))) {
      c.first = first;
      c.second = second;
      std::vector<MatrixCase> variants;
      for (Ending ending : {Ending::resume, Ending::takeover, Ending::zombie}) {
        for (bool load : {false, true}) {
          for (bool again : {false, true}) {
            MatrixCase v = c;
            v.ending = ending;
            v.load = load;
            v.again = again;
            variants.push_back(std::move(v));
          }
        }
      }
      if (all)
        cases.insert(cases.end(), variants.begin(), variants.end());
      else
        cases.push_back(variants[crc32c(describe(c)) % variants.size()]);
    }
  }
  return cases;
}

ClusterResult run_matrix_case(const MatrixCase& c, std::map<std::string, uint64_t>& deaths) {
  ClusterResult result;
  try {
    result = MatrixRun(c, deaths).run();
  } catch (const CheckFailed& check) {
    result.failure = check.what;
  } catch (const std::exception& error) {
    result.failure = error.what();
  }
  return result;
}

}  // namespace graftfs::sim
