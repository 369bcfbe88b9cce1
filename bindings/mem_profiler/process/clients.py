"""Who drives a program that listens: clients of its own, or some from outside?

Model: /proc/PID/net/tcp lists the sockets of the program's network, /proc/PID/fd those that it
holds. A connection to a port on which a process of the run listens is from outside, unless a
process of the run has its other end. A short one is seen as well: the side that closed first keeps
it for a minute.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

LOOK_S = 0.5
COST_SHARE = 0.05  # of the time, where there are many sockets
_LISTENING = "0A"
_TABLES = ("tcp", "tcp6")


@dataclass
class Clients:
    """What was seen of the clients of a run's processes."""

    outside: bool = False
    inside: bool = False
    _due_s: float = 0.0

    @property
    def only_outside(self) -> bool:
        """Whether clients connected, and none of them belongs to the run."""
        return self.outside and not self.inside

    def look(self, pids: Collection[int]) -> None:
        """Look at the living processes of the run, twice a second at most."""
        began_s = time.monotonic()
        if began_s < self._due_s or self.inside:
            return
        self._look(pids)
        now_s = time.monotonic()
        self._due_s = now_s + max(LOOK_S, (now_s - began_s) / COST_SHARE)

    def _look(self, pids: Collection[int]) -> None:
        own = {inode for pid in pids for inode in _sockets(pid)}
        sockets = [row for pid in list(pids)[:1] for row in _table(pid)] if own else []
        ports = {
            local for local, _, state, inode in sockets if state == _LISTENING and inode in own
        }
        for local, remote, state, inode in sockets if ports else ():
            if state == _LISTENING:
                continue
            self.inside = self.inside or (remote in ports and inode in own)
            self.outside = self.outside or local in ports or remote in ports


def _sockets(pid: int) -> Iterator[str]:
    """Yield the inodes of the sockets that a process holds."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                kind, _, inode = os.readlink(f"{folder}/{name}").partition(":")
                if kind == "socket":
                    yield inode.strip("[]")


def _table(pid: int) -> Iterator[tuple[str, str, str, str]]:
    """Yield local port, remote port, state and inode of the sockets in a process's network."""
    for name in _TABLES:
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{pid}/net/{name}", encoding="ascii") as file,
        ):
            next(file, None)
            for line in file:
                words = line.split()
                if len(words) > 9:
                    yield (
                        words[1].rpartition(":")[2],
                        words[2].rpartition(":")[2],
                        words[3],
                        words[9],
                    )
