#!/usr/bin/env python3
"""What stampedes cost: corral beside redis-server with clients that look after themselves.

    benches/stampede.py [--quick]            all scenarios, and which goals were met
    benches/stampede.py --only cold,hot      some: cold hot zipf outage slow dies scan hit
    benches/stampede.py --only hot --figure docs/stampede.svg

An HTTP origin takes 100 ms for a value, which is fresh for 2 s; 2000 clients read, 3000 times a
second in all, at random times that are the same for all contestants:

- `cold`: all clients read one key at once that nobody has loaded yet; five such keys in turn.
- `hot`: one key, for 20 s.
- `zipf`: 1000 keys, the i-th most popular one with a weight of 1/i.
- `outage`: one key; the origin answers 503 for 5 s. `slow`: it takes 2 s, for 5 s.
- `dies`: 50 clients read one key at once; the first is gone before it has the value.
- `scan`: 90 % of 1000 reads a second are of 6000 keys that the origin does not have.
- `hit`: CPU of a hit by redis-benchmark, with and without a rule for the key.

The contestants: redis-server with clients that GET, load and SET (`naive`), that take a lock for
it (`SET NX`), or that refresh early (`XFetch`, β = 1); corral with the same naive clients behind a
rule with a `lease`, and with clients that only GET behind a rule with an origin; both standalone
and as a front of redis-server.

"Loads" are the origin's, "ideal" is how many a cache makes that loads each key once when it is read
past its 2 s, "at once" the most loads of one key under way together. Latencies are from a read's
arrival, in ms. "Stale" are reads of values past their 2 s, and "oldest" by how much. CPU is the
server's own per read, user and kernel, and that of the redis-server behind a front. The clients are
this program's, in two processes; they say when they were the bottleneck. Linux only, Python's
standard library only; needs redis-server and redis-benchmark.
"""

import argparse
import collections
import contextlib
import itertools
import os
import random
import resource
import shlex
import statistics
import sys
import tempfile
import time

import herd
from servers import encoded, load, redis_benchmark, stage

HERDS = 2  # processes
TTL_SECONDS, LOAD_SECONDS, SLOW_SECONDS, OUT_SECONDS = 2.0, 0.1, 2.0, 5.0
LEASE_SECONDS = 3.0
CONCURRENCY = 256  # of the origin, as the rules have it: more than any scenario needs
COLD_KEYS = 5
ZIPF_KEYS = 1000
SCAN_KEYS, SCAN_ABSENT_KEYS, SCAN_ABSENT_SHARE = 24, 6000, 0.9
DYING_CLIENTS = 50
LATE_MAX_MS, HERD_LATE_MAX_MS = 10.0, 50.0  # from there on, at p99, the clients were the bottleneck
BUSY_MAX = 0.9  # of a core
STALE_MIN_SECONDS = 0.05  # below, it may be the way from the origin
HIT_KEYS, HIT_CLIENTS = 100_000, 50
HIT_KEY, HIT_VALUE = "key:%012d", b"xxx"  # as redis-benchmark has them
SPARE_DESCRIPTORS = 500
HERE = os.path.dirname(os.path.abspath(__file__))
RULES = """
[[origin]]
name = "origin"
kind = "http"
url = "http://127.0.0.1:{port}/{{0}}"
concurrency = {concurrency}
refresh-concurrency = {concurrency}

[[rule]]
match = "through-*"
origin = "origin"
ttl = "{ttl}ms"
timeout = "10s"
negative-ttl = "60s"
stale-while-revalidate = "1h"
stale-if-error = "1h"

[[rule]]
match = "aside-*"
lease = "{lease}ms"
stale-while-revalidate = "1h"
"""
goals = []


def goal(what, figure, is_met):
    """Notes a goal, with the figure that decides it."""
    goals.append((what, figure, "met" if is_met else "MISSED"))


def table(heading, *names):
    print(f"\n### {heading}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)


def row(*cells):
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def ms(seconds):
    return f"{seconds * 1e3:,.1f}"


# --- Contestants ----------------------------------------------------------------------------------

Contestant = collections.namedtuple("Contestant", "name way prefix kind")
CONTESTANTS = [
    Contestant("redis naive", herd.aside, "aside-", "redis"),
    Contestant("redis SET NX", herd.locked, "aside-", "redis"),
    Contestant("redis XFetch", herd.xfetch, "aside-", "redis"),
    Contestant("corral lease", herd.aside, "aside-", "corral"),
    Contestant("corral origin", herd.plain, "through-", "corral"),
    Contestant("front lease", herd.aside, "aside-", "front"),
    Contestant("front origin", herd.plain, "through-", "front"),
]


def start(on, args, kind, origin_port):
    """The contestant's server, and the redis-server behind it, if there is one."""
    if kind == "redis":
        return on.redis(), None
    path = os.path.join(on.directory, f"rules-{origin_port}.toml")
    with open(path, "w", encoding="ascii") as file:
        file.write(RULES.format(port=origin_port, concurrency=CONCURRENCY,
                                ttl=round(TTL_SECONDS * args.scale * 1e3),
                                lease=round(LEASE_SECONDS * args.scale * 1e3)))
    if kind == "corral":
        return on.corral("corral", "--config", path), None
    behind = on.redis()
    return on.front("front", behind, "--config", path), behind


# --- Runs -----------------------------------------------------------------------------------------

Scenario = collections.namedtuple(
    "Scenario", "name heading keys arrivals seconds plan leaves_after clients")
Read = collections.namedtuple("Read", "arrived took made key end")


class Run:
    """What came of one contestant in one scenario; times are after its begin."""

    def __init__(self, scale, scenario, reads, loads, cpu, grown, saturated):
        self.scenario, self.reads, self.loads, self.grown = scenario, reads, loads, grown
        self.saturated = saturated
        self.cpu = [seconds * 1e6 / max(1, len(reads)) for seconds in cpu]
        self.ttl = TTL_SECONDS * scale

    def loads_within(self, begin, end):
        return [load for load in self.loads if begin <= load[1] < end]

    def at_once(self):
        """The most loads of one key that were under way together."""
        under_way, most = collections.Counter(), 0
        changes = [(at, step, load[0])
                   for load in self.loads for at, step in ((load[1], 1), (load[2], -1))]
        for _, step, name in sorted(changes):
            under_way[name] += step
            most = max(most, under_way[name])
        return most

    def took(self, begin=0.0, end=float("inf")):
        return [read.took for read in self.reads if begin <= read.arrived < end]

    def errors(self, begin=0.0, end=float("inf")):
        return sum(read.end == herd.FAILED for read in self.reads if begin <= read.arrived < end)

    def stale(self):
        """By how much the values of reads were past their time, where they were."""
        ages = (read.arrived - read.made - self.ttl for read in self.reads if read.end == herd.OK)
        return [age for age in ages if age > STALE_MIN_SECONDS]

    def during_loads(self):
        """Latencies while the only key was loaded again, and while it was not."""
        windows = sorted((load[1], load[2]) for load in self.loads)
        first = windows[0][1] if windows else 0.0
        within, without, at = [], [], 0
        for read in sorted(self.reads):
            while at < len(windows) and windows[at][1] < read.arrived:
                at += 1
            if read.arrived > first:
                is_within = at < len(windows) and windows[at][0] <= read.arrived
                (within if is_within else without).append(read.took)
        return within, without


def run(args, directory, contestant, scenario):
    with stage(args, directory) as on, contextlib.ExitStack() as stack:
        origin = herd.Origin(LOAD_SECONDS * args.scale, scenario.plan)
        stack.callback(origin.close)
        server, behind = start(on, args, contestant.kind, origin.port)
        keys = [contestant.prefix + key for key in scenario.keys]
        ttl_ms = round(TTL_SECONDS * args.scale * 1e3)
        herds = []
        for number, arrivals in enumerate(scenario.arrivals):
            herds.append(herd.Herd(
                server.port, origin.port, scenario.clients // HERDS, contestant.way, keys, ttl_ms,
                arrivals, scenario.leaves_after if number == 0 else None))
            stack.callback(herds[-1].close)
        for one in herds:
            one.ready()
        servers = [server] if behind is None else [server, behind]
        cpu, rss = [one.cpu_seconds() for one in servers], server.status_bytes("VmRSS")
        began = time.monotonic() + 0.1
        for one in (origin, *herds):
            one.begin(began)
        found = [one.reads() for one in herds]
        cpu = [one.cpu_seconds() - before for one, before in zip(servers, cpu)]
        grown = server.status_bytes("VmRSS") - rss
        reads = [Read(arrived - began, took, made - began, key, end)
                 for columns in found for arrived, took, made, key, end in zip(*columns[:5])]
        loads = [(key, begin - began, end - began, status)
                 for key, begin, end, status in origin.loads()]
    late = quantile([at for columns in found for at in columns[6]], 0.99) * 1e3
    busy = max(columns[5] for columns in found)
    saturated = f"late by {late:.1f} ms, {busy:.0%} busy"
    late_max = HERD_LATE_MAX_MS if scenario.name == "cold" else LATE_MAX_MS
    if late > late_max or busy > BUSY_MAX:
        saturated = f"**SATURATED**: {saturated}"
    return Run(args.scale, scenario, reads, loads, cpu, grown, saturated)


def poisson(rate, seconds, seed, pick):
    """Arrivals for each herd, at random times: (when, number of a key)."""
    for number in range(HERDS):
        chance = random.Random(seed * HERDS + number)
        at, found = 0.0, []
        while (at := at + chance.expovariate(rate / HERDS)) < seconds:
            found.append((at, pick(chance)))
        yield found


def ideal_loads(scenario, args):
    """How many loads a cache makes that loads each key once when it is read past its time."""
    fresh_until, count = {}, 0
    for at, key in sorted(itertools.chain(*scenario.arrivals)):
        if at >= fresh_until.get(key, -1.0):
            count += 1
            lasts = (LOAD_SECONDS + TTL_SECONDS) * args.scale
            is_absent = herd.ABSENT in scenario.keys[key]
            fresh_until[key] = float("inf") if is_absent else at + lasts
    return count


# --- Scenarios ------------------------------------------------------------------------------------

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


@scenario
def cold(args):
    apart = 10 * LOAD_SECONDS * args.scale
    arrivals = [(number * apart, number)
                for number in range(COLD_KEYS) for _ in range(args.clients // HERDS)]
    keys = [f"cold-{number}" for number in range(COLD_KEYS)]
    heading = f"Cold herd: {args.clients:,} clients at once, {COLD_KEYS} keys in turn"
    return Scenario("cold", heading, keys, [arrivals] * HERDS, COLD_KEYS * apart, [], None,
                    args.clients)


@scenario
def hot(args):
    arrivals = poisson(args.rate, args.seconds, 1, lambda chance: 0)
    return Scenario("hot", f"Hot key: {args.rate:,} reads/s for {args.seconds:g} s", ["hot"],
                    list(arrivals), args.seconds, [], None, args.clients)


@scenario
def zipf(args):
    weights = list(itertools.accumulate(1 / rank for rank in range(1, ZIPF_KEYS + 1)))
    numbers = range(ZIPF_KEYS)
    arrivals = poisson(args.rate, args.seconds / 2, 2,
                       lambda chance: chance.choices(numbers, cum_weights=weights)[0])
    return Scenario("zipf", f"Zipf over {ZIPF_KEYS:,} keys: {args.rate:,} reads/s for "
                    f"{args.seconds / 2:g} s", [f"zipf-{number}" for number in numbers],
                    list(arrivals), args.seconds / 2, [], None, args.clients)


def bad_origin(args, name, what, status, seconds):
    begin = 1.5 * TTL_SECONDS * args.scale
    end = begin + OUT_SECONDS * args.scale
    whole = end + TTL_SECONDS * args.scale
    arrivals = poisson(args.rate, whole, 3, lambda chance: 0)
    heading = f"{what} for {end - begin:g} s: {args.rate:,} reads/s of one key, for {whole:g} s"
    return Scenario(name, heading, ["hot"], list(arrivals), whole, [(begin, end, status, seconds)],
                    None, args.clients)


@scenario
def outage(args):
    return bad_origin(args, "outage", "The origin answers 503", 503, LOAD_SECONDS * args.scale)


@scenario
def slow(args):
    seconds = SLOW_SECONDS * args.scale
    return bad_origin(args, "slow", f"The origin takes {seconds:g} s", None, seconds)


@scenario
def dies(args):
    second, gone = 0.2 * LOAD_SECONDS * args.scale, 0.5 * LOAD_SECONDS * args.scale
    others = [(second, 0)] * (DYING_CLIENTS // HERDS)
    return Scenario("dies", f"The first of {DYING_CLIENTS} clients is gone after {gone * 1e3:g} ms",
                    ["dies"], [[(0.0, 0), *others[1:]], others], second, [], gone, DYING_CLIENTS)


@scenario
def scan(args):
    keys = [f"there-{number}" for number in range(SCAN_KEYS)]
    keys += [f"{herd.ABSENT}-{number}" for number in range(SCAN_ABSENT_KEYS)]

    def pick(chance):
        if chance.random() < SCAN_ABSENT_SHARE:
            return SCAN_KEYS + chance.randrange(SCAN_ABSENT_KEYS)
        return chance.randrange(SCAN_KEYS)

    rate = args.rate // 3
    return Scenario("scan", f"404 scan: {rate:,} reads/s for {args.seconds:g} s, "
                    f"{SCAN_ABSENT_SHARE:.0%} of absent keys", keys,
                    list(poisson(rate, args.seconds, 4, pick)), args.seconds, [], None,
                    args.clients)


# --- What came of them ----------------------------------------------------------------------------

MORE = {
    "hot": ["p99 while loading, and not"],
    "outage": ["during: loads", "errors", "p99"],
    "slow": ["before: p99", "during: loads", "p99"],
    "scan": ["loads per absent key", "values from memory", "RSS, MiB"],
}


def more(found):
    """The cells of a scenario's own columns."""
    name = found.scenario.name
    if name == "hot":
        return [" / ".join(ms(quantile(took, 0.99)) for took in found.during_loads())]
    if name in ("outage", "slow"):
        begin, end = found.scenario.plan[0][:2]
        p99 = ms(quantile(found.took(begin, end), 0.99))
        loads = len(found.loads_within(begin, end))
        if name == "slow":
            return [ms(quantile(found.took(found.ttl, begin), 0.99)), loads, p99]
        return [loads, found.errors(begin, end), p99]
    if name == "scan":
        return [f"{absent_loads(found):.2f}", f"{from_memory(found):.1%}",
                f"{found.grown / (1 << 20):+.1f}"]
    return []


def absent_loads(found):
    arrivals = itertools.chain(*found.scenario.arrivals)
    absent = {key for _, key in arrivals if key >= SCAN_KEYS}
    return sum(herd.ABSENT in load[0] for load in found.loads) / len(absent)


def from_memory(found):
    """The share of values that nobody had to wait for."""
    took = [read.took for read in found.reads if read.key < SCAN_KEYS]
    patience = found.ttl * LOAD_SECONDS / TTL_SECONDS / 2
    return sum(one < patience for one in took) / max(1, len(took))


def check(args, contestant, found, ideal):
    """The goals of a contestant that is corral."""
    name, who = found.scenario.name, f"{found.scenario.name}, {contestant.name}"
    ratio = len(found.loads) / ideal
    if name == "cold":
        goal(f"{who}: 1 load a key", f"{ratio:.2f}", ratio <= 1)
    if name == "hot":
        goal(f"{who}: ≤ 1.5 loads per TTL", f"{ratio:.2f}", ratio <= 1.5)
        goal(f"{who}: never two at once", found.at_once(), found.at_once() <= 1)
        loading, quiet = (quantile(took, 0.99) for took in found.during_loads())
        goal(f"{who}: p99 while loading ≤ 2 × p99 else", f"{loading / quiet:.2f} ×",
             loading <= 2 * quiet)
    if name == "outage":
        begin, end = found.scenario.plan[0][:2]
        errors, loads = found.errors(), len(found.loads_within(begin, end))
        goal(f"{who}: no errors", errors, errors == 0)
        goal(f"{who}: ≤ 10 attempts in {end - begin:g} s", loads, loads <= 10)
    if name == "slow":
        begin, end = found.scenario.plan[0][:2]
        before = quantile(found.took(found.ttl, begin), 0.99)
        during = quantile(found.took(begin, end), 0.99)
        goal(f"{who}: p99 as before (≤ 2 ×)", f"{during / before:.2f} ×", during <= 2 * before)
    if name == "dies":
        longest = max(found.took())
        goal(f"{who}: one more load at most", len(found.loads), len(found.loads) <= 2)
        goal(f"{who}: nobody waits > 250 ms", ms(longest), longest <= 0.25 * max(1, args.scale))
    if name == "scan" and contestant.way is herd.plain:
        figure = absent_loads(found)
        goal(f"{who}: 1 load per absent key", f"{figure:.2f}", figure <= 1)


def compare(args, directory, scenario):
    """One scenario for all contestants; the loads of each."""
    table(scenario.heading, "", "loads (ideal)", "per key and TTL", "at once", "p50", "p99",
          "p99.9", "max", "errors", "stale", "oldest, s", "CPU µs/read",
          *MORE.get(scenario.name, []), "the clients")
    ideal, loads = ideal_loads(scenario, args), {}
    wanted = sum(map(len, scenario.arrivals)) - (scenario.leaves_after is not None)
    for contestant in args.contestants:
        found = run(args, directory, contestant, scenario)
        took, stale = found.took(), found.stale()
        unanswered = wanted - len(took)
        row(contestant.name, f"{len(found.loads):,} ({ideal:,})", f"{len(found.loads) / ideal:.2f}",
            found.at_once(), *(ms(quantile(took, share)) for share in (0.5, 0.99, 0.999)),
            ms(max(took, default=0)),
            f"{found.errors():,}" + (f" and {unanswered} unanswered" if unanswered > 0 else ""),
            f"{len(stale) / max(1, len(took)):.2%}", f"{max(stale, default=0):.2f}",
            " + ".join(f"{cpu:.1f}" for cpu in found.cpu), *more(found), found.saturated)
        if contestant.kind != "redis":
            check(args, contestant, found, ideal)
        loads[contestant.name] = found.loads
    return loads


def fill(server, *suffix):
    for first in range(0, HIT_KEYS, 1000):
        numbers = range(first, first + 1000)
        load(server, [(1000, b"".join(
            encoded("SET", HIT_KEY % number, HIT_VALUE, "EX", 100_000, *suffix)
            for number in numbers))])


def warm(server):
    """Reads all keys, so that a front has copies."""
    expected = b"$%d\r\n%s\r\n" % (len(HIT_VALUE), HIT_VALUE)
    with server.connect() as connection, connection.makefile("rb") as replies:
        for first in range(0, HIT_KEYS, 100):
            names = [HIT_KEY % number for number in range(first, first + 100)]
            connection.sendall(b"".join(encoded("GET", name) for name in names))
            if replies.read(100 * len(expected)) != 100 * expected:
                raise SystemExit(f"{server.name} does not hold what it was filled with")


def learn_delta(server):
    """A front learns Δ of a rule from who makes a value under its lease."""
    with server.connect() as connection:
        for request in (encoded("GET", HIT_KEY % HIT_KEYS),
                        encoded("SET", HIT_KEY % HIT_KEYS, HIT_VALUE, "EX", 100_000)):
            time.sleep(0.02)
            connection.sendall(request)
            connection.recv(64)


def hit(args, directory):
    """A hit of a key that a rule matches, Δ known and far from its expiry, beside one without."""
    path = os.path.join(directory, "hit.toml")
    with open(path, "w", encoding="ascii") as file:
        file.write('[[rule]]\nmatch = "key:*"\nlease = "1s"\nstale-while-revalidate = "1h"\n')
    table(f"A hit: GET of {HIT_KEYS:,} keys with a TTL, {HIT_CLIENTS} clients; server CPU µs/op, "
          f"medians of {args.rounds}", "", "P", "no rules", "a rule, Δ known", "ratio")
    with stage(args, directory) as on:
        plain, ruled = on.corral("plain"), on.corral("ruled", "--config", path)
        fill(plain)
        fill(ruled, "DELTA", 100)
        hit_rows(args, "standalone", plain, ruled)
    with stage(args, directory) as on:
        redis = on.redis()
        fill(redis)
        plain, ruled = on.front("plain", redis), on.front("ruled", redis, "--config", path)
        learn_delta(ruled)
        warm(plain)
        warm(ruled)
        hit_rows(args, "front", plain, ruled)


def hit_rows(args, name, plain, ruled):
    for pipeline in (16, 64):
        shape = {"clients": HIT_CLIENTS, "pipeline": pipeline, "keys": HIT_KEYS, "size": 3}
        figures = {plain: [], ruled: []}
        for number in range(args.rounds):
            # In turn, and each of them first as often as last.
            for server in (plain, ruled) if number % 2 else (ruled, plain):
                before = server.cpu_seconds()
                _, requests = redis_benchmark(server, "get", requests=args.requests, **shape)
                figures[server].append((server.cpu_seconds() - before) * 1e6 / requests)
        without, with_rule = (statistics.median(rows) for rows in figures.values())
        row(name, pipeline, f"{without:.3f}", f"{with_rule:.3f}", f"{with_rule / without:.2f}")
        goal(f"a hit under rules, {name}, P={pipeline}: ≤ 1.1 × a plain one's CPU",
             f"{with_rule / without:.2f} ×", with_rule <= 1.1 * without)


# --- The figure -----------------------------------------------------------------------------------

BIN_SECONDS = 0.1
STRIP, WIDTH, LEFT, RIGHT, TOP = 46, 760, 118, 96, 34
STYLE = """
text { font: 12px sans-serif; fill: #1f2328 } .dim { fill: #59636e }
rect.back { fill: #ffffff } rect.redis { fill: #cf5c36 } rect.corral { fill: #1f7a5c }
line { stroke: #d1d9e0 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .dim { fill: #9198a1 } rect.back { fill: #0d1117 }
rect.redis { fill: #f08a63 } rect.corral { fill: #4cc38a } line { stroke: #3d444d } }
"""


def figure(args, path, loads):
    """Loads over time, a strip for each contestant: a bar for each tenth of a second, its height
    the square root of how many began in it.
    """
    plot, height = WIDTH - LEFT - RIGHT, TOP + len(loads) * STRIP + 30
    bins = {name: collections.Counter(int(load[1] / BIN_SECONDS) for load in rows)
            for name, rows in loads.items()}
    most = max(max(counts.values(), default=1) for counts in bins.values())
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
             f"<title>Loads of a hot key over time</title><style>{STYLE}</style>",
             f'<rect class="back" width="{WIDTH}" height="{height}"/>',
             f'<text x="8" y="20">Loads of one key: {args.rate:,} reads/s, '
             f"{TTL_SECONDS * args.scale:g} s to live, {LOAD_SECONDS * args.scale * 1e3:g} ms a "
             "load (height: the square root of loads begun in 0.1 s)</text>"]
    for number, (name, counts) in enumerate(bins.items()):
        base = TOP + (number + 1) * STRIP - 6
        color = "redis" if name.startswith("redis") else "corral"
        parts.append(f'<text x="8" y="{base - 4}">{name}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + plot}" y1="{base}" y2="{base}"/>')
        for at, count in sorted(counts.items()):
            x = LEFT + plot * at * BIN_SECONDS / args.seconds
            tall = max(2.0, (STRIP - 10) * (count / most) ** 0.5)
            parts.append(f'<rect class="{color}" x="{x:.1f}" y="{base - tall:.1f}" width="2.4" '
                         f'height="{tall:.1f}"/>')
        total = sum(counts.values())
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{base - 4}">{total:,} loads</text>')
    for step in range(5):
        parts.append(f'<text class="dim" x="{LEFT + plot * step / 4 - 8:.0f}" y="{height - 10}">'
                     f"{args.seconds * step / 4:g} s</text>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([*parts, "</svg>"]) + "\n")
    print(f"\nwritten: {path}")


# --- Command line ---------------------------------------------------------------------------------


def arguments():
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(os.path.dirname(HERE), "target"))
    binary = os.path.join(target, "release", "corral")
    names = [*SCENARIOS, "hit"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="all times a tenth, some are left out")
    parser.add_argument("--only", type=lambda text: text.split(","),
                        metavar="SCENARIO,…", help=f"of {', '.join(names)}")
    parser.add_argument("--contestants", metavar="WORD,…", help="those with one of these words")
    parser.add_argument("--seconds", type=float, help="of reads where it is not fixed, default 20")
    parser.add_argument("--clients", type=int, help="default 2000, with --quick 200")
    parser.add_argument("--rate", type=int, default=3000, help="reads a second")
    parser.add_argument("--rounds", type=int, help="of `hit`, default 5")
    parser.add_argument("--figure", metavar="PATH", help="writes loads over time of `hot` (SVG)")
    parser.add_argument("--server-cmd", default=shlex.quote(binary), metavar="COMMAND",
                        help="ours; flags and `--port N` are added (default: the release build)")
    parser.add_argument("--front-flags", default="", metavar="FLAGS", help="of each front")
    parser.add_argument("--redis-cmd", default="redis-server --save '' --appendonly no",
                        metavar="COMMAND")
    args = parser.parse_args()
    args.only = args.only or [name for name in names if name != "slow" or not args.quick]
    unknown = set(args.only) - set(names)
    if unknown:
        parser.error(f"not measured: {', '.join(sorted(unknown))}")
    args.scale = 0.1 if args.quick else 1.0
    args.clients = args.clients or (200 if args.quick else 2000)
    args.seconds = args.seconds or (0.4 if args.quick else 20.0)
    args.rounds = args.rounds or (1 if args.quick else 5)
    args.requests = 100_000 if args.quick else 3_000_000
    words = args.contestants or ("naive,corral lease,front origin" if args.quick else "")
    args.contestants = [one for one in CONTESTANTS
                        if any(word in one.name for word in words.split(","))]
    return args


def main():
    args = arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * args.clients + SPARE_DESCRIPTORS:
        raise SystemExit(f"{args.clients} clients need more descriptors than `ulimit -Hn`, {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{os.cpu_count()} cores, load at the start {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as directory:
        for name in args.only:
            if name == "hit":
                hit(args, directory)
                continue
            loads = compare(args, directory, SCENARIOS[name](args))
            if name == "hot" and args.figure:
                figure(args, args.figure, loads)
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
