"""`summary`: one row per function, as users of memray know it.

total    bytes of blocks with the function anywhere on the stack; recursion counts once
own      bytes of blocks that the function itself allocated
count    blocks by the function and all it calls (in use: those not freed yet)
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from mem_parser.estimate import Estimate
from mem_parser.model import Unit
from mem_parser.reports.aggregate import rows_of
from mem_parser.reports.grid import (
    MARK,
    NAME,
    NOISE_MARK,
    Block,
    Column,
    Grid,
    Record,
    amounts,
    in_noise,
    noise_line,
    numbers,
)
from mem_parser.reports.table import nameless_lines
from mem_parser.reports.units import percent
from mem_parser.reports.view import View

KEYS = (
    "function", "file", "module", "total", "total_std_error", "total_margin95",
    "own", "own_std_error", "own_margin95", "count", "count_std_error", "count_margin95", "noise",
)  # fmt: skip
"""Columns of the rows for programs."""


class Sort(enum.StrEnum):
    """What the rows are sorted by."""

    TOTAL = "total"
    OWN = "own"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One function; ``total`` and ``own`` are bytes, ``count`` blocks."""

    name: str
    total: Estimate
    own: Estimate
    count: Estimate


@dataclass(frozen=True, slots=True)
class Summary:
    """The rows that are shown, in order, and how many are not."""

    view: View
    sort: Sort
    rows: list[SummaryRow]
    left_out: int


def summary(view: View, sort: Sort = Sort.TOTAL, limit: int = 0) -> Summary:
    """Return the summary; ``limit`` is the most rows, 0 for all."""
    objects = {r.name: r.cum for r in rows_of(view.sums(unit=Unit.OBJECTS))}
    rows = [
        SummaryRow(r.name, r.cum, r.flat, objects[r.name])
        for r in rows_of(view.sums(unit=Unit.SPACE))
        if r.name in objects
    ]
    rows.sort(key=lambda r: (-getattr(r, sort).value, -r.total.value, -r.own.value, r.name))
    shown = rows[:limit] if limit else rows
    return Summary(view, sort, shown, len(rows) - len(shown))


def blocks(found: Summary) -> Iterator[Block]:
    """Yield the report for people."""
    view = found.view
    yield from view.header
    if not found.rows:
        yield "0 samples: nothing to show"
        return
    whole = view.profile.total(view.filters.count, Unit.SPACE).value
    noisy = {k for k, r in enumerate(found.rows) if in_noise(getattr(r, found.sort))}
    total = amounts((r.total for r in found.rows), Unit.SPACE)
    own = amounts((r.own for r in found.rows), Unit.SPACE)
    rows = [
        (
            NOISE_MARK if k in noisy else "",
            total[k],
            percent(row.total.value, whole),
            own[k],
            percent(row.own.value, whole),
            f"{row.count.value:.0f}",
            row.name,
        )
        for k, row in enumerate(found.rows)
    ]
    heads = ("total", "%", "own", "%", "count")
    yield Grid((MARK, *map(Column, heads), NAME), list(rows), faint=noisy)
    yield from noise_line(len(noisy))
    if found.left_out:
        yield f"{found.left_out} more functions not shown: -n 0 shows all"
    yield from nameless_lines(view.symbols)


def records(found: Summary) -> list[Record]:
    """Return the rows for programs."""
    functions = found.view.function_of_name
    result: list[Record] = []
    for row in found.rows:
        function = functions[row.name]
        result.append(
            {"function": row.name, "file": function.file, "module": function.module}
            | numbers("total", row.total)
            | numbers("own", row.own)
            | numbers("count", row.count)
            | {"noise": in_noise(getattr(row, found.sort))}
        )
    return result
