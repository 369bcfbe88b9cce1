"""The memory of another process, through /proc/PID/mem: no stop, no ptrace."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Self

PART_BYTES = 1 << 20


class Memory:
    """An open /proc/PID/mem. Use as a context manager.

    A hostile process can make an access wait for ever: use it in a `child`.
    """

    def __init__(self, pid: int, *, writable: bool = False) -> None:
        """Open the file for reading, or for writing too. Raises OSError."""
        self.pid = pid
        self._fd = os.open(f"/proc/{pid}/mem", (os.O_RDWR if writable else 0) | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes at `address`. Raises OSError where not all are mapped."""
        parts = []
        while size > 0:
            part = os.pread(self._fd, min(size, PART_BYTES), address)
            if not part:
                raise OSError(errno.EIO, "the process has ended")
            parts.append(part)
            address += len(part)
            size -= len(part)
        return b"".join(parts)

    def try_read(self, address: int, size: int) -> bytes | None:
        """As `read`; None where that fails."""
        with contextlib.suppress(OSError, OverflowError, ValueError):
            return self.read(address, size)
        return None

    def write(self, address: int, data: bytes) -> None:
        """Write all of `data`. Raises OSError."""
        while data:
            n = os.pwrite(self._fd, data[:PART_BYTES], address)
            if n == 0:  # the address space is gone
                raise OSError(errno.EIO, "the process has ended")
            address += n
            data = data[n:]
