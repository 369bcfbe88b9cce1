"""Folders as another process sees them: never open for reading, with links kept inside its root.

Model: a path means something else under the root of another process, and a link there may point
anywhere. So we walk it name by name from that root with O_PATH, as the kernel would for the
process: we read a link's text and walk it from the process's root, not from ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator

LINKS_MAX = 40  # as the kernel
PARTS_MAX = 1000
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def folder(pid: int | None, path: str) -> Iterator[int]:
    """A descriptor (O_PATH) of the folder `path` of a process; None: ours. Raises OSError."""
    root = "/" if pid is None else f"/proc/{pid}/root"
    way = [os.open(root, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)]
    try:
        if pid is None and not path.startswith("/"):
            path = os.path.join(os.getcwd(), path)
        _walk(way, path)
        yield way[-1]
    finally:
        for fd in way:
            os.close(fd)


def _walk(way: list[int], path: str) -> None:
    """Append the folders of `path` to `way`, which begins with the root."""
    parts = deque(path.split("/"))
    links = steps = 0
    while parts:
        part = parts.popleft()
        steps += 1
        if steps > PARTS_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        if part in ("", "."):
            continue
        if part == "..":
            if len(way) > 1:
                os.close(way.pop())
            continue
        text = _enter(way, part)
        if text is None:
            continue
        links += 1
        if links > LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if text.startswith("/"):
            while len(way) > 1:
                os.close(way.pop())
        parts.extendleft(reversed(text.split("/")))


def _enter(way: list[int], part: str) -> str | None:
    """Enter a folder; for a link, return its text."""
    fd = os.open(part, _LOOK, dir_fd=way[-1])
    kind = os.fstat(fd).st_mode
    if stat.S_ISDIR(kind):
        way.append(fd)
        return None
    try:
        if stat.S_ISLNK(kind):
            return os.readlink("", dir_fd=fd)
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), part)
    finally:
        os.close(fd)
