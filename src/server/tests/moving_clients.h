#pragma once
// Clients that go on while subtrees move: each follows "ask rank N", sends again what a rank that
// died has not answered, and knows what has to be there afterwards.

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "two_ranks.h"

namespace graftfs {

// Where every entry is that was acknowledged: directory, name → ino.
using Tree = std::map<Ino, std::map<std::string, Ino>>;

// Asks, and follows.
inline Reply ask(Ranks& ranks, size_t count, const Args& args) {
  size_t at = 0, next = 0;
  for (int tries = 0; tries < 50; ++tries) {
    Reply reply = ranks.call(at, args);
    if (reply.err != kAskRank) return reply;
    at = reply.home == kNobody || reply.home.v >= count ? next++ % count : reply.home.v;
    ranks.executor.advance(kMillisecond);
  }
  return Reply{.err = ETIMEDOUT};
}

// Reads the tree below `dir` as a client sees it.
inline void read_tree(Ranks& ranks, size_t count, Ino dir, Tree& out) {
  NameHash from = 0;
  auto& names = out[dir];
  for (;;) {
    Reply page = ask(ranks, count, ReaddirArgs{dir, from, 500, true});
    ASSERT_EQ(page.err, 0) << "directory " << dir.v;
    for (const ListedEntry& e : page.entries) {
      ASSERT_TRUE(names.emplace(e.name, e.ino).second) << e.name << " is there twice";
      from = e.cookie;
    }
    if (page.end) break;
  }
  for (const auto& [name, ino] : std::map<std::string, Ino>(names)) {
    Reply found = ask(ranks, count, LookupArgs{dir, name});
    ASSERT_EQ(found.err, 0) << name;
    ASSERT_EQ(found.stat.ino, ino) << name;
    if (found.stat.is_dir()) read_tree(ranks, count, ino, out);
  }
}

// One of several, each with names of its own, in directories that all share.
class MovingClient {
 public:
  MovingClient(Ranks& ranks, size_t count, uint32_t number, std::vector<Ino> dirs)
      : ranks_(ranks),
        count_(count),
        number_(number),
        random_(number),
        session_(SessionId{1000 + number}),
        seq_(count, 0),
        dirs_(std::move(dirs)) {
    for (size_t i = 0; i < count; ++i) ranks_.rank(i).open_session(session_);
  }

  void begin() {
    going_ = true;
    next();
  }
  void stop() { going_ = false; }
  bool idle() const { return !pending_; }
  // The rank has died and is back: what it had not answered is sent again.
  void resend(size_t rank) {
    if (pending_ && at_ == rank) send();
  }
  uint64_t done() const { return done_; }
  uint64_t redirected() const { return redirected_; }
  Nanos longest() const { return longest_; }
  const Tree& tree() const { return tree_; }

 private:
  void next() {
    if (!going_) return;
    Ino dir = dirs_[random_() % dirs_.size()];
    auto& names = tree_[dir];
    const uint32_t kind = random_() % 8;
    what_ = nullptr;
    if (kind < 4 || names.empty()) {
      std::string name = "c" + std::to_string(number_) + "-" + std::to_string(made_++);
      args_ = kind == 0 ? Args(MkdirArgs{dir, name, 0755, 0})
                        : Args(MknodArgs{dir, name, S_IFREG | 0644, 0, 0});
      what_ = [this, dir, name](const Reply& reply) { tree_[dir][name] = reply.stat.ino; };
    } else {
      auto it = std::next(names.begin(), static_cast<long>(random_() % names.size()));
      std::string name = it->first;
      Ino ino = it->second;
      if (kind == 4) {
        args_ = UnlinkArgs{dir, name};
        what_ = [this, dir, name](const Reply&) { tree_[dir].erase(name); };
      } else if (kind == 5) {
        Ino to = dirs_[random_() % dirs_.size()];
        std::string other = "r" + name;
        if (other.size() > 40)
          other = "c" + std::to_string(number_) + "-" + std::to_string(made_++);
        args_ = RenameArgs{dir, name, to, other, 0};
        what_ = [this, dir, name, to, other, ino](const Reply&) {
          tree_[dir].erase(name);
          tree_[to][other] = ino;
        };
      } else {
        args_ = LookupArgs{dir, name};
        what_ = [ino](const Reply& reply) { EXPECT_EQ(reply.stat.ino, ino); };
      }
    }
    began_ = ranks_.executor.now();
    at_ = home_.contains(dir) ? home_[dir] : 0;
    key_ = dir;
    asked_ = 0;
    number_the_request();
    send();
  }
  void number_the_request() { seq_[at_]++; }
  void send() {
    pending_ = true;
    if (!ranks_.is_up(at_)) return;  // resend() comes
    Request request;
    request.session = session_;
    request.seq = seq_[at_];
    request.oldest = seq_[at_];
    request.args = args_;
    const uint64_t sending = ++sending_;
    ranks_.rank(at_).submit(std::move(request), [this, sending](Reply reply) {
      if (sending != sending_) return;
      auto later = [this, r = std::move(reply)]() mutable { answered(r); };
      ranks_.executor.post(std::move(later));
    });
  }
  void answered(const Reply& reply) {
    if (reply.err == kAskRank) {
      redirected_++;
      ASSERT_LT(++asked_, 2000) << "nobody has it: " << op_name(args_);
      const bool known = reply.home != kNobody && reply.home.v < count_;
      at_ = known ? reply.home.v : (at_ + 1) % count_;
      home_[key_] = at_;
      number_the_request();
      return ranks_.executor.post_after(asked_ > 8 ? kMillisecond : 0, [this] { send(); });
    }
    pending_ = false;
    longest_ = std::max(longest_, ranks_.executor.now() - began_);
    // A directory is not unlinked, and one that came before is not there.
    const bool dir = reply.err == EISDIR && std::holds_alternative<UnlinkArgs>(args_);
    if (!dir) {
      EXPECT_EQ(reply.err, 0) << op_name(args_) << " at rank " << at_;
      if (reply.err == 0) what_(reply);
      done_++;
    }
    ranks_.executor.post_after(20 * kMicrosecond, [this] { next(); });
  }

  Ranks& ranks_;
  size_t count_;
  uint32_t number_;
  std::mt19937 random_;
  SessionId session_;
  std::vector<uint64_t> seq_;
  std::vector<Ino> dirs_;
  std::map<Ino, size_t> home_;
  Tree tree_;
  bool going_ = false, pending_ = false;
  uint64_t sending_ = 0, made_ = 0, done_ = 0, redirected_ = 0;
  Args args_;
  Ino key_;
  std::function<void(const Reply&)> what_;
  size_t at_ = 0;
  int asked_ = 0;
  Nanos began_ = 0, longest_ = 0;
};

}  // namespace graftfs
