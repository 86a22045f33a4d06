// Loopback: a server process and eight library clients with many requests under way, on the two
// cores, over unix sockets. Creates are durable before they are answered. Stats ask for files that
// another client made, so no client can have them. The reference, in turns, is an echo of 128
// bytes over a unix socket between two threads, as deep.

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "harness/process.h"
#include "harness/served.h"
#include "harness/statistics.h"

namespace graftfs::bench {
namespace {

constexpr size_t kClients = 8;
constexpr size_t kDepth = 128;  // requests under way, of each client
constexpr double kBarCreates = 100'000, kBarStats = 250'000;

struct Driven {
  double per_second = 0, seconds = 0;
  Latencies latency;
};

// Every client keeps kDepth requests under way until all have `each` answers. make(client, i) is
// the i-th of a client.
template <class Make>
Driven drive(LibraryClients& clients, size_t each, Make make) {
  Driven driven;
  EventLoop& loop = clients.loop();
  std::vector<size_t> sent(clients.size());
  size_t answered = 0, failed = 0;
  const size_t total = each * clients.size();
  driven.latency.all.reserve(total);
  Stopwatch watch;
  std::function<void(size_t)> send = [&](size_t client) {
    if (sent[client] == each) return;
    const Nanos began = loop.now();
    clients.submit(client, make(client, sent[client]++), [&, client, began](Reply reply) {
      driven.latency.add(loop.now() - began);
      failed += reply.err != 0;
      answered++;
      send(client);
    });
  };
  for (size_t client = 0; client < clients.size(); ++client)
    for (size_t i = 0; i < kDepth; ++i) send(client);
  while (answered < total) loop.run_one();
  driven.seconds = watch.seconds();
  driven.per_second = static_cast<double>(total) / driven.seconds;
  if (failed > 0) throw BenchmarkError(fmt::format("{} of {} requests failed", failed, total));
  return driven;
}

// Messages of 128 bytes that another thread sends back, `depth` of them under way.
double echoes_per_second(size_t total, size_t depth) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
    throw BenchmarkError(fmt::format("socketpair: {}", std::strerror(errno)));
  std::thread other([fd = ends[1]] {
    char buffer[1 << 16];
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;)
      for (ssize_t at = 0; at < n;) {
        ssize_t done = write(fd, buffer + at, static_cast<size_t>(n - at));
        if (done <= 0) return;
        at += done;
      }
  });
  constexpr size_t kMessage = 128;
  std::vector<char> message(kMessage), buffer(1 << 16);
  Stopwatch watch;
  size_t sent = 0, received = 0;  // bytes
  while (received < total * kMessage) {
    while (sent < total * kMessage && sent - received < depth * kMessage)
      sent += static_cast<size_t>(std::max<ssize_t>(write(ends[0], message.data(), kMessage), 0));
    ssize_t n = read(ends[0], buffer.data(), buffer.size());
    if (n <= 0) break;
    received += static_cast<size_t>(n);
  }
  double seconds = watch.seconds();
  close(ends[0]);
  other.join();
  close(ends[1]);
  return static_cast<double>(total) / seconds;
}

Json to_json(const Driven& driven, double server_cpu) {
  return {{"per_second", driven.per_second},
          {"p50_ms", driven.latency.at(0.5) * 1e3},
          {"p99_ms", driven.latency.at(0.99) * 1e3},
          {"server_cpus", server_cpu / driven.seconds}};
}

Report run_loopback(const Context& context) {
  const size_t each = context.quick ? 2'000 : 100'000;
  std::vector<double> creates, stats, echoes;
  Report report;
  for (int round = 0; round < context.rounds_or(3); ++round) {
    Served served(context, fmt::format("loopback-{}", round), "strict");
    const pid_t server = served.serve(1);
    LibraryClients clients(served.volume(), kClients);
    std::vector<Ino> home;
    for (size_t i = 0; i < kClients; ++i)
      home.push_back(
          clients.must(i, MkdirArgs{kRootIno, fmt::format("client{}", i), 0755, 0}).stat.ino);
    double cpu = cpu_seconds(server);
    Driven create = drive(clients, each, [&](size_t client, size_t i) -> Args {
      return MknodArgs{home[client], fmt::format("file{:08}", i), S_IFREG | 0644, 0, 0};
    });
    double cpu_created = cpu_seconds(server);
    Driven stat = drive(clients, each, [&](size_t client, size_t i) -> Args {
      return LookupArgs{home[(client + 1) % kClients], fmt::format("file{:08}", i * 7919 % each)};
    });
    double cpu_stated = cpu_seconds(server);
    creates.push_back(create.per_second);
    stats.push_back(stat.per_second);
    echoes.push_back(echoes_per_second(context.quick ? 20'000 : 1'000'000, kDepth));
    report.figures["rounds"].push_back({{"create", to_json(create, cpu_created - cpu)},
                                        {"stat", to_json(stat, cpu_stated - cpu_created)}});
    progress(fmt::format("loopback, round {}: {:.0f} creates/s, {:.0f} stats/s, {:.0f} echoes/s",
                         round + 1, creates.back(), stats.back(), echoes.back()));
  }
  report.figures["clients"] = kClients;
  report.figures["outstanding_each"] = kDepth;
  report.figures["files"] = each * kClients;
  report.reference["echoes_per_second"] = median(echoes);
  report.reference["stats_against_echoes"] = median(stats) / median(echoes);
  report.at_least("creates per second", median(creates), kBarCreates);
  report.at_least("uncached stats per second", median(stats), kBarStats);
  report.durability = "strict";
  report.cache =
      "each stat is of a file that this client has never heard of; everything cached in the rank; "
      "write-back to the store runs meanwhile";
  return report;
}

}  // namespace

GRAFTFS_BENCHMARK("loopback", "a server process and eight library clients over unix sockets",
                  run_loopback);

}  // namespace graftfs::bench
