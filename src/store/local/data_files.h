#pragma once
// The files below VOLUME/data, one an ino: names, descriptors and the system calls on them.

#include <absl/container/flat_hash_map.h>
#include <time.h>

#include <array>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/ids.h"
#include "store/local/local_common.h"
#include "store/local/volume_file.h"
#include "store/seal.h"
#include "store/store.h"

namespace graftfs::local {

// One open file. What changes in it is touched only by whoever holds the ino's gate.
struct DataFile {
  Ino ino;
  Fd fd;
  uint64_t size = 0;     // when it was last asked; other processes may have changed it since
  bool created = false;  // the open made it
  Seal seal;             // as it was when this was opened, or locked; only weaker since
  // Holds the lock that keeps other processes from sealing it: may change what is not sealed.
  bool locked = false;
};

// Names and descriptors; the descriptors are bounded, least recently used first out. open() from
// the executor's thread, the rest from any.
class DataFiles {
 public:
  DataFiles(std::shared_ptr<Volume> volume, size_t max_open)
      : volume_(std::move(volume)), max_open_(max_open) {}
  Result<void> open_dirs();

  // Null where there is no such file and `make` is no. likely_new: it is made without looking for
  // it first, as there is hardly one yet.
  enum class Make { no, yes, likely_new };
  Result<std::shared_ptr<DataFile>> open(Ino ino, Make make);
  // The same, and never kept.
  void forget(Ino ino);

  // Neighbours share a directory: files made together lie together on disk, and few directories
  // are to be synced.
  static int fan_of(Ino ino) { return static_cast<int>(ino.v / kNeighbours % kFanOut); }
  std::string name_of(Ino ino) const;
  Result<void> sync_dir(int fan) const;
  Result<void> unlink(Ino ino) const;
  Result<std::vector<Ino>> list_all() const;
  // Takes the seal off, whatever it is, durably.
  Result<void> drop_seal(Ino ino) const;
  // Those of `inos` that are not sealed as a whole.
  std::vector<Ino> unsealed(const std::vector<Ino>& inos) const;
  Volume& volume() const { return *volume_; }
  size_t open_count() const { return open_.size(); }

 private:
  static std::string file_name(Ino ino);
  // The fan-out directory's descriptor, opened (and made) at first use; -1 and errno.
  int dir(int fan, bool create) const;
  // Its descriptor, or -1 and errno.
  int open_fd(int dir, const std::string& name, Make make, bool& made) const;

  std::shared_ptr<Volume> volume_;
  size_t max_open_;
  Fd data_;
  mutable std::mutex dirs_mutex_;
  mutable std::array<Fd, kFanOut> dirs_;
  mutable std::atomic<bool> dirs_made_{false};  // since data/ was synced
  struct Open {
    std::shared_ptr<DataFile> file;
    std::list<Ino>::iterator used;
  };
  absl::flat_hash_map<Ino, Open> open_;
  std::list<Ino> used_;  // most recent first
};

// To be called before each change. `wait`: for another process that seals it just now, else EAGAIN.
Result<void> lock_to_change(DataFile& file, bool wait, const DataFiles& files);
// Whether a change of the range, which voids what is behind `valid_size`, breaks the seal first.
bool breaks_seal(const DataFile& file, uint64_t offset, uint64_t length, uint64_t valid_size);
// What is sealed in the range and was not checked. EUCLEAN: it is damaged. ESTALE: another process
// has changed the file, and it is to be opened again. `wait`: for the disk, else EAGAIN.
Result<void> check_file(const DataFile& file, uint64_t offset, uint64_t length, bool wait,
                        const DataFiles& files);

// A file that is being sealed; from any thread, one at a time. Holds no gate: a change meanwhile is
// seen from the file's time.
struct Sealing {
  std::shared_ptr<DataFile> file;
  timespec changed;  // when it last was
  uint64_t size;
  std::string found;  // the seal that it had
  Resealing work;
};
// Null where it is sealed, or `wait` where it has not been at rest for long enough.
Result<std::unique_ptr<Sealing>> begin_sealing(std::shared_ptr<DataFile> file,
                                               uint64_t bytes_per_second, Nanos& wait,
                                               const DataFiles& files);
// A piece of the work. EUCLEAN: what was sealed is damaged. ESTALE: it has changed.
Result<void> go_on_sealing(Sealing& sealing, const DataFiles& files);
// Holding the gate exclusively. ESTALE: it has changed. EAGAIN: somebody may be changing it.
Result<void> end_sealing(Sealing& sealing, const DataFiles& files);
// Lets others seal it: it is not changed any more, or is locked again.
void unlock(DataFile& file);

// The system calls, all of them blocking. `shown` names the file.
Result<DataInfo> write_file(DataFile& file, uint64_t offset, std::string_view bytes,
                            uint64_t valid_size, const DataFiles& files);
Result<DataInfo> truncate_file(DataFile& file, uint64_t size, const DataFiles& files);
Result<DataInfo> allocate_file(DataFile& file, AllocateMode mode, uint64_t offset, uint64_t length,
                               uint64_t valid_size, const DataFiles& files);
Result<uint64_t> seek_file(const DataFile& file, uint64_t offset, bool data, uint64_t size,
                           const DataFiles& files);
// ESTALE, EUCLEAN as check_file().
Result<DataInfo> copy_file(const DataFile* from, uint64_t from_offset, DataFile& to,
                           uint64_t to_offset, uint64_t length, uint64_t valid_size,
                           const DataFiles& files);
// All of it, zeros past the end.
Result<void> read_file(const DataFile& file, uint64_t offset, char* out, size_t length,
                       const DataFiles& files);
// What can be had without waiting for the disk: the number of bytes filled in.
size_t read_cached(DataFile& file, uint64_t offset, char* out, size_t length);

}  // namespace graftfs::local
