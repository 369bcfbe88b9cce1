"""A process that forks others on request, started before this one has threads or secrets.

Model: a server has threads, and knows things that a child which reads hostile data must not have in
its memory. So it makes a `Forkserver` first of all: a process that waits, and forks a child for
each order. The child has the descriptors of the order and no other, and none of what the server
learned since; it ends with the forkserver, and that with the server. A pidfd stands for it: the
forkserver, not the server, is its parent.

The forkserver reads what the server sends, and nothing else.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import select
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Self

from mem_parser.errors import MemError
from mem_sandbox.child import let_go_of_all_but, unexpected
from mem_sandbox.syscalls import die_with_parent

ORDER_MAX_BYTES = 64 << 10
FDS_MAX = 8
END_S = 2.0

Work = Callable[[Any, Sequence[int]], None]
"""Gets what the order gives it, and its descriptors. It gives up rights first of all."""


class Started:
    """A child of a forkserver."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def close(self) -> None:
        """End it, if it still runs. A second call does nothing."""
        if self._pidfd >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1


class Forkserver:
    """The process that forks. Use as a context manager: nothing of it outlives that."""

    def __init__(self, works: Mapping[str, Work]) -> None:
        """Start it. ``works`` are what its children may do, by name. Raises MemError."""
        self._lock = threading.Lock()
        parent = os.getpid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            raise MemError(f"cannot start a child process: {error.strerror}") from None
        if self._pid == 0:
            _wait_for_orders(parent, theirs, works)
        theirs.close()
        self._orders = ours

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def start(self, work: str, given: Any, fds: Sequence[int]) -> Started:
        """Let a child do ``work``, with copies of ``fds``. Raises MemError."""
        order = pickle.dumps((work, given))
        if len(order) > ORDER_MAX_BYTES:
            raise MemError("an order for a child process is too long")
        with self._lock:
            try:
                socket.send_fds(self._orders, [order], fds)
                told, born, _, _ = socket.recv_fds(self._orders, 1024, 1)
            except OSError as error:
                raise MemError(f"cannot start a child process: {error.strerror}") from None
        if not born:
            why = told.decode(errors="replace") or "the process that starts them has ended"
            raise MemError(f"cannot start a child process: {why}")
        return Started(born[0])

    def close(self) -> None:
        """End it, and all its children. A second call does nothing."""
        pid, self._pid = self._pid, 0
        if not pid:
            return
        self._orders.close()
        with contextlib.suppress(OSError):
            end = os.pidfd_open(pid)
            select.select([end], [], [], END_S)
            os.close(end)
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _wait_for_orders(parent: int, orders: socket.socket, works: Mapping[str, Work]) -> NoReturn:
    """Fork children until the server closes its end."""
    try:
        die_with_parent(parent)
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # the server gets them, and closes its end
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        gc.freeze()  # pages that no collection touches stay shared with the children
        let_go_of_all_but((orders.fileno(),))
        while True:
            order, fds, _, _ = socket.recv_fds(orders, ORDER_MAX_BYTES, FDS_MAX)
            if not order:
                break
            _obey(orders, order, fds, works)
            for fd in fds:
                os.close(fd)
    finally:
        os._exit(0)


def _obey(
    orders: socket.socket, order: bytes, fds: Sequence[int], works: Mapping[str, Work]
) -> None:
    mine = os.getpid()
    go, say_go = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if pid == 0:
            _work(mine, (go, say_go), order, fds, works)
        end = os.pidfd_open(pid)
        os.write(say_go, b"+")
        socket.send_fds(orders, [b"+"], [end])
        os.close(end)
    except OSError as error:
        orders.send(str(error.strerror).encode())
    finally:
        os.close(go)
        os.close(say_go)


def _work(
    parent: int, gate: tuple[int, int], order: bytes, fds: Sequence[int], works: Mapping[str, Work]
) -> NoReturn:
    try:
        go, say_go = gate
        os.close(say_go)
        # Nobody waits for it: before it has a descriptor, its number could become another's.
        if not os.read(go, 1):
            os._exit(0)
        die_with_parent(parent)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        let_go_of_all_but(fds)
        name, given = pickle.loads(order)  # noqa: S301 - from the server, which has more rights
        works[name](given, fds)
    except Exception as error:
        unexpected(error)
    finally:
        os._exit(0)
