"""`diff`: the changes beyond noise, one row each, and the sum of the others; all changes for files
without errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mem_parser.diff import Diff, DiffRow
from mem_parser.escape import one_line
from mem_parser.model import Unit
from mem_parser.units import counted, format_change, format_margin, format_value


def diff_lines(result: Diff, *, rows: int, width: int) -> Iterator[str]:
    """Yield the report with ``rows`` rows (0: all), each cut to ``width`` columns."""
    real = result.rows.beyond_noise
    noise = len(result.rows) - real
    beyond = "beyond noise" if result.errors_known else "changed"
    yield f"Change: {_total(result)}   {counted(real, 'row')} {beyond}"
    if real:
        yield f"{'change':>11} {'':<11} {'now':>10}  {'':<6}  name"
    shown = min(rows, real) if rows else real
    for k in range(shown):
        yield _row(result.rows[k], result.unit, width)
    if noise:
        together = format_change(result.rows.noise_delta, result.unit)
        if result.errors_known:
            yield f"{counted(noise, 'row')} within the noise ({together} together)"
        else:
            yield f"{counted(noise, 'row')} unchanged"
    for note in result.notes:
        yield f"note: {one_line(note)}"
    if real > shown:
        yield f"{counted(real - shown, 'more row')} hidden. Use -n 0 to show all."


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
