"""`top`: one row per function or line, every number with its 95 % margin.

flat    allocations of the function itself
cum     it and all it calls; recursion counts once
taken   device memory used for the flat bytes, if known
~       the row's number is inside the noise: its error is as large
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mem_parser.estimate import Estimate
from mem_parser.model import Unit
from mem_parser.reports.aggregate import GroupBy, Row, StackSums
from mem_parser.reports.grid import (
    NAME,
    Block,
    Column,
    Record,
    in_noise,
    marked,
    number_keys,
    numbers,
    shares,
)
from mem_parser.reports.table import left_out_line, ranked
from mem_parser.reports.view import View
from mem_parser.units import format_value
from mem_parser.words import phrase

KEYS = (
    "function", "file", "line", "module", *number_keys("flat"), *number_keys("cum"),
    "flat_samples", "cum_samples", "noise",
)  # fmt: skip
"""Columns of the rows for programs."""


@dataclass(frozen=True, slots=True)
class TopOptions:
    """``rows`` None: those above `SMALL_SHARE` of the total; 0: all. Sorted by flat, ``callers``
    that own nothing are left out unless asked for.
    """

    by_cum: bool = False
    rows: int | None = None
    group: GroupBy = GroupBy.FUNCTION
    callers: bool = False


@dataclass(frozen=True, slots=True)
class Top:
    """The rows to show, in order, and the hidden ones."""

    view: View
    options: TopOptions
    shown: list[Row]
    left_out: list[Row]

    def judged(self, row: Row) -> Estimate:
        """Return the number that decides whether the row is noise: the sort key."""
        return row.cum if self.options.by_cum or not row.flat.value else row.flat


def top(view: View, options: TopOptions, sums: StackSums | None = None) -> Top:
    """Return the table of ``view``; ``sums`` are those of its group, if known."""
    sums = sums or view.sums(options.group)
    owners = not (options.by_cum or options.callers)
    shown, left_out = ranked(sums, by_cum=options.by_cum, limit=options.rows, owners=owners)
    return Top(view, options, shown, left_out)


def blocks(found: Top) -> Iterator[Block]:
    """Yield the report for people."""
    unit, total = found.view.filters.unit, found.view.total.value
    shown = found.shown
    # Errors of what rows are sorted by, to leave room for names.
    by_cum = found.options.by_cum
    flat = shares((row.flat for row in shown), unit, total, margins=not by_cum)
    cum = shares((row.cum for row in shown), unit, total, margins=by_cum)
    with_taken = unit is Unit.SPACE and any(row.flat_taken is not None for row in shown)
    taken = ([format_value(row.flat_taken or 0.0, unit)] if with_taken else [] for row in shown)
    rows = ((*f, *c, *t, row.name) for f, c, t, row in zip(flat, cum, taken, shown, strict=True))
    heads = [phrase("own"), "%", phrase("total"), "%"]
    heads += [phrase("taken")] if with_taken else []
    left_out = left_out_line(found.left_out, unit)
    columns = (*map(Column, heads), NAME)
    return found.view.framed(
        marked(columns, rows, map(found.judged, shown)), left_out, of_functions=True
    )


def records(found: Top) -> list[Record]:
    """Return the rows for programs."""
    functions = found.view.function_of_name
    result = []
    for row in found.shown:
        function = functions.get(row.name)
        record: Record = {"function": row.name}
        if function is not None:
            record |= {"file": function.file, "module": function.module}
        else:
            record |= _of_line(row.name, found.view)
        record |= numbers("flat", row.flat) | numbers("cum", row.cum)
        if row.flat_taken is not None:
            record["flat_taken"] = round(row.flat_taken, 3)
        record |= {
            "flat_samples": row.flat.samples,
            "cum_samples": row.cum.samples,
            "noise": in_noise(found.judged(row)),
        }
        result.append(record)
    return result


def _of_line(name: str, view: View) -> Record:
    """Take a row's name `function file:line` apart."""
    rest, _, line = name.rpartition(":")
    function, _, file = rest.rpartition(" ")
    known = view.function_of_name.get(function)
    module = known.module if known is not None else ""
    return {"function": function, "file": file, "module": module, "line": int(line)}
