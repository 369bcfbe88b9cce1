"""The mark of a collection that is not complete yet: a file beside its log, while it is written.

Whoever writes the dumps holds a lock on it. It is removed with the last row, so a mark that nobody
holds says that its dumps end early, and what completes them.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
from typing import NamedTuple, Self

from mem_parser.errors import InputFileError, MemError
from mem_parser.memscope.form import Folders, folders_of_run
from mem_parser.memscope.settings import Settings, of_dict
from mem_parser.output_path import own_ids
from mem_parser.plainfile import open_plain
from mem_profiler.memscope.tree import EVENTS_FOLDER, MODE

SUFFIX = ".collecting"
_MOST_BYTES = 1 << 20
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Unfinished(NamedTuple):
    """The content of a mark: settings, file names, stem of the log, pid, path of the segment."""

    settings: Settings
    places: Folders
    stem: str
    pid: int
    segment: str


class Mark:
    """A mark that this process holds. Use as a context manager, or `release` it."""

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def make(cls, told: Unfinished) -> Self:
        """Make one. Raises OSError."""
        path = told.stem + SUFFIX
        fd = os.open(path, _FLAGS, MODE)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        told_of = {
            "settings": told.settings.as_dict(), "stamp": told.places.stamp,
            "pid": told.pid, "segment": told.segment,
        }  # fmt: skip
        os.pwrite(fd, json.dumps(told_of).encode(), 0)
        return cls(path, fd)

    @classmethod
    def take(cls, path: str) -> Self | None:
        """Hold one that nobody holds; None: somebody does. Raises OSError, also for a mark that is
        another user's: who says where dumps are must not choose what we write.
        """
        fd = open_plain(path, os.O_RDWR, follow=False)
        if os.fstat(fd).st_uid not in own_ids():
            os.close(fd)
            raise PermissionError(errno.EPERM, "is another user's, who can complete it", path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.lstat(path)):
                return cls(path, fd)
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(fd)
        return None

    def read(self) -> Unfinished:
        """Return its content. Raises InputFileError."""
        try:
            told = json.loads(os.pread(self._fd, _MOST_BYTES, 0))
            pid, stamp, segment = told["pid"], told["stamp"], told["segment"]
            settings = of_dict(told["settings"])
            if not (isinstance(pid, int) and isinstance(segment, str) and str(stamp).isdecimal()):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, RecursionError, MemError):
            text = f"{self._path}: it does not say what was collected"
            raise InputFileError(text) from None
        stem = self._path.removesuffix(SUFFIX)
        run = os.path.dirname(os.path.dirname(self._path))
        return Unfinished(settings, folders_of_run(run, str(stamp)), stem, pid, segment)

    def end(self) -> None:
        """The dumps are complete: remove it."""
        os.unlink(self._path)
        self.release()

    def release(self) -> None:
        """Let go of it, and leave it there; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.release()


def marks_in(output: str) -> list[str]:
    """Return the marks below the folder of an output."""
    pattern = os.path.join(
        glob.escape(os.path.abspath(output)), "msmemscope_*_ascend", EVENTS_FOLDER, f"*{SUFFIX}"
    )
    return sorted(glob.glob(pattern))
