// What a rank does because there are others: bounds, questions of who is where, messages.
#include "base/fault.h"
#include "events/import.h"
#include "server/leases.h"
#include "server/migrate.h"
#include "server/rank.h"
#include "server/rank_core.h"
#include "server/two_party.h"

namespace graftfs {
namespace {

// Whether nobody needs to know any more where the subtree has gone that time.
bool is_old_news(RankCore& core, const msg::BoundMoved& moved) {
  const RankState& state = core.state();
  auto own = state.imports.find(moved.root);
  if (own != state.imports.end()) {
    // Where / is the table says, and not the authority of what it hangs in.
    if (moved.root == kRootIno && moved.rank == core.id() && own->second.settled)
      return core.peers() && core.peers()->root_rank() == core.id();
    return own->second.moves > moved.moves;  // it has moved on already
  }
  // It has come here, where its parent is, too.
  if (place_of(core.cache(), state, moved.root).what == Place::ours) return true;
  // It was this rank's then. By now it is removed, or a part of another subtree, or has moved on,
  // and everybody who has to knows where to.
  if (moved.rank != core.id() || state.forwards.contains(moved.root)) return false;
  MARK("subtrees.old_news");
  return true;
}

}  // namespace

bool Rank::is_alone() const { return !peers_ || peers_->ranks().size() <= 1; }

// Whom to ask about what is not ours and unknown.
RankId Rank::ask_root() const {
  if (!peers_) return kNobody;
  RankId root = peers_->root_rank();
  return root == options_.rank ? kNobody : root;
}

// -- bounds -------------------------------------------------------------------------------------

void Rank::put_stub(Ino ino, Dir& parent, RankId rank) {
  cache_.put_stub(ino, parent, rank);
  stubs_.insert(ino);
}

// The cache has a stub for each bound whose parent it has, and no others.
void Rank::refresh_bounds() {
  std::erase_if(stubs_, [this](Ino ino) {
    if (state_.find_bound(ino)) return false;
    cache_.drop_stub(ino);
    return true;
  });
  bool missing = false;
  for (const auto& [root, import] : state_.imports) {
    if (!import.settled) continue;
    for (const auto& [ino, bound] : import.bounds) {
      Dir* parent = cache_.find_dir(bound.parent);
      if (parent && !parent->is_foreign())
        put_stub(ino, *parent, bound.rank);
      else
        missing = true;
    }
  }
  if (!missing) return;
  MARK("subtrees.bound_parent_fetched");
  auto fetch = [](Rank& rank) -> Task<void> {
    auto fetched = co_await rank.fetch_bounds();
    if (!fetched) rank.say("the way to a subtree cannot be read: " + describe(fetched.error()));
  };
  tasks_.spawn(fetch(*this));
}

// Brings the way to every bound into the cache.
Task<Result<void>> Rank::fetch_bounds() {
  std::vector<std::pair<Ino, Ino>> bounds;  // bound, import
  for (const auto& [root, import] : state_.imports)
    if (import.settled)
      for (const auto& [ino, bound] : import.bounds) bounds.emplace_back(ino, root);
  for (auto [ino, root] : bounds) {
    auto import = state_.imports.find(root);
    if (import == state_.imports.end() || !import->second.bounds.contains(ino)) continue;
    Ino parent = import->second.bounds.at(ino).parent;
    CO_TRY_ASSIGN(Place place, co_await fetch_dir(parent));
    Dir* dir = cache_.find_dir(parent);
    const Bound* bound = state_.find_bound(ino);
    if (place.what == Place::ours && dir && bound && bound->parent == parent)
      put_stub(ino, *dir, bound->rank);
  }
  co_return Result<void>{};
}

// Who serves a subtree below a directory that was renamed is told its new path. It is for people,
// so it is told once; what the last name is the subtree's own rank knows.
void Rank::tell_paths(const TreeEvent& event, Lsn lsn) {
  for (const DirItem& item : event.dirs) {
    const Dir* dir = item.full ? cache_.find_dir(item.header.inode.ino) : nullptr;
    Ino root = dir ? import_of(state_, *dir) : Ino{};
    if (!root) continue;
    const Import& import = state_.imports.at(root);
    for (Ino ino : bounds_below(cache_, import, *dir)) {
      msg::PathChanged changed{ino, full_path(state_, *cache_.find_dir(ino)->parent)};
      RankId to = import.bounds.at(ino).rank;
      say_when(lsn, [this, to, changed] { core_->send(to, changed); });
    }
  }
}

// The same for all that hangs in ours and is that rank's: it logs what is new to it.
void Rank::tell_paths_to(RankId to) {
  for (const auto& [root, import] : state_.imports) {
    if (!import.settled) continue;
    for (const auto& [ino, bound] : import.bounds) {
      const Dir* stub = bound.rank == to ? cache_.find_dir(ino) : nullptr;
      if (!stub || !stub->parent || import_of(state_, *stub->parent) != root) continue;
      std::string above = full_path(state_, *stub->parent);
      if (!above.empty()) core_->send(to, msg::PathChanged{ino, std::move(above)});
    }
  }
}

void Rank::path_changed(const msg::PathChanged& changed) {
  auto forward = state_.forwards.find(changed.root);
  if (forward != state_.forwards.end()) return core_->send(forward->second.to, changed);
  auto import = state_.imports.find(changed.root);
  const Dir* dir = cache_.find_dir(changed.root);
  if (import == state_.imports.end() || !dir || dir->is_foreign()) return;
  std::string path = changed.path;
  if (path.empty() || path.back() != '/') path += '/';
  path += dir->header.at.name;
  if (import->second.path == path) return;
  std::string payload;
  ByteWriter w(payload);
  encode_import_path(w, changed.root, path);
  const Lsn lsn = log_raw(EventType::import_path, payload);
  // What hangs in it has another path, too.
  for (const auto& [ino, bound] : import->second.bounds) {
    const Dir* stub = cache_.find_dir(ino);
    if (!stub || !stub->parent) continue;
    MARK("subtrees.path_told_on");
    msg::PathChanged below{ino, full_path(state_, *stub->parent)};
    say_when(lsn, [this, to = bound.rank, below] { core_->send(to, below); });
  }
}

// -- questions ----------------------------------------------------------------------------------

void Rank::find(Ino ino, std::move_only_function<void(RankId)> done) {
  if (failed_ || !serving_ || !ino) return done(kNobody);
  tasks_.spawn(find_task(ino, std::move(done)));
}

Task<void> Rank::find_task(Ino ino, std::move_only_function<void(RankId)> done) {
  Place place;
  if (cache_.find_inode(ino)) {
    place.what = Place::ours;
  } else {
    Need need{Need::inode, ino, {}, 0};
    auto found = co_await fetch_need(std::move(need));
    if (found) place = *found;
  }
  done(place.what == Place::ours || place.what == Place::frozen ? options_.rank : place.rank);
}

Task<void> Rank::answer_stat(RankId from, msg::StatAsk ask) {
  msg::StatIs is{.number = ask.number};
  Promised<Reply> answer(executor_);
  Request request;
  request.args = GetattrArgs{ask.ino};
  submit(std::move(request), [answer](Reply reply) { answer.set(std::move(reply)); });
  Reply reply = co_await answer;
  is.err = reply.err;
  is.home = reply.err == kAskRank ? reply.home : options_.rank;
  is.stat = reply.stat;
  core_->send(from, std::move(is));
}

msg::AncestryIs Rank::ancestry(const msg::Ancestry& asked) {
  msg::AncestryIs is{.number = asked.number};
  Place place = place_of(cache_, state_, asked.ino);
  is.known = place.what == Place::ours && cache_.find_dir(asked.ino);
  if (!is.known) {
    is.rank = place.rank == kNobody ? ask_root() : place.rank;
    return is;
  }
  is.chain = way_up(state_, *cache_.find_dir(asked.ino));
  is.above = state_.imports.at(place.import).parent;
  is.rank = ask_root();
  return is;
}

// A subtree that hangs in one of ours has a new place. What others say of it may be old, and how
// often it had changed hands then says little: the count begins anew where a subtree has become a
// part of another one, or hangs elsewhere. So who is said to have it is asked, and counts.
void Rank::bound_moved(RankId from, const msg::BoundMoved& moved) {
  if (moved.rank == options_.rank && moved.root != kRootIno) {
    auto own = state_.imports.find(moved.root);
    if (own != state_.imports.end() && own->second.settled) {
      const msg::BoundMoved here{moved.root, options_.rank, own->second.moves};
      say_when({}, [this, from, here] { core_->send(from, here); });
    }
  }
  Ino root;
  const Bound* bound = state_.find_bound(moved.root, &root);
  if (!bound && !is_old_news(*core_, moved)) return;  // some other rank's
  // What it hangs in is changing hands: who has it afterwards is to know. It will be told again.
  if (bound) {
    const Dir* parent = cache_.find_dir(bound->parent);
    if (!state_.imports.at(root).settled || !parent || migrations_->parks(*parent)) return;
  }
  Lsn lsn;
  const bool says_it_itself = from == moved.rank;
  // (Old news of how it once came here, from where it is gone again, change nothing.)
  if (bound && !says_it_itself && moved.rank != options_.rank && bound->rank != moved.rank &&
      bound->moves < moved.moves) {
    MARK("subtrees.hearsay");
    return say_when({}, [this, moved] { core_->send(moved.rank, moved); });
  }
  if (bound && says_it_itself && (bound->rank != moved.rank || bound->moves < moved.moves)) {
    Import import = state_.imports.at(root);
    import.bounds[moved.root].rank = moved.rank;
    import.bounds[moved.root].moves = moved.moves;
    std::string payload;
    ByteWriter w(payload);
    encode_import(w, import, {});
    lsn = core_->log_event(EventType::import, payload);
  }
  say_when(lsn, [this, from, moved] {
    core_->send(from, msg::BoundMovedDone{moved.root, moved.moves});
  });
}

bool Rank::is_drained() const {
  return state_.imports.empty() && state_.forwards.empty() && state_.prepared.empty() &&
         state_.committed.empty() && state_.staged.empty() && migrations_->idle() &&
         two_party_->idle() && running_ == 0 && !purging_;
}

// -- messages -----------------------------------------------------------------------------------

void Rank::receive(RankId from, Message message) {
  if (failed_ || !serving_) return;
  Body& body = message.body;
  if (auto* hail = std::get_if<msg::Hail>(&body)) return peer_up(from, hail->epoch);
  if (auto* moved = std::get_if<msg::BoundMoved>(&body)) return bound_moved(from, *moved);
  if (auto* asked = std::get_if<msg::Ancestry>(&body)) {
    // The way to every bound is cached; that of the new place itself may have been evicted.
    auto answer = [](Rank& rank, RankId to, msg::Ancestry question) -> Task<void> {
      if (!rank.cache_.find_dir(question.ino)) (void)co_await rank.fetch_dir(question.ino);
      rank.core_->send(to, rank.ancestry(question));
    };
    return tasks_.spawn(answer(*this, from, *asked));
  }
  if (auto* asked = std::get_if<msg::StatAsk>(&body))
    return tasks_.spawn(answer_stat(from, *asked));
  if (auto* asked = std::get_if<msg::Find>(&body)) {
    return find(asked->ino, [this, from, number = asked->number](RankId home) {
      core_->send(from, msg::Found{number, home});
    });
  }
  if (auto* path = std::get_if<msg::PathChanged>(&body)) return path_changed(*path);
  const bool operation =
      std::holds_alternative<msg::AncestryIs>(body) || std::holds_alternative<msg::Prepare>(body) ||
      std::holds_alternative<msg::Prepared>(body) || std::holds_alternative<msg::Refused>(body) ||
      std::holds_alternative<msg::Decide>(body) || std::holds_alternative<msg::Done>(body) ||
      std::holds_alternative<msg::AskOp>(body) || std::holds_alternative<msg::TellOp>(body) ||
      std::holds_alternative<msg::StatIs>(body);
  if (operation)
    two_party_->receive(from, std::move(message));
  else
    migrations_->receive(from, std::move(message));
}

void Rank::peer_up(RankId rank, Epoch) {
  if (failed_ || !serving_) return;
  migrations_->peer_up(rank);
  two_party_->peer_up(rank);
  tell_paths_to(rank);  // it may have missed some
}

void Rank::peer_down(RankId rank) {
  if (failed_ || !serving_) return;
  migrations_->peer_down(rank);
  two_party_->peer_down(rank);
}

}  // namespace graftfs
