#pragma once
// What the clients do.

#include "sim/world.h"

namespace graftfs::sim {

// Begins the workers of a client that has (again) come up.
void start_workers(SimClient& client);

// One request as root, and its answer; keeps account of holds.
Task<Reply> ask(SimClient& client, Args args);
Task<void> release(SimClient& client, Ino ino);
// Reads every directory, attribute and byte through the client; the oracle compares the answers.
Task<void> read_everything(SimClient& client);
Task<void> read_file(SimClient& client, Ino ino, uint64_t offset, uint64_t length);
Task<int> write_file(SimClient& client, Ino ino, uint64_t offset, std::string bytes,
                     WriteOptions options);

// The fixed script: every operation, with what is special about it (script.cc).
Task<void> run_script(SimClient& client);

}  // namespace graftfs::sim
