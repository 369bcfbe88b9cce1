"""Many connections to a server from one process that never finishes a request of its own.

crowd.py PORT KIND: half (a request that is half sent), silent, page (asks for a page and reads
nothing), again (half, and each that is closed is opened anew). Says "ready" when all are open, and
ends with its standard input, after two minutes at the latest.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import sys
import time

MANY = 1050
MOST_AGAIN = 20_000
END_S = 120.0
CONNECT_S = 30.0
HALF = b"GET / HTTP/1.1\r\nHost: local"
BEGINNINGS = {
    "half": HALF,
    "silent": b"",
    "page": b"GET /p/1 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3,
    "again": HALF,
}


def opened(port: int, beginning: bytes) -> socket.socket | None:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.settimeout(CONNECT_S)
    try:
        one.connect(("127.0.0.1", port))
        one.sendall(beginning)
    except OSError:
        one.close()
        return None
    return one


def main() -> None:
    port, kind = int(sys.argv[1]), sys.argv[2]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held = [opened(port, BEGINNINGS[kind]) for _ in range(MANY)]
    print("ready", flush=True)
    left, give_up, watch = MOST_AGAIN, time.monotonic() + END_S, select.epoll()
    watch.register(sys.stdin, select.EPOLLIN)
    known = {}
    for one in filter(None, held):
        with contextlib.suppress(OSError):
            watch.register(one, select.EPOLLRDHUP)
            known[one.fileno()] = one
    while time.monotonic() < give_up:
        for fd, _ in watch.poll(1.0):
            if fd == sys.stdin.fileno():
                return
            known.pop(fd).close()
            fresh = opened(port, BEGINNINGS[kind]) if kind == "again" and left > 0 else None
            left -= 1
            if fresh is not None:
                watch.register(fresh, select.EPOLLRDHUP)
                known[fresh.fileno()] = fresh


if __name__ == "__main__":
    main()
