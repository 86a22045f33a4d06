#pragma once
// What a journal is on disk (docs/formats/journal.md). Shared by the writer and the scanner.
//
// A journal is a sequence of segments; a segment is a sequence of frames, each starting at a
// multiple of 8 bytes, the first of them a segment start. After the last frame a segment holds
// whatever was there before (segments are recycled): a frame counts only if its magic, volume,
// rank, segment, epoch and CRC fit and its LSN is the one after its predecessor's.

#include <cstddef>
#include <cstdint>

namespace graftfs::journal {

inline constexpr uint32_t kFrameMagic = 0x6a667267;  // "grfj"
inline constexpr size_t kFrameAlign = 8;

// Frame types below 16 belong to the journal itself; the rest is the payload's business.
enum class FrameType : uint8_t {
  segment_start = 1,  // payload: SegmentStart, then the opaque checkpoint and trace summary
  barrier = 2,        // payload: Barrier; there for its safe_back, durable_back and `oldest`
};
inline constexpr uint8_t kFirstPayloadType = 16;

struct FrameHeader {
  uint32_t magic;
  uint32_t crc;     // CRC32C of the frame from `length` on: header, payload, zero padding
  uint32_t length;  // of the payload, in bytes
  uint8_t type;
  uint8_t flags;  // 0
  uint16_t rank;
  uint32_t epoch;    // of the owner that wrote it
  uint32_t segment;  // low 32 bits of the segment's id
  // lsn - S, saturating, where S is the newest event known, when this frame was appended, ...
  uint32_t safe_back;     // ... to have the file data that it and all before it reveal on disk
  uint32_t durable_back;  // ... to be durable itself, with all before it
  uint64_t lsn;           // one more than the frame's before it
  uint64_t volume;        // the first 8 bytes of the volume's uuid
};
static_assert(sizeof(FrameHeader) == 48);
static_assert(offsetof(FrameHeader, length) == 8);
static_assert(offsetof(FrameHeader, lsn) == 32);
static_assert(offsetof(FrameHeader, volume) == 40);

struct SegmentStart {
  uint32_t format;  // kFormat
  uint32_t flags;   // kMajor
  uint64_t segment;
  // Frames of older epochs with an LSN above this are void (they were cut off by recovery).
  uint64_t resumes_after;
  uint64_t wall_sec;  // when the segment was begun; for people
  uint64_t oldest;    // the oldest segment that counted then; a major one
};
static_assert(sizeof(SegmentStart) == 40);
static_assert(offsetof(SegmentStart, segment) == 8);
static_assert(offsetof(SegmentStart, resumes_after) == 16);
static_assert(offsetof(SegmentStart, oldest) == 32);
inline constexpr uint32_t kFormat = 1;
inline constexpr uint32_t kMajor = 1;  // the payload opens with a checkpoint

struct Barrier {
  // The oldest segment that counts. Trim makes such a frame durable before it removes a segment,
  // so that a segment given back is told apart from one that was lost.
  uint64_t oldest;
  uint32_t flags;  // kClosed
  // How many write-backs the directories have seen (low 32 bits), each complete when this was
  // appended; 0: nothing is said.
  uint32_t commits;
};
static_assert(sizeof(Barrier) == 16);
static_assert(offsetof(Barrier, flags) == 8);
inline constexpr uint32_t kClosed = 1;  // the last frame of an owner that ended cleanly

// Bytes of a frame in the segment.
constexpr size_t frame_size(size_t payload) {
  return (sizeof(FrameHeader) + payload + kFrameAlign - 1) & ~(kFrameAlign - 1);
}

}  // namespace graftfs::journal
