"""Watch for a process's end, and learn how it ended where the kernel says so.

Model: a pidfd becomes readable when the process ends, and a reused pid cannot confuse it. The pidfd
itself tells how it ended once the parent has waited for the process (Linux 6.15); before that the
last field of /proc/PID/stat does, where we may read it; otherwise this stays unknown.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import time

from mem_profiler.process import procfs

PIDFD_INFO_EXIT = 1 << 3
PIDFD_INFO_BYTES = 64  # struct pidfd_info of its first version
PIDFD_INFO_EXIT_CODE_AT = 60
PIDFD_GET_INFO = (3 << 30) | (PIDFD_INFO_BYTES << 16) | (0xFF << 8) | 11
# How long we go on asking how the child ended while its parent has not waited for it.
REAP_WAIT_S = 0.2


def describe(wait_status: int) -> str:
    """A wait status in the words of the file's `end`: "exited" or "signal 9 SIGKILL"."""
    if not os.WIFSIGNALED(wait_status):
        return "exited"
    number = os.WTERMSIG(wait_status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"SIG{number}"
    return f"signal {number} {name}"


class Watch:
    """Watches one process. Its parent can still wait for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.pidfd_open(pid)

    def ended(self, timeout_s: float = 0.0) -> bool:
        """Whether the process has ended; waits at most `timeout_s` for that."""
        if self._fd < 0:
            if not procfs.is_gone(self.pid):
                time.sleep(timeout_s)
            return procfs.is_gone(self.pid)
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def has_input(self, fd: int, timeout_s: float | None) -> bool:
        """Whether a file has input; waits for that, for the end of the process, or so long."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if self._fd >= 0:
            poll.register(self._fd, select.POLLIN)
        elif timeout_s is None:
            timeout_s = REAP_WAIT_S
        found = poll.poll(None if timeout_s is None else timeout_s * 1000)
        return any(one == fd for one, _ in found)

    def send(self, number: int) -> None:
        """Send a signal, if the process still exists. Never reaps it, unlike subprocess."""
        with contextlib.suppress(OSError):
            if self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)
            else:
                os.kill(self.pid, number)

    def _wait_status(self) -> int | None:
        if self._fd < 0:  # it may have ended before the watch began
            return procfs.exit_code(self.pid)
        buffer = bytearray(PIDFD_INFO_BYTES)
        struct.pack_into("=Q", buffer, 0, PIDFD_INFO_EXIT)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, PIDFD_GET_INFO, buffer)
            if struct.unpack_from("=Q", buffer, 0)[0] & PIDFD_INFO_EXIT:
                return int(struct.unpack_from("=i", buffer, PIDFD_INFO_EXIT_CODE_AT)[0])
        return procfs.exit_code(self.pid)

    def how_now(self) -> str:
        """How the ended process ended, if that is known by now; else empty."""
        status = self._wait_status()
        return "" if status is None else describe(status)

    def how(self) -> str:
        """How the ended process ended: "exited", "signal N NAME", or "target ended"."""
        give_up = time.monotonic() + REAP_WAIT_S
        while True:
            if known := self.how_now():
                return known
            if time.monotonic() >= give_up:
                return "target ended"
            time.sleep(0.01)

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
