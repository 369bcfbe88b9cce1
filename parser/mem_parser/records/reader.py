"""Read a file and give out its records, under the names that memray has for them.

A `.heap` file has counts for each call stack. What needs the order of single allocations is in a
log of events: the file may be one, or one may be beside it, `out-0.memlog` beside `out.heap`.
Asking for it where there is no log is an error which says so (`NotInFile`).
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, NoReturn, Self

import numpy as np

from mem_parser.errors import MemError
from mem_parser.memlog.part import is_log
from mem_parser.model import BoolArray, Count, Profile, Unit
from mem_parser.readers import read_profile
from mem_parser.records.kinds import AllocatorType, FileFormat
from mem_parser.records.logrecords import LogRecords, files_of_log, log_beside
from mem_parser.records.making import Maker
from mem_parser.records.record import MERGED, AllocationRecord
from mem_parser.tracked import Tracked

SNAPSHOTS_MAX = 10_000
SNAPSHOT_MS = 10
"""Readings that memray gives are at least so far apart."""
EXACT_EVENTS_MAX = 4_000_000
WRITER_S = 60.0
"""So long a reader waits for the file of a process that has ended."""


class NotInFile(NotImplementedError):
    """Something was asked for that a file of counts does not have."""


class MemorySnapshot(NamedTuple):
    """A reading: milliseconds since 1970, resident bytes, bytes of live blocks."""

    time: int
    rss: int
    heap: int


@dataclass
class Metadata:
    """The circumstances of a capture. Numbers of allocations are estimates, rounded."""

    start_time: datetime
    end_time: datetime
    total_allocations: int
    total_frames: int
    peak_memory: int
    command_line: str
    pid: int
    main_thread_id: int
    python_allocator: str
    has_native_traces: bool
    trace_python_allocators: bool
    file_format: FileFormat


def _apart(snapshots: Iterable[MemorySnapshot]) -> Iterator[MemorySnapshot]:
    """Yield the readings that are `SNAPSHOT_MS` or more behind the one before."""
    before = -SNAPSHOT_MS
    for snapshot in snapshots:
        if snapshot.time - before >= SNAPSHOT_MS:
            yield snapshot
            before = snapshot.time


def _is_unfinished(profile: Profile) -> bool:
    """Whether a file has what its capture had so far, and the process that was captured ended."""
    c = profile.capture
    return c.end == "running" and c.tracked is not None and not _runs(c.pid or 0)


def _runs(pid: int, ticks: int | None = None) -> bool:
    """Whether a process runs; with ``ticks``, one that was started then, by the clock of proc(5)'s
    field 22.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") and (ticks is None or int(fields[19]) == ticks)


def _finished(path: str, profile: Profile) -> Profile:
    """Return the profile of a file once its writer, which outlives what it captures, has written
    all. Raises MemError.
    """
    assert profile.capture.tracked is not None
    until_s = time.monotonic() + WRITER_S
    while _runs(*profile.capture.tracked.writer) and time.monotonic() < until_s:
        time.sleep(0.01)
    found = read_profile(path)
    if found.capture.end == "running":
        text = f"{path} has what its capture had after {found.capture.duration_s or 0:.3g} s: its "
        text += "process has ended, and the one that was to write the rest has not written it"
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    return found


class FileReader:
    """The records of one file. Use as a context manager, or `close` it.

    Args:
        file_name: A `.heap` file, a log of events, or a profile of another format that `mem_parser`
            reads.
        report_progress: Taken for the sake of scripts; reading is quick.
        max_memory_records: How many readings `get_memory_snapshots` gives at most.

    Raises:
        OSError: where the file cannot be read or understood.
    """

    def __init__(
        self,
        file_name: str | os.PathLike[str],
        *,
        report_progress: bool = False,  # noqa: ARG002 - see above
        max_memory_records: int = SNAPSHOTS_MAX,
    ) -> None:
        self._path = os.fspath(file_name)
        self._log: LogRecords | None = None
        try:
            if is_log(self._path):
                self._log = LogRecords(files_of_log(self._path))
            self._profile: Profile = (
                read_profile(self._path) if self._log is None else self._log.profile
            )
            if self._log is None and _is_unfinished(self._profile):
                self._profile = _finished(self._path, self._profile)
        except MemError as error:
            raise OSError(str(error)) from None
        self._maker = Maker(self._profile)
        self._stacks = self._maker.stacks
        self._most = max(1, max_memory_records)
        self._closed = False

    # -- records --------------------------------------------------------------------------------

    def get_high_watermark_allocation_records(
        self, merge_threads: bool = True
    ) -> Iterator[AllocationRecord]:
        """Yield what was in use at the peak.

        Raises NotInFile where the file has no peak; for ``merge_threads=False``, where it is no log
        of a whole capture.
        """
        if not merge_threads:
            log = self._records_of_log()
            found = None if log is None else log.live(at_peak=True)
            if found is not None:
                return found
            self._lacks("which thread allocated what was in use at the peak", "merge_threads=True")
        if not self._open().has(Count.PEAK):
            self._lacks("what was in use at the peak", "get_leaked_allocation_records()")
        return self._exact(at_peak=True) or self._merged(Count.PEAK)

    def _exact(
        self, *, at_peak: bool, merge_threads: bool = True
    ) -> Iterator[AllocationRecord] | None:
        """Return what was in use at the last of the highest moments, or at the end, by a log that
        has every event and is read in seconds; the counts are of a moment up to 1/1024 lower, and
        have no mappings.
        """
        if self._profile.rate_bytes > 1 or self._events_of(Count.ALLOC) > EXACT_EVENTS_MAX:
            return None
        log = self._opened_log()
        if log is None or not (at_peak or log.mapped):
            return None
        return log.live(at_peak=at_peak, merge_threads=merge_threads)

    def get_leaked_allocation_records(
        self, merge_threads: bool = True
    ) -> Iterator[AllocationRecord]:
        """Yield what was allocated in the capture and not freed at its end."""
        profile = self._open()
        exact = self._exact(at_peak=False, merge_threads=merge_threads)
        if exact is not None or merge_threads:
            return exact or self._merged(Count.INUSE)
        if profile.thread_blocks is not None:
            return self._by_thread()
        log = self._records_of_log()
        found = None if log is None else log.live(at_peak=False)
        if found is None:
            self._lacks("which thread allocated what", "merge_threads=True")
        return found

    @property
    def has_total(self) -> bool:
        """Whether the file has what was freed, too. (memray has no such property.)"""
        return self._open().has_alloc

    def get_total_allocation_records(self) -> Iterator[AllocationRecord]:
        """Yield all that was allocated, freed or not. (memray has no such method.)"""
        if not self._open().has_alloc:
            self._lacks("what was freed", "get_leaked_allocation_records()")
        return self._merged(Count.ALLOC)

    def get_allocation_records(self) -> Iterator[AllocationRecord]:
        """Yield each allocation and each free, in order: all of them at a rate of 1, else those
        that were sampled. A free has the size 0, and no stack. Raises NotInFile without a log.
        """
        log = self._records_of_log()
        if log is None:
            self._lacks(
                "the single allocations",
                "get_total_allocation_records()",
                "Can't get all allocations from a pre-aggregated capture file",
            )
        return log.single()

    def get_temporary_allocation_records(
        self, merge_threads: bool = True, threshold: int = 1
    ) -> Iterator[AllocationRecord]:
        """Yield what its thread freed with at most so many other allocations in between.

        Raises NotInFile without a log, ValueError for a threshold that is too large.
        """
        log = self._records_of_log()
        if log is None:
            self._lacks(
                "the order of allocations and frees",
                "get_total_allocation_records()",
                "Can't find temporary allocations using a pre-aggregated capture file",
            )
        try:
            return log.temporary(threshold, merge_threads=merge_threads)
        except MemError as error:
            raise ValueError(str(error)) from None

    def get_temporal_allocation_records(
        self,
        merge_threads: bool = True,  # noqa: ARG002
    ) -> NoReturn:
        """Raise NotInFile: intervals are not computed."""
        self._lacks("records of intervals", "get_allocation_records() and get_memory_snapshots()")

    def get_temporal_high_water_mark_allocation_records(
        self,
        merge_threads: bool = True,  # noqa: ARG002
    ) -> NoReturn:
        """Raise NotInFile: the file has one peak, that of the whole capture."""
        self._lacks("peaks of parts of it", "get_high_watermark_allocation_records()")

    def get_tracked_objects(self, filter_objs: object = None) -> NoReturn:  # noqa: ARG002
        """Raise NotInFile: objects are not tracked."""
        self._lacks("Python objects", "get_leaked_allocation_records()")

    def _lacks(self, what: str, instead: str, memrays: str = "") -> NoReturn:
        """Raise NotInFile, first with the words of memray's error, which scripts look for."""
        self._open()
        text = f"{self._path} does not have {what}; it has {instead}"
        raise NotInFile(f"{memrays}: {text}" if memrays else text)

    def _records_of_log(self) -> LogRecords | None:
        """The records of the capture's log; None: there is none."""
        log = self._opened_log()
        if log is not None and log.missing:
            warnings.warn(f"{self._path}: {log.missing}", RuntimeWarning, stacklevel=3)
        return log

    def _opened_log(self) -> LogRecords | None:
        self._open()
        if self._log is None:
            paths = log_beside(self._path, self._profile)
            self._log = LogRecords(paths, self._profile.capture.tracked) if paths else None
        return self._log

    def _merged(self, count: Count) -> Iterator[AllocationRecord]:
        profile = self._profile
        size, _, _ = profile.weigh(count, Unit.SPACE)
        blocks, _, samples = profile.weigh(count, Unit.OBJECTS)
        chosen = np.flatnonzero((samples > 0) & self._of_program())
        tid = np.full(len(chosen), MERGED)
        return self._maker.records(tid, profile.sites.stack[chosen], size[chosen], blocks[chosen])

    def _by_thread(self) -> Iterator[AllocationRecord]:
        """Yield what is in use, of each thread: its share of the sampled blocks of each site."""
        profile, held = self._profile, self._profile.thread_blocks
        assert held is not None
        sites = profile.sites
        size, _, _ = profile.weigh(Count.INUSE, Unit.SPACE)
        blocks, _, _ = profile.weigh(Count.INUSE, Unit.OBJECTS)
        size_share = held.bytes / np.maximum(sites.inuse_bytes[held.site], 1)
        block_share = held.blocks / np.maximum(sites.inuse_blocks[held.site], 1)
        kept = self._of_program()[held.site] & (held.blocks > 0)
        tids = {thread.row: thread.tid for thread in profile.threads}
        tid = np.array([tids.get(row, 0) for row in held.row.tolist()], dtype=np.int64)
        return self._maker.records(
            tid[kept],
            sites.stack[held.site][kept],
            (size[held.site] * size_share)[kept],
            (blocks[held.site] * block_share)[kept],
        )

    def count_by_size(self, count: Count) -> dict[int, int]:
        """Return how many blocks there are of each size, rounded."""
        profile = self._open()
        size, _, _ = profile.weigh(count, Unit.SPACE)
        blocks, _, samples = profile.weigh(count, Unit.OBJECTS)
        chosen = (samples > 0) & self._of_program()
        each = np.rint(size[chosen] / blocks[chosen]).astype(np.int64)
        sizes, group = np.unique(each, return_inverse=True)
        counts = np.bincount(np.asarray(group).reshape(-1), blocks[chosen], minlength=len(sizes))
        return dict(zip(sizes.tolist(), np.rint(counts).astype(np.int64).tolist(), strict=True))

    def _of_program(self) -> BoolArray:
        """Which sites are the program's: not those of the tracker in it."""
        return ~np.asarray(self._maker.own[self._profile.sites.stack], dtype=np.bool_)

    @property
    def tracked(self) -> Tracked | None:
        """What the program said of itself; None: nothing. (memray has no such property.)"""
        return self._open().capture.tracked

    # -- the whole ------------------------------------------------------------------------------

    @property
    def metadata(self) -> Metadata:
        """The circumstances of the capture."""
        profile = self._open()
        c = profile.capture
        start = c.started if c.started is not None else (profile.file_time_s or 0.0)
        python, told = profile.python, c.tracked or Tracked()
        count = Count.ALLOC if profile.has_alloc else Count.INUSE
        in_use = profile.total(Count.INUSE, Unit.SPACE).value
        return Metadata(
            start_time=datetime.fromtimestamp(start, UTC),
            end_time=datetime.fromtimestamp(start + (c.duration_s or 0.0), UTC),
            total_allocations=self._events_of(count),
            total_frames=len(python) if python is not None else 0,
            peak_memory=round(max(c.peak_bytes or 0.0, in_use)),
            command_line=told.command or c.command,
            pid=c.pid or 0,
            main_thread_id=c.pid or 0,
            python_allocator=told.python_allocator
            or {True: "pymalloc", False: "malloc", None: "other"}[c.pymalloc],
            has_native_traces=True,
            trace_python_allocators=c.pymalloc is False or self._has_pymalloc(),
            file_format=self._format(),
        )

    def _events_of(self, count: Count) -> int:
        """How many allocations and frees there were, as memray counts them."""
        allocated = self._profile.total(count, Unit.OBJECTS).value
        in_use = self._profile.total(Count.INUSE, Unit.OBJECTS).value
        return round(2 * allocated - in_use)

    def _format(self) -> FileFormat:
        """Whether there are single allocations."""
        has_log = self._log is not None or log_beside(self._path, self._profile)
        return FileFormat.ALL_ALLOCATIONS if has_log else FileFormat.AGGREGATED_ALLOCATIONS

    def _has_pymalloc(self) -> bool:
        of_python = {
            AllocatorType.PYMALLOC_MALLOC,
            AllocatorType.PYMALLOC_CALLOC,
            AllocatorType.PYMALLOC_REALLOC,
        }
        return bool(self._profile.python) and not of_python.isdisjoint(self._stacks.allocators)

    def get_memory_snapshots(self) -> Iterator[MemorySnapshot]:
        """Yield the readings of the capture; of many, some that are evenly spread."""
        profile = self._open()
        start = profile.capture.started or 0.0
        series = profile.series
        step = -(-len(series) // self._most) if series else 1
        return _apart(
            MemorySnapshot(
                round((start + reading.t_s) * 1000),
                reading.rss_bytes or 0,
                round(reading.estimate_bytes),
            )
            for reading in series[::step]
            if reading.rss_bytes or self._profile.capture.tracked is None
        )

    # -- open and closed ------------------------------------------------------------------------

    def _open(self) -> Profile:
        if self._closed:
            raise ValueError("Operation on a closed FileReader")
        return self._profile

    @property
    def closed(self) -> bool:
        """Whether the reader was closed."""
        return self._closed

    def close(self) -> None:
        """Close the reader; records that it gave out stay as they are."""
        self._closed = True
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
