"""`table`: one row per thread, allocator and place, as users of memray know it.

size        bytes of the blocks
count       blocks
thread      who allocated them, of blocks in use and if asked for; or the labels of their stacks,
            where these are shown; else of all together
allocator   the function that was called: malloc, calloc ...
location    what the blocks are charged to (`mem_parser.charge`), with file and line
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mem_parser.errors import UsageProblem
from mem_parser.estimate import Estimate, Unsampled, unsample
from mem_parser.model import BoolArray, Count, IntArray, Unit
from mem_parser.names import FrameRule, is_allocator
from mem_parser.python.labelframes import shown_labels
from mem_parser.reports.aggregate import in_both_units
from mem_parser.reports.grid import (
    Block,
    Column,
    Record,
    amounts,
    in_noise,
    marked,
    number_keys,
    numbers,
)
from mem_parser.reports.view import View
from mem_parser.symbols.table import Location
from mem_parser.units import counted

KEYS = (
    "thread", "tid", "allocator", "function", "file", "line", *number_keys("size"),
    *number_keys("count"), "noise",
)  # fmt: skip
"""Columns of the rows for programs."""
EVERY_THREAD = "all"
UNKNOWN_THREAD = "?"
NO_LABEL = "-"


class Sort(enum.StrEnum):
    """The sort key of rows: numbers descending, words alphabetically."""

    SIZE = "size"
    COUNT = "count"
    THREAD = "thread"
    ALLOCATOR = "allocator"
    LOCATION = "location"


@dataclass(frozen=True, slots=True)
class AllocationRow:
    """Blocks of one thread (``tid`` 0: of all, or unknown), one allocator, one place."""

    thread: str
    tid: int
    allocator: str
    function: str
    file: str
    line: int
    where: str
    size: Estimate
    count: Estimate


@dataclass(frozen=True, slots=True)
class Allocations:
    """The rows to show, in order, and the number of hidden ones."""

    view: View
    rows: list[AllocationRow]
    left_out: int
    split: bool

    def first(self, limit: int) -> Allocations:
        """Return the table with at most ``limit`` of its rows; 0: with all."""
        shown = self.rows[:limit] if limit else self.rows
        left_out = self.left_out + len(self.rows) - len(shown)
        return Allocations(self.view, shown, left_out, self.split)


@dataclass(frozen=True, slots=True)
class _Entries:
    """Sampled blocks and their estimates: one entry per site, or per site and thread."""

    site: IntArray
    row: IntArray
    blocks: IntArray
    weights: Unsampled


def allocations(view: View, sort: Sort = Sort.SIZE, *, split_threads: bool = False) -> Allocations:
    """Return the table. Raises UsageProblem if threads are requested but unknown."""
    entries = _by_thread(view) if split_threads else _by_site(view)
    labels = None if split_threads else shown_labels(view.profile, view.raw)
    weights = entries.weights
    stack = view.profile.sites.stack[entries.site]
    row_key = entries.row if labels is None else view.profile.stacks.label_numbers[stack]
    keys = np.stack((row_key.astype(np.int64), _called(view)[stack], _charged(view)[stack]))
    keys, group = np.unique(keys, axis=1, return_inverse=True)
    group = np.asarray(group).reshape(-1)
    columns = (
        weights.bytes, weights.bytes_variance, weights.objects, weights.objects_variance,
        entries.blocks,
    )  # fmt: skip
    sums = [np.bincount(group, c, minlength=keys.shape[1]) for c in columns]
    threads = {t.row: t for t in view.profile.threads}
    rows = []
    for k, (row, called, charged) in enumerate(keys.T.tolist()):
        thread = threads.get(row) if split_threads else None
        name = (thread.name or UNKNOWN_THREAD) if thread else UNKNOWN_THREAD
        if not split_threads:
            name = EVERY_THREAD if labels is None else labels.path(row) or NO_LABEL
        at = view.symbols.locations[charged]
        function = view.symbols.functions[at.function]
        size, count = in_both_units(view.profile, sums, k)
        rows.append(
            AllocationRow(
                thread=name,
                tid=thread.tid if thread else 0,
                allocator=view.raw.functions[called].name if called >= 0 else UNKNOWN_THREAD,
                function=function.name,
                file=at.file or function.file,
                line=at.line,
                where=_where(view, at),
                size=size,
                count=count,
            )
        )
    rows.sort(key=lambda r: _order(r, sort))
    return Allocations(view, rows, 0, split_threads)


def _by_site(view: View) -> _Entries:
    blocks, _ = view.profile.counts(view.filters.count)
    some = np.flatnonzero(blocks > 0)
    found = view.profile.unsampled(view.filters.count)
    weights = Unsampled(*(column[some] for column in found))
    return _Entries(some, np.full(len(some), -1), blocks[some], weights)


def _by_thread(view: View) -> _Entries:
    held = view.profile.thread_blocks
    if view.filters.count is not Count.INUSE or held is None:
        raise UsageProblem(
            "--split-threads: which thread allocated them is known of blocks in use only",
            hint="--inuse --split-threads",
        )
    some, rates = held.blocks > 0, view.profile.rates
    site, blocks = held.site[some], held.blocks[some]
    rates = rates if isinstance(rates, float) else rates[site]
    return _Entries(site, held.row[some], blocks, unsample(blocks, held.bytes[some], rates))


def _called(view: View) -> IntArray:
    """For each stack the function that was called to allocate; -1 if unknown."""
    raw = view.raw
    if raw.called is not None:
        return raw.called.astype(np.int64)
    whole = np.flatnonzero(
        ~np.array([x.inlined for x in raw.locations], dtype=np.bool_)[raw.locations_of_stack]
    )
    known: BoolArray = np.array(
        [f.known and is_allocator(f, FrameRule.OWN) for f in raw.functions], dtype=np.bool_
    )
    if not len(whole):
        return np.full(len(raw.offsets) - 1, -1)
    # The function of the innermost frame itself, not what is inlined into it.
    at = whole[np.minimum(np.searchsorted(whole, raw.offsets[:-1]), len(whole) - 1)]
    function = raw.function_of_location[raw.locations_of_stack[at]].astype(np.int64)
    return np.where(known[function], function, -1)


def _charged(view: View) -> IntArray:
    """For each stack the location that its blocks are charged to."""
    symbols = view.symbols
    return symbols.locations_of_stack[symbols.offsets[:-1]].astype(np.int64)


def _where(view: View, at: Location) -> str:
    function = view.symbols.functions[at.function]
    file = (at.file or function.file).rsplit("/", 1)[-1]
    line = f":{at.line}" if at.line else ""
    if file and function.name.endswith(f"{file})"):
        return f"{function.name}{line}"  # a function of Python has its file in its name
    return f"{function.name} at {file}{line}" if file else function.name


def _order(row: AllocationRow, sort: Sort) -> tuple[object, ...]:
    by_size = (-row.size.value, -row.count.value, row.where, row.allocator, row.thread, row.tid)
    first: dict[Sort, object] = {
        Sort.SIZE: -row.size.value,
        Sort.COUNT: -row.count.value,
        Sort.THREAD: (row.thread, row.tid),
        Sort.ALLOCATOR: row.allocator,
        Sort.LOCATION: row.where,
    }
    return (first[sort], *by_size)


def blocks(found: Allocations) -> Iterator[Block]:
    """Yield the report for people."""
    size = amounts((row.size for row in found.rows), Unit.SPACE)
    count = amounts((row.count for row in found.rows), Unit.OBJECTS)
    rows = (
        (s, c, f"{row.thread} ({row.tid})" if row.tid else row.thread, row.allocator, row.where)
        for s, c, row in zip(size, count, found.rows, strict=True)
    )
    columns = (
        Column("size"),
        Column("blocks"),
        Column("thread", right=False),
        Column("allocator", right=False),
        Column("location", right=False, flexible=True),
    )
    more = counted(found.left_out, "more row")
    left_out = f"{more} hidden. Use -n 0 to show all." if found.left_out else ""
    judged = (row.size for row in found.rows)
    return found.view.framed(marked(columns, rows, judged), left_out)


def records(found: Allocations) -> list[Record]:
    """Return the rows for programs."""
    result: list[Record] = []
    for row in found.rows:
        names = ("thread", "tid", "allocator", "function", "file", "line")
        result.append(
            {name: getattr(row, name) for name in names}
            | numbers("size", row.size)
            | numbers("count", row.count)
            | {"noise": in_noise(row.size)}
        )
    return result
