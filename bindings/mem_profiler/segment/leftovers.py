"""Segments as files: find those of dead processes, and remove them.

Model: a segment outlives its process. It is dead when its process is gone or no longer maps it
(exec starts a new one). If another pid namespace could hide the process from us, the segment counts
as alive. Another user can make any number of files, so every search has a bound and keeps the
latest.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mem_parser.errors import MemError, ProcessGone
from mem_profiler.process import byname, procfs
from mem_profiler.process.procfs import Mapping
from mem_profiler.segment import discovery, folders, layout
from mem_profiler.segment.file import Control, Segment
from mem_profiler.segment.folders import UserFolder

Mapped = Callable[[], dict[tuple[int, int], tuple[int, Mapping]]]
Scan = Callable[[], dict[int, list[Mapping]]]
# A process that has just started may have made its file and not yet mapped it.
SETTLE_S = 2.0
FILES_MAX = 2000  # of one user that one search opens


@dataclass
class Found:
    """A segment and known facts of its process. `pid` is as seen from here; None: not visible.

    `uid` is the user whose private folder has it, `root` the folder that was searched, if it is
    not that of all segments.
    """

    pid: int | None
    path: str
    control: Control
    alive: bool
    uid: int
    inode: int
    held_bytes: int
    root: Path | None = None

    @property
    def captured(self) -> bool:
        """Whether any capture was started in it."""
        return self.control.latest_capture > 0

    @property
    def written(self) -> bool:
        """Whether its last capture has been saved, or it had no capture."""
        return self.control.number("written_capture") == self.control.number("capture_number")

    @property
    def left_by_living(self) -> bool:
        """Whether it is that of a process which goes on without it, after a detach or an exec."""
        return not self.alive and _process_there(self.control) is True


def _is_alive(control: Control, status: os.stat_result, mapped: bool) -> bool:
    if control.number("state") == layout.STATE_EXITED or mapped:
        return mapped
    if time.time() - status.st_mtime < SETTLE_S and control.number("capture_number") == 0:
        return _process_there(control) is not False
    if control.number("pidns_inode") != procfs.pidns_inode():
        return not procfs.sees_all_processes()
    pid = control.number("pid")
    if _process_there(control) is False:
        return False
    try:
        return not procfs.raw_maps(pid) and not procfs.is_gone(pid)
    except PermissionError:
        return True


def _process_there(control: Control) -> bool | None:
    """Whether a process with that pid and start time exists; None if it could be hidden."""
    if control.number("pidns_inode") != procfs.pidns_inode():
        return None
    pid = control.number("pid")
    return not procfs.is_gone(pid) and control.number("start_ticks") in (0, procfs.start_ticks(pid))


def below(root: Path, scan: Scan = discovery.scan) -> list[Found]:
    """Readable segment files below a folder, dead and alive."""
    return _in_places(folders.below(root), None, _mapped(scan), root)


def _mapped(scan: Scan) -> Mapped:
    return functools.cache(lambda: discovery.mapped(scan()))


def in_folders(
    places: Iterable[UserFolder] | None = None,
    most: int | None = FILES_MAX,
    scan: Scan = discovery.scan,
    *,
    ours: bool = False,
) -> list[Found]:
    """Readable segment files, dead and alive: the latest of each folder, `most` of each user.

    Without ``places``: in the folder that the user named, else in the usual one and in those of the
    processes that run, which services have of their own. ``ours``: no other process looks there.
    """
    mapped = _mapped(scan)
    if places is not None:
        return _in_places(places, most, mapped, ours=ours)
    found = _in_places(folders.everywhere(), most, mapped)
    if folders.is_named():
        return found
    usual = folders.segment_dir()
    for base in discovery.bases_of(mapping for _, mapping in mapped().values()):
        if base != usual:
            found += _in_places(folders.everywhere(base), most, mapped, base)
    return found


def _in_places(
    places: Iterable[UserFolder],
    most: int | None,
    mapped: Mapped,
    root: Path | None = None,
    *,
    ours: bool = False,
) -> list[Found]:
    found = []
    opened_of: dict[int, int] = {}
    for folder in places:
        left = None if most is None else most - opened_of.get(folder.uid, 0)
        names = folder.files()[:left]
        opened_of[folder.uid] = opened_of.get(folder.uid, 0) + len(names)
        for name in names:
            with contextlib.suppress(OSError, MemError):
                found.append(_examined(folder, name, mapped, root, ours=ours))
    return found


def _examined(
    folder: UserFolder, name: str, mapped: Mapped, root: Path | None, *, ours: bool
) -> Found:
    path = str(folder.path / name)
    with Segment.open_in(folder, name, writable=False) as segment:
        status = os.fstat(segment.fd)
        control = segment.control()
        in_use = not ours or _may_be_in_use(segment.fd)
    user, _ = mapped().get((status.st_dev, status.st_ino), (None, None)) if in_use else (None, None)
    alive = _is_alive(control, status, user is not None)
    held_bytes = status.st_blocks * 512
    return Found(user, path, control, alive, folder.uid, status.st_ino, held_bytes, root)


def _may_be_in_use(fd: int) -> bool:
    """Whether another process may have the file open or mapped: the kernel gives no lease then.
    Meanwhile others wait to open it, so only for `ours`.
    """
    with contextlib.suppress(OSError):  # another user's file, a file system without leases
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # does nothing; SIGIO would end us
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    return True


def count_beyond(most: int = FILES_MAX) -> int:
    """Number of segment files that `in_folders` does not open."""
    counts: dict[int, int] = {}
    for folder in folders.everywhere():
        counts[folder.uid] = counts.get(folder.uid, 0) + len(folder.files())
    return sum(max(0, count - most) for count in counts.values())


@contextlib.contextmanager
def folder_of(found: Found) -> Iterator[UserFolder]:
    """The private folder of a segment, open. Raises OSError if it is gone."""
    path = Path(found.path).parent
    if found.root is not None:
        with folders.again(found.root, path, found.uid) as folder:
            yield folder
        return
    for folder in folders.everywhere():
        if folder.path == path and folder.uid == found.uid:
            yield folder
            return
    raise FileNotFoundError(2, "its folder is gone", found.path)


def opened(found: Found, *, writable: bool) -> Segment:
    """Open the segment of a `Found`. Raises OSError, MemError."""
    with folder_of(found) as folder:
        return Segment.open_in(folder, Path(found.path).name, writable=writable)


def is_named(found: Found, segment: Segment) -> bool:
    """Whether the open file still has the name of `found`. Raises OSError if its folder is gone."""
    with folder_of(found) as folder, contextlib.suppress(FileNotFoundError):
        there = os.stat(Path(found.path).name, dir_fd=folder.fd, follow_symlinks=False)
        return os.path.samestat(there, os.fstat(segment.fd))
    return False


def remove(found: Found) -> bool:
    """Remove the file of a dead segment. Returns whether it is gone."""
    with contextlib.suppress(OSError), folder_of(found) as folder:
        return folder.remove(Path(found.path).name, found.inode)
    return False


def remove_all(unwanted: Iterable[Found]) -> list[Found]:
    """Remove the files of dead segments. Returns those that are gone."""
    wanted: dict[tuple[str, int], list[Found]] = {}
    gone: list[Found] = []
    for found in unwanted:
        if found.root is not None:
            gone += [found] if remove(found) else []
            continue
        wanted.setdefault((os.path.dirname(found.path), found.uid), []).append(found)
    for folder in folders.everywhere():
        here = wanted.pop((str(folder.path), folder.uid), [])
        gone += [one for one in here if folder.remove(Path(one.path).name, one.inode)]
    return gone


def gone(pid: int) -> ProcessGone:
    """The error for who asks for a process that is not there. Its hint, where a segment is left:
    where the program runs now, and how to save the profile.
    """
    here, parts = procfs.pidns_inode(), []
    mine = [one.control for one in in_folders() if not one.alive]
    mine = [c for c in mine if (c.number("pid"), c.number("pidns_inode")) == (pid, here)]
    if mine:
        latest = max(mine, key=lambda control: control.number("start_ticks"))
        name = latest.program_name
        parts = [f"{name} runs as pid {one.pid} now" for one in byname.find(name)[:1]]
        if latest.number("written_capture") != latest.number("capture_number"):
            parts.append(f"mem_profiler recover {pid} saves its profile")
    return ProcessGone(f"there is no process {pid}", hint="; ".join(parts) or None)


def sweep(every: Iterable[Found]) -> list[Found]:
    """Remove dead segments without a capture or already in a file. Returns the rest."""
    every = list(every)
    unwanted = [found for found in every if not found.alive and found.written]
    gone = {id(found) for found in remove_all(unwanted)}
    return [found for found in every if id(found) not in gone]
