#include "server/op_context.h"

#include <algorithm>

#include "server/leases.h"
#include "server/locks.h"
#include "server/migrate.h"
#include "server/rank.h"
#include "server/two_party.h"
#include "types/ino_bits.h"

namespace graftfs {

Timespec OpContext::now() const {
  if (with_others_) return others_now_;
  return request_.redo ? request_.redo->when : rank_.executor_.wall_now();
}
bool OpContext::with_others() const { return with_others_ || two_party_ == TwoParty::kDecided; }
bool OpContext::read_only() const { return rank_.options_.read_only; }
bool OpContext::has_all_links(const Dir& dir) {
  if (dir.inode().nlink < rank_.options_.max_dir_link) return false;
  shows(dir);
  return true;
}
bool OpContext::out_of_space() const {
  return rank_.out_of_space_ || rank_.journal_->out_of_space();
}

const Absent* OpContext::absent(const Need& need) const {
  for (const Absent& a : absent_)
    if (a.need == need) return &a;
  return nullptr;
}

std::optional<Stop> OpContext::hindrance(const Dir& dir) const {
  if (dir.is_foreign()) {
    auto import = rank_.state_.imports.find(dir.ino());
    if (import == rank_.state_.imports.end()) return Stop{0, {}, dir.foreign, dir.ino()};
    return Stop{0, Need{Need::frozen, dir.ino(), {}, 0}, {}, {}};  // it is about to be ours
  }
  if (auto need = rank_.migrations_->parks(dir, two_party_ == TwoParty::kDecided))
    return Stop{0, std::move(*need), {}, {}};
  if (auto need = rank_.two_party_->busy(dir.ino(), {}, two_party_))
    return Stop{0, std::move(*need), {}, {}};
  return std::nullopt;
}

bool OpContext::is_marked(Ino ino) const {
  return rank_.gates_ > 0 && rank_.two_party_->busy(ino, {}, two_party_);
}
bool OpContext::is_arriving(Ino root) const { return rank_.migrations_->takes(root); }
bool OpContext::is_alone() const { return rank_.is_alone(); }
bool OpContext::is_rank(RankId rank) const {
  if (!rank_.peers_) return rank == rank_.id();
  const std::vector<RankId> ranks = rank_.peers_->ranks();
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}
void OpContext::pinned(Ino dir) { rank_.migrations_->pinned(dir); }
const Prepared* OpContext::prepared() const {
  return two_party_ ? rank_.two_party_->prepared(two_party_) : nullptr;
}
Found<const Prepared*> OpContext::others(std::vector<Asked> asked) {
  // What was this rank's own when it was asked may have gone elsewhere since, and the other way
  // round.
  auto same = [self = rank_.id()](const Asked& a, const Asked& b) {
    return a == b && (a.at == self) == (b.at == self);
  };
  const Prepared* known = prepared();
  if (known && std::ranges::equal(known->asked, asked, same)) {
    with_others_ = true;
    others_now_ = known->now;
    return known;
  }
  return std::unexpected(rank_.two_party_->begin(request_, two_party_, std::move(asked)));
}

const msg::IntentValue* Prepared::find(msg::IntentKind kind) const {
  for (size_t i = 0; i < asked.size(); ++i)
    if (asked[i].intent.kind == kind) return &values[i];
  return nullptr;
}

void OpContext::shows(const Dir& dir) {
  if (is_orphans_dir(dir.ino())) return;
  rank_.migrations_->heat().touch(dir.ino());
  show_written_ = std::max(show_written_, dir.last_lsn);
  show_durable_ = std::max(show_durable_, rank_.hidden_from(session(), dir));
}

void OpContext::shows(const Dir& dir, NameHash name) {
  if (is_orphans_dir(dir.ino())) return;
  rank_.migrations_->heat().touch(dir.ino());
  show_written_ = std::max(show_written_, dir.last_lsn);
  show_durable_ = std::max(show_durable_, rank_.hidden_from(session(), dir, name));
}

Found<Dir*> OpContext::dir(Ino ino) {
  if (is_hidden_dir(ino)) return stop(ESTALE);  // nobody has been told of it
  return any_dir(ino);
}

Found<Dir*> OpContext::any_dir(Ino ino) {
  if (rank_.being_purged_.contains(ino.v)) return stop(ESTALE);
  Dir* d = rank_.cache_.find_dir(ino);
  if (!d) {
    if (rank_.cache_.find_inode(ino)) return stop(ENOTDIR);
    Need need{Need::inode, ino, {}, 0};
    if (auto* a = absent(need)) return a->home ? ask_rank(ino, *a->home) : stop(ESTALE);
    return missing(need);
  }
  if (d->is_foreign() || rank_.gates_ > 0) [[unlikely]]
    if (auto hindered = hindrance(*d)) return std::unexpected(std::move(*hindered));
  // All of its ancestors, or a rename would not see that it goes below itself: one of them may have
  // come a moment ago, and its own parent be on its way.
  const Dir* top = d;
  while (top->parent) top = top->parent;
  if (!rank_.state_.is_root(top->ino())) {
    Need need{Need::dir, top->ino(), {}, 0};
    if (auto* a = absent(need); a && a->home) return ask_rank(ino, *a->home);
    return missing(need);
  }
  shows(*d, Recent::kSelf);
  return d;
}

Found<Target> OpContext::inode(Ino ino) {
  if (rank_.being_purged_.contains(ino.v)) return stop(ESTALE);
  if (Dentry* e = rank_.cache_.find_inode(ino)) {
    if (rank_.gates_ > 0) [[unlikely]] {
      if (auto hindered = hindrance(*e->dir)) return std::unexpected(std::move(*hindered));
      if (auto need = rank_.two_party_->busy(ino, {}, two_party_)) return missing(std::move(*need));
    }
    shows(*e->dir, e->hash);
    return Target{nullptr, e};
  }
  if (is_hidden_dir(ino)) return stop(ESTALE);
  if (rank_.cache_.find_dir(ino)) {
    GET(Dir * d, any_dir(ino));
    // Its attributes tell of its names.
    if (rank_.gates_ > 0) [[unlikely]]
      if (auto need = rank_.two_party_->busy_names(*d, two_party_))
        return missing(std::move(*need));
    shows(*d);
    return Target{d, nullptr};
  }
  Need need{Need::inode, ino, {}, 0};
  if (auto* a = absent(need)) return a->home ? ask_rank(ino, *a->home) : stop(ESTALE);
  return missing(need);
}

Found<Dentry*> OpContext::entry(Dir& dir, std::string_view name) {
  NameHash hash = name_hash(name);
  shows(dir, hash);
  if (rank_.gates_ > 0) [[unlikely]]
    if (auto need = rank_.two_party_->busy(dir.ino(), name, two_party_))
      return missing(std::move(*need));
  Dentry* e = rank_.cache_.find_entry(dir, hash, name);
  if (e && e->kind == EntryKind::primary && rank_.gates_ > 0) [[unlikely]]
    if (auto need = rank_.two_party_->busy(e->ino, {}, two_party_))
      return missing(std::move(*need));
  if (e) return e->kind == EntryKind::null ? nullptr : e;
  if (dir.knows(hash)) return nullptr;
  Need need{Need::entry, dir.ino(), std::string(name), 0};
  if (absent(need)) return nullptr;
  return missing(need);
}

Found<NamedTarget> OpContext::lookup(Dir& dir, std::string_view name) {
  GET(NamedTarget named, lookup_any(dir, name));
  if (named.remote) return stop(EXDEV);
  return named;
}

Found<NamedTarget> OpContext::lookup_any(Dir& dir, std::string_view name) {
  GET(Dentry * e, entry(dir, name));
  if (!e) return stop(ENOENT);
  if (e->kind == EntryKind::primary) return NamedTarget{e, {nullptr, e}};
  auto target = inode(e->ino);
  if (!target && target.error().ask) return NamedTarget{e, {}, true, *target.error().ask};
  if (!target && target.error().err == ESTALE)
    return stop(EUCLEAN);  // an entry that leads nowhere: damage in the store
  if (!target) return std::unexpected(target.error());
  return NamedTarget{e, *target};
}

Found<NameHash> OpContext::range(Dir& dir, NameHash from) {
  shows(dir);
  if (rank_.gates_ > 0) [[unlikely]]
    if (auto need = rank_.two_party_->busy_names(dir, two_party_)) return missing(std::move(*need));
  if (dir.knows(from)) return dir.known_to;
  return missing({Need::range, dir.ino(), {}, from});
}

Found<Ino> OpContext::new_ino() {
  if (request_.redo && request_.redo->ino) {
    // The client was told of it. Nobody else can have got it since: EIO where somebody has.
    const Ino ino = request_.redo->ino;
    if (ino.v < kFirstFreeIno || ino.v >> kInoBits) return stop(EINVAL);
    auto target = inode(ino);
    if (target) return stop(EIO);
    if (target.error().need.kind != Need::none) return std::unexpected(target.error());
    rank_.made_again_.insert(ino);
    return ino;
  }
  rank_.note_ino_wanted();
  for (const InoRange& range : rank_.state_.inos)
    if (range.next < std::min(range.end, rank_.inos_usable_below_)) return Ino{range.next};
  Need need{Need::inos, {}, {}, 0};
  if (absent(need)) return stop(ENOSPC);
  return missing(need);
}

Found<Dir*> OpContext::linked_dir() { return any_dir(linked_dir_ino(rank_.options_.rank)); }
Found<Dir*> OpContext::orphans_dir() { return any_dir(orphans_dir_ino(rank_.options_.rank)); }

void OpContext::hold(Ino ino, uint32_t count) {
  if (request_.redo) return;  // the session has been told before, and has claimed it
  rank_.add_hold(ino, session(), count);
}
void OpContext::release(Ino ino, uint32_t count) { rank_.drop_hold(ino, session(), count); }

// Where nobody else can come there are no such rights.
void OpContext::grant_write(Ino ino) {
  const SessionLines* lines = rank_.leases().lines();
  if (!lines || !lines->connected(session())) return;
  if (request_.redo) return;  // it has been told before
  rank_.locks().grant_new(session(), ino);
  reply_.may_write = true;
}

Outcome OpContext::own_write(Ino ino) {
  const SessionLines* lines = rank_.leases().lines();
  // In the window it is done again for who has had the right, or has not been answered: who has it
  // asks for the size anew.
  if (!lines || lines->in_window()) return {};
  if (auto owned = rank_.locks().own(session(), ino); !owned) return owned;
  reply_.may_write = true;
  return {};
}

bool OpContext::holds(Ino ino) const { return rank_.is_held_by(ino, session()); }

}  // namespace graftfs
