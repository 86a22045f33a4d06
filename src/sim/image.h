#pragma once
// What a disk holds, read without the rank: store and journal put together, checked by itself and
// against the model.

#include <map>
#include <memory>
#include <string>

#include "events/rank_state.h"
#include "recovery/recover.h"
#include "sim/file_history.h"
#include "sim/medium.h"
#include "sim/model.h"

namespace graftfs::sim {

struct Image {
  std::map<Ino, DirHeader> dirs;
  std::map<Ino, std::map<std::string, EntryValue>> entries;
  std::map<Ino, Location> locations;  // of embedded inodes, as the store's index has it
  std::map<Ino, std::string> data;    // bytes of every file that has any, up to its size
  std::set<Ino> spoiled;              // files whose data is refused as damaged
  std::vector<Ino> data_inos;
  RankState state;
  Recovered recovered;
};

struct ImageOptions {
  uint64_t volume = 0;
  RankId rank;
  SegmentId from;             // replay from this major segment
  bool twice = false;         // replay, and replay again into the same cache
  bool data_may_rot = false;  // a file whose data is refused is `spoiled`, and no error
};

// Reads a copy; the medium itself is not touched.
Result<Image> read_image(const Medium& medium, ImageOptions options);

// Whether this thread is in read_image() just now: its kill points are not the simulated node's.
bool reading_image();

// "" or the first thing that is wrong.
std::string check_consistent(const Image& image, bool settled);
// `held`: inos that live clients hold. `settled`: nothing is waiting for write-back or purge.
std::string compare_names(const Image& image, const Model& model, const std::set<Ino>& held,
                          bool settled);
std::string compare_data(const Image& image, const Model& model,
                         const std::map<Ino, FileHistory>& files, const Look& look);
// Whether two images show the same tree.
std::string compare_trees(const Image& a, const Image& b);

}  // namespace graftfs::sim
