"""Open and read files whose names are untrusted: regular ones only, without ever waiting.

A name may refer to a FIFO (whose open waits for a writer), to a device (whose open alone may do
something), or change to one of these at any moment. So we first open the name with O_PATH (which
calls no driver and never waits), check what it is, and then open the very same file through its
descriptor.

We read such a file and never map it: if another process cuts it meanwhile, a read gives fewer
bytes, where a mapping would give a signal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Self

_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
    stat.S_IFLNK: "is a link",
}
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system
_MOST_AT_ONCE = 1 << 30


class NotPlainError(OSError):
    """The name is not that of a regular file; `strerror` says what it is ("is a pipe")."""


def open_plain(
    path: str | bytes | Path,
    flags: int = os.O_RDONLY,
    *,
    dir_fd: int | None = None,
    follow: bool = True,
    identity: tuple[int, int] | None = None,
) -> int:
    """Open a regular file that exists already; returns its descriptor, which the caller closes.

    `follow` False: refuses a link at the end of the path. `identity` (st_dev, st_ino): refuses any
    other file. Raises NotPlainError, OSError.
    """
    path_flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    place = os.open(path, path_flags, dir_fd=dir_fd)
    try:
        status = os.fstat(place)
        if not stat.S_ISREG(status.st_mode):
            what = _KINDS.get(stat.S_IFMT(status.st_mode), "is no regular file")
            raise NotPlainError(errno.EINVAL, what, os.fsdecode(path))
        if identity is not None and (status.st_dev, status.st_ino) != identity:
            raise NotPlainError(errno.ESTALE, "is now another file", os.fsdecode(path))
        plain = flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return os.open(f"/proc/self/fd/{place}", plain)
    finally:
        os.close(place)


def stored_bytes(*paths: str) -> int:
    """Return the stored bytes of files; a file without a readable status counts as 0."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            total += stored_size(os.stat(path))
    return total


def stored_size(status: os.stat_result) -> int:
    """Return the stored bytes of the file with that status: a sparse one can claim any size."""
    return min(status.st_size, status.st_blocks * _BLOCK_BYTES)


def read_plain(path: str | bytes | Path, most_bytes: int) -> bytes:
    """Return the first bytes of a regular file. Raises NotPlainError, OSError."""
    with PlainFile(path) as file:
        return file.read(0, min(most_bytes, file.size_bytes))


class Readable(Protocol):
    """A source of bytes by offset."""

    size_bytes: int
    stored_bytes: int
    """How much of it is really there: a sparse file says any size."""

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return the bytes from ``offset`` on; fewer, or none, at the end."""
        ...


class HeldBytes:
    """Bytes in memory, as a `Readable`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = self.stored_bytes = len(data)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """As `Readable.read`."""
        return self._data[offset : offset + max(size_bytes, 0)] if offset >= 0 else b""


class PlainFile:
    """An open regular file, read by offset. Closes at the end of a context or of its life."""

    def __init__(self, path: str | bytes | Path, *, dir_fd: int | None = None) -> None:
        """Open it; follows no link below ``dir_fd``. Raises NotPlainError, OSError."""
        self._fd = -1
        self._fd = open_plain(path, dir_fd=dir_fd, follow=dir_fd is None)
        self._read_status()

    @classmethod
    def of_descriptor(cls, fd: int) -> Self:
        """Return the open file ``fd``, which stays the caller's. Raises OSError.

        It needs no right to the file but that descriptor.
        """
        self = cls.__new__(cls)
        self._fd = os.dup(fd)
        self._read_status()
        return self

    def _read_status(self) -> None:
        self.status = os.fstat(self._fd)
        self.size_bytes = self.status.st_size
        self.stored_bytes = stored_size(self.status)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def read(self, offset: int, size_bytes: int) -> bytes:
        """As `Readable.read`. Raises OSError."""
        left = min(size_bytes, self.size_bytes - offset)
        parts: list[bytes] = []
        while left > 0 and offset >= 0:
            part = os.pread(self._fd, min(left, _MOST_AT_ONCE), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close it; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.close()
