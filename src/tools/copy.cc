#include "tools/copy.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>

#include "base/fault.h"
#include "cluster/table.h"
#include "store/fence.h"
#include "types/entry.h"

namespace graftfs::tools {
namespace {

constexpr size_t kInos = 256, kEntries = 1024;
constexpr size_t kPiece = 1 << 20;
constexpr uint64_t kEndOfFile = uint64_t{1} << 60;  // beyond every file

enum class Phase : uint8_t { dirs, data, journals, verify, done };

// What the target remembers: how far it is, and what the source was then.
struct Progress {
  Phase phase = Phase::dirs;
  Ino next;  // the first that is not copied
  std::string source;
};

std::string encode(const Progress& p) {
  return fmt::format("{} {}\n{}", static_cast<int>(p.phase), p.next.v, p.source);
}
std::optional<Progress> decode_progress(std::string_view bytes) {
  int phase = 0;
  Progress p;
  auto [at, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), phase);
  if (error != std::errc() || at == bytes.data() + bytes.size() || *at != ' ') return std::nullopt;
  auto [end, error2] = std::from_chars(at + 1, bytes.data() + bytes.size(), p.next.v);
  if (error2 != std::errc() || end == bytes.data() + bytes.size() || *end != '\n' || phase < 0 ||
      phase > static_cast<int>(Phase::done))
    return std::nullopt;
  p.phase = static_cast<Phase>(phase);
  p.source = bytes.substr(static_cast<size_t>(end - bytes.data()) + 1);
  return p;
}

// State that belongs to the processes that use the volume, not to the volume.
bool is_copied(std::string_view key) {
  return !key.starts_with("cluster/node-") && !key.starts_with("cluster/fence-") && key != kCopyKey;
}

std::unexpected<Error> differs(const std::string& what) {
  return damaged(
      fmt::format("{} is not in the copy what it is in the source; copy it again", what));
}

class Copier {
 public:
  Copier(Store& from, Store& to, CopyOptions options)
      : from_(from), to_(to), options_(std::move(options)) {}
  Task<Result<CopyReport>> run();

 private:
  Task<Result<void>> own_all();
  Task<Result<void>> give_up_all();
  Task<Result<void>> begin();
  Task<Result<void>> remember(Phase phase, Ino next);
  Task<Result<void>> copy_dirs();
  Task<Result<void>> copy_dir(Ino dir);
  Task<Result<void>> copy_data();
  Task<Result<void>> copy_file(Ino ino);
  Task<Result<void>> copy_journals();
  Task<Result<void>> copy_state();
  Task<Result<void>> compare_dirs();
  Task<Result<void>> compare_data();
  Task<Result<void>> compare_file(Ino ino);
  void tell() const {
    if (options_.progress) options_.progress(report_);
  }

  Store& from_;
  Store& to_;
  CopyOptions options_;
  CopyReport report_;
  Progress progress_;
  uint64_t version_ = 0;  // of the progress
  struct Owned {
    JournalDevice *from, *to;
    Epoch epoch;
  };
  std::map<RankId, Owned> journals_;
};

Task<Result<void>> Copier::own_all() {
  std::string key = cluster::kTableKey;
  CO_TRY_ASSIGN(StateValue found, co_await from_.state().get(key));
  CO_TRY_ASSIGN(cluster::Table table, cluster::decode_table(found.value));
  std::set<RankId> ranks{RankId{0}};
  for (const auto& [rank, line] : table.ranks) ranks.insert(rank);
  for (const auto& [rank, heir] : table.heirs) ranks.insert(rank);
  std::string source;
  for (RankId rank : ranks) {
    std::string fence = fence_key(rank);
    CO_TRY_ASSIGN(StateValue record, co_await from_.state().get(fence));
    CO_TRY_ASSIGN(FenceRecord before, decode_fence(record.value, rank));
    if (before.epoch == Epoch{}) continue;  // it was never begun
    CO_TRY_ASSIGN(JournalDevice * journal, co_await from_.own_journal(rank));
    CO_TRY_ASSIGN(auto segments, co_await journal->list());
    // Whoever has used it since has begun a segment.
    source +=
        fmt::format("rank {} segment {}\n", rank, segments.empty() ? 0 : segments.back().id.v);
    journals_[rank] = Owned{journal, nullptr, before.epoch};
  }
  progress_.source = source;
  co_return Result<void>{};
}

Task<Result<void>> Copier::give_up_all() {
  Result<void> result;
  for (const auto& [rank, journal] : journals_) {
    Result<void> given = co_await from_.disown_journal(rank);
    if (!given && result) result = std::move(given);
    if (!journal.to) continue;
    given = co_await to_.disown_journal(rank);
    if (!given && result) result = std::move(given);
  }
  co_return result;
}

// Begins, or goes on.
Task<Result<void>> Copier::begin() {
  std::string key = kCopyKey;
  CO_TRY_ASSIGN(StateValue found, co_await to_.state().get(key));
  version_ = found.version;
  if (found.version == 0) co_return co_await remember(Phase::dirs, Ino{});
  auto before = decode_progress(found.value);
  if (!before) co_return fail(EINVAL, "the target is not a copy that was cut off");
  if (before->source != progress_.source)
    co_return fail(ESTALE,
                   "the source has been in use since the copy was begun; empty the target and "
                   "begin again");
  progress_ = *before;
  report_.resumed = true;
  co_return Result<void>{};
}

Task<Result<void>> Copier::remember(Phase phase, Ino next) {
  progress_.phase = phase;
  progress_.next = next;
  std::string key = kCopyKey, value = encode(progress_);
  CO_TRY_ASSIGN(version_, co_await to_.state().set(key, version_, value));
  KILL_POINT("copy.remembered");
  tell();
  co_return Result<void>{};
}

// -- directories --------------------------------------------------------------------------------

Task<Result<void>> Copier::copy_dir(Ino dir) {
  EntryKey from;
  bool header = true;
  for (;;) {
    CO_TRY_ASSIGN(auto entries, co_await from_.dirs().read_entries(dir, from, kEntries));
    DirUpdate update;
    update.dir = dir;
    if (header) {
      CO_TRY_ASSIGN(update.header, co_await from_.dirs().read_header(dir));
    }
    header = false;
    for (DirEntryBytes& e : entries) {
      // Object 0 holds counts, not entries.
      if (dir) {
        CO_TRY_ASSIGN(EntryValue value, decode_entry_value(dir, e.key, e.value));
        if (value.kind == EntryKind::primary) update.located.emplace_back(value.ino, e.key);
      }
      update.put.emplace_back(e.key, std::move(e.value));
    }
    if (!entries.empty()) from = entries.back().key + '\0';
    report_.entries += entries.size();
    const bool end = entries.size() < kEntries;
    std::vector<DirUpdate> updates;
    updates.push_back(std::move(update));
    CO_TRY(co_await to_.dirs().commit(std::move(updates)));
    if (end) break;
  }
  ++report_.dirs;
  co_return Result<void>{};
}

Task<Result<void>> Copier::copy_dirs() {
  Ino next = progress_.next;
  if (!next) CO_TRY(co_await copy_dir(Ino{0}));
  for (;;) {
    CO_TRY_ASSIGN(auto dirs, co_await from_.dirs().list_dirs(next, kInos));
    for (Ino dir : dirs) CO_TRY(co_await copy_dir(dir));
    if (dirs.size() < kInos) break;
    next = dirs.back().next();
    CO_TRY(co_await remember(Phase::dirs, next));
  }
  co_return co_await remember(Phase::data, Ino{});
}

// -- file data ----------------------------------------------------------------------------------

Task<Result<void>> Copier::copy_file(Ino ino) {
  std::string piece;
  uint64_t at = 0, size = 0;  // size: of what is there
  for (;;) {
    auto data = co_await from_.data().seek(ino, at, true, kEndOfFile);
    if (!data && data.error().code == ENXIO) break;
    if (!data) co_return std::unexpected(std::move(data).error());
    CO_TRY_ASSIGN(uint64_t hole, co_await from_.data().seek(ino, *data, false, kEndOfFile));
    for (at = *data; at < hole;) {
      piece.resize(std::min<uint64_t>(kPiece, hole - at));
      CO_TRY(co_await from_.data().read(ino, at, piece.data(), piece.size()));
      CO_TRY(co_await to_.data().write(ino, at, piece, size));
      at += piece.size();
      size = at;
      report_.data_bytes += piece.size();
    }
  }
  ++report_.files;
  co_return Result<void>{};
}

Task<Result<void>> Copier::copy_data() {
  Ino next = progress_.next;
  for (;;) {
    CO_TRY_ASSIGN(auto inos, co_await from_.data().list(next, kInos));
    for (Ino ino : inos) CO_TRY(co_await copy_file(ino));
    CO_TRY(co_await to_.data().sync_all());
    if (inos.size() < kInos) break;
    next = inos.back().next();
    CO_TRY(co_await remember(Phase::data, next));
  }
  co_return co_await remember(Phase::journals, Ino{});
}

// -- journals and state -------------------------------------------------------------------------

Task<Result<void>> Copier::copy_journals() {
  for (auto& [number, journal] : journals_) {
    const RankId rank = number;
    CO_TRY_ASSIGN(journal.to, co_await to_.own_journal(rank));
    CO_TRY(co_await to_.raise_epoch(rank, journal.epoch));
    CO_TRY_ASSIGN(auto left, co_await journal.to->list());
    for (const SegmentInfo& segment : left) CO_TRY(co_await journal.to->remove(segment.id));
    CO_TRY_ASSIGN(auto segments, co_await journal.from->list());
    for (const SegmentInfo& segment : segments) {
      if (segment.capacity > journal.to->segment_capacity())
        co_return fail(EINVAL, fmt::format("{} does not fit into a segment of the target",
                                           journal.from->name_of(segment.id)));
      CO_TRY(co_await journal.to->create(segment.id));
      // All of it: where a file is recycled an older segment's bytes may show otherwise.
      for (uint64_t at = 0; at < segment.capacity; at += kPiece) {
        uint64_t n = std::min<uint64_t>(kPiece, segment.capacity - at);
        CO_TRY_ASSIGN(std::string bytes, co_await journal.from->read(segment.id, at, n));
        CO_TRY(co_await journal.to->write(segment.id, at, bytes));
      }
      CO_TRY(co_await journal.to->sync(segment.id));
      ++report_.segments;
    }
  }
  CO_TRY(co_await copy_state());
  co_return co_await remember(Phase::verify, Ino{});
}

Task<Result<void>> Copier::copy_state() {
  std::string all;
  CO_TRY_ASSIGN(auto values, co_await from_.state().list(all));
  for (const auto& [name, value] : values) {
    if (!is_copied(name)) continue;
    std::string key = name;
    CO_TRY_ASSIGN(StateValue there, co_await to_.state().get(key));
    if (there.version > 0 && there.value == value.value) continue;
    CO_TRY(co_await to_.state().set(key, there.version, value.value));
  }
  co_return Result<void>{};
}

// -- both again ---------------------------------------------------------------------------------

Task<Result<void>> Copier::compare_dirs() {
  Ino next;
  for (;;) {
    CO_TRY_ASSIGN(auto here, co_await from_.dirs().list_dirs(next, kInos));
    CO_TRY_ASSIGN(auto there, co_await to_.dirs().list_dirs(next, kInos));
    if (here != there) co_return differs("the list of directories");
    for (Ino dir : here) {
      CO_TRY_ASSIGN(auto header, co_await from_.dirs().read_header(dir));
      CO_TRY_ASSIGN(auto copied, co_await to_.dirs().read_header(dir));
      if (header != copied) co_return differs(fmt::format("directory {}", dir));
      EntryKey from;
      for (;;) {
        CO_TRY_ASSIGN(auto entries, co_await from_.dirs().read_entries(dir, from, kEntries));
        CO_TRY_ASSIGN(auto copies, co_await to_.dirs().read_entries(dir, from, kEntries));
        bool same = std::equal(
            entries.begin(), entries.end(), copies.begin(), copies.end(),
            [](const auto& a, const auto& b) { return a.key == b.key && a.value == b.value; });
        if (!same) co_return differs(fmt::format("directory {}", dir));
        if (entries.size() < kEntries) break;
        from = entries.back().key + '\0';
      }
    }
    if (here.size() < kInos) co_return Result<void>{};
    next = here.back().next();
  }
}

// What one holds and the other does not has to be zeros.
Task<Result<void>> Copier::compare_file(Ino ino) {
  std::string a, b;
  for (uint64_t at = 0;;) {
    uint64_t begin = UINT64_MAX;
    for (DataStore* store : {&from_.data(), &to_.data()}) {
      auto data = co_await store->seek(ino, at, true, kEndOfFile);
      if (!data && data.error().code != ENXIO) co_return std::unexpected(std::move(data).error());
      if (data) begin = std::min(begin, *data);
    }
    if (begin == UINT64_MAX) co_return Result<void>{};
    a.resize(kPiece);
    b.resize(kPiece);
    CO_TRY(co_await from_.data().read(ino, begin, a.data(), a.size()));
    CO_TRY(co_await to_.data().read(ino, begin, b.data(), b.size()));
    if (a != b) co_return differs(fmt::format("the data of {}", ino));
    at = begin + kPiece;
  }
}

Task<Result<void>> Copier::compare_data() {
  Ino next;
  for (;;) {
    CO_TRY_ASSIGN(auto inos, co_await from_.data().list(next, kInos));
    for (Ino ino : inos) CO_TRY(co_await compare_file(ino));
    if (inos.size() < kInos) co_return Result<void>{};
    next = inos.back().next();
  }
}

Task<Result<CopyReport>> Copier::run() {
  CO_TRY(co_await own_all());
  CO_TRY(co_await begin());
  if (progress_.phase == Phase::dirs) CO_TRY(co_await copy_dirs());
  if (progress_.phase == Phase::data) CO_TRY(co_await copy_data());
  if (progress_.phase == Phase::journals) CO_TRY(co_await copy_journals());
  if (progress_.phase == Phase::verify) {
    if (options_.verify) {
      CO_TRY(co_await compare_dirs());
      CO_TRY(co_await compare_data());
    }
    // It is a volume from here on.
    CO_TRY(co_await remember(Phase::done, Ino{}));
  }
  CO_TRY(co_await give_up_all());
  co_return report_;
}

}  // namespace

Task<Result<void>> check_not_copying(StateStore& state, std::string volume) {
  std::string key = kCopyKey;
  CO_TRY_ASSIGN(StateValue found, co_await state.get(key));
  auto progress = decode_progress(found.value);
  if (found.version == 0 || (progress && progress->phase == Phase::done)) co_return Result<void>{};
  co_return fail(ECANCELED,
                 fmt::format("{} is a copy that is not finished; call 'graftfs copy' again "
                             "to go on with it",
                             volume));
}

Task<Result<CopyReport>> copy_volume(Store& from, Store& to, CopyOptions options) {
  Copier copier(from, to, std::move(options));
  co_return co_await copier.run();
}

}  // namespace graftfs::tools
