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
    NAME,
    Block,
    Column,
    Record,
    amounts,
    in_noise,
    marked,
    number_keys,
    numbers,
    shares,
)
from mem_parser.reports.table import hidden_line
from mem_parser.reports.view import View
from mem_parser.words import phrase

KEYS = (
    "function", "file", "module", *number_keys("total"), *number_keys("own"),
    *number_keys("count"), "noise",
)  # fmt: skip
"""Columns of the rows for programs."""


class Sort(enum.StrEnum):
    """The sort key of rows."""

    TOTAL = "total"
    OWN = "own"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One function; ``total`` and ``own`` are bytes, ``count`` and ``own_blocks`` blocks."""

    name: str
    total: Estimate
    own: Estimate
    count: Estimate
    own_blocks: Estimate


@dataclass(frozen=True, slots=True)
class Summary:
    """The rows to show, in order; ``left_out`` are hidden, and ``callers`` of these own nothing."""

    view: View
    sort: Sort
    rows: list[SummaryRow]
    left_out: int = 0
    callers: int = 0

    def first(self, limit: int, *, callers: bool = False) -> Summary:
        """Return the summary with at most ``limit`` of its rows, sorted by own none that own
        nothing, but for ``callers``; 0: with all.
        """
        if not limit:
            return self
        whole = callers or self.sort is not Sort.OWN
        owners = self.rows if whole else [r for r in self.rows if r.own.samples]
        shown = owners[:limit]
        return Summary(
            self.view,
            self.sort,
            shown,
            self.left_out + len(self.rows) - len(shown),
            self.callers + len(self.rows) - len(owners),
        )

    def judged(self, row: SummaryRow) -> Estimate:
        """Return the number that decides whether the row is noise: the sort key."""
        result: Estimate = getattr(row, self.sort)
        return result


def summary(view: View, sort: Sort = Sort.OWN, limit: int = 0) -> Summary:
    """Return the summary; ``limit`` is the most rows, 0 for all."""
    objects = {r.name: r for r in rows_of(view.sums(unit=Unit.OBJECTS))}
    rows = [
        SummaryRow(r.name, r.cum, r.flat, objects[r.name].cum, objects[r.name].flat)
        for r in rows_of(view.sums(unit=Unit.SPACE))
        if r.name in objects
    ]
    rows.sort(key=lambda r: (-getattr(r, sort).value, -r.total.value, -r.own.value, r.name))
    return Summary(view, sort, rows).first(limit)


def blocks(found: Summary) -> Iterator[Block]:
    """Yield the report for people. Errors are of what rows are sorted by, to leave room for
    names, and the blocks are those that it is about.
    """
    sort, whole = found.sort, found.view.profile.total(found.view.filters.count, Unit.SPACE).value
    total = shares((r.total for r in found.rows), Unit.SPACE, whole, margins=sort is Sort.TOTAL)
    own = shares((r.own for r in found.rows), Unit.SPACE, whole, margins=sort is Sort.OWN)
    number = (r.own_blocks if sort is Sort.OWN else r.count for r in found.rows)
    count = amounts(number, Unit.OBJECTS, margins=sort is Sort.COUNT)
    rows = (
        (*o, *t, c, row.name) for t, o, c, row in zip(total, own, count, found.rows, strict=True)
    )
    heads = (phrase("own"), "%", phrase("total"), "%", phrase("blocks"))
    columns = (*map(Column, heads), NAME)
    left_out = hidden_line(found.left_out - found.callers, found.callers)
    return found.view.framed(
        marked(columns, rows, map(found.judged, found.rows)), left_out, of_functions=True
    )


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
            | {"noise": in_noise(found.judged(row))}
        )
    return result
