#!/usr/bin/env python3
"""Tags, beside what people do with redis-server: a SET of the keys of each tag.

    benches/tags.py invalidate      the call, and other clients' GETs meanwhile
    benches/tags.py cpu             SET with two tags and GET of a tagged key, beside plain ones
    benches/tags.py memory          bytes per key and tag
    benches/tags.py leak            keys with three tags each, evicted and expired

`invalidate`: a tag with 1, 1 000 and 1 000 000 members is invalidated while other connections ask
for other keys, one GET at a time each. redis-server has SMEMBERS and DELs in a pipeline, and a
script that calls UNLINK; a front has TAG.INVALIDATE for the keys of its upstream. Usual is the same
GETs with nothing else under way. Times are the clients', so they include this machine's other work.
Linux only, Python's standard library only.
"""

import argparse
import contextlib
import multiprocessing
import os
import socket
import statistics
import subprocess
import tempfile
import time

from servers import Server, ask, encoded, load, read_reply, set_commands

CHUNK = 2_000
READERS = 2
READ_KEYS = 10_000
USUAL_SECONDS = 3
ROUNDS = {1: 200, 1_000: 50, 1_000_000: 5}
# In slices: a script may not unpack more than some thousands of arguments.
LUA = """local keys = redis.call('SMEMBERS', KEYS[1])
for i = 1, #keys, 5000 do redis.call('UNLINK', unpack(keys, i, math.min(i + 4999, #keys))) end
redis.call('UNLINK', KEYS[1]) return #keys"""


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


# --- invalidate -----------------------------------------------------------------------------------


def read(server_port, stop, latencies):
    """Asks for one key after the other until told to stop; (when, µs) of each GET."""
    connection = socket.create_connection(("127.0.0.1", server_port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times, number = [], 0
    while not stop.is_set():
        number = (number + 7919) % READ_KEYS
        begun = time.monotonic()
        connection.sendall(b"*2\r\n$3\r\nGET\r\n$16\r\nread:%011d\r\n" % number)
        connection.recv(256)
        times.append((begun, (time.monotonic() - begun) * 1e6))
    latencies.put(times)


@contextlib.contextmanager
def readers(server, found):
    """Others who read meanwhile; their (when, µs) are in `found` at the end."""
    stop, latencies = multiprocessing.Event(), multiprocessing.Queue()
    processes = [multiprocessing.Process(target=read, args=(server.port, stop, latencies))
                 for _ in range(READERS)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for _ in processes:
            found.extend(latencies.get())
        for process in processes:
            process.join()


def fill(server, members, is_tagged):
    key, value = b"m:%010d", b"x" * 100
    for start in range(0, members, CHUNK * 10):
        numbers = range(start, min(start + CHUNK * 10, members))
        with server.connect() as connection, connection.makefile("rb") as replies:
            parts = []
            for number in numbers:
                if is_tagged:
                    parts.append(encoded("SET", key % number, value, "TAGS", 1, "tag"))
                else:
                    parts.append(encoded("SET", key % number, value))
                    parts.append(encoded("SADD", "tag", key % number))
            for at in range(0, len(parts), 500):
                connection.sendall(b"".join(parts[at:at + 500]))
                for _ in parts[at:at + 500]:
                    replies.readline()


def invalidate(server, how):
    """Seconds of one invalidation, as the client sees it, and what it says."""
    with server.connect() as connection, connection.makefile("rb") as replies:
        begun = time.monotonic()
        if how == "TAG.INVALIDATE":
            connection.sendall(encoded("TAG.INVALIDATE", "tag"))
            count = read_reply(server, replies)
        elif how == "Lua, UNLINK":
            connection.sendall(encoded("EVAL", LUA, 1, "tag"))
            count = read_reply(server, replies)
        else:
            connection.sendall(encoded("SMEMBERS", "tag"))
            keys = read_reply(server, replies)
            for at in range(0, len(keys), CHUNK):
                part = keys[at:at + CHUNK]
                connection.sendall(b"".join([encoded("DEL", key) for key in part]))
                for _ in part:
                    replies.readline()
            connection.sendall(encoded("DEL", "tag"))
            replies.readline()
            count = len(keys)
        return time.monotonic() - begun, count


def invalidations(server, hows, args):
    load(server, set_commands(READ_KEYS, b"read:%011d", b"x" * 100))
    usual = []
    with readers(server, usual):
        time.sleep(USUAL_SECONDS)
    usual = [took for _, took in usual]
    print(f"{server.name}: usual GET p50 {percentile(usual, .5):.0f} µs, "
          f"p99 {percentile(usual, .99):.0f} µs, most {max(usual):.0f} µs", flush=True)
    for members, how in [(members, how) for members in args.members for how in hows]:
        calls, gets = [], []
        for _ in range(args.calls or ROUNDS.get(members, 5)):
            fill(server, members, how == "TAG.INVALIDATE")
            found = []
            with readers(server, found):
                time.sleep(0.2)
                begun = time.monotonic()
                took, count = invalidate(server, how)
                # What is taken out behind belongs to it.
                time.sleep(min(1.0, 0.1 + members / 1e6))
                ended = time.monotonic()
            if count != members:
                raise SystemExit(f"{server.name} invalidated {count} of {members} keys")
            calls.append(took * 1e6)
            gets += [took for at, took in found if begun <= at + took / 1e6 and at <= ended]
        print(f"{server.name}: {how}, {members} members: call p50 {percentile(calls, .5):.0f} µs, "
              f"p99 {percentile(calls, .99):.0f} µs ({len(calls)} calls); GET p50 "
              f"{percentile(gets, .5):.0f} µs, p99 {percentile(gets, .99):.0f} µs, "
              f"most {max(gets):.0f} µs", flush=True)


# --- CPU ------------------------------------------------------------------------------------------

CASES = {
    "SET": ("set", "key:__rand_int__", "x" * 100),
    "SET TAGS 2": ("set", "key:__rand_int__", "x" * 100, "TAGS", "2", "user:__rand_int__", "all"),
    "GET": ("get", "plain:__rand_int__"),
    "GET tagged": ("get", "tagged:__rand_int__"),
}


def cpu(server, args):
    """Server CPU per request, the cases in turn, medians."""
    keys = 100_000
    load(server, set_commands(keys, b"plain:%012d", b"x" * 100))
    tagged = [encoded("SET", "tagged:%012d" % number, "x" * 100, "TAGS", 2,
                      f"user:{number}", "all") for number in range(keys)]
    chunks = range(0, keys, CHUNK)
    load(server, ((len(tagged[at:at + CHUNK]), b"".join(tagged[at:at + CHUNK])) for at in chunks))
    for pipeline in (1, 16, 64):
        found = {case: [] for case in CASES}
        requests = args.requests // (4 if pipeline == 1 else 1)
        for _ in range(args.rounds):
            for case, words in CASES.items():
                before = server.cpu_seconds()
                run_custom(server, words, pipeline, keys, requests)
                found[case].append((server.cpu_seconds() - before) * 1e6 / requests)
        medians = {case: statistics.median(times) for case, times in found.items()}
        for plain, other in (("SET", "SET TAGS 2"), ("GET", "GET tagged")):
            print(f"P={pipeline}: {plain} {medians[plain]:.3f} µs, {other} {medians[other]:.3f} µs: "
                  f"{medians[other] / medians[plain]:.2f} ×", flush=True)


def run_custom(server, words, pipeline, keys, requests):
    command = ["redis-benchmark", "-p", str(server.port), "-c", "50", "-P", str(pipeline),
               "-n", str(requests), "-r", str(keys), "-q", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# --- memory and leaks -----------------------------------------------------------------------------


def used(server):
    text = ask(server, "INFO", "memory")
    fields = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    return int(fields["used_memory"])


def send_tagged(server, count, tags_of, suffix=()):
    with server.connect() as connection, connection.makefile("rb") as replies:
        for at in range(0, count, CHUNK):
            numbers = range(at, min(at + CHUNK, count))
            parts = []
            for number in numbers:
                tags = tags_of(number)
                words = ("TAGS", len(tags), *tags) if tags else ()
                parts.append(encoded("SET", "key:%010d" % number, "x" * 100, *suffix, *words))
            connection.sendall(b"".join(parts))
            for _ in numbers:
                replies.readline()


def memory(start, args):
    """What a link costs: the same keys with three tags of few names, and with one."""
    found = {}
    for tags in (1, 3):
        with start() as server:
            names = [f"tag:{number}" for number in range(1000)]
            before = used(server), server.status_bytes("VmRSS")
            send_tagged(server, args.keys,
                        lambda number: [names[(number * 7 + 131 * tag) % 1000]
                                        for tag in range(tags)])
            found[tags] = (used(server) - before[0], server.status_bytes("VmRSS") - before[1])
    links = 2 * args.keys
    print(f"{args.keys} keys: {(found[3][0] - found[1][0]) / links:.1f} bytes of used_memory and "
          f"{(found[3][1] - found[1][1]) / links:.1f} bytes of RSS per key and tag")


def leak(start, args):
    """What is left of tags when all their keys were evicted or have expired."""
    with start("--maxmemory", "1gb") as server:
        send_tagged(server, args.keys,
                    lambda number: [f"user:{number % 100_000}", f"day:{number // 1000}", "all"],
                    ("EX", "30"))
        print(f"{args.keys} keys sent: DBSIZE {ask(server, 'DBSIZE')}, "
              f"TAG.CARD all {ask(server, 'TAG.CARD', 'all')}, used_memory {used(server)}",
              flush=True)
        while ask(server, "DBSIZE"):
            time.sleep(0.5)
        print(f"all expired: TAG.CARD all {ask(server, 'TAG.CARD', 'all')}, TAG.SCAN "
              f"{ask(server, 'TAG.SCAN', 0, 'COUNT', 10_000_000)}, used_memory {used(server)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("invalidate", "cpu", "memory", "leak"))
    parser.add_argument("--corral", default="target/release/corral")
    parser.add_argument("--members", type=int, nargs="+", default=list(ROUNDS))
    parser.add_argument("--calls", type=int, help="invalidations of each kind")
    parser.add_argument("--requests", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keys", type=int, default=1_000_000)
    args = parser.parse_args()
    corral = [os.path.abspath(args.corral)]
    with tempfile.TemporaryDirectory() as directory:
        def start(*options):
            return contextlib.closing(Server("corral", [*corral, *options], directory))
        if args.what == "memory":
            memory(start, args)
        elif args.what == "leak":
            leak(start, args)
        elif args.what == "cpu":
            with start() as server:
                cpu(server, args)
        else:
            with start() as server:
                invalidations(server, ["TAG.INVALIDATE"], args)
            redis = ["redis-server", "--save", "", "--appendonly", "no"]
            with contextlib.closing(Server("redis-server", redis, directory)) as server:
                invalidations(server, ["SMEMBERS, DEL", "Lua, UNLINK"], args)
            with contextlib.closing(Server("upstream", redis, directory)) as upstream:
                front = [*corral, "--upstream", f"redis://127.0.0.1:{upstream.port}"]
                with contextlib.closing(Server("front", front, directory)) as server:
                    invalidations(server, ["TAG.INVALIDATE"], args)


if __name__ == "__main__":
    main()
