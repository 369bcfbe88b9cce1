"""`diff`: the changes beyond noise, one row each, and the sum of the others; all changes for files
without errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from mem_parser.diff import Change, Diff, DiffRow
from mem_parser.escape import markdown_row, markdown_text, one_line
from mem_parser.model import Unit
from mem_parser.textwidth import ljust, rjust
from mem_parser.textwidth import width as columns_of
from mem_parser.units import counted, format_change, format_margin, format_value
from mem_parser.words import phrase, shown

KEYS = (
    "verdict", "function", "file", "line", "base", "base_lower95", "base_upper95", "new",
    "new_lower95", "new_upper95", "delta", "delta_error", "delta_lower95", "delta_upper95", "stack",
)  # fmt: skip
"""Columns of the rows for programs."""
VERDICTS = {
    Change.NEW: phrase("new"),
    Change.GONE: phrase("gone"),
    Change.GROWN: phrase("grown"),
    Change.SHRUNK: phrase("shrunk"),
    Change.NOISE: phrase("noise"),
    Change.TURNOVER: phrase("turnover"),
}
_VERDICT_WIDTH = 6


def diff_lines(result: Diff, *, rows: int, width: int) -> Iterator[str]:
    """Yield the report with ``rows`` rows (0: all), each cut to ``width`` columns."""
    real = result.rows.beyond_noise
    yield _first(result)
    few = result.rows[: _few(result, rows)]
    verdicts = [shown(VERDICTS[result.verdict(row)]) for row in few]
    wide = max([_VERDICT_WIDTH, *map(columns_of, verdicts)])
    if real:
        change, now, name = shown((phrase("change"), phrase("now"), phrase("name")))
        yield f"{rjust(change, 11)} {'':<11} {rjust(now, 10)}  {'':<{wide}}  {name}"
    for row, verdict in zip(few, verdicts, strict=True):
        yield _row(row, ljust(verdict, wide), result.unit, width)
    yield from _rest(result, len(few))


def markdown_lines(result: Diff, *, rows: int) -> Iterator[str]:
    """Yield the report as a table of Markdown with ``rows`` rows (0: all)."""
    yield markdown_text(_first(result))
    few = _few(result, rows)
    if few:
        heads = [phrase("change"), "", phrase("before"), phrase("now")]
        heads += [phrase("verdict"), phrase("name")]
        yield from ("", markdown_row(shown(heads)), "|--:|:--|--:|--:|---|---|")
    for row in result.rows[:few]:
        cells = [format_value(one.value, result.unit) for one in (row.base, row.new)]
        change = format_change(row.delta.value, result.unit)
        margin = format_margin(row.delta, result.unit)
        verdict = shown(VERDICTS[result.verdict(row)])
        yield markdown_row((change, margin, *cells, verdict, _name(row)))
    for line in _rest(result, few):
        yield from ("", markdown_text(line))


def records(result: Diff, rows: int = 0) -> list[dict[str, Any]]:
    """Return ``rows`` rows (0: all) for tables of programs; a stack is its functions, innermost
    first.
    """
    found = [row.as_json(result.verdict(row)) for row in result.rows[: rows or None]]
    for row in found:
        row["stack"] = ";".join(frame["function"] for frame in row.get("stack", ()))
    return found


def _few(result: Diff, rows: int) -> int:
    real = result.rows.beyond_noise
    return min(rows, real) if rows else real


def _rest(result: Diff, few: int) -> Iterator[str]:
    """Yield what stands below ``few`` rows."""
    real = result.rows.beyond_noise
    noise = len(result.rows) - real
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


def _first(result: Diff) -> str:
    line: str = shown(_change(result, counted(result.rows.beyond_noise, "row")))
    return line


def _change(result: Diff, rows: str) -> str:
    if result.errors_known:
        return phrase("Change: {total}   {rows} beyond noise", total=_total(result), rows=rows)
    return phrase("Change: {total}   {rows} changed", total=_total(result), rows=rows)


def _total(result: Diff) -> str:
    total, unit = result.total, result.unit
    margin = format_margin(total, unit)
    known = f" {margin} (95 %)" if margin and math.isfinite(total.margin95) else ""
    return format_change(total.value, unit) + known


def _row(row: DiffRow, verdict: str, unit: Unit, width: int) -> str:
    error = format_margin(row.delta, unit)
    head = (
        f"{format_change(row.delta.value, unit):>11} {error:<11} "
        f"{format_value(row.new.value, unit):>10}  {verdict}  "
    )
    text = _name(row)
    room = width - columns_of(head)
    return head + (text if len(text) <= room else text[: room - 1] + "…")


def _name(row: DiffRow) -> str:
    spot = row.frames[0].spot if row.frames else ""
    names = " ← ".join(one_line(f.function) for f in row.frames) or "[no stack]"
    return f"{names}  {one_line(spot)}".rstrip()
