"""Open files whose names somebody else chose: regular ones only, without ever waiting.

A name may lead to a FIFO (whose open waits for a writer), to a device (whose open alone may do
something), or to one of these from one moment to the next. So what is opened first is the place
(O_PATH, which calls no driver and waits for nobody), that is looked at, and the very same file is
then opened through its descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
    stat.S_IFLNK: "is a link",
}


class NotPlainError(OSError):
    """What the name leads to is no regular file; `strerror` says what it is ("is a pipe")."""


def open_plain(
    path: str | bytes | Path,
    flags: int = os.O_RDONLY,
    *,
    dir_fd: int | None = None,
    follow: bool = True,
    identity: tuple[int, int] | None = None,
) -> int:
    """Open a regular file that exists already; returns its descriptor, which the caller closes.

    `follow` False: a link at the end of the path is refused. `identity` (st_dev, st_ino): any other
    file is refused. Raises NotPlainError, OSError.
    """
    look = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    place = os.open(path, look, dir_fd=dir_fd)
    try:
        status = os.fstat(place)
        if not stat.S_ISREG(status.st_mode):
            what = _KINDS.get(stat.S_IFMT(status.st_mode), "is no regular file")
            raise NotPlainError(errno.EINVAL, what, os.fsdecode(path))
        if identity is not None and (status.st_dev, status.st_ino) != identity:
            raise NotPlainError(errno.ESTALE, "is another file by now", os.fsdecode(path))
        plain = flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return os.open(f"/proc/self/fd/{place}", plain)
    finally:
        os.close(place)
