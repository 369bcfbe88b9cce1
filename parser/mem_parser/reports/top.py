"""`top`: one row per function or line, every number with its 95 % margin.

flat    what the function itself allocated
cum     it and all it calls; recursion counts once
taken   what a device gave up for the flat bytes, where it is known
~       the row's number is inside the noise: its 95 % interval reaches 0
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mem_parser.estimate import Estimate
from mem_parser.model import Unit
from mem_parser.reports.aggregate import GroupBy, Row, rows_of
from mem_parser.reports.grid import (
    NAME,
    Block,
    Column,
    Record,
    amounts,
    in_noise,
    marked,
    numbers,
)
from mem_parser.reports.table import SMALL_SHARE
from mem_parser.reports.view import View
from mem_parser.units import format_value, percent

KEYS = (
    "function", "file", "line", "module", "flat", "flat_std_error", "flat_margin95",
    "cum", "cum_std_error", "cum_margin95", "flat_samples", "cum_samples", "noise",
)  # fmt: skip
"""Columns of the rows for programs."""


@dataclass(frozen=True, slots=True)
class TopOptions:
    """``rows`` None: those above `SMALL_SHARE` of the total; 0: all."""

    by_cum: bool = False
    rows: int | None = None
    group: GroupBy = GroupBy.FUNCTION


@dataclass(frozen=True, slots=True)
class Top:
    """The rows that are shown, in order, and those that are not."""

    view: View
    options: TopOptions
    shown: list[Row]
    left_out: list[Row]

    def judged(self, row: Row) -> Estimate:
        """Return the number that says whether the row is noise: the one the rows are sorted by."""
        return row.cum if self.options.by_cum or not row.flat.value else row.flat


def top(view: View, options: TopOptions) -> Top:
    """Return the table of ``view``."""
    sums = view.sums(options.group)
    rows = rows_of(sums)
    if options.by_cum:
        rows.sort(key=lambda r: (-r.cum.value, -r.flat.value, r.name))
    else:
        rows.sort(key=lambda r: (-r.flat.value, -r.cum.value, r.name))
    if options.rows is None:
        least = SMALL_SHARE * sums.total.value
        shown = [r for r in rows if r.cum.value >= least]
        left_out = [r for r in rows if r.cum.value < least]
    else:
        number = options.rows or len(rows)
        shown, left_out = rows[:number], rows[number:]
    return Top(view, options, shown, left_out)


def blocks(found: Top) -> Iterator[Block]:
    """Yield the report for people."""
    return found.view.framed(_body(found))


def _body(found: Top) -> Iterator[Block]:
    unit, total = found.view.filters.unit, found.view.total.value
    flat = amounts((r.flat for r in found.shown), unit)
    cum = amounts((r.cum for r in found.shown), unit)
    taken = unit is Unit.SPACE and any(row.flat_taken is not None for row in found.shown)
    rows = (
        (
            flat[k],
            percent(row.flat.value, total),
            cum[k],
            percent(row.cum.value, total),
            *([format_value(row.flat_taken or 0.0, unit)] if taken else []),
            row.name,
        )
        for k, row in enumerate(found.shown)
    )
    heads = ("flat", "flat%", "cum", "cum%", *(["taken"] if taken else []))
    yield from marked((*map(Column, heads), NAME), rows, map(found.judged, found.shown))
    if found.left_out:
        rest = format_value(sum(r.flat.value for r in found.left_out), unit)
        noun = "row" if len(found.left_out) == 1 else "rows"
        why = "" if found.options.rows else f" below {100 * SMALL_SHARE:g} %"
        yield f"{len(found.left_out)} {noun}{why} not shown ({rest} flat): -n 0 shows all"


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
