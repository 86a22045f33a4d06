// Listings.

#include <cstring>

#include "fuse/cookies.h"
#include "fuse/state.h"

namespace graftfs::fuse {

namespace {

// As for files, nothing is to be done when a directory is opened; the kernel caches listings, where
// nobody else can change them.
void opendir(fuse_req_t r, fuse_ino_t, fuse_file_info* fi) {
  if (!state_of(r).options().shared) {
    fuse_reply_err(r, ENOSYS);
    return;
  }
  fi->cache_readdir = fi->keep_cache = 0;
  fuse_reply_open(r, fi);
}

// One READDIR or READDIRPLUS, over as many pages of the rank as it takes to fill the buffer.
class Listing {
 public:
  Listing(Req req, fuse_ino_t node, size_t size, uint64_t cookie, bool plus)
      : req_(std::move(req)),
        node_(node),
        dir_(ino_of(node)),
        cookie_(cookie),
        plus_(plus),
        buffer_(req_.state().new_buffer(size)),
        size_(size) {}

  static void start(std::unique_ptr<Listing> l) {
    if (l->cookie_ < kDot) l->add_dot(".", l->dir_, kDot);
    if (l->cookie_ >= kDotDot) return page(std::move(l), CookieCounter::start(l->cookie_));
    Client& client = l->req_.state().client();
    Credentials cred = l->req_.cred();
    LookupParentArgs args{l->dir_};
    client.call(std::move(cred), args, [l = std::move(l)](Reply reply) mutable {
      // Of the root, or of a directory that was removed meanwhile, it is the directory itself.
      l->add_dot("..", reply.err ? l->dir_ : reply.stat.ino, kDotDot);
      page(std::move(l), 0);
    });
  }

 private:
  static void page(std::unique_ptr<Listing> l, uint64_t from) {
    Client& client = l->req_.state().client();
    Credentials cred = l->req_.cred();
    ReaddirArgs args{l->dir_, from, entries_for(l->size_ - l->used_, l->plus_), l->plus_};
    client.call(std::move(cred), args, [l = std::move(l)](Reply reply) mutable {
      if (reply.err) return l->req_.err(reply.err);
      bool full = false;
      for (const ListedEntry& entry : reply.entries) {
        uint64_t cookie = l->counter_.next(entry.cookie);
        if (cookie <= l->cookie_) continue;
        if (!l->add(entry, cookie)) {
          full = true;
          break;
        }
      }
      // Something is there: the kernel comes back for more.
      if (full || reply.end || reply.entries.empty() || l->used_ > l->size_ / 2) return l->answer();
      uint64_t last = reply.entries.back().cookie;
      page(std::move(l), last);
    });
  }

  void add_dot(const char* name, Ino ino, uint64_t cookie) {
    // Without a nodeid: the kernel links neither and forgets neither.
    fuse_entry_param e{};
    e.attr.st_ino = ino.v;
    e.attr.st_mode = S_IFDIR;
    put(name, e, cookie);
  }

  bool add(const ListedEntry& entry, uint64_t cookie) {
    fuse_entry_param e{};
    if (plus_ && entry.stat) {
      req_.state().fill_entry(e, *entry.stat, {node_, name_hash(entry.name)});
    } else {
      e.attr.st_ino = entry.ino.v;
      e.attr.st_mode = entry.type;
    }
    if (!put(entry.name.c_str(), e, cookie)) return false;
    if (e.ino) {
      req_.state().count_entry(*entry.stat);
      counted_.push_back(entry.ino);
    }
    return true;
  }

  bool put(const char* name, const fuse_entry_param& e, uint64_t cookie) {
    char* at = buffer_.data() + used_;
    const size_t left = size_ - used_;
    const size_t need =
        plus_ ? fuse_add_direntry_plus(req_.get(), at, left, name, &e, static_cast<off_t>(cookie))
              : fuse_add_direntry(req_.get(), at, left, name, &e.attr, static_cast<off_t>(cookie));
    if (need > left) return false;
    used_ += need;
    return true;
  }

  void answer() {
    State& state = req_.state();
    if (fuse_reply_buf(req_.get(), buffer_.data(), used_) != 0)
      for (Ino ino : counted_) state.forget(ino, 1);
    req_.answered();
  }

  Req req_;
  fuse_ino_t node_;
  Ino dir_;
  uint64_t cookie_;
  bool plus_;
  Buffer buffer_;
  size_t size_;
  size_t used_ = 0;
  CookieCounter counter_;
  std::vector<Ino> counted_;
};

void list(fuse_req_t r, fuse_ino_t ino, size_t size, off_t offset, bool plus) {
  Req req(r);
  if (offset < 0) return req.err(EINVAL);
  Listing::start(
      std::make_unique<Listing>(std::move(req), ino, size, static_cast<uint64_t>(offset), plus));
}

void readdir(fuse_req_t r, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
  list(r, ino, size, offset, false);
}

void readdirplus(fuse_req_t r, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
  list(r, ino, size, offset, true);
}

}  // namespace

void add_dir_ops(fuse_lowlevel_ops& ops) {
  ops.opendir = opendir;
  ops.readdir = readdir;
  ops.readdirplus = readdirplus;
}

}  // namespace graftfs::fuse
