#include "recovery/commit_mark.h"

#include <fmt/format.h>

#include <cstring>

#include "base/crc32c.h"
#include "types/entry.h"

namespace graftfs {
namespace {

struct Mark {
  uint64_t commits;
  uint32_t rank;
  uint32_t crc;  // of what stands before it
};
static_assert(sizeof(Mark) == 16);

EntryKey mark_key(RankId rank) { return entry_key(fmt::format("rank-{}", rank)); }
uint32_t crc_of(const Mark& mark) {
  return crc32c(std::string_view(reinterpret_cast<const char*>(&mark), offsetof(Mark, crc)));
}

}  // namespace

DirUpdate commit_mark(RankId rank, uint64_t commits) {
  Mark mark{commits, rank.v, 0};
  mark.crc = crc_of(mark);
  DirUpdate update;
  update.dir = kCommitMarks;
  update.put.emplace_back(mark_key(rank),
                          std::string(reinterpret_cast<const char*>(&mark), sizeof mark));
  return update;
}

Task<Result<uint64_t>> read_commit_mark(DirStore& store, RankId rank) {
  EntryKey key = mark_key(rank);
  CO_TRY_ASSIGN(auto bytes, co_await store.read_entry(kCommitMarks, key));
  if (!bytes) co_return uint64_t{0};
  Mark mark{};
  if (bytes->size() == sizeof mark) std::memcpy(&mark, bytes->data(), sizeof mark);
  if (bytes->size() != sizeof mark || mark.rank != rank.v || mark.crc != crc_of(mark))
    co_return damaged(
        fmt::format("the directories' own count of write-backs (object 0, rank-{}) is "
                    "not what was written",
                    rank));
  co_return mark.commits;
}

}  // namespace graftfs
