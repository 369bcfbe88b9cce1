"""`diff`: the changes beyond noise, one row each, and the sum of the others; all changes for files
without errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mem_parser.diff import Diff, DiffRow
from mem_parser.escape import one_line
from mem_parser.model import Unit
from mem_parser.textwidth import rjust
from mem_parser.units import counted, format_change, format_margin, format_value
from mem_parser.words import phrase, shown


def diff_lines(result: Diff, *, rows: int, width: int) -> Iterator[str]:
    """Yield the report with ``rows`` rows (0: all), each cut to ``width`` columns."""
    real = result.rows.beyond_noise
    noise = len(result.rows) - real
    yield shown(_change(result, counted(real, "row")))
    if real:
        change, now, name = shown((phrase("change"), phrase("now"), phrase("name")))
        yield f"{rjust(change, 11)} {'':<11} {rjust(now, 10)}  {'':<6}  {name}"
    few = min(rows, real) if rows else real
    for k in range(few):
        yield _row(result.rows[k], result.unit, width)
    if noise:
        together = format_change(result.rows.noise_delta, result.unit)
        if result.errors_known:
            within = phrase(
                "{rows} within the noise ({change} together)",
                rows=counted(noise, "row"), change=together,
            )  # fmt: skip
            yield shown(within)
        else:
            yield shown(phrase("{rows} unchanged", rows=counted(noise, "row")))
    for note in result.notes:
        yield shown(phrase("note: {text}", text=one_line(shown(note))))
    if real > few:
        more = counted(real - few, "more row")
        yield shown(phrase("{rows} hidden{worth}. Use -n 0 to show all.", rows=more, worth=""))


def _change(result: Diff, rows: str) -> str:
    if result.errors_known:
        return phrase("Change: {total}   {rows} beyond noise", total=_total(result), rows=rows)
    return phrase("Change: {total}   {rows} changed", total=_total(result), rows=rows)


def _total(result: Diff) -> str:
    total, unit = result.total, result.unit
    margin = format_margin(total, unit)
    known = f" {margin} (95 %)" if margin and math.isfinite(total.margin95) else ""
    return format_change(total.value, unit) + known


def _row(row: DiffRow, unit: Unit, width: int) -> str:
    error = format_margin(row.delta, unit)
    spot = row.frames[0].spot if row.frames else ""
    head = (
        f"{format_change(row.delta.value, unit):>11} {error:<11} "
        f"{format_value(row.new.value, unit):>10}  {row.change!s:<6}  "
    )
    names = " ← ".join(one_line(f.function) for f in row.frames) or "[no stack]"
    text = f"{names}  {one_line(spot)}".rstrip()
    room = width - len(head)
    return head + (text if len(text) <= room else text[: room - 1] + "…")
