"""An HTTP origin that takes notes, and a herd of clients: what `stampede.py` is made of.

Both run in processes of their own, on loops of their own (epoll): they share the machine with what
is measured. All times are of CLOCK_MONOTONIC, which processes share.

A way to read a key is a generator: it yields what is to be sent and where, is sent the reply back,
and returns how the read ended. That way is all in which contestants differ.

Linux only, Python's standard library only.
"""

import array
import contextlib
import ctypes
import heapq
import math
import multiprocessing
import random
import select
import signal
import socket
import time

from servers import encoded

PROCESSES = multiprocessing.get_context("fork")
BACKLOG = 4096
PIECE_BYTES = 1 << 16
PADDING = b"x" * 80
TIMER_SLACK_NS = 1_000
ABSENT = "absent"  # what is in the names of keys that the origin has no value for
LOCK_MS = 3_000
LOCK_POLL_SECONDS = 0.05
GIVE_UP_SECONDS = 10.0  # of a client that waits for a lock
DRAIN_SECONDS = 20.0
OK, NOTHING, FAILED = range(3)  # how a read ended: with a value, without, with an error


class Failure(str):
    """An error reply, of the server or of the origin."""


def fine_timers():
    """Sleeps end when they should: Linux adds 50 µs otherwise."""
    with contextlib.suppress(OSError), open("/proc/self/timerslack_ns", "w") as slack:
        slack.write(str(TIMER_SLACK_NS))


def dies_with_its_parent():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


# --- The origin -----------------------------------------------------------------------------------


class Origin:
    """`GET /KEY` is answered after `seconds`, with the time of the answer in it; 404 for keys that
    have ABSENT in their name. `plan` says when it is otherwise: (from, to, status, seconds), all
    after the time that `begin` is told.
    """

    def __init__(self, seconds, plan):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.port = self.listener.getsockname()[1]
        self.seconds, self.plan = seconds, plan
        self.pipe, its_end = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=self.run, args=(its_end,), daemon=True)
        self.process.start()
        self.listener.close()

    def begin(self, at):
        self.pipe.send(at)

    def loads(self):
        """All calls so far: (key, from, to, status); ends it."""
        self.pipe.send(None)
        loads = self.pipe.recv()
        self.process.join()
        return loads

    def close(self):
        self.process.terminate()
        self.process.join()

    # What follows runs in the other process.

    def run(self, pipe):
        dies_with_its_parent()
        fine_timers()
        self.epoll = select.epoll()
        self.callers, self.answers, self.noted = {}, [], []
        self.listener.setblocking(False)
        self.epoll.register(self.listener, select.EPOLLIN)
        self.epoll.register(pipe, select.EPOLLIN)
        while True:
            now = time.monotonic()
            while self.answers and self.answers[0][0] <= now:
                self.answer(*heapq.heappop(self.answers)[2:])
            wait = max(0.0, self.answers[0][0] - now) if self.answers else None
            select.select([self.epoll], [], [], wait)
            for descriptor, _ in self.epoll.poll(0):
                if descriptor == pipe.fileno():
                    told = pipe.recv()
                    if told is None:
                        pipe.send(self.noted)
                        return
                    self.plan = [(told + begin, told + end, *rest)
                                 for begin, end, *rest in self.plan]
                elif descriptor == self.listener.fileno():
                    self.accept()
                else:
                    self.read(descriptor)

    def accept(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                caller, _ = self.listener.accept()
                caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.callers[caller.fileno()] = [caller, b""]
                self.epoll.register(caller, select.EPOLLIN)

    def read(self, descriptor):
        caller = self.callers[descriptor]
        try:
            data = caller[0].recv(PIECE_BYTES)
        except OSError:
            data = b""
        if not data:
            self.epoll.unregister(descriptor)
            del self.callers[descriptor]
            caller[0].close()
            return
        head, end, rest = (caller[1] + data).partition(b"\r\n\r\n")
        if not end:
            caller[1] = head
            return
        caller[1] = rest
        now = time.monotonic()
        key = head.split(b" ", 2)[1][1:].decode()
        status, seconds = 404 if ABSENT in key else 200, self.seconds
        for begin, end, status_then, seconds_then in self.plan:
            if begin <= now < end:
                status, seconds = status_then or status, seconds_then
        heapq.heappush(self.answers, (now + seconds, len(self.noted), caller[0], len(self.noted)))
        self.noted.append((key, now, now + seconds, status))

    def answer(self, caller, number):
        status = self.noted[number][3]
        body = b"%.6f %s" % (time.monotonic(), PADDING) if status == 200 else b"none"
        with contextlib.suppress(OSError):  # the caller is gone
            caller.send(b"HTTP/1.1 %d .\r\ncontent-length: %d\r\n\r\n%s"
                        % (status, len(body), body))


# --- Ways to read a key ---------------------------------------------------------------------------

CACHE, ORIGIN, SLEEP = range(3)  # where a way's next step goes


def load(key):
    """The value from the origin, None or a Failure: what an application computes."""
    return (yield ORIGIN, b"GET /%s HTTP/1.1\r\nhost: origin\r\n\r\n" % key.encode())


def plain(key, ttl_ms):
    """The server sees to missing values."""
    return (yield CACHE, encoded("GET", key))


def aside(key, ttl_ms):
    """GET, and if that is nil, load and SET."""
    value = yield CACHE, encoded("GET", key)
    if value is None:
        value = yield from load(key)
        if isinstance(value, bytes):
            yield CACHE, encoded("SET", key, value, "PX", ttl_ms)
    return value


def locked(key, ttl_ms):
    """The same, but only who sets a lock loads, while the others look again and again."""
    until = time.monotonic() + GIVE_UP_SECONDS
    while True:
        value = yield CACHE, encoded("GET", key)
        if value is not None:
            return value
        lock = f"lock:{key}"
        if (yield CACHE, encoded("SET", lock, "me", "NX", "PX", LOCK_MS)) is not None:
            # Who had the lock before may have stored it since.
            value = yield from aside(key, ttl_ms)
            yield CACHE, encoded("DEL", lock)
            return value
        if time.monotonic() > until:
            return Failure("nobody stored a value in time")
        yield SLEEP, LOCK_POLL_SECONDS


def xfetch(key, ttl_ms):
    """The client refreshes by itself, iff now − Δ·β·ln(u) ≥ expiry, u in (0, 1] and β = 1: Δ and
    the expiry are stored with the value. A refresh that fails is no error: there is a value.
    """
    stored = yield CACHE, encoded("GET", key)
    value = None
    if stored is not None and not isinstance(stored, Failure):
        delta, expiry, value = stored.split(b" ", 2)
        u = 1.0 - random.random()
        if time.monotonic() - float(delta) * math.log(u) < float(expiry):
            return value
    began = time.monotonic()
    loaded = yield from load(key)
    if not isinstance(loaded, bytes):
        return value or loaded
    now = time.monotonic()
    stored = b"%.6f %.6f %s" % (now - began, now + ttl_ms / 1e3, loaded)
    yield CACHE, encoded("SET", key, stored, "PX", ttl_ms)
    return loaded


# --- The herd -------------------------------------------------------------------------------------


class Connection:
    def __init__(self, port, take, client):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.take = take
        self.client = client
        self.unread = b""


def take_reply(data):
    """The first reply in `data`, and what is behind it; None while it is not whole."""
    line, end, rest = data.partition(b"\r\n")
    if not end:
        return None
    kind = line[:1]
    if kind == b"$":
        size = int(line[1:])
        if size < 0:
            return None, rest
        return (rest[:size], rest[size + 2:]) if len(rest) >= size + 2 else None
    return Failure(line.decode()) if kind == b"-" else line[1:], rest


def take_response(data):
    head, end, rest = data.partition(b"\r\n\r\n")
    size = int(head.rpartition(b": ")[2]) if end else 0
    if not end or len(rest) < size:
        return None
    status, body, rest = int(head[9:12]), rest[:size], rest[size:]
    if status == 200:
        return body, rest
    return (None if status == 404 else Failure(f"the origin says {status}")), rest


class Client:
    """One client of the server, which may ask the origin too; one read at a time."""

    def __init__(self, port, origin_port, asks_origin):
        self.cache = Connection(port, take_reply, self)
        self.origin = Connection(origin_port, take_response, self) if asks_origin else None
        self.way = None
        self.arrived = 0.0
        self.key = 0  # its number

    def connections(self):
        return [self.cache] if self.origin is None else [self.cache, self.origin]


class Herd:
    """Clients in a process of their own, who read what `arrivals` says: (seconds after the begin,
    number of the key), in order. A read that finds no idle client waits for one, and its latency
    is from its arrival. The client of the first arrival leaves after `leaves_after` seconds.
    """

    def __init__(self, port, origin_port, clients, way, keys, ttl_ms, arrivals, leaves_after=None):
        self.way, self.keys, self.ttl_ms, self.arrivals = way, keys, ttl_ms, arrivals
        self.leaves_after = leaves_after
        self.pipe, its_end = PROCESSES.Pipe()
        self.process = PROCESSES.Process(
            target=self.run, args=(its_end, port, origin_port, clients), daemon=True)
        self.process.start()

    def ready(self):
        return self.pipe.recv()

    def begin(self, at):
        self.pipe.send(at)

    def reads(self):
        """Arrays of when a read arrived, how long it took, when its value was made, its key and
        its end; then the process' own share of a core, and an array of how late it sent.
        """
        found = self.pipe.recv()
        self.process.join()
        return found

    def close(self):
        self.process.terminate()
        self.process.join()

    # What follows runs in the other process.

    def run(self, pipe, port, origin_port, clients):
        dies_with_its_parent()
        fine_timers()
        self.epoll = select.epoll()
        self.connections, self.timers, self.busy, self.idle_since = {}, [], 0, 0.0
        self.arrived, self.took, self.made, self.late = (array.array("d") for _ in range(4))
        self.key, self.end = array.array("l"), array.array("b")
        asks_origin = self.way is not plain
        self.idle = [Client(port, origin_port, asks_origin) for _ in range(clients)]
        for client in self.idle:
            for connection in client.connections():
                self.connections[connection.socket.fileno()] = connection
                self.epoll.register(connection.socket, select.EPOLLIN)
        pipe.send(True)
        began = pipe.recv()
        time.sleep(max(0.0, began - time.monotonic() - 0.002))
        wall, cpu = time.monotonic(), time.process_time()
        self.drive(began)
        share = (time.process_time() - cpu) / max(1e-9, time.monotonic() - wall)
        pipe.send((self.arrived, self.took, self.made, self.key, self.end, share, self.late))

    def drive(self, began):
        """Until all arrivals have been served, or DRAIN_SECONDS behind the last."""
        next_one, count = 0, len(self.arrivals)
        until = began + (self.arrivals[-1][0] if count else 0) + DRAIN_SECONDS
        while (next_one < count or self.busy) and time.monotonic() < until:
            now = time.monotonic()
            while next_one < count and self.idle and began + self.arrivals[next_one][0] <= now:
                self.arrive(began + self.arrivals[next_one][0], self.arrivals[next_one][1])
                next_one += 1
            while self.timers and self.timers[0][0] <= now:
                client, is_leaving = heapq.heappop(self.timers)[2:]
                self.leave(client) if is_leaving else self.step(client, None)
            due = self.timers[0][0] if self.timers else until
            if next_one < count and self.idle:
                due = min(due, began + self.arrivals[next_one][0])
            # `select`, as Python rounds epoll's timeout up to a millisecond.
            select.select([self.epoll], [], [], max(0.0, due - time.monotonic()))
            for descriptor, _ in self.epoll.poll(0):
                self.read(descriptor)

    def arrive(self, at, key):
        client = self.idle.pop()
        client.arrived, client.key = at, key
        client.way = self.way(self.keys[key], self.ttl_ms)
        self.late.append(time.monotonic() - max(at, self.idle_since))
        self.busy += 1
        if self.leaves_after is not None and len(self.late) == 1:
            self.later(self.leaves_after, client, True)
        self.step(client, None)

    def later(self, seconds, client, is_leaving):
        due = time.monotonic() + seconds
        heapq.heappush(self.timers, (due, id(client), client, is_leaving))

    def leave(self, client):
        if client.way is None:
            return
        for connection in client.connections():
            self.epoll.unregister(connection.socket)
            connection.socket.close()
        client.way.close()
        self.busy -= 1

    def read(self, descriptor):
        connection = self.connections[descriptor]
        if connection.socket.fileno() < 0:
            return
        data = connection.socket.recv(PIECE_BYTES)
        if not data:
            raise SystemExit("a server closed a connection")
        taken = connection.take(connection.unread + data)
        if taken is None:
            connection.unread += data
            return
        reply, connection.unread = taken
        self.step(connection.client, reply)

    def step(self, client, reply):
        try:
            where, what = client.way.send(reply)
        except StopIteration as ended:
            self.note(client, ended.value)
            return
        if where == SLEEP:
            self.later(what, client, False)
        else:
            (client.cache if where == CACHE else client.origin).socket.send(what)

    def note(self, client, value):
        is_value = isinstance(value, bytes)
        self.arrived.append(client.arrived)
        self.took.append(time.monotonic() - client.arrived)
        self.made.append(float(value.split(b" ", 1)[0]) if is_value else 0.0)
        self.key.append(client.key)
        self.end.append(OK if is_value else NOTHING if value is None else FAILED)
        client.way = None
        if not self.idle:
            self.idle_since = time.monotonic()
        self.idle.append(client)
        self.busy -= 1
