#include "store/rados/rados_data.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/fault.h"
#include "store/points.h"

namespace graftfs::rados {
namespace {

constexpr uint64_t kUnit = 512, kGrain = 4096;
constexpr size_t kMostKnown = 16384;  // files of which something is remembered
constexpr size_t kRemovesAtOnce = 32;
constexpr uint64_t kKeysInAnswer = 1024;
constexpr size_t kCopyPiece = 1 << 20;
constexpr size_t kMostEarly = 64 << 20;  // bytes of writes that were answered and are not there
constexpr uint32_t kNamedAhead = 16;     // blocks

// Nothing is ever written to the last block, which stands for all behind it, too.
uint32_t block_of(uint64_t offset) {
  return static_cast<uint32_t>(std::min<uint64_t>(offset / kBlockBytes, UINT32_MAX));
}
uint64_t begin_of(uint32_t block) { return block * kBlockBytes; }
// What a file's data can reach to.
constexpr uint64_t kMostBytes = uint64_t{UINT32_MAX} * kBlockBytes;
bool reaches_too_far(uint64_t offset, uint64_t length) {
  return length > kMostBytes || offset > kMostBytes - length;
}

std::string block_key(uint32_t block) {
  uint32_t v = std::byteswap(block);
  return std::string(reinterpret_cast<const char*>(&v), sizeof v);
}

// Calls fn(block, first, last) for each block that [begin, end) touches, offsets within the block.
template <class F>
void each_block(uint64_t begin, uint64_t end, F&& fn) {
  while (begin < end) {
    uint32_t block = block_of(begin);
    uint64_t stop = std::min(end, begin_of(block) + kBlockBytes);
    fn(block, begin - begin_of(block), stop - begin_of(block));
    begin = stop;
  }
}

}  // namespace

uint64_t DataFile::end() const {
  for (auto it = blocks.rbegin(); it != blocks.rend(); ++it) {
    const auto& [number, block] = *it;
    if (!block.known) return begin_of(number) + kBlockBytes;
    if (!block.extents.empty()) return begin_of(number) + block.extents.end();
  }
  return 0;
}

uint64_t DataFile::held_units() const {
  uint64_t units = 0;
  for (const auto& [number, block] : blocks)
    units += block.known ? block.extents.units(kGrain) * (kGrain / kUnit) : kBlockBytes / kUnit;
  return units;
}

DataFile& RadosData::file_of(Ino ino) {
  if (files_.size() >= kMostKnown && !files_.contains(ino)) {
    MARK("store.rados.data_forgotten");
    absl::erase_if(files_, [&](const auto& f) { return !gates_.busy(f.first, true); });
  }
  auto& file = files_[ino];
  if (!file) file = std::make_unique<DataFile>();
  return *file;
}

void RadosData::forget(Ino ino) {
  auto it = files_.find(ino);
  if (it == files_.end()) return;
  if (gates_.busy(ino, true))
    it->second->stale = true;
  else
    files_.erase(it);
}

Task<Result<void>> RadosData::finish(std::vector<Sent> sent, const char* verb) {
  Result<void> result;
  for (Sent& s : sent) {
    int code = co_await s.done;
    if (code < 0 && result) result = session_->failed(code, verb, s.object);
  }
  co_return result;
}

// -- what is there ------------------------------------------------------------------------------

Task<Result<void>> RadosData::load(Ino ino, DataFile& file, uint64_t first, uint64_t last) {
  if (std::exchange(file.stale, false)) {
    file.loaded = false;
    file.blocks.clear();
  }
  if (!file.loaded) {
    std::map<uint32_t, DataFile::Block> blocks;
    std::string after;
    const std::string object = data_object(ino, 0);
    for (;;) {
      auto out = std::make_shared<Head>();
      ReadOp op;
      op.stat(&out->size);
      op.omap_get_vals2(after, "", kKeysInAnswer, &out->blocks, &out->more);
      Answer<Head> answer = co_await session_->read(object, std::move(op), out);
      if (answer.code == -ENOENT) break;
      if (answer.code < 0) co_return session_->failed(answer.code, "read", object);
      DataFile::Block& head = blocks[0];
      head.known = out->size == 0;
      for (const auto& [key, value] : out->blocks) {
        uint32_t number = 0;
        if (key.size() != sizeof number)
          co_return damaged(
              fmt::format("{}/{}: the list of its blocks makes no sense; run 'graftfs "
                          "fsck'",
                          session_->name().shown(), object));
        std::memcpy(&number, key.data(), sizeof number);
        blocks[std::byteswap(number)];
      }
      if (!out->more || out->blocks.empty()) break;
      after = out->blocks.rbegin()->first;
    }
    file.blocks = std::move(blocks);
    file.loaded = true;
  }
  std::vector<std::pair<uint32_t, Promised<Mapped>>> asked;
  for (auto it = file.blocks.lower_bound(block_of(first));
       it != file.blocks.end() && begin_of(it->first) < last; ++it)
    if (!it->second.known)
      asked.emplace_back(it->first, session_->mapext(data_object(ino, it->first), kBlockBytes));
  Result<void> result;
  for (auto& [number, done] : asked) {
    auto [code, extents] = co_await done;
    if (code < 0 && code != -ENOENT) {
      if (result) result = session_->failed(code, "read", data_object(ino, number));
      continue;
    }
    DataFile::Block& block = file.blocks[number];
    block.known = true;
    for (auto [from, length] : extents) block.extents.add(from, from + length);
  }
  co_return result;
}

// Puts the blocks' numbers down before anything is written to them.
Task<Result<void>> RadosData::add_blocks(Ino ino, DataFile& file, uint64_t first, uint64_t last) {
  std::map<std::string, bufferlist> put;
  std::vector<uint32_t> fresh;
  each_block(first, last, [&](uint32_t number, uint64_t, uint64_t) {
    if (file.blocks.contains(number)) return;
    fresh.push_back(number);
    if (number > 0) put[block_key(number)] = bufferlist();
  });
  if (!put.empty()) {
    const std::string object = data_object(ino, 0);
    WriteOp op;
    op.create(false);
    op.omap_set(put);
    int code = co_await session_->write(object, std::move(op));
    if (code < 0) co_return session_->failed(code, "write", object);
    if (!file.blocks.contains(0)) file.blocks[0].known = true;
    KILL_POINT("store.rados.blocks_named");
  }
  for (uint32_t number : fresh) file.blocks[number].known = true;
  co_return Result<void>{};
}

// -- changes ------------------------------------------------------------------------------------

// Everything from `size` on is void.
Task<Result<void>> RadosData::cut(Ino ino, DataFile& file, uint64_t size) {
  std::vector<Sent> sent;
  std::set<std::string> names;
  std::vector<uint32_t> gone;
  for (auto it = file.blocks.lower_bound(block_of(size)); it != file.blocks.end(); ++it) {
    auto& [number, block] = *it;
    uint64_t keep = size > begin_of(number) ? size - begin_of(number) : 0;
    if (block.known && block.extents.end() <= keep && (keep > 0 || number == 0)) continue;
    const std::string object = data_object(ino, number);
    WriteOp op;
    if (keep > 0 || number == 0) {
      op.truncate(keep);
      block.extents.remove(keep, kBlockBytes);
    } else {
      op.remove();
      gone.push_back(number);
      names.insert(block_key(number));
    }
    sent.push_back({object, session_->write(object, std::move(op))});
  }
  Result<void> result;
  for (Sent& s : sent) {
    int code = co_await s.done;
    if (code < 0 && code != -ENOENT && result) result = session_->failed(code, "cut", s.object);
  }
  if (!result) {
    file.stale = true;
    co_return result;
  }
  for (uint32_t number : gone) file.blocks.erase(number);
  if (!names.empty()) {
    const std::string head = data_object(ino, 0);
    WriteOp op;
    op.omap_rm_keys(names);
    int code = co_await session_->write(head, std::move(op));
    if (code < 0 && code != -ENOENT) co_return session_->failed(code, "cut", head);
  }
  co_return Result<void>{};
}

// Holes from here on; the blocks stay.
Task<Result<void>> RadosData::zero(Ino ino, DataFile& file, uint64_t first, uint64_t last) {
  std::vector<Sent> sent;
  for (auto it = file.blocks.lower_bound(block_of(first));
       it != file.blocks.end() && begin_of(it->first) < last; ++it) {
    auto& [number, block] = *it;
    uint64_t from = first > begin_of(number) ? first - begin_of(number) : 0;
    uint64_t to = std::min({last - begin_of(number), block.extents.end(), kBlockBytes});
    if (from >= to) continue;
    const std::string object = data_object(ino, number);
    WriteOp op;
    op.zero(from, to - from);
    block.extents.remove(from, to);
    sent.push_back({object, session_->write(object, std::move(op))});
  }
  Result<void> result = co_await finish(std::move(sent), "zero");
  if (!result) file.stale = true;
  co_return result;
}

// Real zeros, which take space. `holes_only`: where nothing is held.
Task<Result<void>> RadosData::fill(Ino ino, DataFile& file, uint64_t first, uint64_t last,
                                   bool holes_only) {
  CO_TRY(co_await add_blocks(ino, file, first, last));
  std::vector<Sent> sent;
  const std::string zeros(kGrain, '\0');
  each_block(first, last, [&](uint32_t number, uint64_t from, uint64_t to) {
    DataFile::Block& block = file.blocks[number];
    WriteOp op;
    bool any = false;
    for (uint64_t at = from; at < to;) {
      uint64_t stop = to;
      if (holes_only) {
        at = block.extents.next_hole(at);
        stop = std::min(to, block.extents.next_data(at));
        if (at >= to) break;
      }
      // The pattern's length has to divide what is written.
      const uint64_t pattern = std::min<uint64_t>(kGrain, (stop - at) & -(stop - at));
      op.writesame(at, stop - at, to_buffer(std::string_view(zeros).substr(0, pattern)));
      block.extents.add(at, stop);
      any = true;
      at = stop;
    }
    if (!any) return;
    const std::string object = data_object(ino, number);
    sent.push_back({object, session_->write(object, std::move(op))});
  });
  Result<void> result = co_await finish(std::move(sent), "allocate");
  if (!result) file.stale = true;
  co_return result;
}

std::vector<RadosData::Sent> RadosData::send_write(Ino ino, DataFile& file, uint64_t offset,
                                                   std::string_view bytes,
                                                   std::optional<uint64_t> cut_first_at) {
  std::vector<Sent> sent;
  each_block(offset, offset + bytes.size(), [&](uint32_t number, uint64_t from, uint64_t to) {
    DataFile::Block& block = file.blocks[number];
    WriteOp op;
    if (cut_first_at && block_of(*cut_first_at) == number) {
      const uint64_t keep = *cut_first_at - begin_of(number);
      op.truncate(keep);
      block.extents.remove(keep, kBlockBytes);
    }
    op.write(from, to_buffer(bytes.substr(begin_of(number) + from - offset, to - from)));
    block.extents.add(from, to);
    const std::string object = data_object(ino, number);
    sent.push_back({object, session_->write(object, std::move(op))});
  });
  return sent;
}

// Whether the write only changes bytes in blocks that are there.
bool RadosData::only_writes(Ino ino, uint64_t offset, size_t length, uint64_t valid_size) const {
  auto it = files_.find(ino);
  if (it == files_.end()) return false;
  const DataFile& file = *it->second;
  if (!file.loaded || file.stale || file.end() > valid_size) return false;
  bool there = true;
  each_block(offset, offset + length, [&](uint32_t number, uint64_t, uint64_t) {
    auto block = file.blocks.find(number);
    there = there && block != file.blocks.end() && block->second.known;
  });
  return there;
}

Task<Result<DataInfo>> RadosData::write(Ino ino, uint64_t offset, std::string_view bytes,
                                        uint64_t valid_size) {
  points::DataWrite::before();
  CO_TRY(session_->alive());
  if (reaches_too_far(offset, bytes.size())) co_return fail(EFBIG);
  if (early_) {
    std::optional<DataInfo> info = accept(ino, offset, bytes, valid_size);
    if (info) {
      while (unfinished_bytes_ > kMostEarly) co_await progress_.next();
      points::DataWrite::after();
      co_return *info;
    }
  }
  Other other(*this, ino);
  const bool alone = gates_.busy(ino, false) || !only_writes(ino, offset, bytes.size(), valid_size);
  local::Gates::Hold hold(gates_, ino, alone);
  // The caller's bytes may go while this waits for its turn.
  std::string copy;
  if (hold.must_wait()) {
    copy = bytes;
    bytes = copy;
    co_await hold.entered();
  }
  DataFile& file = file_of(ino);
  std::vector<Sent> sent;
  if (alone) {
    if (copy.empty()) {
      copy = bytes;
      bytes = copy;
    }
    CO_TRY(co_await load(ino, file, offset, offset + bytes.size()));
    CO_TRY(co_await load(ino, file, valid_size, valid_size + 1));
    // A cut within the block that is written anyway is a part of that operation.
    std::optional<uint64_t> cut_at;
    if (file.end() > valid_size) {
      const uint32_t number = block_of(valid_size);
      if (number == block_of(offset) && file.blocks.rbegin()->first == number)
        cut_at = valid_size;
      else
        CO_TRY(co_await cut(ino, file, valid_size));
    }
    CO_TRY(co_await add_blocks(ino, file, offset, offset + bytes.size()));
    sent = send_write(ino, file, offset, bytes, cut_at);
  } else {
    sent = send_write(ino, file, offset, bytes);
  }
  Result<void> written = co_await finish(std::move(sent), "write");
  if (!written) {
    file.stale = true;
    co_return std::unexpected(std::move(written).error());
  }
  points::DataWrite::after();
  co_return DataInfo{file.held_units()};
}

// -- early writes -------------------------------------------------------------------------------

// Where it can be told now what the file will hold, the write is as good as done; nullopt: it has
// to be waited for.
std::optional<DataInfo> RadosData::accept(Ino ino, uint64_t offset, std::string_view bytes,
                                          uint64_t valid_size) {
  if (lost_ || bytes.empty() || others_.contains(ino)) return std::nullopt;
  const uint64_t end = offset + bytes.size();
  DataFile& file = file_of(ino);
  Accepted work{.ino = ino, .number = accepted_ + 1};
  if (!file.loaded || file.stale) {
    // Of a new one, too: whatever is there is void.
    if (valid_size > 0 || end > kBlockBytes || gates_.busy(ino, true)) return std::nullopt;
    work.fresh = true;
    file.loaded = true;
    file.stale = false;
    file.blocks.clear();
  }
  if (file.end() > valid_size) return std::nullopt;
  bool known = true;
  std::vector<uint32_t> fresh;
  each_block(offset, end, [&](uint32_t number, uint64_t, uint64_t) {
    auto block = file.blocks.find(number);
    if (block == file.blocks.end())
      fresh.push_back(number);
    else
      known = known && block->second.known;
  });
  if (!known) return std::nullopt;
  if (!fresh.empty() && fresh.back() > 0) {
    // So that a long file does not stop at each of its blocks.
    const uint32_t ahead = std::min(fresh.back(), kNamedAhead);
    for (uint32_t i = 1; i <= ahead && !file.blocks.contains(fresh.back() + 1); ++i)
      fresh.push_back(fresh.back() + 1);
    if (!file.blocks.contains(0) && fresh.front() > 0) fresh.insert(fresh.begin(), 0);
  }
  for (uint32_t number : fresh) {
    file.blocks[number].known = true;
    if (number > 0) work.numbers.push_back(number);
  }
  each_block(offset, end, [&](uint32_t number, uint64_t from, uint64_t to) {
    WriteOp op;
    if (work.fresh) op.truncate(0);
    op.write(from, to_buffer(bytes.substr(begin_of(number) + from - offset, to - from)));
    file.blocks[number].extents.add(from, to);
    work.operations.emplace_back(data_object(ino, number), std::move(op));
  });
  work.alone = work.fresh || !work.numbers.empty();
  work.bytes = bytes.size();
  unfinished_bytes_ += work.bytes;
  unfinished_.insert(++accepted_);
  DataInfo info{file.held_units()};
  tasks_.spawn(carry_out(std::move(work)));
  return info;
}

Task<void> RadosData::carry_out(Accepted work) {
  Result<void> done;
  {
    local::Gates::Hold hold(gates_, work.ino, work.alone);
    if (hold.must_wait()) co_await hold.entered();
    done = co_await carry_out_in_turn(work);
  }
  if (!done) {
    MARK("store.rados.early_data_lost");
    file_of(work.ino).stale = true;
    lost_of_.insert(work.ino);
    if (!lost_) lost_ = done.error();
  }
  unfinished_bytes_ -= work.bytes;
  unfinished_.erase(work.number);
  progress_.ring();
}

// The caller is in the gate.
Task<Result<void>> RadosData::carry_out_in_turn(Accepted& work) {
  const std::string head = data_object(work.ino, 0);
  if (!work.numbers.empty()) {
    std::map<std::string, bufferlist> put;
    for (uint32_t number : work.numbers) put[block_key(number)] = bufferlist();
    WriteOp op;
    op.create(false);
    op.omap_set(put);
    int code = co_await session_->write(head, std::move(op));
    if (code < 0) co_return session_->failed(code, "write", head);
    KILL_POINT("store.rados.blocks_named");
  }
  // The OSD keeps the order: this sees what was there before.
  auto before = std::make_shared<Head>();
  std::optional<Promised<Answer<Head>>> asked;
  if (work.fresh) asked = ask_for_blocks(work.ino, before);
  std::vector<Sent> sent;
  for (auto& [object, op] : work.operations)
    sent.push_back({object, session_->write(object, std::move(op))});
  work.operations.clear();
  Result<void> cleared;
  if (asked) {
    Answer<Head> answer = co_await *asked;
    cleared = co_await remove_further_blocks(work.ino, std::move(answer));
  }
  Result<void> written = co_await finish(std::move(sent), "write");
  if (!cleared) co_return cleared;
  co_return written;
}

Promised<Answer<RadosData::Head>> RadosData::ask_for_blocks(Ino ino, std::shared_ptr<Head> out) {
  ReadOp op;
  op.omap_get_vals2("", "", kKeysInAnswer, &out->blocks, &out->more);
  return session_->read(data_object(ino, 0), std::move(op), out);
}

// Of a file that was thought to be new: a crash has left them.
Task<Result<void>> RadosData::remove_further_blocks(Ino ino, Answer<Head> answer) {
  const std::string head = data_object(ino, 0);
  for (;;) {
    if (answer.code == -ENOENT) co_return Result<void>{};
    if (answer.code < 0) co_return session_->failed(answer.code, "read", head);
    if (answer.out->blocks.empty()) co_return Result<void>{};
    MARK("store.rados.blocks_left_over");
    std::vector<Sent> sent;
    std::set<std::string> names;
    for (const auto& [key, value] : answer.out->blocks) {
      names.insert(key);
      uint32_t number = 0;
      if (key.size() != sizeof number) continue;
      std::memcpy(&number, key.data(), sizeof number);
      const std::string object = data_object(ino, std::byteswap(number));
      WriteOp op;
      op.remove();
      sent.push_back({object, session_->write(object, std::move(op))});
    }
    for (Sent& s : sent) {
      int code = co_await s.done;
      if (code < 0 && code != -ENOENT) co_return session_->failed(code, "remove", s.object);
    }
    WriteOp op;
    op.omap_rm_keys(names);
    int code = co_await session_->write(head, std::move(op));
    if (code < 0 && code != -ENOENT) co_return session_->failed(code, "write", head);
    if (!answer.out->more) co_return Result<void>{};
    auto out = std::make_shared<Head>();
    auto asked = ask_for_blocks(ino, out);
    answer = co_await asked;
  }
}

Task<Result<void>> RadosData::until_written(uint64_t count) {
  while (!unfinished_.empty() && *unfinished_.begin() <= count) co_await progress_.next();
  if (lost_) co_return std::unexpected(*lost_);
  co_return Result<void>{};
}

Task<Result<DataInfo>> RadosData::truncate(Ino ino, uint64_t size) {
  points::DataTruncate::before();
  CO_TRY(session_->alive());
  Other other(*this, ino);
  local::Gates::Hold hold(gates_, ino, true);
  if (hold.must_wait()) co_await hold.entered();
  DataFile& file = file_of(ino);
  CO_TRY(co_await load(ino, file, size, size + 1));
  CO_TRY(co_await cut(ino, file, size));
  points::DataTruncate::after();
  co_return DataInfo{file.held_units()};
}

Task<Result<DataInfo>> RadosData::allocate(Ino ino, AllocateMode mode, uint64_t offset,
                                           uint64_t length, uint64_t valid_size) {
  points::DataAllocate::before();
  CO_TRY(session_->alive());
  if (mode != AllocateMode::punch_hole && reaches_too_far(offset, length)) co_return fail(EFBIG);
  Other other(*this, ino);
  local::Gates::Hold hold(gates_, ino, true);
  if (hold.must_wait()) co_await hold.entered();
  DataFile& file = file_of(ino);
  CO_TRY(co_await load(ino, file, offset, offset + length));
  CO_TRY(co_await load(ino, file, valid_size, valid_size + 1));
  if (file.end() > valid_size) CO_TRY(co_await cut(ino, file, valid_size));
  if (mode == AllocateMode::punch_hole) {
    CO_TRY(co_await zero(ino, file, offset, offset + length));
  } else {
    CO_TRY(co_await fill(ino, file, offset, offset + length, mode == AllocateMode::allocate));
  }
  points::DataAllocate::after();
  co_return DataInfo{file.held_units()};
}

// -- reads --------------------------------------------------------------------------------------

Task<Result<void>> RadosData::fetch(Ino ino, uint64_t offset, char* out, size_t length) {
  struct Part {
    uint64_t at;
    std::string object;
    Promised<Answer<bufferlist>> done;
  };
  std::memset(out, 0, length);
  std::vector<Part> parts;
  each_block(offset, std::min(offset + length, kMostBytes),
             [&](uint32_t number, uint64_t from, uint64_t to) {
               auto bytes = std::make_shared<bufferlist>();
               ReadOp op;
               op.read(from, to - from, bytes.get());
               const std::string object = data_object(ino, number);
               parts.push_back({begin_of(number) + from - offset, object,
                                session_->read(object, std::move(op), bytes)});
             });
  Result<void> result;
  for (Part& part : parts) {
    Answer<bufferlist> answer = co_await part.done;
    if (answer.code == -ENOENT) continue;
    if (answer.code < 0) {
      if (result) result = session_->failed(answer.code, "read", part.object);
      continue;
    }
    const bufferlist& got = *answer.out;
    auto it = got.begin();
    it.copy(std::min<unsigned>(got.length(), static_cast<unsigned>(length - part.at)),
            out + part.at);
  }
  co_return result;
}

Task<Result<void>> RadosData::read(Ino ino, uint64_t offset, char* out, size_t length) {
  CO_TRY(session_->alive());
  local::Gates::Hold hold(gates_, ino, false);
  if (hold.must_wait()) co_await hold.entered();
  Result<void> result = co_await fetch(ino, offset, out, length);
  co_return result;
}

Task<Result<uint64_t>> RadosData::seek(Ino ino, uint64_t offset, bool data, uint64_t size) {
  CO_TRY(session_->alive());
  if (offset >= size) co_return fail(ENXIO);
  Other other(*this, ino);
  local::Gates::Hold hold(gates_, ino, true);
  if (hold.must_wait()) co_await hold.entered();
  DataFile& file = file_of(ino);
  CO_TRY(co_await load(ino, file, offset, size));
  for (uint64_t at = offset; at < size;) {
    if (at >= kMostBytes) {
      if (data) break;
      co_return at;
    }
    uint32_t number = block_of(at);
    auto it = file.blocks.find(number);
    uint64_t within = at - begin_of(number);
    if (data) {
      uint64_t found = it == file.blocks.end() ? UINT64_MAX : it->second.extents.next_data(within);
      if (found < kBlockBytes && begin_of(number) + found < size)
        co_return begin_of(number) + found;
      auto next = file.blocks.upper_bound(number);
      if (next == file.blocks.end()) break;
      at = begin_of(next->first);
    } else {
      uint64_t hole = it == file.blocks.end() ? within : it->second.extents.next_hole(within);
      if (hole < kBlockBytes) co_return std::min(size, begin_of(number) + hole);
      at = begin_of(number) + kBlockBytes;
    }
  }
  if (data) co_return fail(ENXIO);
  co_return size;
}

Task<Result<DataInfo>> RadosData::copy(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                       uint64_t length, uint64_t valid_size) {
  points::DataCopy::before();
  CO_TRY(session_->alive());
  if (reaches_too_far(to_offset, length)) co_return fail(EFBIG);
  // In the order of inos, so that two copies never wait for each other.
  Ino first = std::min(from, to), second = std::max(from, to);
  Other other_of_first(*this, first), other_of_second(*this, second);
  local::Gates::Hold hold(gates_, first, true);
  if (hold.must_wait()) co_await hold.entered();
  std::optional<local::Gates::Hold> other;
  if (second != first) {
    other.emplace(gates_, second, true);
    if (other->must_wait()) co_await other->entered();
  }
  const uint64_t end = to_offset + length;
  DataFile& target = file_of(to);
  DataFile& source = file_of(from);
  CO_TRY(co_await load(to, target, to_offset, end));
  CO_TRY(co_await load(to, target, valid_size, valid_size + 1));
  if (target.end() > valid_size) CO_TRY(co_await cut(to, target, valid_size));
  CO_TRY(co_await load(from, source, from_offset, from_offset + length));
  CO_TRY(co_await zero(to, target, to_offset, end));
  // Extent by extent; what the source does not hold stays a hole.
  std::string buffer;
  const uint64_t stop = std::min(from_offset + length, kMostBytes);
  for (uint64_t at = from_offset; at < stop;) {
    uint32_t number = block_of(at);
    auto it = source.blocks.find(number);
    uint64_t within = at - begin_of(number);
    uint64_t data = it == source.blocks.end() ? UINT64_MAX : it->second.extents.next_data(within);
    if (data >= kBlockBytes) {
      at = begin_of(number) + kBlockBytes;
      continue;
    }
    at = begin_of(number) + data;
    uint64_t hole = begin_of(number) + it->second.extents.next_hole(data);
    uint64_t n = std::min({stop, hole, at + kCopyPiece}) - std::min(stop, at);
    if (n == 0) break;
    buffer.resize(n);
    CO_TRY(co_await fetch(from, at, buffer.data(), n));
    const uint64_t put = to_offset + (at - from_offset);
    CO_TRY(co_await add_blocks(to, target, put, put + n));
    std::vector<Sent> sent = send_write(to, target, put, buffer);
    Result<void> written = co_await finish(std::move(sent), "write");
    if (!written) {
      target.stale = true;
      co_return std::unexpected(std::move(written).error());
    }
    at += n;
  }
  points::DataCopy::after();
  co_return DataInfo{target.held_units()};
}

// -- the rest -----------------------------------------------------------------------------------

Task<Result<void>> RadosData::sync(Ino ino) {
  points::DataSync::before();
  CO_TRY(session_->alive());
  if (!unfinished_.empty()) {
    local::Gates::Hold hold(gates_, ino, true);
    if (hold.must_wait()) co_await hold.entered();
  }
  if (lost_of_.contains(ino)) co_return std::unexpected(*lost_);
  points::DataSync::after();
  co_return Result<void>{};
}

Task<Result<void>> RadosData::sync_all() {
  points::DataSyncAll::before();
  CO_TRY(session_->alive());
  const uint64_t count = accepted_;
  CO_TRY(co_await until_written(count));
  points::DataSyncAll::after();
  co_return Result<void>{};
}

// Block 0 goes last: it knows of the others.
Task<Result<void>> RadosData::erase(Ino ino) {
  Other other(*this, ino);
  local::Gates::Hold hold(gates_, ino, true);
  if (hold.must_wait()) co_await hold.entered();
  DataFile& file = file_of(ino);
  CO_TRY(co_await load(ino, file, 0, 0));
  if (file.blocks.empty()) {
    file.stale = true;
    co_return Result<void>{};
  }
  std::vector<Sent> sent;
  Result<void> result;
  auto drain = [&]() -> Task<void> {
    for (Sent& s : sent) {
      int code = co_await s.done;
      if (code < 0 && code != -ENOENT && result)
        result = session_->failed(code, "remove", s.object);
    }
    sent.clear();
  };
  file.stale = true;
  for (auto it = file.blocks.rbegin(); it != file.blocks.rend() && result; ++it) {
    if (it->first == 0 || sent.size() >= kRemovesAtOnce) co_await drain();
    if (!result) break;
    const std::string object = data_object(ino, it->first);
    WriteOp op;
    op.remove();
    sent.push_back({object, session_->write(object, std::move(op))});
  }
  co_await drain();
  co_return result;
}

Task<Result<void>> RadosData::remove(Ino ino) {
  points::DataRemove::before();
  CO_TRY(session_->alive());
  CO_TRY(co_await erase(ino));
  forget(ino);
  points::DataRemove::after();
  co_return Result<void>{};
}

Task<Result<void>> RadosData::remove_many(std::vector<Ino> inos) {
  points::DataRemove::before();
  CO_TRY(session_->alive());
  // Throttled: so many at once, for what people do comes first.
  struct Work {
    std::vector<Ino> inos;
    size_t next = 0;
    Result<void> result;
  };
  auto work = std::make_shared<Work>();
  work->inos = std::move(inos);
  TaskScope scope;
  std::vector<Promised<bool>> done;
  auto worker = [](RadosData& data, std::shared_ptr<Work> w, Promised<bool> end) -> Task<void> {
    while (w->next < w->inos.size() && w->result) {
      Ino ino = w->inos[w->next++];
      Result<void> erased = co_await data.erase(ino);
      data.forget(ino);
      if (!erased && w->result) w->result = std::move(erased);
    }
    end.set(true);
  };
  for (size_t i = 0; i < std::min(kRemovesAtOnce, work->inos.size()); ++i) {
    done.emplace_back(executor_);
    scope.spawn(worker(*this, work, done.back()));
  }
  for (const Promised<bool>& end : done) co_await end;
  if (!work->result) co_return std::move(work->result);
  points::DataRemove::after();
  co_return Result<void>{};
}

Task<Result<std::vector<Ino>>> RadosData::list(Ino from, size_t max) {
  auto listing = listed_.next(*session_, from, max);
  Result<Inos> inos = co_await listing;
  co_return inos;
}

}  // namespace graftfs::rados
