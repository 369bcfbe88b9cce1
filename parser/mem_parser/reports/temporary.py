"""`temporary`: blocks that were freed soon after they were allocated, by function or stack.

Ranked by the bytes that a block which is kept and used again would have saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mem_parser.estimate import Estimate
from mem_parser.model import Count, Unit
from mem_parser.reports.aggregate import GroupBy, Row, StackSums, rows_of
from mem_parser.reports.grid import (
    NAME,
    Block,
    Column,
    Record,
    amounts,
    in_noise,
    marked,
    number_keys,
    numbers,
)
from mem_parser.reports.table import ranked
from mem_parser.reports.view import View
from mem_parser.units import counted, format_bytes, format_total, per, percent

KEYS = (
    "function", *number_keys("bytes"), *number_keys("blocks"), "share", "bytes_per_s",
    "blocks_per_s", "samples",
)  # fmt: skip
"""Columns of the rows for programs."""
_ROWS = 20


@dataclass(frozen=True, slots=True)
class Temporary:
    """Rows of functions or lines, with all that each allocated, over ``seconds``.

    ``view`` has the temporary blocks, ``every`` all blocks. ``rule`` says which are temporary;
    ``at_most``: there may be fewer, because only some blocks are sampled.
    """

    view: View
    every: View
    rule: str
    at_most: bool
    seconds: float
    rows: list[TemporaryRow]
    left_out: int
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class TemporaryRow:
    """The temporary blocks of one function, and their share of all its blocks."""

    name: str
    bytes: Estimate
    objects: Estimate
    allocated: Estimate


def temporary(
    view: View,
    every: View,
    *,
    rule: str,
    at_most: bool,
    seconds: float,
    rows: int | None = None,
    group: GroupBy = GroupBy.FUNCTION,
    notes: Sequence[str] = (),
) -> Temporary:
    """Return the report; ``rows``: at most so many, 0: all."""
    shown, _ = ranked(view.sums(group, unit=Unit.SPACE), by_cum=False, limit=0)
    shown = [row for row in shown if row.flat.samples]
    objects = _by_name(view.sums(group, unit=Unit.OBJECTS))
    allocated = _by_name(every.sums(group, unit=Unit.OBJECTS))
    most = _ROWS if rows is None else rows or len(shown)
    table = [
        TemporaryRow(row.name, row.flat, objects[row.name].flat, allocated[row.name].flat)
        for row in shown[:most]
    ]
    left = len(shown) - len(table)
    return Temporary(view, every, rule, at_most, seconds, table, left, notes)


def _by_name(sums: StackSums) -> dict[str, Row]:
    return {row.name: row for row in rows_of(sums)}


def blocks(found: Temporary) -> Iterator[Block]:
    """Yield the report for people."""
    size = found.view.profile.total(Count.INUSE, Unit.SPACE)
    objects = found.view.profile.total(Count.INUSE, Unit.OBJECTS)
    whole = found.every.profile.total(Count.INUSE, Unit.OBJECTS)
    yield (
        f"Temporary: {format_total(size, Unit.SPACE)} in {format_total(objects, Unit.OBJECTS)}"
        f"   {percent(objects.value, whole.value)} of all blocks"
        f"   {counted(size.samples, 'sample')}"
    )
    yield f"{found.rule}, in {found.seconds:.3f} s of the log"
    if found.at_most:
        yield "at most so many: only some blocks are sampled, so others in between may be missing"
    yield from (f"note: {note}" for note in found.notes)
    if not found.rows:
        yield "0 samples: nothing to show"
        return
    texts = zip(
        amounts((row.bytes for row in found.rows), Unit.SPACE),
        amounts((row.objects for row in found.rows), Unit.OBJECTS),
        found.rows,
        strict=True,
    )
    rows = [
        (
            space,
            number,
            percent(row.objects.value, row.allocated.value),
            per("s", format_bytes(row.bytes.value / found.seconds)),
            f"{row.objects.value / found.seconds:.4g}",
            row.name,
        )
        for space, number, row in texts
    ]
    columns = (*map(Column, ("bytes", "blocks", "of its", "rate", "blocks/s")), NAME)
    more = counted(found.left_out, "more row")
    left_out = f"{more} hidden. Use -n 0 to show all." if found.left_out else ""
    yield from marked(columns, rows, (row.bytes for row in found.rows), left_out)


def records(found: Temporary) -> list[Record]:
    """Return the rows for programs; ``share``: of the function's blocks."""
    return [
        {
            "function": row.name,
            **numbers("bytes", row.bytes),
            **numbers("blocks", row.objects),
            "share": round(row.objects.value / row.allocated.value, 6)
            if row.allocated.value
            else None,
            "bytes_per_s": round(row.bytes.value / found.seconds, 3),
            "blocks_per_s": round(row.objects.value / found.seconds, 3),
            "samples": row.bytes.samples,
            "noise": in_noise(row.bytes),
        }
        for row in found.rows
    ]


def record(found: Temporary) -> Record:
    """Return the report for programs."""
    return {
        "rows": records(found),
        "left_out": found.left_out,
        **numbers("total", found.view.profile.total(Count.INUSE, Unit.SPACE)),
        **numbers("total_blocks", found.view.profile.total(Count.INUSE, Unit.OBJECTS)),
        "rule": found.rule,
        "at_most": found.at_most,
        "seconds": found.seconds,
        "notes": list(found.notes),
    }
