"""Single allocations of a log of events.

A realloc that the allocator refused is no allocation and no free: its pair of events is left out.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import unsample
from mem_parser.interning import next_equal, previous_equal
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.lifetimes import lifetimes
from mem_parser.memlog.livesites import Ints
from mem_parser.memlog.moments import known_span, live_at
from mem_parser.memlog.part import Part
from mem_parser.memlog.profiles import jobs_of, profiles_of
from mem_parser.memlog.run import Run, read_log
from mem_parser.memlog.sizeclasses import size_classes
from mem_parser.memlog.timeline import stretch_of
from mem_parser.model import Profile
from mem_parser.output_path import log_stem
from mem_parser.records.kinds import AllocatorType
from mem_parser.records.logfolder import SUFFIX, facts_of
from mem_parser.records.making import Maker
from mem_parser.records.record import MERGED, AllocationRecord
from mem_parser.tracked import Tracked

HOST = 0
_ENDS = (Kind.DEATH, Kind.MOVED)
_FREED_BY = {
    AllocatorType.PYMALLOC_MALLOC: AllocatorType.PYMALLOC_FREE,
    AllocatorType.PYMALLOC_CALLOC: AllocatorType.PYMALLOC_FREE,
    AllocatorType.PYMALLOC_REALLOC: AllocatorType.PYMALLOC_FREE,
    AllocatorType.MMAP: AllocatorType.MUNMAP,
}
_MAPPED_BIT = np.uint64(1 << 63)
"""No address of a program has it."""
_SAME_START_S = 1e-3


class Held(NamedTuple):
    """Blocks by thread, stack and size class, in sampled counts: the row of the thread, the stack,
    how many, and their bytes.
    """

    row: Ints
    stack: Ints
    blocks: Ints
    bytes: Ints


def files_of_log(path: str) -> list[str]:
    """Return the files of the capture that ``path`` is a file of, of those beside it: NAME-K.memlog
    for any K.
    """
    folder, name = os.path.split(path)
    begin = name.removesuffix(SUFFIX).rpartition("-")[0]
    own = facts_of(path)
    found = {path}
    for other in _beside(folder, f"{begin}-") if begin and own is not None else ():
        facts = facts_of(other)
        if own is not None and facts is not None and facts.run == own.run:
            found.add(other)
    return sorted(found)


def log_beside(path: str, profile: Profile) -> list[str]:
    """Return the files of the log of the capture that a `.heap` file is of: `out-K.memlog` beside
    `out.heap`; none where there is no such log, or it is of another capture.
    """
    folder, name = os.path.split(path)
    found: dict[str, list[str]] = {}
    for other in _beside(folder, f"{log_stem(name)}-"):
        facts = facts_of(other)
        started = profile.capture.started
        if facts is None or started is None or facts.pid != profile.capture.pid:
            continue
        if abs(facts.start_real_ns / 1e9 - started) < _SAME_START_S:
            found.setdefault(facts.run, []).append(other)
    return sorted(next(iter(found.values()))) if len(found) == 1 else []


def _beside(folder: str, begin: str) -> list[str]:
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return []
    chosen = (n for n in names if n.startswith(begin) and n.endswith(SUFFIX))
    middle = len(begin), -len(SUFFIX)
    return [os.path.join(folder, n) for n in sorted(chosen) if n[slice(*middle)].isdecimal()]


class LogRecords:
    """The program's own memory in a log. Close it."""

    def __init__(self, paths: Sequence[str], tracked: Tracked | None = None) -> None:
        """Read the tables of its files; ``tracked`` is that of the file beside. Raises
        InputFileError.
        """
        self.run: Run = read_log(paths)
        try:
            [self.profile] = profiles_of(self.run, Part(domains=(self.run.file_facts.domains[0],)))
        except BaseException:
            self.run.close()
            raise
        self.profile.capture.tracked = tracked or self.profile.capture.tracked
        self._maker = Maker(self.profile)

    @property
    def missing(self) -> str:
        """Why not all events of the capture are in the files; empty: they are."""
        first = self.run.files[0].file_facts.number
        if self.run.holes:
            return f"events are missing in the log: {self.run.holes[0].why}"
        return "" if first == 1 else "the first files of the log are not there"

    @property
    def mapped(self) -> list[int]:
        """The memories of mappings that the program made."""
        names = self.run.file_facts.domains
        return [k for k, name in enumerate(names) if name.partition("-")[0] == "mmap"]

    def events(self, *, mapped: bool = False) -> Iterator[Events]:
        """Yield births and ends of blocks, in order, some at a time; ``mapped``: of mappings that
        the program made, too. Raises InputFileError.
        """
        waiting = Events.none()
        domains = [HOST, *(self.mapped if mapped else ())]
        first, last = known_span(self.run)
        for events in stretch_of(self.run, first, last).events():
            some = events.take(np.isin(events.domain, domains) & (events.kind <= Kind.BACK))
            some = without_refused_moves(Events.joined([waiting, some]))
            waits = _in_realloc(some)
            waiting = some.take(waits)
            yield some.take(~waits)
        yield waiting

    def single(self) -> Iterator[AllocationRecord]:
        """Yield a record for each allocation and each free, in order: of mappings, too, whose ends
        have a size, as memray's have. Raises InputFileError.
        """
        stacks, names = self.profile.stacks, self._maker.thread_names
        known = {t.row: (t.tid, names.get(t.tid, "")) for t in self.profile.threads}
        own, allocators = self._maker.own, self._maker.stacks.allocators
        nodes, generations = stacks.interpreters.tolist(), stacks.generation.tolist()
        for events in self.events(mapped=True):
            some = events.take(~own[events.stack])
            rows = zip(
                some.kind.tolist(), some.address.tolist(), some.size_bytes.tolist(),
                some.thread.tolist(), some.stack.tolist(), strict=True,
            )  # fmt: skip
            for kind, address, size, row, stack in rows:
                tid, name = known.get(row, (0, ""))
                allocator, ends = allocators[stack], kind in _ENDS
                yield AllocationRecord(
                    tid=tid,
                    address=address,
                    size=0 if ends and allocator is not AllocatorType.MMAP else size,
                    allocator=_FREED_BY.get(allocator, AllocatorType.FREE) if ends else allocator,
                    stack_id=0 if ends else nodes[stack],
                    n_allocations=1,
                    native_stack_id=0 if ends else stack + 1,
                    native_segment_generation=generations[stack],
                    thread_name=name,
                    _stacks=self._maker.stacks,
                )

    def temporary(
        self, most_between: int, *, merge_threads: bool = True
    ) -> Iterator[AllocationRecord]:
        """Return what one thread freed with at most so many other allocations of its own in
        between. Raises UsageProblem for too many.
        """
        first, last = known_span(self.run)
        found = lifetimes(self.run, first, last, domain=HOST, jobs=jobs_of(self.run))
        rows = range(len(self.profile.threads))
        parts = [(row, found.temporary(most_between, thread=row)) for row in rows]
        none = np.zeros(0, dtype=np.int64)
        held = Held(
            np.concatenate([none, *(np.full(len(sites.keys), row) for row, sites in parts)]),
            np.concatenate([none, *(sites.stack.astype(np.int64) for _, sites in parts)]),
            np.concatenate([none, *(sites.blocks for _, sites in parts)]),
            np.concatenate([none, *(sites.bytes for _, sites in parts)]),
        )
        return self._records(held, merge_threads=merge_threads)

    def live(
        self, *, at_peak: bool, merge_threads: bool = False
    ) -> Iterator[AllocationRecord] | None:
        """Return what is live at the last of the highest moments, or at the end, by the thread that
        allocated it unless ``merge_threads``; None where the log does not know that, since it
        begins in the middle.
        """
        first, _ = known_span(self.run)
        (before,) = live_at(self.run, [first])
        if self.missing or len(before.sites.of_domain(HOST).keys):
            return None
        columns = Events.joined([Events.none(), *self.events(mapped=True)])
        change = columns.sign.astype(np.int64) * columns.size_bytes.astype(np.int64)
        until = len(change)
        if at_peak and until:
            until -= int(np.argmax(np.cumsum(change)[::-1]))
        return self._records(_held(columns.take(slice(until))), merge_threads=merge_threads)

    @functools.cached_property
    def _rates(self) -> npt.NDArray[np.float64]:
        """The rate of each stack's blocks: every mapping is a sample."""
        kinds = np.array(self._maker.stacks.allocators, np.int64)
        return np.where(kinds == AllocatorType.MMAP, 1.0, self.profile.rate_bytes)

    def _records(self, held: Held, *, merge_threads: bool) -> Iterator[AllocationRecord]:
        tids = {thread.row: thread.tid for thread in self.profile.threads}
        mine = ~self._maker.own[held.stack]
        rows = np.array([tids.get(row, 0) for row in held.row[mine].tolist()], dtype=np.int64)
        found = unsample(held.blocks[mine], held.bytes[mine], self._rates[held.stack[mine]])
        tid = np.full(len(rows), MERGED) if merge_threads else rows
        return self._maker.records(tid, held.stack[mine], found.bytes, found.objects)

    def close(self) -> None:
        """Close its files."""
        self.run.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def without_refused_moves(events: Events) -> Events:
    """Return the events without each MOVED or DEATH whose block came back, and its BACK. A mapping
    comes back after the ends of what was left of it.
    """
    back = np.flatnonzero((events.kind == Kind.BACK) & (events.domain == HOST))
    if not len(back):
        return events
    before = previous_equal(_places(events))[back]
    pair = before >= 0
    pair &= (events.kind[before] == Kind.MOVED) | (events.kind[before] == Kind.DEATH)
    keep = np.ones(len(events), dtype=np.bool_)
    keep[back[pair]] = keep[before[pair]] = False
    return events.take(keep)


def _places(events: Events) -> npt.NDArray[np.uint64]:
    """Return the address of each block, which a mapping may have that a block begins."""
    mapped = events.address | _MAPPED_BIT
    return np.where(events.domain == HOST, events.address, mapped).astype(np.uint64)


def _last_of(column: npt.NDArray[Any]) -> Ints:
    """Return the index of the last entry of each value."""
    return np.flatnonzero(next_equal(previous_equal(column)) < 0)


def _in_realloc(events: Events) -> npt.NDArray[np.bool_]:
    """Tell which events are of threads that are in realloc then: what comes of it is later."""
    waits = np.zeros(len(events), dtype=np.bool_)
    waits[_last_of(events.thread)] = True
    return np.asarray(waits & (events.kind == Kind.MOVED))


def _held(events: Events) -> Held:
    """Return the blocks that these events leave: of each address the last, if it is a birth."""
    last = _last_of(_places(events))
    live = events.take(last[np.isin(events.kind[last], (Kind.BIRTH, Kind.BACK))])
    classes = size_classes(live.size_bytes)
    keys = np.stack([c.astype(np.int64) for c in (live.thread, live.stack, classes)])
    rows, group = np.unique(keys, axis=1, return_inverse=True)
    group = np.asarray(group).reshape(-1)
    count = rows.shape[1]
    size = np.zeros(count, dtype=np.int64)
    np.add.at(size, group, live.size_bytes.astype(np.int64))
    return Held(rows[0], rows[1], np.bincount(group, minlength=count).astype(np.int64), size)
