#!/usr/bin/env python3
"""corral as a front, beside redis-server, twemproxy and corral standalone.

    benches/front.py [--quick]               all sections, and which goals were met
    benches/front.py --only hits,distance    some: hits pass distance saved clients staleness

- `hits`: CPU per operation of a GET from the near cache, and of a standalone GET.
- `pass`: what upstream must answer, GET and SET: CPU, throughput, latency, beside twemproxy.
- `distance`: latency with upstream 1 ms away, behind `relay.py`, beside no front at all.
- `saved`: commands that reach upstream per read.
- `clients`: 10 000 connections, and how many of them upstream sees.
- `staleness`: how long after a foreign write's OK a read still finds the old value.

CPU is the server's own, user and kernel, from /proc/PID/task/*/schedstat. What is compared is
measured in turn, A B A B …, each in the same run, and medians of the rounds are printed. Latencies
are those of the client: redis-benchmark's, or, in `distance` and `staleness`, this program's, which
adds some 20 µs of Python. On a busy machine read CPU and ratios, not throughput, and distrust p99.
Linux only, Python's standard library only; needs redis-server and redis-benchmark; without
twemproxy (`nutcracker`) its rows are left out.
"""

import argparse
import contextlib
import functools
import itertools
import os
import random
import resource
import select
import shlex
import shutil
import statistics
import sys
import tempfile
import threading
import time

from servers import ask, encoded, fields, load, near, redis_benchmark, set_commands, stage

CLIENTS = 50
KEY = "key:%012d"  # redis-benchmark's
VALUE = b"xxx"
HIT_KEYS = 100_000
MISS_KEYS = 2_000_000  # of which a round asks for a tenth at most, so that few are asked for twice
PROBE_REQUESTS = 10_000
SETTLE_SECONDS = 2.5  # in which a front that has just begun sends but a few requests at a time
DISTANCE_KEYS = 10_000
DISTANCE_READS_PER_SECOND = 2_000  # of all 50 clients: they pause, or this program is what queues
SAVED_KEYS = 100_000
BATCH = 50  # reads sent at once in `saved`
UPSTREAM_CONNECTIONS = 8
SPARE_DESCRIPTORS = 200
HERE = os.path.dirname(os.path.abspath(__file__))
SECTIONS = {}
goals = []


def section(function):
    SECTIONS[function.__name__.rstrip("_")] = function
    return function


def goal(what, figure, is_met):
    """Notes a goal, with the figure that decides it; `is_met` is None where none could."""
    goals.append((what, figure, {True: "met", False: "MISSED", None: "not measured"}[is_met]))


def table(heading, *names):
    print(f"\n### {heading}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)


def row(*cells):
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


# --- Reads ----------------------------------------------------------------------------------------


def hits(server):
    return int(near(server)["near_hits"])


def read_keys(server, names):
    """GETs of keys that hold VALUE, BATCH at once; any other reply ends the run."""
    expected = b"$%d\r\n%s\r\n" % (len(VALUE), VALUE)
    with server.connect() as connection, connection.makefile("rb") as replies:
        names = iter(names)
        while batch := list(itertools.islice(names, BATCH)):
            connection.sendall(b"".join([encoded("GET", name) for name in batch]))
            if replies.read(len(expected) * len(batch)) != expected * len(batch):
                raise SystemExit(f"{server.name} does not hold what upstream was filled with")


def fill(server, keys):
    load(server, set_commands(keys, KEY.encode(), VALUE))


@functools.cache
def zipf_weights(keys):
    weights = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    return [KEY % number for number in range(keys)], weights


def zipf(keys, seed):
    """Names of keys forever, the i-th most popular one with a weight of 1/i."""
    chance = random.Random(seed)
    names, weights = zipf_weights(keys)
    while True:
        yield from chance.choices(names, cum_weights=weights, k=1000)


# --- CPU and throughput ---------------------------------------------------------------------------


def measure(server, upstream, command, shape, requests):
    """One run of redis-benchmark: CPU µs per operation here and upstream, ops/s, p50, p99 in ms."""
    before, before_upstream = server.cpu_seconds(), upstream.cpu_seconds()
    said, requests = redis_benchmark(server, command, size=len(VALUE), requests=requests, **shape)
    used = (server.cpu_seconds() - before) * 1e6 / requests
    used_upstream = (upstream.cpu_seconds() - before_upstream) * 1e6 / requests
    figures = (used, used_upstream, said["rps"], said["p50_latency_ms"], said["p99_latency_ms"])
    return figures, requests


def enough(server, upstream, command, shape, args):
    """How many requests take about the time that a round shall take."""
    (_, _, rate, _, _), _ = measure(server, upstream, command, shape, PROBE_REQUESTS)
    (_, _, rate, _, _), _ = measure(server, upstream, command, shape, int(rate * args.seconds / 4))
    return int(rate * args.seconds)


def medians(rows):
    return [statistics.median(column) for column in zip(*rows)]


@section
def hits_(args, directory):
    table(f"Hits: GET of {HIT_KEYS:,} warm keys, {CLIENTS} clients", "P", "front, CPU µs/op",
          "standalone", "front/standalone", "redis", "from the near cache", "the others: why",
          "ops/s front", "standalone", "redis")
    with stage(args, directory) as on:
        redis, alone = on.redis(), on.corral("standalone")
        fill(redis, HIT_KEYS)
        fill(alone, HIT_KEYS)
        front = on.front("front", redis)
        servers = [front, alone, redis]
        for pipeline in (1, 16, 64):
            shape = {"clients": CLIENTS, "pipeline": pipeline, "keys": HIT_KEYS}
            for _ in "12":  # Of a scan, a front keeps what it reads for the second time.
                read_keys(front, (KEY % number for number in range(HIT_KEYS)))
            counts = [enough(server, redis, "get", shape, args) for server in servers]
            results, sent, before = [[], [], []], 0, near(front)
            for _ in range(args.rounds):
                for which, server in enumerate(servers):
                    figures, requests = measure(server, redis, "get", shape, counts[which])
                    results[which].append(figures)
                    sent += requests if server is front else 0
            counted = {name: int(count) - int(before[name])
                       for name, count in near(front).items()
                       if name == "near_hits" or name.startswith("near_misses_")}
            share = counted.pop("near_hits") / sent
            causes = ", ".join(f"{name.removeprefix('near_misses_')} {count:,}"
                               for name, count in counted.items() if count)
            ours, standalone, beside = map(medians, results)
            ratio = ours[0] / standalone[0]
            row(pipeline, f"{ours[0]:.3f}", f"{standalone[0]:.3f}", f"{ratio:.2f}",
                f"{beside[0]:.3f}", f"{share:.2%}", causes or "none",
                *(f"{figures[2]:,.0f}" for figures in (ours, standalone, beside)))
            goal(f"hit at P={pipeline}: CPU ≤ 1.2 × standalone's", f"{ratio:.2f}", ratio <= 1.2)


@section
def pass_(args, directory):
    with stage(args, directory) as on:
        redis = on.redis()
        fill(redis, MISS_KEYS)
        servers = {"redis": lambda _: redis}
        if shutil.which("nutcracker"):
            proxy = on.twemproxy(redis)
            servers["twemproxy"] = lambda _: proxy
        else:
            print("\ntwemproxy (nutcracker) is not installed: its rows are left out")
        through = on.front("pass", redis, "--near-cache", "no")
        servers["corral, no near cache"] = lambda _: through
        # Fresh, and so empty, for each round.
        servers["corral, near cache"] = lambda fresh: fresh.front("near", redis)
        for clients, pipeline in ((CLIENTS, 1), (CLIENTS, 16), (1, 1)):
            shape = {"clients": clients, "pipeline": pipeline, "keys": MISS_KEYS}
            for command in ("get", "set"):
                pass_case(args, directory, redis, servers, command, shape)


def pass_case(args, directory, redis, servers, command, shape):
    table(f"Passed on: {command.upper()} over {MISS_KEYS:,} keys, {shape['clients']} clients, "
          f"P={shape['pipeline']}", "", "CPU µs/op", "redis behind it, µs/op", "ops/s", "p50 ms",
          "p99 ms", "from the near cache")
    results, shares, counts = {name: [] for name in servers}, {}, {}
    for _ in range(args.rounds):
        for name, server_of in servers.items():
            with stage(args, directory) as fresh:
                server = server_of(fresh)
                if name not in counts:
                    count = enough(server, redis, command, shape, args)
                    counts[name] = min(count, MISS_KEYS // 10)
            with stage(args, directory) as fresh:
                server = server_of(fresh)
                if name == "corral, near cache":
                    # The others are not new; and it learns what copies are worth here.
                    measure(server, redis, command, shape, PROBE_REQUESTS)
                    time.sleep(SETTLE_SECONDS)
                figures, requests = measure(server, redis, command, shape, counts[name])
                results[name].append(figures)
                if name == "corral, near cache":
                    shares[name] = f"{hits(server) / requests:.1%}"
    figures = {name: medians(rows) for name, rows in results.items()}
    for name, (cpu, behind, rate, p50, p99) in figures.items():
        row(name, f"{cpu:.2f}", "" if name == "redis" else f"{behind:.2f}", f"{rate:,.0f}",
            f"{p50:.3f}", f"{p99:.3f}", shares.get(name, ""))


# --- Latency --------------------------------------------------------------------------------------


def read_latencies(server, clients, reads, seed):
    """Each of the clients' reads, zipf over DISTANCE_KEYS: milliseconds, and whether the key had
    been read before. One client reads without a pause, many with one.
    """
    found, seen, failed = [], set(), []
    expected = b"$%d\r\n%s\r\n" % (len(VALUE), VALUE)
    all_ready = threading.Barrier(clients)

    def client(number):
        names = zipf(DISTANCE_KEYS, seed * 1000 + number)
        names = list(itertools.islice(names, reads // clients))
        chance = random.Random(seed * 1000 + number)
        with server.connect() as connection:
            all_ready.wait()
            for name in names:
                if clients > 1:
                    time.sleep(chance.expovariate(DISTANCE_READS_PER_SECOND / clients))
                data = encoded("GET", name)
                is_known = name in seen
                began = time.perf_counter()
                connection.sendall(data)
                reply = connection.recv(64)
                found.append(((time.perf_counter() - began) * 1e3, is_known))
                seen.add(name)
                if reply != expected:
                    failed.append(reply)
                    return

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed or len(found) != reads // clients * clients:
        raise SystemExit(f"{server.name} does not answer as it should: {failed[:1]}")
    return found


@section
def distance(args, directory):
    reads = 2_000 if args.quick else 10_000
    with stage(args, directory) as on:
        redis = on.redis()
        fill(redis, DISTANCE_KEYS)
        far, relayed = on.relay(redis, 0.5), on.relay(redis, 0)
        table("The relay itself: GET, one client, ms", "", "p50", "p99")
        floor = {}
        for name, server in (("loopback", redis), ("relay without delay", relayed),
                             ("relay, 0.5 ms each way", far)):
            found = [ms for ms, _ in read_latencies(server, 1, reads // 4, 1)]
            floor[name] = quantile(found, 0.5)
            row(name, f"{floor[name]:.3f}", f"{quantile(found, 0.99):.3f}")
        print(f"\nThe relay adds {floor['relay without delay'] - floor['loopback']:.3f} ms of its "
              "own to a round trip, with and without a front.")
        table(f"Upstream 1 ms away: {reads:,} reads a round, zipf over {DISTANCE_KEYS:,} keys, the "
              "near cache empty at first; ms", "clients", "", "p50", "p99", "keys read before: p50",
              "p99", "from the near cache")
        for clients in (1, CLIENTS):
            distance_case(args, directory, far, clients, reads)


def distance_case(args, directory, far, clients, reads):
    results, shares = {"direct": [], "front": []}, []
    for seed in range(args.rounds):
        for name, rounds in results.items():
            with stage(args, directory) as fresh:
                server = fresh.front("front", far) if name == "front" else far
                found = read_latencies(server, clients, reads, seed)
                if name == "front":
                    shares.append(hits(server) / len(found))
            every, known = [ms for ms, _ in found], [ms for ms, is_known in found if is_known]
            rounds.append([quantile(values, share)
                           for values in (every, known) for share in (0.5, 0.99)])
    direct, front = (medians(rounds) for rounds in results.values())
    row(clients, "direct", *(f"{value:.3f}" for value in direct), "")
    row(clients, "front", *(f"{value:.3f}" for value in front),
        f"{statistics.median(shares):.1%}")
    lower, slower = direct[0] / front[0], front[1] / direct[1]
    who = f"1 ms away, {clients} client{'s' if clients > 1 else ''}"
    goal(f"{who}: p50 ≥ 15 × lower", f"{lower:.1f} ×", lower >= 15)
    goal(f"{who}: p99 ≤ 1.1 × direct's", f"{slower:.2f} ×", slower <= 1.1)


@section
def staleness(args, directory):
    writes = 300 if args.quick else 3_000
    chance = random.Random(1)
    ages, reads_each = [], []
    with stage(args, directory) as on:
        redis = on.redis()
        front = on.front("front", redis)
        key, began_hits = KEY % 0, hits(front)
        with redis.connect() as writer, front.connect() as reader:
            read = encoded("GET", key)
            for number in range(writes):
                value = b"%09d" % number
                writer.sendall(encoded("SET", key, value))
                if writer.recv(64) != b"+OK\r\n":
                    raise SystemExit("redis refused a SET")
                began, reads = time.perf_counter(), 0
                while True:
                    reader.sendall(read)
                    reply = reader.recv(64)
                    reads += 1
                    if value in reply:
                        break
                    if time.perf_counter() - began > 10:
                        raise SystemExit("a write was not seen within 10 s")
                ages.append((time.perf_counter() - began) * 1e3)
                reads_each.append(reads)
                # Again, so that there is a copy; then quiet, of no period.
                reader.sendall(read)
                reader.recv(64)
                time.sleep(chance.uniform(0, 0.01))
        served = hits(front) - began_hits
        table(f"Staleness: {writes:,} foreign writes, one key; ms from the write's OK to the reply "
              "of the first read that sees it", "p50", "p99", "max", "seen by the first read",
              "reads from the near cache")
        p99 = quantile(ages, 0.99)
        row(f"{quantile(ages, 0.5):.3f}", f"{p99:.3f}", f"{max(ages):.3f}",
            f"{reads_each.count(1) / writes:.1%}", f"{served:,} of {sum(reads_each) + writes:,}")
        goal("foreign staleness in quiet: p99 ≤ 5 ms", f"{p99:.3f} ms", p99 <= 5)


# --- Upstream's load ------------------------------------------------------------------------------


def command_counts(server):
    """What `server` has run, by command's name."""
    return {name.removeprefix("cmdstat_"): int(values.split(",")[0].removeprefix("calls="))
            for name, values in fields(ask(server, "INFO", "commandstats")).items()}


@section
def saved(args, directory):
    reads = 200_000 if args.quick else 1_000_000
    table(f"Upstream's commands: zipf 1.0 over {SAVED_KEYS:,} keys, {reads:,} reads a line",
          "", "commands", "per read", "saved", "which")
    with stage(args, directory) as on:
        redis = on.redis()
        fill(redis, SAVED_KEYS)
        front = on.front("front", redis)
        names = zipf(SAVED_KEYS, 1)
        for what in ("first, from an empty near cache", "second", "third"):
            before = command_counts(redis)
            read_keys(front, itertools.islice(names, reads))
            after = command_counts(redis)
            # The one INFO is this program's.
            after["info"] -= 1
            ran = {name: calls - before.get(name, 0) for name, calls in after.items()}
            ran = {name: calls for name, calls in ran.items() if calls}
            less = 1 - sum(ran.values()) / reads
            row(what, f"{sum(ran.values()):,}", f"{sum(ran.values()) / reads:.3f}", f"{less:.1%}",
                ", ".join(f"{name} {calls:,}" for name, calls in sorted(ran.items())))
            goal(f"upstream's commands, {reads:,} reads, {what}: ≥ 90 % fewer", f"{less:.1%}",
                 less >= 0.9)


@section
def clients(args, directory):
    wanted = 1_000 if args.quick else 10_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        hard_wanted = max(hard, wanted + SPARE_DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_wanted, hard_wanted))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(wanted, max(1, soft - SPARE_DESCRIPTORS))
    if count < wanted:
        print(f"\nonly {count:,} of {wanted:,} clients: `ulimit -n` is {soft} and cannot be raised")
    with stage(args, directory) as on, contextlib.ExitStack() as stack:
        redis = on.redis()
        front = on.front("front", redis, "--maxclients", str(count + SPARE_DESCRIPTORS),
                         "--upstream-connections", str(UPSTREAM_CONNECTIONS))
        empty = front.status_bytes("VmRSS")
        connections = [stack.enter_context(front.connect()) for _ in range(count)]
        began = time.monotonic()
        commands = 0
        held = b"$%d\r\n%s\r\n" % (len(VALUE), VALUE)
        for request, expected in (["SET", KEY, VALUE], b"+OK\r\n"), (
                ["INCR", "n:" + KEY], b":1\r\n"), (["GET", KEY], held), (["GET", KEY], held):
            each_asks(connections, request, expected)
            commands += count
        took = time.monotonic() - began
        seen = [line for line in ask(redis, "CLIENT", "LIST").splitlines()
                if "cmd=client|list" not in line]  # this program's own
        grown = (front.status_bytes("VmRSS") - empty) / count
        table(f"Clients: plain commands over --upstream-connections {UPSTREAM_CONNECTIONS}",
              "clients", "commands", "seconds, with this program's own", "upstream's CLIENT LIST",
              "front's RSS per client, bytes, its copies included")
        row(f"{count:,}", f"{commands:,}", f"{took:.1f}", len(seen), f"{grown:,.0f}")
        is_met = len(seen) <= UPSTREAM_CONNECTIONS + 1
        goal(f"{wanted:,} clients: upstream sees ≤ {UPSTREAM_CONNECTIONS} and the tracker",
             len(seen), is_met if count == wanted else None)


def each_asks(connections, request, expected):
    """The request once over every connection, all at once; the reply must be the expected one."""
    waiting = {}
    poll = select.epoll()
    for number, connection in enumerate(connections):
        name, key, *rest = request
        connection.sendall(encoded(name, key % number, *rest))
        waiting[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    deadline = time.monotonic() + 60
    while waiting:
        for descriptor, _ in poll.poll(1):
            reply = waiting.pop(descriptor).recv(64)
            poll.unregister(descriptor)
            if reply != expected:
                raise SystemExit(f"{request[0]} was answered {reply!r}")
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(waiting)} clients had no reply to {request[0]} in 60 s")
    poll.close()


# --- Command line ---------------------------------------------------------------------------------


def arguments():
    root = os.path.dirname(HERE)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(root, "target"))
    binary = os.path.join(target, "release", "corral")
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SECTIONS),
                        metavar="SECTION,…", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--seconds", type=float, help="of each measurement of CPU, default 2")
    parser.add_argument("--server-cmd", default=shlex.quote(binary), metavar="COMMAND",
                        help="ours; flags and `--port N` are added (default: the release build)")
    parser.add_argument("--front-flags", default="", metavar="FLAGS",
                        help='of each front, e.g. "--io-threads 2"')
    parser.add_argument("--redis-cmd", default="redis-server --save '' --appendonly no",
                        metavar="COMMAND")
    args = parser.parse_args()
    unknown = set(args.only) - set(SECTIONS)
    if unknown:
        parser.error(f"not measured: {', '.join(sorted(unknown))}")
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.seconds = args.seconds or (0.5 if args.quick else 2.0)
    return args


def main():
    args = arguments()
    print(f"{args.rounds} rounds; {os.cpu_count()} cores, load at the start "
          f"{os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as directory:
        for name in args.only:
            SECTIONS[name](args, directory)
    if goals:
        table("Goals", "goal", "figure", "")
        for line in goals:
            row(*line)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
