"""A folder to which only its user can write, used by descriptor.

Later runs trust the contents of a cache: names, addresses of functions, the facts of files. So we
use the folder only if it is ours and closed to others, and its parent folder too, in which another
user could otherwise replace it. We open it once per use, and reach files through that descriptor:
the checked folder is the one in use.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mem_parser.errors import one_line
from mem_parser.plainfile import PlainFile

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
problems: list[str] = []
"""Why folders are not used, each said once; commands print it."""


class OwnFolder:
    """The folder at ``path``. `opened` gives its descriptor, or None where it is not safe."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def opened(self, *, make: bool = False) -> Iterator[int | None]:
        """Open the folder during the context; ``make`` it where it is missing."""
        try:
            descriptor = self._open(make=make)
        except OSError:
            descriptor = None
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _open(self, *, make: bool) -> int | None:
        if make and not os.path.lexists(self.path):
            self._make()
        descriptor = os.open(self.path, _OPEN)
        why = _why_not_ours(descriptor)
        if why is None:
            return descriptor
        os.close(descriptor)
        self._say(why)
        return None

    def _make(self) -> None:
        """Make the folder and the missing ones above it; nothing in another user's folder."""
        there = next(p for p in self.path.parents if os.path.lexists(p))
        status = os.stat(there)
        if _is_foreign(status) and not _is_shared(status):
            self._say(f"{there} belongs to another user")
            return
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _say(self, why: str) -> None:
        text = f"mem_parser does not use the cache {one_line(str(self.path))}: {one_line(why)}"
        if text not in problems:
            problems.append(text)


def _why_not_ours(descriptor: int) -> str | None:
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & _OTHERS_WRITE:
        return "others can write to it"
    above = os.stat("..", dir_fd=descriptor)
    if _is_foreign(above):
        return "its parent folder belongs to another user"
    if above.st_mode & stat.S_IWOTH and not _is_shared(above):
        return "others can write to its parent folder"
    return None


def _is_foreign(status: os.stat_result) -> bool:
    return status.st_uid not in (os.geteuid(), 0)


def _is_shared(status: os.stat_result) -> bool:
    """Tell whether users can change only their own files there, as in /tmp."""
    return bool(status.st_mode & stat.S_ISVTX)


def read_own(folder: int, name: str, most_bytes: int) -> bytes | None:
    """Return the bytes of our own regular file in an open folder; None for anything else. Raises
    OSError.
    """
    with PlainFile(name, dir_fd=folder) as file:
        if file.status.st_uid != os.geteuid() or file.size_bytes > most_bytes:
            return None
        return file.read(0, file.size_bytes)


def write_new(folder: int, name: str) -> int:
    """Open a new file in an open folder for writing; returns its descriptor. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=folder)
