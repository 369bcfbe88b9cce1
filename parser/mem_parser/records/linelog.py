"""Bytes in use by line over time, from a log of events of every block.

Time is cut into intervals of 100 ms, and of each the moment counts at which most was in use. Each
file of a log stands alone, so one process reads one file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import NamedTuple, Self

import numpy as np

from mem_parser.devices import HOST
from mem_parser.errors import InputFileError, MemError, UsageProblem
from mem_parser.interning import Growing
from mem_parser.memlog.events import Kind
from mem_parser.memlog.moments import live_at
from mem_parser.memlog.reader import open_memlog
from mem_parser.memlog.run import Run, read_log
from mem_parser.memlog.segments import segments_of
from mem_parser.memlog.series import Series, series
from mem_parser.model import IntArray, Profile, SiteTable
from mem_parser.records.linereport import LineReport
from mem_parser.records.lines import Place, by_line, places_of
from mem_parser.records.own_frames import own_stacks

INTERVAL_MS = 100
_MS = 1_000_000
_NEVER = np.iinfo(np.int64).max


class LineLog:
    """The files of one log. `parse` reads them; then sizes and reports can be asked for. Close it,
    or use it as a context.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Open the files. Raises InputFileError."""
        self._run = read_log(paths)
        try:
            self._host = _host_of(self._run)
            if self._run.facts is None:
                raise InputFileError(f"{self._run.files[0].name}: its facts are damaged")
        except BaseException:
            self._run.close()
            raise
        self._first_ns = np.full(len(self._run.stacks), _NEVER, dtype=np.int64)
        self._found: dict[int, FileFound] = {}
        self._series: Series | None = None
        self._places: list[Place | None] | None = None

    def parse(self, jobs: int | None = None) -> Iterator[str]:
        """Read all files in ``jobs`` processes (None: one for each file); yield the name of each
        file that is done. Raises InputFileError, MemError where a process ended.
        """
        names = [file.name for file in self._run.files]
        jobs = min(jobs or len(names), len(names))
        if jobs == 1:
            for k, name in enumerate(names):
                self._take(k, scan_file(name, self._host))
                yield name
        else:
            yield from self._read_all(names, jobs)
        self._series = series(self._run, INTERVAL_MS * _MS, jobs=jobs)[self._host]

    def _read_all(self, names: list[str], jobs: int) -> Iterator[str]:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            files: dict[Future[FileFound], int] = {
                pool.submit(scan_file, name, self._host): k for k, name in enumerate(names)
            }
            for done in as_completed(files):
                name = names[files[done]]
                try:
                    self._take(files[done], done.result())
                except BrokenExecutor:
                    raise MemError(
                        f"{name}: the process that read it ended",
                        hint="fewer workers need less memory",
                    ) from None
                yield name

    def _take(self, file: int, found: FileFound) -> None:
        np.minimum.at(self._first_ns, self._run.number_of[file], found.first_ns)
        self._found[file] = found

    def _own_bytes(self, at_ns: IntArray) -> IntArray:
        """Bytes of our own that were in use at moments: what the keyframe of the moment's segment
        says, and the events from there on.
        """
        parts = list(self._found.values())
        time = np.concatenate([part.own_ns for part in parts])
        size = np.concatenate([part.own_bytes for part in parts])
        order = np.argsort(time, kind="stable")
        total = np.concatenate(([0], np.cumsum(size[order])))
        held = {at: size for part in parts for at, size in part.own_at_keyframes.items()}
        segments = segments_of(self._run)
        after = np.array([segment.events_after_ns for segment in segments], dtype=np.int64)
        base = [0 if one.base is None else held.get(one.base.time_ns, 0) for one in segments]
        begin = np.array(base, dtype=np.int64) - _sum_until(time[order], total, after)
        of = np.searchsorted([segment.from_ns for segment in segments], at_ns, side="right") - 1
        return np.asarray(begin[of] + _sum_until(time[order], total, at_ns))

    @property
    def warnings(self) -> list[str]:
        """Gaps in the files, a sentence for each."""
        holes = [hole for hole in self._run.holes if hole.lost != 0]
        missing = [f"{len(holes)} parts of the log are missing"] if holes else []
        return self._run.warnings + missing

    @property
    def duration_ms(self) -> int:
        """Milliseconds of which the log knows something."""
        return (self._run.end_ns - self._run.begin_ns) // _MS

    @property
    def started_s(self) -> float:
        """When that begins: seconds since 1970."""
        return (self._run.file_facts.start_real_ns + self._run.begin_ns) / 1e9

    def sizes(self) -> list[list[int]]:
        """Return for each interval its begin, in milliseconds since the capture's start, and the
        most bytes that were in use in it, without our own. Intervals of which nothing is known are
        left out.
        """
        found = self._parsed()
        known = np.flatnonzero(~np.isnan(found.max_bytes))
        begin = found.from_ns // _MS + known * INTERVAL_MS
        most = np.rint(found.max_bytes[known]).astype(np.int64)
        size = np.maximum(most - self._own_bytes(found.max_at_ns[known]), 0)
        rows: list[list[int]] = np.column_stack((begin, size)).tolist()
        return rows

    def report(self, time_ms: float) -> LineReport:
        """Return what was in use when most was, in the interval that has that moment.

        Raises UsageProblem for a moment that is not in the log, InputFileError.
        """
        found = self._parsed()
        k = int(time_ms * _MS - found.from_ns) // found.interval_ns
        if not 0 <= k < len(found) or np.isnan(found.max_bytes[k]):
            sizes = self.sizes()
            known = (
                f"from {sizes[0][0]} to {sizes[-1][0] + INTERVAL_MS - 1} ms" if sizes else "none"
            )
            raise UsageProblem(f"{time_ms:g} ms is not in the log", hint=f"it has {known}")
        at_ns = int(found.max_at_ns[k])
        [moment] = live_at(self._run, [at_ns])
        live = moment.sites.of_domain(self._host)
        met = np.flatnonzero(self._first_ns <= at_ns)
        stack = np.concatenate((live.stack, met))
        size = np.concatenate((live.bytes, np.zeros(len(met), dtype=np.int64)))
        return LineReport(by_line(self._named(), stack, size), sure=moment.sure)

    def _parsed(self) -> Series:
        if self._series is None:
            raise UsageProblem("the log has not been read yet")
        return self._series

    def _named(self) -> list[Place | None]:
        """The place of each stack."""
        if self._places is None:
            self._places = places_of(_profile(self._run))
        return self._places

    def close(self) -> None:
        """Close the files."""
        self._run.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _host_of(run: Run) -> int:
    """The number of the host's memory among the domains. Raises InputFileError."""
    facts, name = run.file_facts, run.files[0].name
    if HOST not in facts.domains:
        raise InputFileError(f"{name}: the log does not have the memory of the host")
    host = facts.domains.index(HOST)
    rate = facts.rates_bytes[host]
    if rate > 1:
        raise InputFileError(
            f"{name}: the log has one sample in {rate:g} bytes: its bytes by line are not known",
            hint="MemRecordType.LOG_RECORD logs every block",
        )
    return host


def _sum_until(time_ns: IntArray, total: IntArray, at_ns: IntArray) -> IntArray:
    """Return the sum of all events up to moments: ``total`` before each event in order of time."""
    return np.asarray(total[np.searchsorted(time_ns, at_ns, side="right")])


class FileFound(NamedTuple):
    """What one file says of its stacks: the time at which each is first met; of those that are our
    own the times and signed bytes of all births and deaths, and the bytes that were live at its
    keyframes, by time.
    """

    first_ns: IntArray
    own_ns: IntArray
    own_bytes: IntArray
    own_at_keyframes: dict[int, int]


def scan_file(path: str, domain: int) -> FileFound:
    """Read one domain of a file; runs in a separate process. Raises InputFileError."""
    with open_memlog(path) as file:
        first = np.full(len(file.stacks), _NEVER, dtype=np.int64)
        own = np.zeros(len(file.stacks), dtype=np.bool_)
        if file.python is not None:
            known = own_stacks(file.python)
            number = file.stacks.interpreters
            own = known[np.where(number < len(known), number, 0)]
        times: Growing[np.int64] = Growing(np.int64)
        sizes: Growing[np.int64] = Growing(np.int64)
        for events in file.events():
            host = events.domain == domain
            born = host & (events.kind == Kind.BIRTH)
            np.minimum.at(first, events.stack[born], events.time_ns[born])
            ours = host & (events.sign != 0)
            ours[ours] = own[events.stack[ours]]
            times.extend(events.time_ns[ours])
            sizes.extend(events.size_bytes[ours].astype(np.int64) * events.sign[ours])
        held: dict[int, int] = {}
        for keyframe in file.keyframes():
            here = keyframe.domain == domain
            np.minimum.at(first, keyframe.stack[here], keyframe.time_ns)
            held[keyframe.time_ns] = int(keyframe.bytes[here & own[keyframe.stack]].sum())
        return FileFound(first, times.values.copy(), sizes.values.copy(), held)


def _profile(run: Run) -> Profile:
    """A profile with all stacks of a run, each with one site."""
    facts = run.facts
    assert facts is not None
    count = len(run.stacks)
    ones = np.ones(count, dtype=np.int64)
    sites = SiteTable(
        np.arange(count), np.zeros(count, dtype=np.int32), ones, ones, ones.copy(), ones.copy()
    )
    return dataclasses.replace(
        facts, stacks=run.stacks, python=run.python, labels=run.labels, sites=sites
    )
