#!/usr/bin/env python3
"""redis-py against a server: sync and asyncio, RESP2 and RESP3, TCP and unix socket.

    redis_py.py HOST PORT [PASSWORD] [--unixsocket PATH]

Touches only keys that begin with `smoke:py:`. Prints the checks that fail, then one line
`N passed, N failed`; the exit code is 1 if any failed.
"""

import argparse
import asyncio
import sys
import time
import traceback

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

PREFIX = "smoke:py:"
ALL_BYTES = bytes(range(256))
MEGABYTE = bytes(index * 7 % 256 for index in range(1 << 20))


class Checks:
    """Counts what held and prints what did not."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.section = ""

    def that(self, what, holds, detail=""):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAIL redis-py {self.section}: {what} {detail}", flush=True)

    def equal(self, what, got, want):
        short = f"got {got!r:.200}, want {want!r:.200}" if got != want else ""
        self.that(what, got == want, short)

    def between(self, what, got, low, high):
        self.that(what, low <= got <= high, f"got {got!r}, want {low}..{high}")

    def raises(self, what, text, call):
        """`text` is the whole message, as redis-py passes it on."""
        try:
            got = call()
        except redis.RedisError as error:
            self.equal(what, str(error), text)
        else:
            self.that(what, False, f"no error, got {got!r:.200}")

    def run(self, section, body):
        """One section; an unexpected exception is one failed check, not the end of the run."""
        self.section = section
        try:
            body()
        except Exception:  # noqa: BLE001 - whatever it was, it is reported
            self.that("ran to its end", False, "\n" + traceback.format_exc())


def key(name):
    return PREFIX + name


def strings(check, r):
    check.equal("PING", r.ping(), True)
    check.equal("ECHO", r.echo("corral"), b"corral")
    check.equal("SET", r.set(key("a"), "1"), True)
    check.equal("GET", r.get(key("a")), b"1")
    check.equal("GET of an absent key", r.get(key("absent")), None)
    check.equal("SET NX on an existing key", r.set(key("a"), "2", nx=True), None)
    check.equal("SET XX on an absent key", r.set(key("absent"), "2", xx=True), None)
    check.equal("SET GET", r.set(key("a"), "3", get=True), b"1")
    check.equal("APPEND", r.append(key("a"), "45"), 3)
    check.equal("STRLEN", r.strlen(key("a")), 3)
    check.equal("GETRANGE", r.getrange(key("a"), 1, -1), b"45")
    check.equal("SETRANGE", r.setrange(key("a"), 1, "67"), 3)
    check.equal("INCR", r.incr(key("a")), 368)
    check.equal("DECRBY", r.decrby(key("a"), 400), -32)
    check.equal("INCRBYFLOAT", r.incrbyfloat(key("a"), 0.5), -31.5)
    check.equal("GETSET", r.getset(key("a"), "x"), b"-31.5")
    check.equal("GETDEL", r.getdel(key("a")), b"x")
    check.equal("GETDEL removed it", r.exists(key("a")), 0)
    check.equal("MSET", r.mset({key("m1"): "1", key("m2"): "2"}), True)
    check.equal(
        "MGET", r.mget(key("m1"), key("absent"), key("m2")), [b"1", None, b"2"]
    )
    check.equal("MSETNX with one taken", r.msetnx({key("m2"): "9", key("m3"): "9"}), False)
    check.equal("MSETNX set nothing", r.exists(key("m3")), 0)
    check.equal("SETBIT", r.setbit(key("bits"), 7, 1), 0)
    check.equal("GETBIT", r.getbit(key("bits"), 7), 1)
    check.equal("BITCOUNT", r.bitcount(key("bits")), 1)
    check.equal("TYPE", r.type(key("m1")), b"string")
    check.equal("EXISTS counts twice", r.exists(key("m1"), key("m1")), 2)
    check.equal("RENAME", r.rename(key("m1"), key("m4")), True)
    check.equal("COPY", r.copy(key("m4"), key("m5")), True)
    check.equal("DEL", r.delete(key("m2"), key("m4"), key("bits"), key("absent")), 3)
    check.equal("UNLINK", r.unlink(key("m5")), 1)


def values(check, r):
    r.set(key("bin"), ALL_BYTES)
    check.equal("a value of all 256 bytes", r.get(key("bin")), ALL_BYTES)
    r.set(key("").encode() + ALL_BYTES, "v")
    check.equal("a key of all 256 bytes", r.get(key("").encode() + ALL_BYTES), b"v")
    r.set(key("empty"), b"")
    check.equal("an empty value", r.get(key("empty")), b"")
    r.set(key("crlf"), b"a\r\n$5\r\n-ERR\r\n")
    check.equal("a value like the protocol's own", r.get(key("crlf")), b"a\r\n$5\r\n-ERR\r\n")
    r.set(key("big"), MEGABYTE)
    check.that("a value of 1 MiB", r.get(key("big")) == MEGABYTE)
    check.equal("STRLEN of it", r.strlen(key("big")), len(MEGABYTE))
    check.equal("GETRANGE within it", r.getrange(key("big"), 500_000, 500_003),
                MEGABYTE[500_000:500_004])
    check.that("MGET of it, twice", r.mget(key("big"), key("big")) == [MEGABYTE] * 2)


def expiry(check, r):
    r.set(key("t"), "v", ex=100)
    check.between("TTL after EX", r.ttl(key("t")), 99, 100)
    check.between("PTTL", r.pttl(key("t")), 98_000, 100_000)
    r.set(key("t"), "w", keepttl=True)
    check.between("KEEPTTL", r.ttl(key("t")), 98, 100)
    r.set(key("t"), "w")
    check.equal("SET clears the TTL", r.ttl(key("t")), -1)
    check.equal("TTL of an absent key", r.ttl(key("absent")), -2)
    check.equal("EXPIRE", r.expire(key("t"), 50), True)
    check.equal("EXPIRE NX where one is set", r.expire(key("t"), 50, nx=True), False)
    check.equal("PERSIST", r.persist(key("t")), True)
    check.equal("EXPIRE of an absent key", r.expire(key("absent"), 50), False)
    at = int(time.time()) + 1000
    check.equal("EXPIREAT", r.expireat(key("t"), at), True)
    check.equal("EXPIRETIME", r.expiretime(key("t")), at)
    check.equal("GETEX PERSIST", r.getex(key("t"), persist=True), b"w")
    check.equal("it persisted", r.ttl(key("t")), -1)
    r.set(key("t"), "v", px=40)
    check.equal("GET before PX has passed", r.get(key("t")), b"v")
    time.sleep(0.08)
    check.equal("GET after PX has passed", r.get(key("t")), None)
    check.equal("EXISTS after PX has passed", r.exists(key("t")), 0)
    r.set(key("t"), "v")
    r.expire(key("t"), -1)
    check.equal("an expiry in the past deletes", r.exists(key("t")), 0)


def pipelines(check, r):
    pipe = r.pipeline(transaction=False)
    for index in range(500):
        pipe.set(key(f"p{index}"), index)
        pipe.get(key(f"p{index}"))
    want = [reply for index in range(500) for reply in (True, str(index).encode())]
    check.that("1000 commands, replies in order", pipe.execute() == want)
    pipe = r.pipeline(transaction=False)
    pipe.set(key("p0"), "text").incr(key("p0")).get(key("p0"))
    got = pipe.execute(raise_on_error=False)
    check.equal("an error keeps its place", [got[0], got[2]], [True, b"text"])
    check.equal("and its text", str(got[1]).split(" (")[-1].rstrip(")"),
                "value is not an integer or out of range")
    check.equal("MGET of 500", r.mget([key(f"p{index}") for index in range(1, 500)]),
                [str(index).encode() for index in range(1, 500)])
    check.equal("DEL of 500", r.delete(*[key(f"p{index}") for index in range(500)]), 500)


def transactions(check, r, other):
    pipe = r.pipeline()
    got = pipe.set(key("x"), 1).incr(key("x")).get(key("x")).execute()
    check.equal("MULTI/EXEC", got, [True, 2, b"2"])
    with r.pipeline() as pipe:
        pipe.watch(key("x"))
        value = int(pipe.get(key("x")))
        pipe.multi()
        pipe.set(key("x"), value * 10)
        check.equal("WATCH, untouched", pipe.execute(), [True])
    with r.pipeline() as pipe:
        pipe.watch(key("x"))
        other.set(key("x"), "stolen")
        pipe.multi()
        pipe.set(key("x"), "mine")
        check.raises("WATCH, touched", "Watched variable changed.", pipe.execute)
    check.equal("and nothing was written", r.get(key("x")), b"stolen")
    got = r.transaction(lambda pipe: (pipe.multi(), pipe.set(key("x"), "t")), key("x"))
    check.equal("transaction()", got, [True])
    with r.client() as one:
        check.equal("MULTI", one.execute_command("MULTI"), b"OK")
        check.equal("QUEUED", one.get(key("x")), b"QUEUED")
        check.equal("DISCARD", one.execute_command("DISCARD"), b"OK")
        check.equal("after DISCARD", one.get(key("x")), b"t")
        check.raises("EXEC without MULTI", "EXEC without MULTI",
                     lambda: one.execute_command("EXEC"))
        one.execute_command("MULTI")
        check.raises("a bad command within MULTI", "unknown command 'NOSUCH', with args beginning"
                     " with: ", lambda: one.execute_command("NOSUCH"))
        check.raises("EXEC after it",
                     "Transaction discarded because of previous errors.",
                     lambda: one.execute_command("EXEC"))
    r.delete(key("x"))


def scanning(check, r):
    names = {key(f"scan:{index}").encode() for index in range(300)}
    r.mset({name: "v" for name in names})
    check.equal("SCAN MATCH finds all", set(r.scan_iter(match=key("scan:*"), count=50)), names)
    check.equal("SCAN TYPE",
                set(r.scan_iter(match=key("scan:*"), count=50, _type="string")), names)
    check.equal("SCAN of another type",
                set(r.scan_iter(match=key("scan:*"), count=500, _type="zset")), set())
    check.equal("KEYS", set(r.keys(key("scan:1?"))),
                {key(f"scan:1{digit}").encode() for digit in range(10)})
    check.that("DBSIZE", r.dbsize() >= 300)
    check.that("RANDOMKEY", r.randomkey() is not None)
    r.delete(*names)


def introspection(check, r):
    with r.client() as one:
        check.equal("CLIENT SETNAME", one.client_setname("smoke-py"), True)
        check.that("CLIENT GETNAME", one.client_getname() in ("smoke-py", b"smoke-py"))
        info = one.client_info()
        check.equal("CLIENT INFO: name", info["name"], "smoke-py")
        check.equal("CLIENT INFO: id", int(info["id"]), one.client_id())
        check.that("CLIENT LIST has it",
                   any(row["name"] == "smoke-py" for row in one.client_list()))
        check.raises("a name with a space",
                     "Client names cannot contain spaces, newlines or special characters.",
                     lambda: one.client_setname("a b"))
    info = r.info()
    check.that("INFO: redis_version", str(info["redis_version"]).startswith("7."))
    for field in ("used_memory", "connected_clients", "uptime_in_seconds", "maxmemory",
                  "keyspace_hits", "keyspace_misses", "expired_keys", "evicted_keys",
                  "total_commands_processed", "instantaneous_ops_per_sec"):
        check.that(f"INFO: {field}", isinstance(info.get(field), int), repr(info.get(field)))
    check.equal("INFO: role", info.get("role"), "master")
    r.set(key("one"), "1")
    check.that("INFO keyspace", r.info("keyspace")["db0"]["keys"] >= 1)
    r.delete(key("one"))
    check.that("CONFIG GET", "maxmemory" in r.config_get("maxmemory*"))
    check.that("COMMAND COUNT", r.command_count() > 50)
    seconds, micros = r.time()
    check.between("TIME", seconds + micros / 1e6, time.time() - 5, time.time() + 5)


def errors(check, r):
    r.set(key("text"), "abc")
    check.raises("INCR of text", "value is not an integer or out of range",
                 lambda: r.incr(key("text")))
    check.raises("INCRBYFLOAT of text", "value is not a valid float",
                 lambda: r.incrbyfloat(key("text"), 1.0))
    check.raises("SET with both EX and PX", "syntax error",
                 lambda: r.execute_command("SET", key("a"), "v", "EX", 1, "PX", 1))
    check.raises("SET EX 0", "invalid expire time in 'set' command",
                 lambda: r.set(key("a"), "v", ex=0))
    check.raises("wrong arity", "wrong number of arguments for 'get' command",
                 lambda: r.execute_command("GET"))
    check.raises("an unknown command",
                 "unknown command 'NOSUCH', with args beginning with: 'a' 'b' ",
                 lambda: r.execute_command("NOSUCH", "a", "b"))
    check.raises("an unknown subcommand",
                 "unknown subcommand 'NOSUCH'. Try CLIENT HELP.",
                 lambda: r.execute_command("CLIENT", "NOSUCH"))
    check.raises("RENAME of nothing", "no such key",
                 lambda: r.rename(key("absent"), key("b")))
    check.raises("SETRANGE too far", "string exceeds maximum allowed size (proto-max-bulk-len)",
                 lambda: r.setrange(key("a"), 1 << 29, "x"))
    check.equal("the connection is still good", r.ping(), True)
    r.delete(key("text"))


def databases(check, zero, one):
    zero.set(key("db"), "0")
    check.equal("another database does not have it", one.get(key("db")), None)
    one.set(key("db"), "1")
    check.equal("each has its own", [zero.get(key("db")), one.get(key("db"))], [b"0", b"1"])
    zero.delete(key("db"))
    check.equal("DEL leaves the other", one.getdel(key("db")), b"1")


async def asynchronous(check, connect):
    r = connect(0)
    check.equal("SET", await r.set(key("async"), "v", ex=100), True)
    check.equal("GET", await r.get(key("async")), b"v")
    check.between("TTL", await r.ttl(key("async")), 99, 100)
    async with r.pipeline(transaction=True) as pipe:
        check.equal("MULTI/EXEC", await pipe.set(key("async"), 1).incr(key("async")).execute(),
                    [True, 2])
    async with r.pipeline(transaction=False) as pipe:
        for index in range(1000):
            pipe.set(key(f"async:{index}"), index)
        check.equal("a pipeline of 1000", await pipe.execute(), [True] * 1000)
    found = [name async for name in r.scan_iter(match=key("async:*"), count=200)]
    check.equal("SCAN", len(set(found)), 1000)
    got = await asyncio.gather(*(r.get(key(f"async:{index}")) for index in range(100)))
    check.equal("100 GETs at once", got, [str(index).encode() for index in range(100)])
    got = await asyncio.gather(*(r.incr(key("async:counter")) for _ in range(100)))
    check.equal("100 INCRs at once", sorted(got), list(range(1, 101)))
    await r.set(key("async:big"), MEGABYTE)
    check.that("a value of 1 MiB", await r.get(key("async:big")) == MEGABYTE)
    async with r.pipeline() as pipe:
        await pipe.watch(key("async"))
        await r.set(key("async"), "stolen")
        pipe.multi()
        pipe.set(key("async"), "mine")
        try:
            await pipe.execute()
            check.that("WATCH, touched", False, "no error")
        except redis.WatchError:
            check.that("WATCH, touched", True)
    names = [name async for name in r.scan_iter(match=key("async*"), count=500)]
    check.equal("UNLINK", await r.unlink(*set(names)), 1003)
    await r.aclose()


def remove_keys(r):
    names = list(r.scan_iter(match=PREFIX + "*", count=1000))
    for start in range(0, len(names), 1000):
        r.delete(*names[start:start + 1000])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("password", nargs="?")
    parser.add_argument("--unixsocket")
    args = parser.parse_args()
    check = Checks()
    common = {"password": args.password, "socket_timeout": 10}
    tcp = {"host": args.host, "port": args.port, **common}

    for protocol in (2, 3):
        def connect(db=0):
            return redis.Redis(db=db, protocol=protocol, **tcp)

        def connect_async(db=0):
            return redis.asyncio.Redis(db=db, protocol=protocol, **tcp)

        r, other = connect(), connect()
        remove_keys(r)
        for name, body in [
            ("strings", lambda: strings(check, r)),
            ("values", lambda: values(check, r)),
            ("expiry", lambda: expiry(check, r)),
            ("pipelines", lambda: pipelines(check, r)),
            ("transactions", lambda: transactions(check, r, other)),
            ("scanning", lambda: scanning(check, r)),
            ("introspection", lambda: introspection(check, r)),
            ("errors", lambda: errors(check, r)),
            ("databases", lambda: databases(check, r, connect(1))),
            ("asyncio", lambda: asyncio.run(asynchronous(check, connect_async))),
        ]:
            check.run(f"RESP{protocol} {name}", body)
        remove_keys(r)
    if args.unixsocket:
        for protocol in (2, 3):
            r = redis.Redis(unix_socket_path=args.unixsocket, protocol=protocol, **common)
            check.run(f"RESP{protocol} unix socket, strings", lambda: strings(check, r))
            check.run(f"RESP{protocol} unix socket, values", lambda: values(check, r))
            check.run(f"RESP{protocol} unix socket, pipelines", lambda: pipelines(check, r))
            remove_keys(r)
    if args.password:
        check.section = "authentication"
        once = {"host": args.host, "port": args.port, "retry": Retry(NoBackoff(), 0)}
        nobody = redis.Redis(protocol=2, **once)
        check.raises("no password", "Authentication required.", nobody.ping)
        nobody = redis.Redis(protocol=3, **once)
        check.raises("no password with HELLO",
                     "HELLO must be called with the client already authenticated, otherwise the"
                     " HELLO AUTH <user> <pass> option can be used to authenticate the client and"
                     " select the RESP protocol version at the same time", nobody.ping)
        wrong = redis.Redis(password="wrong", **once)
        check.raises("a wrong password",
                     "invalid username-password pair or user is disabled.", wrong.ping)

    print(f"redis-py: {check.passed} passed, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
