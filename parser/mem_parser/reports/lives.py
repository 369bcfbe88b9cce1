"""`lifetimes`: how long blocks lived, as a histogram, a survival curve, and by function."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mem_parser.estimate import Estimate, FloatArray, unsample
from mem_parser.interning import distinct
from mem_parser.memlog.lifesums import STEPS, Group
from mem_parser.memlog.livesites import Ints
from mem_parser.model import Unit
from mem_parser.reports.grid import (
    NAME,
    Block,
    Column,
    Grid,
    Record,
    amounts,
    marked,
    number_keys,
    numbers,
)
from mem_parser.reports.view import View
from mem_parser.units import counted, format_bytes, format_total, per, percent

_ROWS = 20
_BAR = 20
_POWERS_A_ROW = 3
"""A row of the histogram is for lifetimes that differ by this power of two at most."""
_TIME_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))
KEYS = (
    "function", *number_keys("blocks"), *number_keys("bytes"), "blocks_per_s", "bytes_per_s",
    *number_keys("freed"), "median_s", "p90_s", "live_share", "samples",
)  # fmt: skip
"""Columns of the rows for programs."""


@dataclass(frozen=True, slots=True)
class LifeRow:
    """The blocks of one function with a known lifetime: freed, or live at the end.

    ``median_s``, ``p90_s``: half of them, 90 % of them, lived at most so long; None if they are
    live at the end, or there are no blocks. Both are ends of buckets, at most 19 % too long.
    """

    name: str
    objects: Estimate
    bytes: Estimate
    freed: Estimate
    median_s: float | None
    p90_s: float | None


@dataclass(frozen=True, slots=True)
class Bucket:
    """Freed blocks that lived from ``from_ns`` up to ``to_ns``; ``longer``: the share of all blocks
    that lived longer, those live at the end included.
    """

    from_ns: float
    to_ns: float
    objects: Estimate
    longer: float


@dataclass(frozen=True, slots=True)
class Lives:
    """The report. ``alive`` are live at the end; ``unended`` have no end in the log; ``about`` have
    no beginning in it, so that their lifetime is known only to 20 ms.
    """

    total: LifeRow
    rows: list[LifeRow]
    left_out: int
    buckets: list[Bucket]
    alive: Estimate
    unended: Estimate
    about: Estimate
    seconds: float
    notes: Sequence[str]


class Weights:
    """Estimates of sampled counts by the function of their site, `unsample`d before any sum."""

    def __init__(self, view: View, rate_bytes: float) -> None:
        """Read the function to which ``view`` charges each stack, without stacks that it does not
        show.
        """
        symbols = view.symbols
        first = symbols.locations_of_stack[symbols.offsets[:-1]]
        names: dict[str, int] = {}
        by_function = np.array([names.setdefault(f.name, len(names)) for f in symbols.functions])
        self._of_stack = by_function[symbols.function_of_location[first]]
        shown = np.zeros(len(self._of_stack), dtype=np.bool_)
        shown[view.profile.sites.stack] = True
        self._shown = shown
        self.names = list(names)
        self.rate_bytes = rate_bytes
        self._profile = view.profile

    def shown(self, group: Group, stack: Ints) -> tuple[Group, Ints]:
        """Return the entries that pass the filters, and the function of each."""
        mask = self._shown[stack]
        return group.where(mask), self._of_stack[stack[mask]]

    def estimate(self, blocks: Ints, size: Ints, unit: Unit) -> Estimate:
        """Return the estimate of the sum of entries."""
        found = unsample(blocks, size, self.rate_bytes)
        value, variance = (
            (found.bytes, found.bytes_variance)
            if unit is Unit.SPACE
            else (found.objects, found.objects_variance)
        )
        unseen = self._profile.unseen(unit)
        samples = int(blocks.sum())
        return Estimate(float(value.sum()), math.sqrt(float(variance.sum())), samples, unseen)


@dataclass(frozen=True, slots=True)
class Sums:
    """Input of a report: groups of `mem_parser.memlog.lifesums`, with the stack of each entry."""

    freed: tuple[Group, Ints]
    about: tuple[Group, Ints]
    alive: tuple[Group, Ints]
    unended: tuple[Group, Ints]


def lives(
    sums: Sums, weights: Weights, *, seconds: float, rows: int | None, notes: Sequence[str] = ()
) -> Lives:
    """Return the report; ``rows``: of at most so many functions, 0: all."""
    freed, freed_by = weights.shown(*sums.freed)
    about, about_by = weights.shown(*sums.about)
    alive, alive_by = weights.shown(*sums.alive)
    unended, _ = weights.shown(*sums.unended)
    ended = Group(*(np.concatenate(columns) for columns in zip(freed, about, strict=True)))
    ended_by = np.concatenate((freed_by, about_by))
    functions = distinct(np.concatenate((ended_by, alive_by))).tolist()
    every = [
        _row(weights.names[k], ended.where(ended_by == k), alive.where(alive_by == k), weights)
        for k in functions
    ]
    every.sort(key=lambda row: (-row.bytes.value, row.name))
    most = _ROWS if rows is None else rows or len(every)
    return Lives(
        _row("", ended, alive, weights),
        every[:most],
        max(len(every) - most, 0),
        _buckets(ended, alive, weights),
        weights.estimate(alive.blocks, alive.bytes, Unit.OBJECTS),
        weights.estimate(unended.blocks, unended.bytes, Unit.OBJECTS),
        weights.estimate(about.blocks, about.bytes, Unit.OBJECTS),
        seconds,
        notes,
    )


def _row(name: str, ended: Group, alive: Group, weights: Weights) -> LifeRow:
    blocks = np.concatenate((ended.blocks, alive.blocks))
    size = np.concatenate((ended.bytes, alive.bytes))
    objects = weights.estimate(blocks, size, Unit.OBJECTS)
    bucket, counts = _by_bucket(ended, weights)
    return LifeRow(
        name,
        objects,
        weights.estimate(blocks, size, Unit.SPACE),
        weights.estimate(ended.blocks, ended.bytes, Unit.OBJECTS),
        _quantile(bucket, counts, objects.value, 0.5),
        _quantile(bucket, counts, objects.value, 0.9),
    )


def _by_bucket(ended: Group, weights: Weights) -> tuple[Ints, FloatArray]:
    found = unsample(ended.blocks, ended.bytes, weights.rate_bytes)
    bucket, code = np.unique(ended.number, return_inverse=True)
    counts = np.bincount(code, found.objects, minlength=len(bucket))
    return bucket, counts.astype(np.float64)


def _quantile(bucket: Ints, counts: FloatArray, whole: float, share: float) -> float | None:
    """Return the time in seconds within which a share of all blocks was freed; None: never."""
    sums = np.cumsum(counts)
    k = int(np.searchsorted(sums, share * whole - 1e-9))
    return None if k >= len(sums) else float(2.0 ** ((bucket[k] + 1) / STEPS)) / 1e9


def _buckets(ended: Group, alive: Group, weights: Weights) -> list[Bucket]:
    if not len(ended.number):
        return []
    step = ended.number // (STEPS * _POWERS_A_ROW)
    whole = np.concatenate((ended.blocks, alive.blocks)), np.concatenate((ended.bytes, alive.bytes))
    every = weights.estimate(*whole, Unit.OBJECTS).value
    gone, found = 0.0, []
    for k in range(int(step.min()), int(step.max()) + 1):
        mine = ended.where(step == k)
        estimate = weights.estimate(mine.blocks, mine.bytes, Unit.OBJECTS)
        gone += estimate.value
        found.append(
            Bucket(
                2.0 ** (k * _POWERS_A_ROW),
                2.0 ** ((k + 1) * _POWERS_A_ROW),
                estimate,
                max(1.0 - gone / every, 0.0) if every else 0.0,
            )
        )
    return found


# -- for people ------------------------------------------------------------------------------------


def format_time(ns: float) -> str:
    """Return a length of time with three significant digits: `1.02 ms`."""
    size, name = next((u for u in _TIME_UNITS if ns >= u[0]), _TIME_UNITS[-1])
    return f"{ns / size:.3g} {name}"


def blocks(found: Lives, *, bar: str = "█") -> Iterator[Block]:
    """Yield the report for people; bars consist of ``bar``."""
    total = found.total
    yield (
        f"Lifetimes: {format_total(total.objects, Unit.OBJECTS)}, of which"
        f" {format_total(total.freed, Unit.OBJECTS)} freed"
        f"   {counted(total.objects.samples, 'sample')}"
    )
    median = "longer than the log" if total.median_s is None else format_time(total.median_s * 1e9)
    yield f"median lifetime {median}   in {found.seconds:.3f} s of the log"
    if found.alive.samples:
        yield (
            f"{format_total(found.alive, Unit.OBJECTS)} in use at the end:"
            " how long they live is not known, they count as longer than all"
        )
    if found.about.samples:
        yield (
            f"{format_total(found.about, Unit.OBJECTS)} without a birth in this part:"
            " their lifetimes are right to 20 ms"
        )
    if found.unended.samples:
        yield f"{format_total(found.unended, Unit.OBJECTS)} left out: their end is missing"
    yield from (f"note: {note}" for note in found.notes)
    if not total.objects.samples:
        yield "0 samples: nothing to show"
        return
    if found.buckets:
        yield _histogram(found, bar)
    yield from _functions(found)


def _histogram(found: Lives, bar: str) -> Grid:
    most = max(b.objects.value for b in found.buckets)
    objects = amounts((b.objects for b in found.buckets), Unit.OBJECTS)
    rows = [
        (
            f"{format_time(b.from_ns)} to {format_time(b.to_ns)}",
            text,
            (bar * max(round(_BAR * b.objects.value / most), 1 if b.objects.value else 0)).ljust(
                _BAR
            ),
            percent(b.longer, 1.0),
            bar * round(_BAR * b.longer),
        )
        for b, text in zip(found.buckets, objects, strict=True)
    ]
    columns = (
        Column("lived"),
        Column("blocks"),
        Column("share", right=False),
        Column("live after"),
        Column("share", right=False, flexible=True),
    )
    return Grid(columns, list(rows), "How long blocks lived, and how many live after that time")


def _functions(found: Lives) -> Iterator[Block]:
    yield ""
    size = amounts((row.bytes for row in found.rows), Unit.SPACE)
    number = amounts((row.objects for row in found.rows), Unit.OBJECTS)
    rows = [
        (
            size[k],
            number[k],
            per("s", format_bytes(row.bytes.value / found.seconds)),
            f"{row.objects.value / found.seconds:.4g}",
            _time(row.median_s),
            _time(row.p90_s),
            percent(row.objects.value - row.freed.value, row.objects.value),
            row.name,
        )
        for k, row in enumerate(found.rows)
    ]
    heads = ("bytes", "blocks", "rate", "blocks/s", "median", "90 %", "live")
    more = counted(found.left_out, "more row")
    left_out = f"{more} hidden. Use -n 0 to show all." if found.left_out else ""
    yield from marked(
        (*map(Column, heads), NAME), rows, (row.bytes for row in found.rows), left_out
    )


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else format_time(seconds * 1e9)


# -- for programs ----------------------------------------------------------------------------------


def records(found: Lives) -> list[Record]:
    """Return a row for each function."""
    return [_record(row, found.seconds) for row in found.rows]


def _record(row: LifeRow, seconds: float) -> Record:
    live = row.objects.value - row.freed.value
    return {
        "function": row.name,
        **numbers("blocks", row.objects),
        **numbers("bytes", row.bytes),
        "blocks_per_s": round(row.objects.value / seconds, 3),
        "bytes_per_s": round(row.bytes.value / seconds, 3),
        **numbers("freed", row.freed),
        "median_s": row.median_s,
        "p90_s": row.p90_s,
        "live_share": round(live / row.objects.value, 6) if row.objects.value else None,
        "samples": row.objects.samples,
    }


def record(found: Lives) -> Record:
    """Return the report for programs."""
    whole = _record(found.total, found.seconds)
    del whole["function"]
    return {
        "rows": records(found),
        "left_out": found.left_out,
        "total": whole,
        "histogram": [
            {
                "from_s": b.from_ns / 1e9,
                "to_s": b.to_ns / 1e9,
                **numbers("blocks", b.objects),
                "live_after": round(b.longer, 6),
            }
            for b in found.buckets
        ],
        **numbers("alive", found.alive),
        **numbers("unended", found.unended),
        **numbers("about", found.about),
        "seconds": found.seconds,
        "notes": list(found.notes),
    }
