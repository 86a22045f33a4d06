#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "null_fs/operations.h"
#include "null_fs/session_settings.h"

// graftfs-null-fs: a FUSE file system that keeps everything in memory and does
// as little as possible. The ceiling for what any FUSE file system can reach.

int main(int argc, char** argv) {
  using namespace graftfs::null_fs;
  CLI::App app(
      "A FUSE file system in memory that does nothing else: the ceiling for benchmarks.\n"
      "Stays in the foreground; SIGTERM or fusermount3 -u ends it.");
  std::string mountpoint;
  unsigned threads = 1;
  NullFs fs;
  app.add_option("mountpoint", mountpoint, "directory to mount on")->required();
  app.add_option("--threads", threads, "threads that answer requests")->check(CLI::Range(1U, 64U));
  app.add_option("--timeout", fs.timeout_s, "seconds for which the kernel may cache entries")
      ->check(CLI::Range(0.0, 86400.0));
  bool check_permissions = true;
  app.add_flag("!--no-permissions", check_permissions,
               "leave out default_permissions: nobody checks permissions, and the kernel does not "
               "ask for the attributes it would need");
  CLI11_PARSE(app, argc, argv);

  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  fuse_opt_add_arg(&args, "graftfs-null-fs");
  std::string options = "-osubtype=graftfs-null-fs,fsname=null,";
  options += check_permissions ? graftfs::kSessionMountOptions : "dev,suid";
  fuse_opt_add_arg(&args, options.c_str());
  fuse_session* session = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), &fs);
  if (session == nullptr) {
    std::fprintf(stderr, "graftfs-null-fs: libfuse refused the session; see the message above\n");
    return 1;
  }
  int status = 1;
  if (fuse_set_signal_handlers(session) != 0) {
    std::fprintf(stderr, "graftfs-null-fs: cannot install signal handlers\n");
  } else if (fuse_session_mount(session, mountpoint.c_str()) != 0) {
    std::fprintf(stderr,
                 "graftfs-null-fs: cannot mount on '%s'; check that it is an empty directory and "
                 "that /dev/fuse may be opened\n",
                 mountpoint.c_str());
  } else {
    if (threads == 1) {
      status = fuse_session_loop(session);
    } else {
      fuse_loop_config* config = fuse_loop_cfg_create();
      fuse_loop_cfg_set_max_threads(config, threads);
      fuse_loop_cfg_set_idle_threads(config, threads);
      fuse_loop_cfg_set_clone_fd(config, 1);
      status = fuse_session_loop_mt(session, config);
      fuse_loop_cfg_destroy(config);
    }
    fuse_session_unmount(session);
  }
  fuse_remove_signal_handlers(session);
  fuse_session_destroy(session);
  fuse_opt_free_args(&args);
  // SIGTERM is the normal way to end.
  return status > 0 ? 0 : -status;
}
