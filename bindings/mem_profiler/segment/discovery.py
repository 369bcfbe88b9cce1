"""Find the segment of a running process through its mappings.

Model: a process maps the segment it writes to, so /proc/PID/maps names it. We open the mapped file
itself (/proc/PID/map_files, or under /proc/PID/root, where the path means what it means to the
process), and accept it only if it is a regular file with the device and inode of the mapping, its
owner is the process's user, and its header has the process's own pid and start time. A fork child
that is not followed maps its parent's segment and fails that last test.

The file under that name may be anything: for another user's process a child opens it first
(`foreign`), since open() itself may block forever.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mem_parser.errors import (
    MemError,
    NoSampler,
    PermissionDenied,
    ProcessGone,
    TargetBusy,
    TargetError,
    TargetUnsupported,
)
from mem_profiler.process import foreign, mounts, procfs, program, tracing
from mem_profiler.process.procfs import Mapping
from mem_profiler.segment import bound
from mem_profiler.segment.file import Control, Segment
from mem_profiler.segment.folders import FILE, FOLDER, RUN_FOLDER
from mem_sandbox import child

_DELETED = " (deleted)"


class ForkedChild(NoSampler):
    """It maps its parent's segment. Whether it waits for its first sample is not seen from here."""


class SegmentRemoved(TargetBusy):
    """The sampler is in it, with a segment that has no name any more, which we may not open."""


def segment_mappings(mappings: Iterable[Mapping]) -> list[Mapping]:
    """The mappings with names of segments, each file once."""
    found: dict[tuple[tuple[int, int], int], Mapping] = {}
    for mapping in mappings:
        path = mapping.path.removesuffix(_DELETED)
        folder, name = os.path.split(path)
        if FILE.fullmatch(name) and FOLDER.fullmatch(os.path.basename(folder)):
            found.setdefault((mapping.device, mapping.inode), mapping)
    return list(found.values())


def _open_mapped(pid: int, mapping: Mapping, *, writable: bool) -> Segment:
    """Open a mapped segment. Raises OSError, MemError."""
    if not mapping.permissions.startswith("rw") or not mapping.permissions.endswith("s"):
        # Such a mapping needs write permission: never write to a file that the process could not.
        raise NoSampler(f"pid {pid} maps {mapping.path}, but not as a sampler maps its segment")
    path = mapping.path.removesuffix(_DELETED)
    try:
        fd = foreign.open_mapped(pid, mapping, os.O_RDWR if writable else os.O_RDONLY)
    except (PermissionError, FileNotFoundError):
        if path == mapping.path:
            raise
        raise SegmentRemoved(
            f"the segment of pid {pid} was removed from its folder while in use",
            hint=f"mem_profiler detach {pid} takes the sampler out, then captures work again",
        ) from None
    segment = Segment(fd, path, writable=writable)
    try:
        facts = procfs.status(pid)
        if facts is None:
            raise ProcessGone(f"pid {pid} has ended")
        if os.fstat(segment.fd).st_uid not in (*facts.uids, 0):
            raise PermissionDenied(f"the segment of pid {pid} belongs to another user")
    except BaseException:
        segment.close()
        raise
    return segment


def _named_for_another(pid: int, mapping: Mapping) -> bool:
    """Whether the file's name is that of another process's segment: a parent's, after fork."""
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

    Raises ProcessGone, PermissionDenied, NoSampler, TargetUnsupported, with advice.
    """
    if not procfs.stat_fields(pid):
        raise ProcessGone(f"there is no process {pid}")
    if procfs.is_gone(pid):
        raise ProcessGone(f"pid {pid} has ended", hint=f"mem_profiler recover {pid}")
    try:
        mappings = procfs.maps(pid)
    except PermissionError:
        raise tracing.denied(pid) from None
    inherited = False
    trouble: MemError | None = None
    for mapping in segment_mappings(mappings):
        if _named_for_another(pid, mapping):
            inherited = True
            continue
        try:
            segment = _open_mapped(pid, mapping, writable=writable)
        except PermissionError:
            raise tracing.denied(pid) from None
        except OSError as error:
            trouble = NoSampler(f"cannot open the segment of pid {pid}: {error.strerror}")
            continue
        except MemError as error:
            trouble = error
            continue
        if _belongs(segment.control(), pid):
            segment.reserve_max_bytes = bound.of_process(pid)
            return segment
        segment.close()
        inherited = True
    if trouble is not None:
        raise trouble
    raise _without(pid, inherited)


def _without(pid: int, inherited: bool) -> MemError:
    name = procfs.program_name(pid) or "?"
    if inherited:
        return ForkedChild(
            f"pid {pid} ({name}) is a forked child that has sampled nothing yet,"
            " or is not followed",
            hint=f"mem_profiler -s 60 -p {pid} attaches to it; with MEM_PROFILER_FOLLOW_FORK=1"
            " children have a capture from their first sample on",
        )
    exe = procfs.exe(pid)
    if exe is None:
        facts = procfs.status(pid)
        if facts is not None and facts.sizes.get("VmSize"):
            return tracing.denied(pid)
        return NoSampler(f"pid {pid} ({name}) has no program file, so it cannot have a sampler")
    reason = _unsupported(pid)
    if reason is None and procfs.is_secure_exec(pid):
        reason = "runs set-uid or with capabilities, where preloading is off"
    if reason is not None:
        return TargetUnsupported(f"pid {pid} ({exe}) {reason}", hint=program.CURES.get(reason))
    return NoSampler(
        f"The sampler is not loaded in pid {pid} ({name}).",
        hint=f"mem_profiler start {pid} loads it and starts a capture",
    )


def _unsupported(pid: int) -> str | None:
    """Why the program cannot load the sampler; None if it can, or its file is unreadable."""
    with contextlib.suppress(MemError):
        told = child.call(
            lambda _: program.unsupported(f"/proc/{pid}/exe"), f"pid {pid}", foreign.LIMIT_S
        )
        return None if told is None else str(told)
    return None


def scan() -> dict[int, list[Mapping]]:
    """The segments that each visible process maps, by pid. Reads the maps of every process."""
    found = {}
    for pid in procfs.pids():
        with contextlib.suppress(PermissionError):
            if segments := _segments_of(pid):
                found[pid] = segments
    return found


def running(
    scanned: dict[int, list[Mapping]] | None = None, removed: list[SegmentRemoved] | None = None
) -> Iterator[tuple[int, Segment]]:
    """Every visible process, or every one of a `scan`, with its own segment, which is open for
    reading; ``removed`` gets the errors of those whose own has no name any more.
    """
    for pid, mappings in (scan() if scanned is None else scanned).items():
        for mapping in mappings:
            try:
                segment = _open_mapped(pid, mapping, writable=False)
            except SegmentRemoved as error:
                if removed is not None and not _named_for_another(pid, mapping):
                    removed.append(error)
                continue
            except (OSError, MemError):
                continue
            if _belongs(segment.control(), pid):
                yield pid, segment
                break
            segment.close()


def mapped(scanned: dict[int, list[Mapping]]) -> dict[tuple[int, int], tuple[int, Mapping]]:
    """(device, inode) of the segments of a `scan` -> a pid that maps it, and how."""
    return {
        (os.makedev(*one.device), one.inode): (pid, one)
        for pid, mappings in scanned.items()
        for one in mappings
    }


def bases_of(mappings: Iterable[Mapping]) -> list[Path]:
    """Where the folders of mapped segments are, as far as we see these places too. A target chose
    the path: none leads to a file system that somebody else serves, and could keep us waiting.
    """
    ours = mounts.points()
    found: dict[Path, None] = {}
    for mapping in mappings:
        base = Path(mapping.path).parent.parent
        base = base.parent if RUN_FOLDER.fullmatch(base.name) else base
        points = ours.get(f"{mapping.device[0]}:{mapping.device[1]}".encode(), [])
        if any(base.is_relative_to(point) for point in points):
            found[base] = None
    return list(found)


def _segments_of(pid: int) -> list[Mapping]:
    """The segments that a process maps; of its other mappings, thousands in some, no line is
    parsed. Raises PermissionError.
    """
    lines = procfs.raw_maps(pid).split(b"\n")
    named = b"\n".join(line for line in lines if b"/mem_profiler." in line)
    return segment_mappings(procfs.parse_maps(named))


def name_and_close(segment: Segment) -> str:
    """The process name in a segment; closes the segment."""
    with segment:
        return segment.control().program_name


def the_only_process() -> int:
    """The pid of the only process with a sampler.

    Raises NoSampler, or TargetError when there are several.
    """
    candidates = [(pid, name_and_close(segment)) for pid, segment in running()]
    if not candidates:
        raise NoSampler(
            "No running process has the sampler.",
            hint="pass a process with -p PID, or start one: mem_profiler run -- PROG ARGS",
        )
    if len(candidates) > 1:
        names = ", ".join(f"{pid} ({name})" for pid, name in candidates[:20])
        raise TargetError(
            f"{len(candidates)} processes have the sampler: {names}",
            hint="choose one with -p PID, or take them all with --all",
        )
    return candidates[0][0]
