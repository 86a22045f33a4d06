// The contents of files: everything that is stored is read, and the store says what it is not.
#include <fmt/format.h>

#include <algorithm>

#include "tools/fsck.h"

namespace graftfs::tools {
namespace {

constexpr size_t kPiece = 1 << 20;
constexpr uint64_t kEndOfFile = kMaxFileSize;

// An error where something cannot be read.
Task<Result<void>> read_all(DataStore& data, Ino ino, std::string& piece) {
  for (uint64_t at = 0;;) {
    auto begin = co_await data.seek(ino, at, true, kEndOfFile);
    if (!begin && begin.error().code == ENXIO) co_return Result<void>{};
    if (!begin) co_return std::unexpected(std::move(begin).error());
    CO_TRY_ASSIGN(uint64_t end, co_await data.seek(ino, *begin, false, kEndOfFile));
    for (at = *begin; at < end;) {
      const size_t n = std::min<uint64_t>(kPiece, end - at);
      piece.resize(n);
      CO_TRY(co_await data.read(ino, at, piece.data(), n));
      at += n;
    }
  }
}

}  // namespace

Task<Result<std::vector<Problem>>> check_data(const FsckModel& model, DataStore& data) {
  std::vector<Problem> problems;
  std::string piece;
  for (Ino ino : model.data) {
    auto read = co_await read_all(data, ino, piece);
    if (read) continue;
    if (!read.error().is_damage() && read.error().code != EIO)
      co_return std::unexpected(std::move(read).error());
    Problem p;
    p.kind = ProblemKind::damaged_data;
    p.ino = ino;
    auto file = model.files.find(ino);
    if (file != model.files.end() && !file->second.homes.empty())
      p.path = model.path_of(file->second.homes.front());
    p.sentence = fmt::format("{}{}", p.path.empty() ? "" : p.path + ": ", describe(read.error()));
    p.repair = "believes the data as it is";
    problems.push_back(std::move(p));
  }
  co_return problems;
}

Task<Result<void>> believe_data(const std::vector<Problem>& problems, DataStore& data) {
  for (const Problem& p : problems)
    if (p.kind == ProblemKind::damaged_data) CO_TRY(co_await data.believe(p.ino));
  co_return Result<void>{};
}

}  // namespace graftfs::tools
