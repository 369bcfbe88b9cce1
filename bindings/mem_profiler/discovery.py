"""Find segments: that of a running process through its mappings, those of dead ones by their files.

Model: a process maps the segment it writes to, so /proc/PID/maps names it. The file is opened
under /proc/PID/root, where the path means what it means to the process, and is believed only if
device and inode are those of the mapping, the owner is the process's user, and the header carries
the process's own pid and start time. A fork child that is not followed maps its parent's segment
and fails that last test.

A segment is dead when its process is gone or no longer maps it (exec starts a new one). Where the
process could be hidden from us in another pid namespace, the segment counts as alive.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mem_parser.errors import (
    MemError,
    NoSampler,
    PermissionDenied,
    ProcessGone,
    TargetError,
    TargetUnsupported,
)
from mem_profiler import device_choice, layout, procfs, program
from mem_profiler.procfs import Mapping
from mem_profiler.segment import Control, Segment

DEFAULT_DIR = "/dev/shm"  # noqa: S108 - its user folders are private and checked
FOLDER = re.compile(r"mem_profiler\.\d+")
FILE = re.compile(r"\d+-\d+-\d+")
# Base folder of one `mem_profiler run`: segments of a run are told from all others by lying in it.
RUN_FOLDER = "mem_profiler.run-"
LIBRARY_LINK = "libmem_sampler.so"
PLAN_FILE = "plan"  # of a run: how to see the allocator inside its program
# A process that has just started may have made its file and not yet mapped it.
SETTLE_S = 2.0


@dataclass
class Found:
    """A segment and what is known of its process. `pid` is as seen from here; None: not visible."""

    pid: int | None
    path: str
    control: Control
    alive: bool
    uid: int
    inode: int

    @property
    def captured(self) -> bool:
        """Whether any capture was started in it."""
        return self.control.number("capture_number") > 0

    @property
    def written(self) -> bool:
        """Whether its last capture is in a file, or there was none."""
        return self.control.number("written_capture") == self.control.number("capture_number")


def segment_mappings(mappings: Iterable[Mapping]) -> list[Mapping]:
    """The mappings that by their names are segments, each file once."""
    found: dict[tuple[tuple[int, int], int], Mapping] = {}
    for mapping in mappings:
        path = mapping.path.removesuffix(" (deleted)")
        folder, name = os.path.split(path)
        if FILE.fullmatch(name) and FOLDER.fullmatch(os.path.basename(folder)):
            found.setdefault((mapping.device, mapping.inode), mapping)
    return list(found.values())


def _same_file(pid: int, mapping: Mapping, status: os.stat_result) -> bool:
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    if status.st_ino != mapping.inode:
        return False
    if device == mapping.device:
        return True
    # Some file systems show another device in maps than to stat: ask for the mapped file itself.
    try:
        mapped = os.stat(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")
    except OSError:
        return False
    return (mapped.st_dev, mapped.st_ino) == (status.st_dev, status.st_ino)


def _open_mapped(pid: int, mapping: Mapping, *, writable: bool) -> Segment:
    """Open a mapped segment. Raises OSError, MemError."""
    if mapping.path.endswith(" (deleted)"):
        raise NoSampler(f"the segment of pid {pid} was removed while it was in use")
    segment = Segment.open(f"/proc/{pid}/root{mapping.path}", writable=writable)
    segment.path = mapping.path
    try:
        status = os.fstat(segment.fd)
        if not _same_file(pid, mapping, status):
            raise NoSampler(f"the file {mapping.path} is not the one that pid {pid} has mapped")
        facts = procfs.status(pid)
        if facts is None:
            raise ProcessGone(f"pid {pid} has ended")
        if status.st_uid not in (*facts.uids, 0):
            raise PermissionDenied(f"the segment of pid {pid} belongs to another user")
    except BaseException:
        segment.close()
        raise
    return segment


def _named_for_another(pid: int, mapping: Mapping) -> bool:
    """Whether the file's name says that it is another process's: that of a parent by fork."""
    facts = procfs.status(pid)
    return facts is not None and not os.path.basename(mapping.path).startswith(
        f"{facts.inner_pid}-"
    )


def _belongs(control: Control, pid: int) -> bool:
    facts = procfs.status(pid)
    ticks = control.number("start_ticks")
    return (
        facts is not None
        and control.number("pid") == facts.inner_pid
        and ticks in (0, procfs.start_ticks(pid))
    )


def open_process(pid: int, *, writable: bool = True) -> Segment:
    """The segment of a running process.

    Raises ProcessGone, PermissionDenied, NoSampler, TargetUnsupported with what can be done.
    """
    if not procfs.stat_fields(pid):
        raise ProcessGone(f"there is no process {pid}")
    if procfs.is_gone(pid):
        raise ProcessGone(f"pid {pid} has ended", hint=f"mem_profiler recover {pid}")
    try:
        mappings = procfs.maps(pid)
    except PermissionError:
        raise _denied(pid) from None
    inherited = False
    trouble: MemError | None = None
    for mapping in segment_mappings(mappings):
        if _named_for_another(pid, mapping):
            inherited = True
            continue
        try:
            segment = _open_mapped(pid, mapping, writable=writable)
        except PermissionError:
            raise _denied(pid) from None
        except OSError as error:
            trouble = NoSampler(f"cannot open the segment of pid {pid}: {error.strerror}")
            continue
        except MemError as error:
            trouble = error
            continue
        if _belongs(segment.control(), pid):
            return segment
        segment.close()
        inherited = True
    if trouble is not None:
        raise trouble
    raise _without(pid, inherited)


def _denied(pid: int) -> MemError:
    facts = procfs.status(pid)
    owner = f" of uid {facts.uids[0]}" if facts and facts.uids else ""
    return PermissionDenied(
        f"pid {pid} is a process{owner} that this user may not look into",
        hint="run mem_profiler as root or as that user",
    )


def _without(pid: int, inherited: bool) -> MemError:
    name = procfs.comm(pid) or "?"
    if inherited:
        return NoSampler(
            f"pid {pid} ({name}) is a forked child, and children are not followed",
            hint=f"mem_profiler attach {pid}, or start with MEM_PROFILER_FOLLOW_FORK=1",
        )
    exe = procfs.exe(pid)
    if exe is None:
        return NoSampler(f"pid {pid} ({name}) is no program that a sampler could be in")
    reason = program.unsupported(f"/proc/{pid}/exe")
    if reason is None and procfs.is_secure_exec(pid):
        reason = "runs set-uid or with capabilities, where preloading is off"
    if reason is not None:
        return TargetUnsupported(f"pid {pid} ({exe}) {reason}")
    return NoSampler(
        f"pid {pid} ({name}) runs without the sampler",
        hint=f"mem_profiler attach {pid} puts it in; mem_profiler run -- {exe} ... starts with it",
    )


def running() -> Iterator[tuple[int, Segment]]:
    """Every process here that has a segment of its own, opened to read; hidden ones left out."""
    for pid in procfs.pids():
        with contextlib.suppress(PermissionError):
            raw = procfs.raw_maps(pid)
            if b"/mem_profiler." not in raw:
                continue
            for mapping in segment_mappings(procfs.parse_maps(raw)):
                try:
                    segment = _open_mapped(pid, mapping, writable=False)
                except (OSError, MemError):
                    continue
                if _belongs(segment.control(), pid):
                    yield pid, segment
                    break
                segment.close()


def base_folders() -> list[Path]:
    """Where segments lie: $MEM_PROFILER_DIR or /dev/shm, and the folders of runs in it."""
    base = segment_dir()
    bases = [base]
    with contextlib.suppress(OSError):
        bases += [
            Path(entry.path)
            for entry in os.scandir(base)
            if entry.name.startswith(RUN_FOLDER) and entry.is_dir(follow_symlinks=False)
        ]
    return bases


def segment_dir() -> Path:
    """The folder in which samplers make their segments."""
    return Path(os.environ.get("MEM_PROFILER_DIR") or DEFAULT_DIR)


def files_in(base: Path) -> list[Path]:
    """Segment files in one base folder; folders that may not be read are left out."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        for folder in os.scandir(base):
            if not FOLDER.fullmatch(folder.name) or not folder.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                found += [Path(e.path) for e in os.scandir(folder) if FILE.fullmatch(e.name)]
    return sorted(found)


def _mapped_inodes() -> dict[tuple[int, int], int]:
    """(device, inode) of all mapped segments that can be seen -> a pid that maps it."""
    found: dict[tuple[int, int], int] = {}
    for pid in procfs.pids():
        with contextlib.suppress(PermissionError):
            raw = procfs.raw_maps(pid)
            if b"/mem_profiler." in raw:
                for mapping in segment_mappings(procfs.parse_maps(raw)):
                    found[(os.makedev(*mapping.device), mapping.inode)] = pid
    return found


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
    """Whether a process with that pid and start time exists; None where it could be hidden."""
    if control.number("pidns_inode") != procfs.pidns_inode():
        return None
    pid = control.number("pid")
    return not procfs.is_gone(pid) and control.number("start_ticks") in (0, procfs.start_ticks(pid))


def in_folders(bases: Iterable[Path] | None = None) -> list[Found]:
    """All segment files that may be read, dead and alive."""
    mapped = _mapped_inodes()
    found = []
    for base in bases if bases is not None else base_folders():
        for path in files_in(base):
            try:
                with Segment.open(path, writable=False) as segment:
                    status = os.fstat(segment.fd)
                    control = segment.control()
            except (OSError, MemError):
                continue
            user = mapped.get((status.st_dev, status.st_ino))
            alive = _is_alive(control, status, user is not None)
            found.append(Found(user, str(path), control, alive, status.st_uid, status.st_ino))
    return found


def remove(found: Found) -> bool:
    """Remove the file of a dead segment; whether it is gone."""
    path = Path(found.path)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode) or os.lstat(path).st_ino != found.inode:
            return False
        path.unlink()
    except OSError:
        return False
    return True


def remove_run_folder(base: Path) -> None:
    """Remove the base folder of a run, once nothing is left in it."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(base):
            with contextlib.suppress(OSError):
                if entry.is_symlink():
                    continue
                os.rmdir(entry.path)
        links = (LIBRARY_LINK, PLAN_FILE, *device_choice.COMPANIONS)
        if not set(os.listdir(base)).issubset(links):
            return
        for name in links:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(base / name)
        base.rmdir()


def sweep(every: Iterable[Found]) -> list[Found]:
    """Remove what dead processes left: never captured, or in a file already. Returns the rest."""
    return [found for found in every if found.alive or not found.written or not remove(found)]


def name_and_close(segment: Segment) -> str:
    """The process name in a segment, which is not needed any more."""
    with segment:
        return segment.control().text("comm")


def the_only_process() -> int:
    """The pid of the only process with a sampler.

    Raises NoSampler, or TargetError when there are several.
    """
    candidates = [(pid, name_and_close(segment)) for pid, segment in running()]
    if not candidates:
        raise NoSampler(
            "no process with a sampler was found",
            hint="mem_profiler run -- PROG ARGS starts one, -p PID attaches to one",
        )
    if len(candidates) > 1:
        names = ", ".join(f"{pid} ({name})" for pid, name in candidates[:20])
        raise TargetError(
            f"{len(candidates)} processes have a sampler: {names}",
            hint=f"choose one with -p {candidates[0][0]}, or take them all with --all",
        )
    return candidates[0][0]
