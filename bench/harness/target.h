#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>

#include "harness/benchmark.h"

namespace graftfs::bench {

// A directory in which a benchmark works: a mount of GraftFS or of the null file
// system, or plain directory of the disk's own file system. Used by one thread.
// The destructor unmounts and removes everything.
class Target {
 public:
  virtual ~Target() = default;
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  // What it is, for reports.
  virtual std::string name() const = 0;
  // Makes it fresh and empty; returns when it serves.
  virtual void start() = 0;
  // Unmounts it and removes its contents. May be called twice.
  virtual void stop() = 0;
  // The kernel forgets its names, attributes and pages of this file system.
  virtual void drop_caches() = 0;
  // The process that serves the mount; 0 when there is none.
  virtual pid_t server() const { return 0; }
  // More for the report.
  virtual Json details() const { return Json::object(); }

  const std::filesystem::path& path() const { return path_; }
  // Writes out what is dirty and waits until the server has no more work of its
  // own (at most 20 s), so that it is not charged to whoever is measured next.
  void settle();

 protected:
  explicit Target(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

// GraftFS itself, through its command line: format, mount, umount.
class GraftFsTarget : public Target {
 public:
  GraftFsTarget(const Context& context, const std::string& label);
  ~GraftFsTarget() override;
  std::string name() const override { return "graftfs"; }
  void start() override;
  void stop() override;
  void drop_caches() override;
  pid_t server() const override { return server_; }
  Json details() const override;

  // Further options of `graftfs mount`.
  void set_mount_options(std::vector<std::string> options) { mount_options_ = std::move(options); }
  // The parts of start() and stop(), for benchmarks that crash the mount.
  void format();
  void mount();
  void unmount();
  // SIGKILL to the server; returns when it is gone and the mount is detached.
  void kill_server();
  // `graftfs info --json` of the mount.
  Json info() const;
  const std::filesystem::path& volume() const { return volume_; }

 private:
  std::filesystem::path binary_;
  std::filesystem::path home_;
  std::filesystem::path volume_;
  std::string durability_;
  std::vector<std::string> mount_options_;
  pid_t server_ = 0;
  bool mounted_ = false;
};

// bench/null_fs: everything in memory, nothing to lose.
class NullFsTarget : public Target {
 public:
  // Without `permissions` it is mounted without default_permissions, unlike GraftFS.
  NullFsTarget(const Context& context, const std::string& label, unsigned threads,
               bool permissions = true);
  ~NullFsTarget() override;
  std::string name() const override { return "null-fs"; }
  void start() override;
  void stop() override;
  void drop_caches() override;
  pid_t server() const override { return server_; }
  Json details() const override;

 private:
  std::filesystem::path binary_;
  unsigned threads_;
  bool permissions_;
  pid_t server_ = 0;
};

// A directory on the disk that holds the work directory.
class DirTarget : public Target {
 public:
  DirTarget(const Context& context, const std::string& label);
  ~DirTarget() override;
  std::string name() const override;
  void start() override;
  void stop() override;
  void drop_caches() override;
};

// The subject as the command line names it: graftfs, null or dir.
std::unique_ptr<Target> make_subject(const Context& context);
// The null file system with the number of threads that is fastest for so many
// clients at once. For one client that is one thread; for more, 1 and 4 are
// tried once per run.
std::unique_ptr<Target> make_null(const Context& context, const std::string& label,
                                  unsigned clients);
unsigned fastest_null_threads(const Context& context, unsigned clients);

}  // namespace graftfs::bench
