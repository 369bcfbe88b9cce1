"""Draw an area over time in text, one maximum per column, in eighths of a line.

With `ascii_only` a cell is filled if it is at least half full. A second series is a dot in the cell
of its height if the area leaves it empty.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from mem_parser.estimate import FloatArray
from mem_parser.units import format_bytes

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_DOT, _UNSURE = "·", "?"
LABEL = 10
"""Columns of the scale on the left."""


def columns_of(values: FloatArray, width: int) -> FloatArray:
    """Return the highest value of each of at most ``width`` columns of equal time; NaN: none."""
    return np.array([_highest(values[low:high]) for low, high in edges(len(values), width)])


def edges(count: int, width: int) -> list[tuple[int, int]]:
    """Return the range of ``count`` intervals in each column: equal, except for the last."""
    step = max(math.ceil(count / max(width, 1)), 1)
    return [(low, min(low + step, count)) for low in range(0, count, step)]


def _highest(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else math.nan


def area(
    values: FloatArray,
    dots: FloatArray | None,
    *,
    height: int,
    ascii_only: bool = False,
) -> Iterator[str]:
    """Yield lines, the highest first, each with its value at the left; a column without a value is
    all question marks at its foot.
    """
    known = [v for v in (values, dots) if v is not None and not np.isnan(v).all()]
    top = max((float(np.nanmax(v)) for v in known), default=0.0) or 1.0
    for line in range(height, 0, -1):
        low, high = top * (line - 1) / height, top * line / height
        label = format_bytes(high).rjust(LABEL) if line in (height, (height + 1) // 2) else ""
        cells = "".join(
            _cell(
                (float(value) - low) / (high - low),
                has_dot=dots is not None and low < float(dots[k]) <= high,
                at_foot=line == 1,
                ascii_only=ascii_only,
            )
            for k, value in enumerate(values)
        )
        yield f"{label:>{LABEL}} {'|' if ascii_only else '│'}{cells}".rstrip()


def _cell(part: float, *, has_dot: bool, at_foot: bool, ascii_only: bool) -> str:
    """Return a cell filled to this fraction; NaN if the value is unknown."""
    if math.isnan(part):
        return _UNSURE if at_foot else " "
    filled = round(min(max(part, 0.0), 1.0) * 8)
    if at_foot and part > 0:
        filled = max(filled, 4 if ascii_only else 1)
    if filled == 0 and has_dot:
        return "." if ascii_only else _DOT
    if ascii_only:
        return "#" if filled >= 4 else " "
    return _EIGHTHS[filled]


def axis(width: int, from_s: float, to_s: float, *, ascii_only: bool = False) -> list[str]:
    """Return the line below the area and its times: at the left, in the middle and at the right."""
    corner, dash = ("+", "-") if ascii_only else ("└", "─")
    left, middle, right = (f"{t:.3g} s" for t in (from_s, (from_s + to_s) / 2, to_s))
    if width < len(left + middle + right) + 4:
        middle = ""
    gap = max(width // 2 - len(left) - len(middle) // 2, 1)
    text = f"{left}{' ' * gap}{middle}"
    text += right.rjust(max(width - len(text), len(right) + 1))
    return [f"{'':>{LABEL}} {corner}{dash * width}", f"{'':>{LABEL}}  {text}"]


def pointers(places: Sequence[int], letters: Sequence[str], width: int) -> str:
    """Return a line with a letter below each of some columns; the first if several share one."""
    cells = [" "] * width
    for place, letter in zip(places, letters, strict=True):
        if 0 <= place < width and cells[place] == " ":
            cells[place] = letter
    return f"{'':>{LABEL}}  {''.join(cells)}".rstrip()
