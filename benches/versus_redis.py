#!/usr/bin/env python3
"""corral beside redis-server: CPU per operation, throughput, memory per key.

    benches/versus_redis.py [--quick]        CPU and throughput of GET, SET, INCR, MSET
    benches/versus_redis.py --memory         bytes per key, and the peak under maxmemory

The figure to read is the server's own CPU time per operation, user and kernel, from
/proc/PID/task/*/schedstat: on a machine where redis-benchmark shares the cores with the server,
throughput is often the client's limit. Both servers run throughout, the one that is not measured
idles; every case is measured A B A B …, and the median of the rounds is printed. A ratio above 1
means that corral needs less. Linux only, Python's standard library only; needs redis-benchmark.
`front.py` measures corral before an upstream.
"""

import argparse
import contextlib
import itertools
import os
import shlex
import statistics
import sys
import tempfile

from servers import Server, load, redis_benchmark, request, set_commands

CLIENTS = 50
KEYS = 100_000  # redis-benchmark's -r: key:000000000000 … key:000000099999
COMMANDS = ("get", "set", "incr", "mset")
KEYS_PER_MSET = 10  # redis-benchmark's own
PROBE_REQUESTS = 20_000
MEMORY_KEYS = 1_000_000
MEMORY_VALUE = 100
MAXMEMORY = "100mb"
MAXMEMORY_KEYS = 10_000_000


# --- CPU and throughput ---------------------------------------------------------------------------


def benchmark(server, command, pipeline, size, requests):
    """Runs redis-benchmark once: the server's CPU µs per operation, and operations per second."""
    before = server.cpu_seconds()
    row, requests = redis_benchmark(server, command, clients=CLIENTS, pipeline=pipeline,
                                    keys=KEYS, size=size, requests=requests)
    return (server.cpu_seconds() - before) * 1e6 / requests, row["rps"]


def preload(server, size):
    """Every key that redis-benchmark may ask for, so that each GET hits."""
    load(server, set_commands(KEYS, b"key:%012d", b"x" * size))
    if request(server, b"EXISTS key:000000000000 key:%012d" % (KEYS - 1)) != b":2":
        raise SystemExit(f"{server.name} does not hold what it was filled with")


def measure(servers, command, pipeline, size, args):
    """Medians per server of CPU µs per operation and operations per second."""
    results = {server.name: [] for server in servers}
    requests = {}
    for server in servers:
        _, rate = benchmark(server, command, pipeline, size, PROBE_REQUESTS)
        # The probe is short and tells too low a rate: start-up is in it.
        _, rate = benchmark(server, command, pipeline, size, int(rate * args.seconds / 4))
        requests[server.name] = int(rate * args.seconds * 1.05)
    for _ in range(args.rounds):
        for server in servers:
            results[server.name].append(
                benchmark(server, command, pipeline, size, requests[server.name]))
    return [tuple(statistics.median(column) for column in zip(*results[server.name]))
            for server in servers]


def speed(args, directory):
    cases = list(itertools.product(args.sizes, args.pipelines, args.commands))
    print(f"{len(cases)} cases × 2 servers × {args.rounds} rounds of {args.seconds:g} s; "
          f"c={CLIENTS}, r={KEYS}; MSET sets {KEYS_PER_MSET} keys\n")
    print("| value | P | command | CPU µs/op ours | redis | redis/ours | "
          "ops/s ours | redis | ours/redis |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size, group in itertools.groupby(cases, key=lambda case: case[0]):
        with both(args, directory) as servers:
            for server in servers:
                preload(server, size)
            for _, pipeline, command in group:
                (cpu, rate), (redis_cpu, redis_rate) = measure(
                    servers, command, pipeline, size, args)
                print(f"| {size} | {pipeline} | {command.upper()} | {cpu:.3f} | {redis_cpu:.3f} | "
                      f"{redis_cpu / cpu:.2f} | {rate:,.0f} | {redis_rate:,.0f} | "
                      f"{rate / redis_rate:.2f} |", flush=True)


# --- Memory ---------------------------------------------------------------------------------------


def bytes_per_key(server, keys, suffix):
    """What the process grew by, divided by the keys; how many it holds is checked first."""
    empty = server.status_bytes("VmRSS")
    load(server, set_commands(keys, b"key:%016d", b"v" * MEMORY_VALUE, suffix))
    held = request(server, b"DBSIZE")
    if held != b":%d" % keys:
        raise SystemExit(f"{server.name}: DBSIZE is {held.decode()}, not {keys}")
    return (server.status_bytes("VmRSS") - empty) / keys


def memory(args, directory):
    keys = MEMORY_KEYS // 10 if args.quick else MEMORY_KEYS
    print(f"{keys:,} keys of 20 bytes with values of {MEMORY_VALUE} bytes: "
          "(RSS after − RSS empty) / keys\n")
    print("| | ours, bytes/key | redis | redis/ours |\n|---|---|---|---|")
    for what, suffix in [("without TTL", b""), ("with TTL", b"$2\r\nEX\r\n$5\r\n86400\r\n")]:
        with both(args, directory) as servers:
            ours, redis = (bytes_per_key(server, keys, suffix) for server in servers)
        print(f"| {what} | {ours:.1f} | {redis:.1f} | {redis / ours:.2f} |", flush=True)

    keys = MAXMEMORY_KEYS // 10 if args.quick else MAXMEMORY_KEYS
    print(f"\nmaxmemory {MAXMEMORY}, {keys:,} SETs of distinct keys: peak RSS\n")
    print("| | ours | redis | redis/ours |\n|---|---|---|---|")
    ours_flags = ["--maxmemory", MAXMEMORY]
    if args.our_policy:
        ours_flags += ["--maxmemory-policy", args.our_policy]
    redis_flags = ["--maxmemory", MAXMEMORY, "--maxmemory-policy", args.redis_policy]
    with both(args, directory, ours_flags, redis_flags) as servers:
        peaks, held = [], []
        for server in servers:
            load(server, set_commands(keys, b"key:%016d", b"v" * MEMORY_VALUE))
            peaks.append(server.status_bytes("VmHWM"))
            held.append(int(request(server, b"DBSIZE")[1:]))
    ours, redis = (peak / (1 << 20) for peak in peaks)
    print(f"| peak RSS, MiB | {ours:.1f} | {redis:.1f} | {redis / ours:.2f} |")
    print(f"| keys held | {held[0]:,} | {held[1]:,} | {held[1] / held[0]:.2f} |", flush=True)


# --- Command line ---------------------------------------------------------------------------------


@contextlib.contextmanager
def both(args, directory, our_flags=(), redis_flags=()):
    """Ours and redis, fresh, in this order."""
    ours = [*shlex.split(args.server_cmd), *shlex.split(args.our_flags), *our_flags]
    redis = [*shlex.split(args.redis_cmd), *shlex.split(args.redis_flags), *redis_flags]
    with contextlib.ExitStack() as stack:
        servers = []
        for name, command in [("ours", ours), ("redis", redis)]:
            server = Server(name, command, directory)
            stack.callback(server.close)
            servers.append(server)
        yield servers


def arguments():
    def numbers(text):
        return [int(number) for number in text.split(",")]

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(root, "target"))
    binary = os.path.join(target, "release", "corral")
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true",
                        help="one round of half a second; with --memory, a tenth of the keys")
    parser.add_argument("--memory", action="store_true", help="memory instead of CPU")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--seconds", type=float, help="of each measurement, default 3")
    parser.add_argument("--pipelines", type=numbers, default=[1, 16, 64], metavar="P,…")
    parser.add_argument("--sizes", type=numbers, default=[3, 1024], metavar="BYTES,…")
    parser.add_argument("--commands", type=lambda text: text.split(","), default=list(COMMANDS),
                        metavar="NAME,…", help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--server-cmd", default=shlex.quote(binary), metavar="COMMAND",
                        help="ours; `--port N` is added (default: the release build)")
    parser.add_argument("--our-flags", default="", metavar="FLAGS", help='e.g. "--io-threads 1"')
    parser.add_argument("--redis-cmd", default="redis-server --save '' --appendonly no",
                        metavar="COMMAND")
    parser.add_argument("--redis-flags", default="", metavar="FLAGS")
    parser.add_argument("--our-policy", metavar="POLICY",
                        help="ours under maxmemory (default: the server's own default)")
    parser.add_argument("--redis-policy", default="allkeys-lru", metavar="POLICY")
    args = parser.parse_args()
    unknown = set(args.commands) - set(COMMANDS)
    if unknown:
        parser.error(f"not measured: {', '.join(sorted(unknown))}")
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.seconds = args.seconds or (0.5 if args.quick else 3.0)
    return args


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as directory:
        if args.memory:
            memory(args, directory)
        else:
            speed(args, directory)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
