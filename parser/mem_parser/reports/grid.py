"""What tables consist of, before anything knows how wide a terminal is.

A report gives *blocks*: lines of text and `Grid`s. Every estimate becomes one text with its 95 %
margin in the same unit (`96.10 MiB ±0.21`), or, for programs, three numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mem_parser.estimate import Estimate
from mem_parser.model import Unit
from mem_parser.units import format_total, percent

NOISE_MARK = "~"
Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: numbers are aligned right; the ``flexible`` one is cut on a narrow screen."""

    title: str
    right: bool = True
    flexible: bool = False


NAME = Column("function", right=False, flexible=True)
MARK = Column("", right=False)


@dataclass(slots=True)
class Grid:
    """A table. ``faint`` holds the positions of rows that are inside the noise."""

    columns: Sequence[Column]
    rows: list[Sequence[str]]
    title: str = ""
    faint: set[int] = field(default_factory=set)


Block = str | Grid


def in_noise(estimate: Estimate) -> bool:
    """Tell whether the 95 % interval reaches 0, so that there may be nothing at all."""
    return bool(estimate.value) and estimate.margin95 >= abs(estimate.value)


def amounts(estimates: Iterable[Estimate], unit: Unit) -> list[str]:
    """Return the texts of one column, the margins lined up below one another."""
    parts = [_amount(e, unit) for e in estimates]
    width = max((len(margin) for _, margin in parts), default=0)
    return [f"{value} {margin.ljust(width)}" if width else value for value, margin in parts]


def amount(estimate: Estimate, unit: Unit) -> str:
    """Return one estimate such as `96.10 MiB ±0.21`; a margin that is not known is `±?`."""
    return " ".join(filter(None, _amount(estimate, unit)))


def _amount(estimate: Estimate, unit: Unit) -> tuple[str, str]:
    text = format_total(estimate, unit).removesuffix(" (95 %)").replace(" objects", "")
    value, _, margin = text.partition(" ± ")
    if math.isnan(estimate.std_error) and estimate.value:
        margin = "?"
    return value, f"±{margin}" if margin else ""


def numbers(key: str, estimate: Estimate) -> Record:
    """Return an estimate for programs; null where the error is not known."""
    known = math.isfinite(estimate.std_error)
    return {
        key: round(estimate.value, 3),
        f"{key}_std_error": round(estimate.std_error, 3) if known else None,
        f"{key}_margin95": round(estimate.margin95, 3) if known else None,
    }


def shares(estimates: Iterable[Estimate], unit: Unit, whole: float) -> Iterator[tuple[str, str]]:
    """Yield the texts of two columns: as `amounts` gives them, and the percentage of ``whole``."""
    estimates = list(estimates)
    for text, estimate in zip(amounts(estimates, unit), estimates, strict=True):
        yield text, percent(estimate.value, whole)


def marked(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    judged: Iterable[Estimate],
    left_out: str = "",
) -> Iterator[Block]:
    """Yield a table in which rows are marked whose ``judged`` number is inside the noise, the line
    that explains the mark, and the line that says what is ``left_out``.
    """
    noisy = {k for k, estimate in enumerate(judged) if in_noise(estimate)}
    cells = [(NOISE_MARK if k in noisy else "", *row) for k, row in enumerate(rows)]
    yield Grid((MARK, *columns), list(cells), faint=noisy)
    yield from noise_line(len(noisy))
    yield from filter(None, [left_out])


def noise_line(number: int) -> list[str]:
    """Return the line that explains the mark of ``number`` rows; none for 0."""
    if not number:
        return []
    rows, their = ("row is", "its") if number == 1 else ("rows are", "their")
    return [f"{NOISE_MARK} {number} {rows} inside the noise: {their} 95 % interval reaches 0"]
