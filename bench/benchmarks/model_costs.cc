// The costs of the model: CPU time of operations and messages, in one process and without waiting
// for anybody, and how long the disk takes to make a journal write durable.

#include "benchmarks/model_costs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "cluster/records.h"
#include "harness/embedded.h"
#include "harness/embedded_node.h"
#include "harness/process.h"
#include "harness/statistics.h"
#include "net/keys.h"
#include "net/socket/socket.h"

namespace graftfs::bench {
namespace {

constexpr size_t kDepth = 256;
constexpr size_t kDirs = 16;

double cpu_clock(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// CPU time of this thread, and of all others.
struct Used {
  double thread = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
  double process = cpu_clock(CLOCK_PROCESS_CPUTIME_ID);
};

Nanos nanos(double seconds) { return static_cast<Nanos>(seconds * 1e9); }

sim::Costs::Operation each(const Used& before, size_t count) {
  const Used now;
  const double thread = now.thread - before.thread;
  const double beside = std::max(0.0, now.process - before.process - thread);
  return {nanos(thread / static_cast<double>(count)), nanos(beside / static_cast<double>(count))};
}

// -- operations -----------------------------------------------------------------------------------

// Keeps kDepth requests under way until `total` are answered. make(i) is the i-th.
template <class Make>
void drive(Embedded& e, size_t total, Make make) {
  size_t sent = 0, answered = 0, failed = 0;
  while (answered < total) {
    while (sent < total && sent - answered < kDepth) {
      e.rank().submit(e.request(make(sent++)), [&](Reply reply) {
        failed += reply.err != 0;
        answered++;
      });
    }
    if (answered < total) e.loop().run_one();
  }
  if (failed > 0) throw BenchmarkError(fmt::format("{} of {} requests failed", failed, total));
}

void write_back(Embedded& e) {
  auto written = e.wait(e.rank().write_back_all());
  if (!written) throw BenchmarkError(describe(written.error()));
}

// What changes something is written back, too, before the clock is read.
void measure_operations(const Context& context, int round, MeasuredCosts& measured) {
  sim::Costs& costs = measured.all;
  const size_t creates = context.quick ? 4'000 : 150'000;
  const size_t mkdirs = context.quick ? 1'000 : 30'000;
  const size_t reads = context.quick ? 4'000 : 300'000;
  RankOptions options;
  options.durability = Durability::strict;
  options.memory_limit = size_t{4} << 30;
  Embedded e(context.work / fmt::format("model-{}", round), options);
  std::vector<Ino> dirs;
  for (size_t d = 0; d < kDirs; ++d) dirs.push_back(e.make_path(2, fmt::format("d{}-", d)));
  auto file = [](size_t i) { return fmt::format("file{:08}", i); };
  write_back(e);
  Used before;
  drive(e, creates, [&](size_t i) -> Args {
    return MknodArgs{dirs[i % kDirs], file(i), S_IFREG | 0644, 0, 0};
  });
  measured.create_alone = each(before, creates);
  write_back(e);
  costs.mknod = each(before, creates);
  before = Used();
  drive(e, mkdirs, [&](size_t i) -> Args {
    return MkdirArgs{dirs[i % kDirs], fmt::format("dir{:08}", i), 0755, 0};
  });
  write_back(e);
  costs.mkdir = each(before, mkdirs);
  before = Used();
  drive(e, reads, [&](size_t i) -> Args {
    const size_t j = i * 7919 % creates;
    return LookupArgs{dirs[j % kDirs], file(j)};
  });
  costs.lookup = each(before, reads);
  before = Used();
  drive(e, reads, [&](size_t i) -> Args { return GetattrArgs{dirs[i % kDirs]}; });
  costs.getattr = each(before, reads);
  e.stop();
}

// A request at a rank that has given the directory away.
Nanos measure_redirect(const Context& context, int round) {
  const size_t total = context.quick ? 2'000 : 100'000;
  RankOptions options;
  options.durability = Durability::strict;
  EmbeddedNode e(context.work / fmt::format("model-redirect-{}", round), 2, options);
  Reply top = e.call(RankId{0}, MkdirArgs{kRootIno, "other", 0755, 0});
  if (top.err) throw BenchmarkError(fmt::format("mkdir failed with errno {}", top.err));
  e.move(RankId{0}, top.stat.ino, RankId{1});
  using Fn = std::move_only_function<void(double)>;
  auto ask = [&](Rank& rank, Fn done) {
    const Used before;
    size_t redirected = 0;
    for (size_t i = 0; i < total; ++i) {
      Request request;
      request.args = GetattrArgs{top.stat.ino};
      rank.submit(std::move(request),
                  [&redirected](Reply reply) { redirected += reply.err == kAskRank; });
    }
    const Used now;
    done(redirected == total ? now.thread - before.thread : -1);
  };
  const double used = e.in_rank<double>(RankId{0}, ask);
  e.stop();
  if (used < 0) throw BenchmarkError("a request was not sent on to the other rank");
  return nanos(used / static_cast<double>(total));
}

// -- messages -------------------------------------------------------------------------------------

// Both ends of a tcp connection in one loop: calls, and answers to them.
struct Ends {
  struct Caller final : net::ConnectionEvents {
    void received(Message) override { ++answered; }
    void disconnected(const Error& why) override { throw BenchmarkError(why.message); }
    std::unique_ptr<net::Connection> connection;
    size_t answered = 0;
  };
  struct Answerer final : net::ConnectionEvents {
    void received(Message message) override {
      auto* call = std::get_if<msg::Call>(&message.body);
      if (!call) return;
      msg::Answer answer;
      answer.number = call->number;
      answer.reply.stat.ino = Ino{call->number};
      answer.reply.home = RankId{1};
      connection->send(Message{{}, {}, std::move(answer)});
    }
    void disconnected(const Error&) override {}
    std::unique_ptr<net::Connection> connection;
  };
  EventLoop loop;
  Answerer answerer;
  Caller caller;
};

// CPU time of a call and its answer, where so many are sent in one turn.
double call_seconds(size_t at_once, size_t total) {
  Ends ends;
  net::SocketTransport transport(ends.loop);
  const std::string secret(net::kSecretSize, 's');
  net::Doorman doorman;
  doorman.volume = 1;
  doorman.node = 1;
  doorman.secret = secret;
  auto accept = [&](std::unique_ptr<net::Connection> connection) {
    ends.answerer.connection = std::move(connection);
    ends.answerer.connection->set_events(&ends.answerer);
  };
  net::Address anywhere{net::Address::tcp, "127.0.0.1", 0};
  auto listener = transport.listen(anywhere, doorman, accept);
  if (!listener) throw BenchmarkError(describe(listener.error()));
  net::Identity me{net::Role::client, 1, 99, {}, secret};
  transport.connect((*listener)->address(), me, [&](auto connection) {
    if (!connection) throw BenchmarkError(describe(connection.error()));
    ends.caller.connection = std::move(*connection);
    ends.caller.connection->set_events(&ends.caller);
  });
  while (!ends.caller.connection || !ends.answerer.connection) ends.loop.run_one();
  const Used before;
  for (size_t sent = 0; sent < total;) {
    for (size_t i = 0; i < at_once; ++i) {
      msg::Call call;
      call.number = ++sent;
      call.request.args = MknodArgs{Ino{77}, fmt::format("file{:08}", sent), S_IFREG | 0644, 0, 0};
      call.request.cred.settle();
      ends.caller.connection->send(Message{{}, RankId{1}, std::move(call)});
    }
    while (ends.caller.answered < sent) ends.loop.run_one();
  }
  const double used = Used().thread - before.thread;
  ends.caller.connection->close();
  ends.answerer.connection->close();
  return used / static_cast<double>(total);
}

// A call is four ends of messages; alone, it is four batches, too.
void measure_messages(const Context& context, sim::Costs& costs) {
  constexpr size_t kMany = 64;
  const size_t total = kMany * (context.quick ? 50 : 1'000);
  const double alone = call_seconds(1, total) / 4, together = call_seconds(kMany, total) / 4;
  const double batch = std::max(0.0, (alone - together) * kMany / (kMany - 1));
  costs.batch = nanos(batch);
  costs.message = nanos(std::max(0.0, alone - batch));
}

Nanos measure_record() {
  cluster::NodeRecord node;
  node.id = 0x1234567890;
  node.machine = "0123456789abcdef0123456789abcdef";
  node.addresses[RankId{1}] = {"unix:/run/graftfs/volume.sock.1", "tcp:10.0.0.1:4000"};
  const std::string key = cluster::node_key(node.id), text = encode(node);
  constexpr size_t kTotal = 10'000;
  size_t good = 0;
  const Used before;
  for (size_t i = 0; i < kTotal; ++i) good += cluster::decode_node(key, text).has_value();
  if (good != kTotal) throw BenchmarkError("the record of a node cannot be read");
  return nanos((Used().thread - before.thread) / kTotal);
}

// -- the disk -------------------------------------------------------------------------------------

// A disk that is busy with something else says nothing, and the clients of the model would be too
// few to keep a rank busy over it.
constexpr Nanos kLongestSync = kMillisecond;
constexpr double kUndisturbed = 0.1;  // of all writes

void measure_disk(const Context& context, sim::Costs& costs) {
  constexpr size_t kSmall = 16 << 10, kLarge = 1 << 20, kFile = 8 << 20;
  const int times = context.quick ? 5 : 60;
  const std::string path = context.work / "model-disk";
  const int fd = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) throw BenchmarkError("cannot make a file in the work directory");
  const std::string bytes(kFile, 'x');
  bool good = pwrite(fd, bytes.data(), kFile, 0) == static_cast<ssize_t>(kFile) && fsync(fd) == 0;
  auto take = [&](size_t size) {
    std::vector<double> took;
    for (int i = 0; i < times; ++i) {
      const auto at = static_cast<off_t>(static_cast<size_t>(i) * size % kFile);
      Stopwatch watch;
      good &=
          pwrite(fd, bytes.data(), size, at) == static_cast<ssize_t>(size) && fdatasync(fd) == 0;
      took.push_back(watch.seconds());
    }
    return percentile(took, kUndisturbed);
  };
  const double small = take(kSmall), large = take(kLarge);  // seconds
  close(fd);
  unlink(path.c_str());
  if (!good) throw BenchmarkError("a write to the work directory failed");
  costs.mib = nanos(std::max(0.0, (large - small) * kLarge / (kLarge - kSmall)));
  costs.sync =
      std::clamp(nanos(small) - costs.mib * Nanos{kSmall} / Nanos{kLarge}, Nanos{0}, kLongestSync);
}

// Of each cost the median of the rounds. `cost` finds it.
template <class Find>
Nanos middle(const std::vector<MeasuredCosts>& rounds, Find cost) {
  std::vector<double> values;
  for (const MeasuredCosts& c : rounds) values.push_back(static_cast<double>(cost(c)));
  return static_cast<Nanos>(median(values));
}

template <class Find>
sim::Costs::Operation middle_of(const std::vector<MeasuredCosts>& rounds, Find operation) {
  return {middle(rounds, [&](const MeasuredCosts& c) { return operation(c).thread; }),
          middle(rounds, [&](const MeasuredCosts& c) { return operation(c).beside; })};
}

}  // namespace

MeasuredCosts measure_costs(const Context& context) {
  using sim::Costs;
  std::vector<MeasuredCosts> rounds;
  for (int round = 0; round < context.rounds_or(3); ++round) {
    MeasuredCosts measured;
    measure_operations(context, round, measured);
    measured.all.redirect = measure_redirect(context, round);
    measure_messages(context, measured.all);
    measured.all.record = measure_record();
    measure_disk(context, measured.all);
    rounds.push_back(measured);
  }
  MeasuredCosts result;
  for (auto operation : {&Costs::lookup, &Costs::getattr, &Costs::mknod, &Costs::mkdir})
    result.all.*operation =
        middle_of(rounds, [&](const MeasuredCosts& c) { return c.all.*operation; });
  result.create_alone = middle_of(rounds, [](const MeasuredCosts& c) { return c.create_alone; });
  for (auto cost : {&Costs::redirect, &Costs::message, &Costs::batch, &Costs::record, &Costs::sync,
                    &Costs::mib})
    result.all.*cost = middle(rounds, [&](const MeasuredCosts& c) { return c.all.*cost; });
  result.all.protocol = result.all.getattr.thread;
  return result;
}

Json to_json(const MeasuredCosts& costs) {
  const sim::Costs& c = costs.all;
  auto us = [](Nanos n) { return rounded(static_cast<double>(n) / kMicrosecond); };
  auto both = [&](const sim::Costs::Operation& o) -> Json {
    return {{"rank", us(o.thread)}, {"beside", us(o.beside)}};
  };
  return {{"lookup", both(c.lookup)},
          {"getattr", both(c.getattr)},
          {"create", both(c.mknod)},
          {"create_without_write_back", both(costs.create_alone)},
          {"mkdir", both(c.mkdir)},
          {"redirect", us(c.redirect)},
          {"other_message_handled", us(c.protocol)},
          {"message_each_side", us(c.message)},
          {"batch_each_side", us(c.batch)},
          {"node_record", us(c.record)},
          {"network_one_way", us(c.network)},
          {"store_durable", us(c.sync)},
          {"store_mib", us(c.mib)}};
}

}  // namespace graftfs::bench
