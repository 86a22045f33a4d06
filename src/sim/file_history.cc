#include "sim/file_history.h"

#include <fmt/format.h>

#include <algorithm>

namespace graftfs::sim {
namespace {

bool covers(const DataOp& op, uint64_t offset) { return offset >= op.offset && offset < op.end; }
char byte_of(const DataOp& op, uint64_t offset) {
  uint64_t i = offset - op.offset;
  return i < op.bytes.size() ? op.bytes[i] : '\0';
}

// Whether `op` surely happened, before whoever looks.
bool definite(const DataOp& op, const Look& look) {
  if (op.maybe || op.ended == kNever) return false;
  if (look.kind == Look::after_power_cut) return op.pin <= look.last;
  return op.ended < look.began;
}

}  // namespace

size_t FileHistory::begin(uint64_t offset, uint64_t end, std::string bytes, uint64_t step) {
  ops_.push_back({offset, end, std::move(bytes), step, kNever, Lsn{kNever}, false, false});
  return ops_.size() - 1;
}

void FileHistory::pin(Lsn lsn) {
  for (DataOp& op : ops_)
    if (op.ended != kNever && op.pin.v == kNever) op.pin = lsn;
}

void FileHistory::crash(uint64_t step) {
  for (DataOp& op : ops_) {
    if (op.ended != kNever) continue;
    op.ended = step;
    op.maybe = true;
  }
}

void FileHistory::unpin(Lsn last) {
  for (DataOp& op : ops_)
    if (op.pin > last) op.pin = Lsn{kNever};
}

void FileHistory::doubt(Lsn last) {
  for (DataOp& op : ops_)
    if (op.ended != kNever && op.pin > last) op.maybe = true;
}

void FileHistory::settle_unknown() {
  doubt(Lsn{0});
  // Those under way keep their numbers.
  ops_.push_back({0, kNever, {}, 0, 0, Lsn{0}, false, true});
}

void FileHistory::settle(std::string bytes) {
  ops_.clear();
  ops_.push_back({0, bytes.size(), std::move(bytes), 0, 0, Lsn{0}, false, false});
}

bool FileHistory::allowed(uint64_t offset, char value, const Look& look) const {
  // From the newest on: a write may show unless one that surely happened later covers it.
  uint64_t hidden_before = 0;  // ops that ended before this are covered
  for (const DataOp& op : ops_)
    if (covers(op, offset) && definite(op, look)) hidden_before = std::max(hidden_before, op.began);
  bool any = false;
  for (const DataOp& op : ops_) {
    if (!covers(op, offset) || op.began > look.ended) continue;
    if (op.ended < hidden_before) {
      any = true;
      continue;
    }
    if (definite(op, look)) any = true;
    if (op.any || byte_of(op, offset) == value) return true;
  }
  return !any && value == '\0';  // never surely written: zeros may show
}

std::optional<uint64_t> FileHistory::wrong(uint64_t at, const std::string& content,
                                           const Look& look) const {
  // The common case: everything happened.
  std::string newest(content.size(), '\0');
  for (const DataOp& op : ops_) {
    uint64_t from = std::max(op.offset, at), to = std::min(op.end, at + content.size());
    for (uint64_t i = from; i < to; ++i) newest[i - at] = byte_of(op, i);
  }
  if (newest == content) return std::nullopt;
  for (size_t i = 0; i < content.size(); ++i)
    if (newest[i] != content[i] && !allowed(at + i, content[i], look)) return at + i;
  return std::nullopt;
}

std::string FileHistory::explain(uint64_t offset) const {
  std::string out;
  for (const DataOp& op : ops_) {
    if (!covers(op, offset)) continue;
    out += fmt::format("\n    [{}, {}) byte {:#04x} began {} ended {} pin {}{}", op.offset,
                       op.end == kNever ? -1 : static_cast<int64_t>(op.end),
                       static_cast<uint8_t>(byte_of(op, offset)), op.began,
                       op.ended == kNever ? -1 : static_cast<int64_t>(op.ended),
                       op.pin.v == kNever ? -1 : static_cast<int64_t>(op.pin.v),
                       op.maybe ? " maybe" : "");
  }
  return out;
}

}  // namespace graftfs::sim
