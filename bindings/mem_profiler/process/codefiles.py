"""Files in which a process lists its JIT code: find and copy them inside its mount namespace.

Model: runtimes write perf-PID.map and jit-PID.dump into /tmp, a jitdump also into the folder they
were started in, and map that for perf to find it; PID is the process's own number for itself. The
process may have ended when its file is wanted, and with it /proc/PID/root, so we hold its root and
its folder open. A name leads to such a file only without links, and if it is a plain file of the
target's user that was written since the start: others can write to /tmp too, and numbers of
processes come again. The target chooses the file system, which may never answer: a child with a
deadline opens the files and copies them, and interprets nothing. Nobody changes a copy any more: it
is sealed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Self

from mem_parser.plainfile import open_plain
from mem_parser.symbols.jit_symbols import MOST_BYTES
from mem_profiler.process import procfs
from mem_sandbox import child

FILES_MAX = 8
LIMIT_S = 10.0
CLOCK_SLACK_S = 2.0  # between the clock of files and that of starts
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def _started_at(pid: int) -> float:
    """The time of day at which a process started; infinite when it is gone."""
    ticks = procfs.start_ticks(pid)
    if ticks is None:
        return float("inf")
    since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - since_boot_s


def is_copy(fd: int) -> bool:
    """Whether a descriptor is one of a copy: memory that nobody can change."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        return False


@dataclass(frozen=True)
class Kept:
    """Data for a process that takes over a `CodeFiles`, besides its descriptors."""

    pid: int
    inner_pid: int
    oldest: float
    has_root: bool
    has_folder: bool


class CodeFiles:
    """Where the files of one process are. `pid` is as seen from here, and runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        facts = procfs.status(pid)
        self._inner_pid = facts.inner_pid if facts is not None else pid
        self._oldest = _started_at(pid) - CLOCK_SLACK_S
        self._root = self._hold(f"/proc/{pid}/root")
        self._folder = self._hold(f"/proc/{pid}/cwd")

    @classmethod
    def taken_over(cls, kept: Kept, fds: Sequence[int]) -> Self:
        """Return the one that another process had; ``fds`` stay open as long as this process."""
        self = cls.__new__(cls)
        held = iter(fds)
        self._pid, self._inner_pid, self._oldest = kept.pid, kept.inner_pid, kept.oldest
        self._root = next(held) if kept.has_root else None
        self._folder = next(held) if kept.has_folder else None
        return self

    @property
    def kept(self) -> Kept:
        """Arguments of `taken_over`, besides `places`."""
        held = self._root is not None, self._folder is not None
        return Kept(self._pid, self._inner_pid, self._oldest, *held)

    @property
    def places(self) -> list[int]:
        """The descriptors that it holds."""
        return [fd for fd in (self._root, self._folder) if fd is not None]

    def _hold(self, path: str) -> int | None:
        try:
            fd = os.open(path, _FOLDER)
        except OSError:
            return None
        weakref.finalize(self, os.close, fd)
        return fd

    def copy(self, uid: int, paths: Iterable[str]) -> list[int]:
        """Descriptors of copies of the files that we may read, which the caller closes.

        `uid` is the target's user; `paths` are of files that it has mapped: a jitdump may be among
        them. Raises MemError where the child cannot do it, or not in time.
        """
        places = self.places
        if not places:
            return []
        names = self._names(paths)
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        copies = [os.memfd_create("mem_profiler", flags) for _ in range(FILES_MAX)]
        filled = 0
        try:
            told = child.call(
                lambda _: self._fill(copies, uid, names),
                f"pid {self._pid}",
                LIMIT_S,
                keep=(*places, *copies),
            )
            filled = told if isinstance(told, int) and 0 <= told <= FILES_MAX else 0
            for fd in copies[:filled]:
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        finally:
            for fd in copies[filled:]:
                os.close(fd)
        return copies[:filled]

    def _names(self, paths: Iterable[str]) -> list[tuple[int | None, str]]:
        """Where the files may be: below which folder, under which name."""
        dump = f"jit-{self._inner_pid}.dump"
        names = [(self._root, f"tmp/perf-{self._inner_pid}.map"), (self._root, f"tmp/{dump}")]
        names.append((self._folder, dump))
        return names + [(self._root, path) for path in paths if path.endswith(f"/{dump}")]

    def _fill(self, copies: list[int], uid: int, names: list[tuple[int | None, str]]) -> int:
        """Copy the files, how many of which the result says. In the child."""
        found: set[tuple[int, int]] = set()
        left_bytes = MOST_BYTES
        for place, name in names:
            if place is None or len(found) == len(copies) or not left_bytes:
                continue
            with contextlib.suppress(OSError), _open_below(place, name) as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                ours = status.st_uid == uid and status.st_nlink == 1
                if ours and status.st_mtime >= self._oldest and identity not in found:
                    with open(copies[len(found)], "wb", closefd=False) as copy:
                        left_bytes = _copy(file, copy, left_bytes)
                    found.add(identity)
        return len(found)


def _copy(source: BinaryIO, to: BinaryIO, left_bytes: int) -> int:
    """Copy at most so many bytes; returns the rest of the allowance."""
    while left_bytes > 0 and (part := source.read(min(left_bytes, 1 << 20))):
        to.write(part)
        left_bytes -= len(part)
    return left_bytes


def _open_below(place: int, name: str) -> BinaryIO:
    """Open a plain file below a folder, through no link. Raises OSError."""
    *folders, last = [part for part in name.split("/") if part]
    with contextlib.ExitStack() as held:
        for folder in folders:
            place = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=place)
            held.callback(os.close, place)
        return open(open_plain(last, dir_fd=place, follow=False), "rb")
