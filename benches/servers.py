"""What the benchmarks share: servers on free ports, their CPU time, and ways to speak to them.

Linux only (/proc), Python's standard library only.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

CHUNK = 2_000  # commands per write when loading
RELAY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "relay.py")


class Server:
    """One server process on a free port, ended by `close`.

    `--port N` is added to the command, unless it names its `port` in a way of its own.
    """

    def __init__(self, name, command, directory, port=None):
        self.name = name
        self.port = port or free_port()
        if port is None:
            command = [*command, "--port", str(self.port)]
        self.log = os.path.join(directory, f"{name}-{self.port}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        deadline = time.monotonic() + 10
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    raise SystemExit(f"{name} did not start: {shlex.join(command)}\n{log.read()}")
            time.sleep(0.05)

    def answers(self):
        with contextlib.suppress(OSError), self.connect() as connection:
            connection.sendall(encoded("PING"))
            return connection.recv(64).startswith(b"+PONG")
        return False

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def cpu_seconds(self):
        """User and kernel time of all live threads, to the nanosecond."""
        total = 0
        base = f"/proc/{self.process.pid}/task"
        for task in os.listdir(base):
            # A thread may end between the listing and the read.
            with contextlib.suppress(OSError), open(f"{base}/{task}/schedstat", "rb") as file:
                total += int(file.read().split()[0])
        return total / 1e9

    def status_bytes(self, field):
        """`VmRSS` or `VmHWM` (the peak) of /proc/PID/status."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise SystemExit(f"no {field} in /proc/PID/status")

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def set_commands(count, key_format, value, suffix=b""):
    """`SET key value [suffix]` for the numbers below `count`, CHUNK encoded commands at a time.

    `suffix` is already encoded and holds two arguments, or is empty.
    """
    arguments = b"*%d\r\n" % (5 if suffix else 3)
    head = arguments + b"$3\r\nSET\r\n$%d\r\n" % len(key_format % 0)
    tail = b"\r\n$%d\r\n%s\r\n" % (len(value), value) + suffix
    template = head + key_format + tail
    for start in range(0, count, CHUNK):
        numbers = range(start, min(start + CHUNK, count))
        yield len(numbers), b"".join([template % number for number in numbers])


def load(server, chunks):
    """Sends the chunks, one ahead of the replies; an error reply ends the run."""
    with server.connect() as connection:
        unread = 0
        for count, data in chunks:
            connection.sendall(data)
            read_ok(connection, unread)
            unread = count
        read_ok(connection, unread)


def read_ok(connection, count):
    left = count * len(b"+OK\r\n")
    while left > 0:
        data = connection.recv(min(left, 1 << 16))
        if not data:
            raise SystemExit("the server closed the connection while it was being filled")
        if b"-" in data:
            raise SystemExit(f"the server refused a SET: {data[:200]!r}")
        left -= len(data)


def request(server, line):
    """One inline command whose reply is one line."""
    with server.connect() as connection:
        connection.sendall(line + b"\r\n")
        return connection.makefile("rb").readline().rstrip()


def encoded(*arguments):
    """A command as its bytes; arguments are text or bytes."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def ask(server, *arguments):
    """The reply of one command over a connection of its own: text, a number, a list or None."""
    with server.connect() as connection, connection.makefile("rb") as replies:
        connection.sendall(encoded(*arguments))
        return read_reply(server, replies)


def read_reply(server, replies):
    line = replies.readline().decode().rstrip("\r\n")
    kind, rest = line[:1], line[1:]
    if kind == "+":
        return rest
    if kind == ":":
        return int(rest)
    if kind == "*":
        return [read_reply(server, replies) for _ in range(int(rest))]
    if kind == "$":
        size = int(rest)
        return None if size < 0 else replies.read(size + 2)[:-2].decode()
    raise SystemExit(f"{server.name} answered {line!r}")


def fields(text):
    """The `name:value` lines of INFO and CORRAL.INFO."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def redis_benchmark(server, command, *, clients, pipeline, keys, size, requests):
    """Runs redis-benchmark once: what it says of the latencies, `rps`, and how many it sent.

    The row's names are those of its CSV: `rps`, `p50_latency_ms` … A server without CONFIG is
    warned of, and measured all the same.
    """
    # Whole pipelines for each client, or redis-benchmark sends more than it was asked for.
    step = clients * pipeline
    requests = max(step, requests // step * step)
    argv = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port), "-t", command,
            "-c", str(clients), "-r", str(keys), "-d", str(size), "-P", str(pipeline),
            "-n", str(requests), "--csv"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    complaints = done.stderr.decode(errors="replace").strip()
    complaints = complaints.replace("WARNING: Could not fetch server CONFIG", "").strip()
    if done.returncode != 0 or complaints:
        raise SystemExit(f"{shlex.join(argv)}:\n{complaints}"
                         f"{done.stdout.decode(errors='replace')}")
    # A heading and one row: "GET","123456.78",…
    names, values = (line.replace('"', "").split(",")
                     for line in done.stdout.decode().strip().splitlines()[-2:])
    row = dict(zip(names[1:], map(float, values[1:])))
    return row, requests


class Stage:
    """Starts servers that belong together; `stage` ends them.

    Of `args` it reads `server_cmd`, `front_flags` and `redis_cmd`.
    """

    def __init__(self, args, directory, stack):
        self.args = args
        self.directory = directory
        self.stack = stack

    def start(self, name, command, port=None):
        server = Server(name, command, self.directory, port)
        self.stack.callback(server.close)
        return server

    def redis(self):
        return self.start("redis", shlex.split(self.args.redis_cmd))

    def corral(self, name, *flags):
        return self.start(name, [*shlex.split(self.args.server_cmd), *flags])

    def front(self, name, upstream, *flags):
        """Ready when it knows what changes upstream, unless it keeps no copies."""
        server = self.corral(name, "--upstream", f"redis://127.0.0.1:{upstream.port}", *flags,
                             *shlex.split(self.args.front_flags))
        deadline = time.monotonic() + 10
        while "no" not in flags and near(server)["coherent"] != "1":
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} does not become coherent")
            time.sleep(0.02)
        return server

    def twemproxy(self, upstream):
        port = free_port()
        path = os.path.join(self.directory, f"nutcracker-{port}.yml")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"bench:\n  listen: 127.0.0.1:{port}\n  redis: true\n"
                       f"  servers:\n   - 127.0.0.1:{upstream.port}:1\n")
        return self.start("twemproxy", ["nutcracker", "-c", path, "-a", "127.0.0.1",
                                        "-s", str(free_port())], port)

    def relay(self, upstream, delay_ms):
        port = free_port()
        return self.start("relay", [sys.executable, RELAY,
                                    "--port", str(port), "--to", str(upstream.port),
                                    "--delay-ms", str(delay_ms)], port)


@contextlib.contextmanager
def stage(args, directory):
    with contextlib.ExitStack() as stack:
        yield Stage(args, directory, stack)


def near(server):
    return fields(ask(server, "CORRAL.INFO", "near"))
