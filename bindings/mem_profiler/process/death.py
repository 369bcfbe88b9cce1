"""Watch for a process's end, and learn how it ended where the kernel tells.

Model: a pidfd becomes readable when the process ends, and cannot be confused by a reused pid. How
it ended is known from the pidfd itself once the process has been waited for (Linux 6.15), before
that from the last field of /proc/PID/stat where we may read it, or never.
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
# How long the parent may take to wait for its child before we stop asking how it ended.
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
    """One process being watched. Does not keep it from being waited for by its parent."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.pidfd_open(pid)

    def ended(self, timeout_s: float = 0.0) -> bool:
        """Whether the process has ended; waits for that at most `timeout_s`."""
        if self._fd < 0:
            if not procfs.is_gone(self.pid):
                time.sleep(timeout_s)
            return procfs.is_gone(self.pid)
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def send(self, number: int) -> None:
        """Send a signal, if the process is still there. Never waits for it, unlike subprocess."""
        with contextlib.suppress(OSError):
            if self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)
            else:
                os.kill(self.pid, number)

    def _wait_status(self) -> int | None:
        buffer = bytearray(PIDFD_INFO_BYTES)
        struct.pack_into("=Q", buffer, 0, PIDFD_INFO_EXIT)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, PIDFD_GET_INFO, buffer)
            if struct.unpack_from("=Q", buffer, 0)[0] & PIDFD_INFO_EXIT:
                return int(struct.unpack_from("=i", buffer, PIDFD_INFO_EXIT_CODE_AT)[0])
        return procfs.exit_code(self.pid)

    def how(self) -> str:
        """How the ended process ended: "exited", "signal N NAME", or "target ended"."""
        give_up = time.monotonic() + REAP_WAIT_S
        while True:
            wait_status = self._wait_status()
            if wait_status is not None:
                return describe(wait_status)
            if time.monotonic() >= give_up:
                return "target ended"
            time.sleep(0.01)

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
