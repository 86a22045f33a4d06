#pragma once
// Who owns a journal, as its index says (docs/formats/store-rados.md, "Who may write").

#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"

namespace graftfs::rados {

struct OwnerRecord {
  std::string host;     // its name, for people
  std::string machine;  // boot id and process namespace
  int32_t pid = 0;
  uint64_t started = 0;  // ticks after the machine's start
  uint64_t client = 0;   // id of the RADOS client
  std::string address;   // of it; empty: it has given the journal up
  bool early = false;    // its writes complete before they are there

  friend bool operator==(const OwnerRecord&, const OwnerRecord&) = default;
};

// This process, with a client of its own.
OwnerRecord this_process(uint64_t client, std::string address);
std::string encode(const OwnerRecord& owner);
// EUCLEAN with a sentence; empty bytes: nobody.
Result<OwnerRecord> decode_owner(std::string_view bytes, const std::string& shown);
// Whether it was a process of this machine that has ended.
bool has_ended_here(const OwnerRecord& owner);

}  // namespace graftfs::rados
