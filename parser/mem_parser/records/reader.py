"""Read a file and give out its records, under the names that memray has for them.

A `.heap` file has counts for each call stack. What needs the order of single allocations is in a
log of events: the file may be one, or one may be beside it, `out-0.memlog` beside `out.heap`.
Asking for it where there is no log is an error which says so (`NotInFile`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
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

SNAPSHOTS_MAX = 10_000


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
        """Yield what was live at the peak.

        Raises NotInFile where the file has no peak; for ``merge_threads=False``, where it is no log
        of a whole capture.
        """
        if not merge_threads:
            log = self._records_of_log()
            found = None if log is None else log.live(at_peak=True)
            if found is not None:
                return found
            self._lacks("which thread allocated what was live at the peak", "merge_threads=True")
        if not self._open().has(Count.PEAK):
            self._lacks("what was live at the peak", "get_leaked_allocation_records()")
        return self._merged(Count.PEAK)

    def get_leaked_allocation_records(
        self, merge_threads: bool = True
    ) -> Iterator[AllocationRecord]:
        """Yield what was allocated in the capture and not freed at its end."""
        profile = self._open()
        if merge_threads:
            return self._merged(Count.INUSE)
        if profile.thread_blocks is not None:
            return self._by_thread()
        log = self._records_of_log()
        found = None if log is None else log.live(at_peak=False)
        if found is None:
            self._lacks("which thread allocated what", "merge_threads=True")
        return found

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
            self._lacks("the single allocations", "get_total_allocation_records()")
        return log.single()

    def get_temporary_allocation_records(
        self, merge_threads: bool = True, threshold: int = 1
    ) -> Iterator[AllocationRecord]:
        """Yield what its thread freed with at most so many other allocations in between.

        Raises NotInFile without a log, ValueError for a threshold that is too large.
        """
        log = self._records_of_log()
        if log is None:
            self._lacks("the order of allocations and frees", "get_total_allocation_records()")
        try:
            return log.temporary(threshold, merge_threads=merge_threads)
        except MemError as error:
            raise ValueError(str(error)) from None

    def get_temporal_allocation_records(self, merge_threads: bool) -> NoReturn:  # noqa: ARG002
        """Raise NotInFile: the file has no order of allocations."""
        self._lacks("the order of allocations and frees", "get_memory_snapshots()")

    def get_temporal_high_water_mark_allocation_records(
        self,
        merge_threads: bool,  # noqa: ARG002
    ) -> NoReturn:
        """Raise NotInFile: the file has one peak, that of the whole capture."""
        self._lacks("peaks of parts of it", "get_high_watermark_allocation_records()")

    def get_tracked_objects(self, filter_objs: object = None) -> NoReturn:  # noqa: ARG002
        """Raise NotInFile: objects are not tracked."""
        self._lacks("Python objects", "get_leaked_allocation_records()")

    def _lacks(self, what: str, instead: str) -> NoReturn:
        self._open()
        raise NotInFile(f"{self._path} does not have {what}; it has {instead}")

    def _records_of_log(self) -> LogRecords | None:
        """The records of the capture's log; None: there is none."""
        self._open()
        if self._log is None:
            paths = log_beside(self._path, self._profile)
            self._log = LogRecords(paths) if paths else None
        if self._log is not None and self._log.missing:
            text = f"{self._path}: {self._log.missing}"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
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

    # -- the whole ------------------------------------------------------------------------------

    @property
    def metadata(self) -> Metadata:
        """The circumstances of the capture."""
        profile = self._open()
        c = profile.capture
        start = c.started if c.started is not None else (profile.file_time_s or 0.0)
        python = profile.python
        count = Count.ALLOC if profile.has_alloc else Count.INUSE
        in_use = profile.total(Count.INUSE, Unit.SPACE).value
        return Metadata(
            start_time=datetime.fromtimestamp(start, UTC),
            end_time=datetime.fromtimestamp(start + (c.duration_s or 0.0), UTC),
            total_allocations=round(profile.total(count, Unit.OBJECTS).value),
            total_frames=len(python) if python is not None else 0,
            peak_memory=round(max(c.peak_bytes or 0.0, in_use)),
            command_line=c.command,
            pid=c.pid or 0,
            main_thread_id=c.pid or 0,
            python_allocator={True: "pymalloc", False: "malloc", None: "other"}[c.pymalloc],
            has_native_traces=True,
            trace_python_allocators=c.pymalloc is False or self._has_pymalloc(),
            file_format=self._format(),
        )

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
        return (
            MemorySnapshot(
                round((start + reading.t_s) * 1000),
                reading.rss_bytes or 0,
                round(reading.estimate_bytes),
            )
            for reading in series[::step]
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
