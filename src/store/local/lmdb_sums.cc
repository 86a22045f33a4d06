// The checksums of an environment's pages: checked after a start, noted after each write.

#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cstring>

#include "base/crc32c.h"
#include "base/fault.h"
#include "store/local/lmdb_env.h"
#include "store/local/lmdb_lock.h"

namespace graftfs::local {

Result<std::vector<PageSums::Sum>> LmdbEnv::sums_of(
    const mdb::Snapshot& snapshot, const std::function<bool(mdb::PageNo)>& wanted) {
  std::vector<PageSums::Sum> sums;
  auto add = [&](mdb::PageNo number) {
    std::string_view page(map_->base() + number * snapshot.page_size, snapshot.page_size);
    sums.emplace_back(number, crc32c(page));
  };
  auto walked = mdb::walk_all(*map_, *sums_, snapshot, wanted, add);
  if (!walked) return tell(std::move(walked).error());
  for (mdb::PageNo meta : {0, 1}) {
    if (wanted(meta)) add(meta);
  }
  return sums;
}

// What is free may be written next: nothing is known of it from now on.
Result<void> LmdbEnv::settle(const mdb::Snapshot& newest) {
  auto free = mdb::free_pages(*map_, *sums_, newest);
  if (!free) return tell(std::move(free).error());
  for (size_t i = 0; i < free->size(); ++i) {
    if ((*free)[i]) sums_->forget(i);
  }
  free_ = std::move(*free);
  written_ = newest;
  return {};
}

std::shared_ptr<PageSums> LmdbEnv::make_sums() const {
  return std::make_shared<PageSums>(dir_.get(), volume_->path + "/dirs/sums", most_pages());
}

// Readers go on with what they have, which holds for their transactions: until the last record is
// loaded and what is free is forgotten, the sums of pages are those of older transactions.
Result<void> LmdbEnv::catch_up(bool new_sums) {
  sums_ = make_sums();
  TRY(load_sums(new_sums));
  shown_ = sums_;
  return {};
}

Result<void> LmdbEnv::load_sums(bool new_sums) {
  auto found = mdb::newest_meta(*map_);
  if (!found) return tell(std::move(found).error());
  const mdb::Snapshot newest = *found;
  bool known = false;
  if (!new_sums) {
    auto loaded = sums_->load();
    if (!loaded && loaded.error().is_damage()) {
      return damaged(fmt::format("{}; 'graftfs fsck --repair {}' makes it anew",
                                 loaded.error().message, volume_->path));
    }
    TRY_ASSIGN(known, std::move(loaded));
  }
  if (!known) {
    MARK("store.local.dirs.sums_made");
    TRY_ASSIGN(auto all, sums_of(newest, [](mdb::PageNo) { return true; }));
    TRY(sums_->begin(newest.txn, all));
    return settle(newest);
  }
  uint64_t txn = sums_->txn();
  if (txn != newest.txn && txn + 1 != newest.txn) {
    return fail_damaged(
        fmt::format("it is at transaction {}, and its checksums at {}", newest.txn, txn));
  }
  // Of the two meta pages the newest transaction has written one.
  for (mdb::PageNo meta : {0, 1}) {
    if (txn != newest.txn && meta == newest.txn % 2) continue;
    if (!sums_->check(meta, map_->base() + meta * newest.page_size, newest.page_size)) {
      return fail_damaged(fmt::format("the meta page {} has a wrong checksum", meta));
    }
  }
  if (txn != newest.txn) {
    // A crash between the two. What that transaction wrote are pages that were free before.
    MARK("store.local.dirs.sums_behind");
    auto before = mdb::read_meta(*map_, static_cast<int>(txn % 2));
    if (!before) return tell(std::move(before).error());
    TRY(settle(*before));
    TRY(note_written());
  } else {
    TRY(settle(newest));
  }
  struct stat st = {};
  uint64_t needed = (sums_->highest() + 1) * newest.page_size;
  if (::stat(file_name_.c_str(), &st) == 0 && static_cast<uint64_t>(st.st_size) < needed) {
    return fail_damaged(
        fmt::format("it ends at offset {} and should have {} bytes", st.st_size, needed));
  }
  return {};
}

Result<void> LmdbEnv::note_written() {
  auto newest = mdb::newest_meta(*map_);
  if (!newest) return tell(std::move(newest).error());
  if (newest->txn == written_.txn) return {};  // nothing was changed
  for (mdb::PageNo page = written_.last_page + 1; page <= newest->last_page; ++page) {
    sums_->forget(page);
  }
  mdb::PageNo meta = newest->txn % 2;
  sums_->forget(meta);
  TRY_ASSIGN(auto sums, sums_of(*newest, [&](mdb::PageNo page) {
               if (page < 2) return page == meta;
               return page > written_.last_page || free_[page];
             }));
  Result<void> added = sums_->add(newest->txn, sums);
  TRY(settle(*newest));
  // A full disk: it is tried again before the next transaction, which then fails if need be. This
  // one is durable.
  if (!added && added.error().code != ENOSPC) return added;
  return {};
}

}  // namespace graftfs::local
