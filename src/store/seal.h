#pragma once
// The sums of a file's data at rest (docs/formats/store-local.md, "Seals").

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace graftfs {

// The file that a seal is on. Calls may block.
class SealedFile {
 public:
  virtual ~SealedFile() = default;
  // Zeros past the end. EAGAIN where it must not block and would.
  virtual Result<void> read(uint64_t offset, char* out, size_t length) const = 0;
  // The first offset >= `offset` that may be other than zero; UINT64_MAX: none.
  virtual uint64_t next_data(uint64_t offset) const = 0;
  // Replaces the seal; "": takes it off. `durable`: before it returns.
  virtual Result<void> write_seal(std::string_view bytes, bool durable) = 0;
  // For messages.
  virtual std::string name() const = 0;
};

// What is known of one file's data. A value; the methods that are const may be called from several
// threads at once. Errors leave it as it was. Nothing is written but through write_seal(), and what
// was written is true of the data whatever a crash leaves of both: see before_change().
class Seal {
 public:
  Seal() = default;
  explicit Seal(Ino ino) : ino_(ino) {}

  // The attribute's bytes. EUCLEAN (`name` says which file it is): they are not a seal.
  Result<void> load(std::string_view bytes, const std::string& name);
  // "" where nothing is known.
  std::string encode() const;

  uint64_t size() const { return size_; }
  // All of a file with so many bytes is sealed.
  bool is_whole(uint64_t stored) const { return unknown_ == 0 && size_ >= stored; }
  // A byte of the range is sealed.
  bool covers(uint64_t offset, uint64_t length) const;
  // ... and it has not been checked.
  bool needs_check(uint64_t offset, uint64_t length) const;
  // How many bytes are read to check the range.
  uint64_t bytes_to_check(uint64_t offset, uint64_t length) const;

  // What is sealed in the range and was not checked before. EUCLEAN where it is not what it was.
  Result<void> check(const SealedFile& file, uint64_t offset, uint64_t length) const;
  // To be called before the range is changed: breaks the seal of it, durably. What stays of a chunk
  // is checked first, so that damage does not get a new seal.
  Result<void> before_change(SealedFile& file, uint64_t offset, uint64_t length);
  // The same before the file is cut to `size`.
  Result<void> before_cut(SealedFile& file, uint64_t size);

  bool operator==(const Seal& o) const { return size_ == o.size_ && sums_ == o.sums_; }

 private:
  friend class Resealing;
  struct Sums {
    uint32_t before_split = 0, all = 0;
  };
  // Of the bytes from `from` (where a chunk begins) to `to`, and to `split` in between.
  Result<Sums> sum(const SealedFile& file, uint64_t from, uint64_t split, uint64_t to) const;
  Result<void> check_chunk(const SealedFile& file, size_t chunk) const;
  std::unexpected<Error> misfit(const SealedFile& file, size_t chunk, uint32_t found) const;
  uint64_t chunk_bytes() const { return uint64_t{1} << chunk_log2_; }
  uint64_t begin_of(size_t chunk) const { return static_cast<uint64_t>(chunk) << chunk_log2_; }
  uint64_t end_of(size_t chunk) const;
  // The chunks that the range touches: [first, last).
  std::pair<size_t, size_t> chunks(uint64_t offset, uint64_t length) const;
  void set(size_t chunk, uint32_t sum);
  bool is_checked(size_t chunk) const;
  void mark_checked(size_t chunk) const;

  Ino ino_;
  uint64_t size_ = 0;
  int chunk_log2_ = 0;
  size_t unknown_ = 0;          // how many of the sums
  uint32_t broken_ = 0;         // how often before_change() had to write
  std::vector<uint32_t> sums_;  // 0: not known
  mutable std::vector<uint8_t> checked_;
};

// Makes a file's seal whole, a piece at a time. The file must not change meanwhile; whoever owns
// this looks whether it has before he takes the result.
class Resealing {
 public:
  Resealing(const Seal& old, uint64_t stored);
  bool done() const { return next_ == seal_.sums_.size() && checked_ == to_check_; }
  // How many bytes it has to read.
  uint64_t bytes() const;
  // Reads at most a few MiB, or one chunk. EUCLEAN as Seal::check().
  Result<void> step(const SealedFile& file);
  // Once it is done.
  const Seal& seal() const { return seal_; }

 private:
  bool keeps(size_t chunk) const;
  Seal old_, seal_;
  size_t to_check_ = 0;  // chunks of the old one, where the new one has others
  size_t checked_ = 0;
  size_t next_ = 0;
};

}  // namespace graftfs
