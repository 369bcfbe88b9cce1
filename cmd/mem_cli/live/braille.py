"""Graphs of braille characters: each has two columns and four rows of dots. For fonts without them,
graphs of blocks: one column and two rows.

Model: time is cut into as many parts as there are columns of dots; a part shows the highest value
in it, so that no short peak is lost; a part without a value repeats the previous one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_BLANK = 0x2800
_DOTS = 4
_LEFT = (0x40, 0x44, 0x46, 0x47)
_RIGHT = (0x80, 0xA0, 0xB0, 0xB8)
"""Bits of a column of dots that is filled from below, by the number of its dots less one."""


_BLOCKS = " ▄█"


@dataclass(frozen=True)
class Series:
    """Values in the order of their times, in seconds."""

    times_s: Sequence[float]
    values: Sequence[float]


def columns(series: Series, count: int, span_s: float) -> list[float | None]:
    """Return the highest value in each of ``count`` parts of the last ``span_s``; None before the
    first.
    """
    found: list[float | None] = [None] * count
    if not series.times_s or count < 1:
        return found
    first = series.times_s[-1] - span_s
    before: float | None = None
    for time_s, value in zip(series.times_s, series.values, strict=True):
        if time_s < first:
            before = value
            continue
        k = min(int((time_s - first) / span_s * count), count - 1)
        old = found[k]
        found[k] = value if old is None else max(old, value)
    for k, highest in enumerate(found):
        before = found[k] = before if highest is None else highest
    return found


def graph(series: Series, width: int, height: int, span_s: float) -> list[str]:
    """Return ``height`` lines of ``width`` characters, the top of which is the highest value."""
    values = columns(series, 2 * width, span_s)
    top = max((value for value in values if value is not None), default=0.0)
    dots = [_dots(value, top, height * _DOTS) for value in values]
    return [
        "".join(_character(dots[2 * k], dots[2 * k + 1], line) for k in range(width))
        for line in range(height - 1, -1, -1)
    ]


def block_graph(series: Series, width: int, height: int, span_s: float) -> list[str]:
    """Return the same of blocks."""
    values = columns(series, width, span_s)
    top = max((value for value in values if value is not None), default=0.0)
    dots = [_dots(value, top, height * 2) for value in values]
    return [
        "".join(_BLOCKS[min(max(found - line * 2, 0), 2)] for found in dots)
        for line in range(height - 1, -1, -1)
    ]


def _dots(value: float | None, top: float, most: int) -> int:
    """Return how many dots a value has; one that is above 0 has at least one."""
    if value is None or value <= 0 or top <= 0:
        return 0
    return max(1, min(most, round(value / top * most)))


def _character(left: int, right: int, line: int) -> str:
    bits = 0
    for dots, pattern in ((left, _LEFT), (right, _RIGHT)):
        here = min(max(dots - line * _DOTS, 0), _DOTS)
        bits |= pattern[here - 1] if here else 0
    return chr(_BLANK + bits)
