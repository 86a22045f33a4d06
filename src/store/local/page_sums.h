#pragma once
// A checksum for every page of data.mdb that is in use (docs/formats/store-local.md).

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "store/local/local_common.h"
#include "store/local/mdb_format.h"

namespace graftfs::local {

// LMDB has none and believes its pages. So after each of its transactions the checksums of the
// pages that it wrote are appended to the file `sums`; and when a page is first looked at after
// a start, it is checked.
//
// Owned by the LmdbEnv. check() from any thread; everything else from the one that writes, with
// the environment's lock held against other processes. A crash leaves the file one transaction
// behind data.mdb at most: add() is durable before the next one begins. After an error of add()
// what it should have added is kept, to be added first by the next.
class PageSums {
 public:
  using Sum = std::pair<mdb::PageNo, uint32_t>;

  // `dir`: VOLUME/dirs, opened; `name`: of the file, for messages. `pages`: how many there may be.
  PageSums(int dir, std::string name, size_t pages);
  void resize(size_t pages);  // nobody may be in check()

  // Whether the page is what was written, as far as is known. Pages that this process wrote, and
  // those that nothing is known of, are taken as they are.
  bool check(mdb::PageNo number, const char* bytes, size_t page_size);

  // Reads the file. False where there is none. EUCLEAN where it is damaged; a last record that is
  // not whole is passed over.
  Result<bool> load();
  // Whether the file is still the one that was loaded, or begun, here.
  bool is_current() const;
  // The transaction up to which pages are known.
  uint64_t txn() const { return txn_.load(std::memory_order_relaxed); }
  // What this page holds (what all hold) is not known any more.
  void clear();
  void forget(mdb::PageNo number);
  // The highest page that is known, 0 for none.
  mdb::PageNo highest() const;

  // The pages that transaction `txn` wrote. Completion: durable.
  Result<void> add(uint64_t txn, const std::vector<Sum>& sums);
  // Begins the file anew with all that is in use as of `txn`.
  Result<void> begin(uint64_t txn, const std::vector<Sum>& sums);
  // What an earlier add() could not write.
  Result<void> add_pending();

 private:
  static constexpr size_t kChunk = 1 << 16;
  enum State : uint64_t { none = 0, to_check = 1, good = 2 };
  using Chunk = std::unique_ptr<std::atomic<uint64_t>[]>;  // state << 32 | checksum

  std::atomic<uint64_t>* entry(mdb::PageNo number) const;
  void set(mdb::PageNo number, State state, uint32_t sum);
  std::vector<Sum> known() const;
  // The file, with nothing but these, as of txn().
  Result<void> replace(const std::vector<Sum>& sums);

  int dir_;
  std::string name_;
  std::vector<std::atomic<std::atomic<uint64_t>*>> chunks_;
  std::vector<Chunk> owned_;
  std::atomic<uint64_t> txn_{0};
  std::string pending_;  // encoded records
  Fd file_;
  uint64_t size_ = 0;      // of the file, records that are whole
  uint64_t appended_ = 0;  // sums since it was begun
};

}  // namespace graftfs::local
