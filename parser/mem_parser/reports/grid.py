"""Tables before layout: columns and cells, independent of the terminal's width.

A report gives *blocks*: lines of text, of which some begin with a verdict (`Judged`), and `Grid`s.
Every estimate becomes one text with its 95 % margin in the same unit (`96.10 MiB ± 0.21`), or, for
programs, three numbers.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from mem_parser.estimate import Z95, Estimate
from mem_parser.model import Unit
from mem_parser.significance import RATE, p_of_estimate
from mem_parser.units import format_estimate, format_margin, format_value, percent
from mem_parser.words import phrase, plural, shown

NOISE_MARK = "~"
Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: numbers are aligned right; the ``flexible`` one is cut on a narrow screen."""

    title: str
    right: bool = True
    flexible: bool = False


class Tone(enum.StrEnum):
    """How good or bad a verdict is."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"
    HARMLESS = "harmless"


class Judged(str):
    """A line of text that begins with a verdict: its first ``end`` characters have a ``tone``."""

    __slots__ = ("end", "tone")
    end: int
    tone: Tone

    def __new__(cls, text: str, tone: Tone, end: int) -> Self:
        """Make such a line."""
        line = super().__new__(cls, text)
        line.tone, line.end = tone, end
        return line


NAME = Column(phrase("function"), right=False, flexible=True)
MARK = Column(NOISE_MARK, right=False)


@dataclass(slots=True)
class Grid:
    """A table. ``faint`` holds the positions of rows that are inside the noise."""

    columns: Sequence[Column]
    rows: list[Sequence[str]]
    title: str = ""
    faint: set[int] = field(default_factory=set)


Block = str | Grid


def in_noise(estimate: Estimate) -> bool:
    """Tell whether an estimate is inside the noise: its error is as large as itself, or it is a
    difference that chance explains.
    """
    if estimate.signed and not math.isnan(estimate.std_error):
        return bool(estimate.value) and p_of_estimate(estimate) > RATE
    return bool(estimate.value) and Z95 * estimate.std_error >= abs(estimate.value)


def amounts(estimates: Iterable[Estimate], unit: Unit, *, margins: bool = True) -> list[str]:
    """Return the texts of one column, the ``margins`` lined up below one another."""
    if not margins:
        return [format_value(e.value, unit) for e in estimates]
    parts = [(format_value(e.value, unit), format_margin(e, unit)) for e in estimates]
    width = max((len(margin) for _, margin in parts), default=0)
    return [f"{value} {margin.ljust(width)}" if width else value for value, margin in parts]


def amount(estimate: Estimate, unit: Unit) -> str:
    """Return one estimate such as `96.10 MiB ± 0.21`; an unknown margin is `± ?`."""
    return format_estimate(estimate, unit)


def numbers(key: str, estimate: Estimate) -> Record:
    """Return an estimate for programs: its standard error and the ends of its 95 % interval, null
    if unknown; a null upper end with a lower one means "at least".
    """
    lower, upper = estimate.known_ends
    return {
        key: round(estimate.value, 3),
        f"{key}_std_error": _known(estimate.std_error),
        f"{key}_margin95": _known(estimate.margin95),
        f"{key}_lower95": None if lower is None else round(lower, 3),
        f"{key}_upper95": None if upper is None else round(upper, 3),
    }


def number_keys(key: str) -> tuple[str, ...]:
    """Return the keys of `numbers`, in their order."""
    return tuple(numbers(key, Estimate(0.0)))


def _known(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def shares(
    estimates: Iterable[Estimate], unit: Unit, whole: float, *, margins: bool = True
) -> Iterator[tuple[str, str]]:
    """Yield the texts of two columns: as `amounts` gives them, and the percentage of ``whole``."""
    estimates = list(estimates)
    for text, estimate in zip(amounts(estimates, unit, margins=margins), estimates, strict=True):
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
    if noisy:
        rows = [(NOISE_MARK if k in noisy else "", *row) for k, row in enumerate(rows)]
        columns = (MARK, *columns)
    yield Grid(columns, list(rows), faint=noisy)
    yield from shown([*noise_line(len(noisy)), *filter(None, [left_out])])


def noise_line(number: int) -> list[str]:
    """Return the line that explains the mark of ``number`` rows; none for 0."""
    if not number:
        return []
    return [
        plural(
            "{mark} {number} row is inside the noise: its error is as large as the number",
            "{mark} {number} rows are inside the noise: their error is as large as the number",
            number,
            mark=NOISE_MARK,
        )
    ]
