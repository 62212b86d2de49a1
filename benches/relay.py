#!/usr/bin/env python3
"""A TCP relay that delays what passes, and does not narrow it: a server far away, on this machine.

    benches/relay.py --port PORT --to PORT [--delay-ms 0.5]

Each piece is passed on `--delay-ms` after it was read, in either direction; any number may be on
their way, so that only latency is added. Connections are made at once, without the delay. One
thread: as the delay is the same for all, what was read first is due first, and one queue is enough.
`select` and not `epoll`, as Python rounds epoll's timeout up to a millisecond; the timer's slack,
50 µs in Linux, is lowered for the same reason.
"""

import argparse
import collections
import contextlib
import select
import signal
import socket
import sys
import time

PIECE_BYTES = 1 << 16
WAITING_BYTES_MAX = 64 << 20  # of one direction, beyond which its sender is not read
SOCKETS_MAX = 1000  # select's own limit is 1024 descriptors
TIMER_SLACK_NS = 1_000


class End:
    """One of the two sockets of a relayed connection."""

    def __init__(self, connection):
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.other = None
        self.is_read = True  # its sender may send more
        self.is_ended = False  # it was told that no more comes
        self.is_closed = False
        self.waiting_bytes = 0  # for this end: on their way, and in `unsent`
        self.unsent = collections.deque()  # due, but the socket was full

    def fileno(self):
        return self.connection.fileno()

    def accepts_more(self):
        return self.is_read and self.other.waiting_bytes < WAITING_BYTES_MAX


class Relay:
    def __init__(self, port, to, delay):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.to = to
        self.delay = delay
        self.ends = set()
        self.on_the_way = collections.deque()  # (when due, to whom, what); b"" ends the direction

    def run(self):
        while True:
            self.deliver(time.monotonic())
            readers = [end for end in self.ends if end.accepts_more()]
            if len(self.ends) < SOCKETS_MAX:
                readers.append(self.listener)
            writers = [end for end in self.ends if end.unsent]
            timeout = None
            if self.on_the_way:
                timeout = max(0.0, self.on_the_way[0][0] - time.monotonic())
            readable, writable, _ = select.select(readers, writers, [], timeout)
            for end in writable:
                self.send(end)
            for reader in readable:
                if reader is self.listener:
                    self.accept()
                elif not reader.is_closed:
                    self.read(reader)

    def accept(self):
        near, _ = self.listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self.to), timeout=5)
        except OSError:
            near.close()
            return
        one, two = End(near), End(far)
        one.other, two.other = two, one
        self.ends |= {one, two}

    def read(self, end):
        try:
            data = end.connection.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close(end)
            return
        end.is_read = bool(data)
        end.other.waiting_bytes += len(data)
        self.on_the_way.append((time.monotonic() + self.delay, end.other, data))

    def deliver(self, now):
        while self.on_the_way and self.on_the_way[0][0] <= now:
            _, end, data = self.on_the_way.popleft()
            if not end.is_closed:
                end.unsent.append(data)
                self.send(end)

    def send(self, end):
        try:
            while end.unsent and not end.is_closed:
                data = end.unsent[0]
                if not data:
                    end.unsent.popleft()
                    end.connection.shutdown(socket.SHUT_WR)
                    end.is_ended = True
                    if end.other.is_ended:
                        self.close(end)
                    return
                sent = end.connection.send(data)
                end.waiting_bytes -= sent
                if sent < len(data):
                    end.unsent[0] = data[sent:]
                    return
                end.unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            self.close(end)

    def close(self, end):
        for one in (end, end.other):
            one.is_closed = True
            one.unsent.clear()
            one.connection.close()
            self.ends.discard(one)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", type=int, required=True, metavar="PORT")
    parser.add_argument("--delay-ms", type=float, default=0.5, help="in each direction")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(OSError), open("/proc/self/timerslack_ns", "w") as slack:
        slack.write(str(TIMER_SLACK_NS))
    Relay(args.port, args.to, args.delay_ms / 1e3).run()


if __name__ == "__main__":
    main()
