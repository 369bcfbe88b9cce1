"""`timeline`: live bytes of each memory over time, RSS, marks, gaps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mem_parser.devices import HOST, Mark
from mem_parser.errors import one_line
from mem_parser.estimate import Estimate, FloatArray
from mem_parser.memlog.filefacts import Hole
from mem_parser.memlog.gaps import unknown_lines, unsure_spans
from mem_parser.memlog.run import Run
from mem_parser.memlog.series import Series
from mem_parser.model import Reading, Unit
from mem_parser.reports.chart import LABEL, area, axis, columns_of, edges, pointers
from mem_parser.reports.grid import Block, Column, Grid, Record, number_keys, numbers
from mem_parser.units import counted, format_bytes, format_rate, format_total, per

_NS = 1e9
_HEIGHT = 10
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MARKS_SHOWN = 12
KEYS = (
    "domain", "from_s", "to_s", *number_keys("max_bytes"), "at_s", "min_bytes", "sure",
    "births", "born_bytes", "deaths", "freed_bytes", "rss_bytes",
)  # fmt: skip
"""Columns of the rows for programs."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Series of one or more memories over the same part of the time, from ``from_ns`` to ``to_ns``.

    The log itself is from ``begin_ns`` to ``end_ns``. ``unsure``: times at which the live blocks
    are uncertain, as (from, to) in nanoseconds.
    """

    every: list[Series]
    readings: list[Reading]
    marks: list[Mark]
    holes: list[Hole]
    unsure: list[tuple[int, int]]
    notes: list[str]
    from_ns: int
    to_ns: int
    begin_ns: int
    end_ns: int


def timeline(run: Run, every: Sequence[Series], from_ns: int, to_ns: int) -> Timeline:
    """Return the data to show for a part of a run, from the series ``every`` of all of it."""
    marks = [] if run.facts is None else run.facts.marks
    return Timeline(
        [_cut(series, from_ns, to_ns) for series in every],
        [r for r in run.readings if from_ns <= r.t_s * _NS <= to_ns],
        sorted((m for m in marks if from_ns <= m.time_s * _NS <= to_ns), key=lambda m: m.time_s),
        [h for h in run.holes if h.from_ns <= to_ns and h.to_ns >= from_ns],
        unsure_spans(run, from_ns, to_ns),
        unknown_lines(run, from_ns, to_ns),
        from_ns,
        to_ns,
        run.begin_ns,
        run.end_ns,
    )


def _cut(series: Series, from_ns: int, to_ns: int) -> Series:
    """Return the intervals of a series that begin within a part of the time, or have its begin."""
    step = series.interval_ns
    first = max((from_ns - series.from_ns) // step, 0)
    last = min((to_ns - series.from_ns) // step, len(series) - 1)
    return series.between(first, last + 1)


def highest(series: Series) -> int | None:
    """Return the interval with the highest value, the first of them; None if none is known."""
    known = ~np.isnan(series.max_bytes)
    return int(np.nanargmax(series.max_bytes)) if known.any() else None


# -- for people ------------------------------------------------------------------------------------


def blocks(found: Timeline, *, width: int, ascii_only: bool = False) -> Iterator[Block]:
    """Yield the report for people, in lines of at most ``width`` columns."""
    room = width - LABEL - 2
    from_s, to_s = found.from_ns / _NS, found.to_ns / _NS
    for number, series in enumerate(found.every):
        if number:
            yield ""
        yield from _head(series, found)
        host = series.domain == HOST
        rss = rss_of(series, found.readings) if host else None
        yield from _drawn(series, rss, room, ascii_only=ascii_only)
        parts = edges(len(series), room)
        yield from axis(len(parts), from_s, to_s, ascii_only=ascii_only)
        yield from _pointers(found, series, len(parts))
        if rss is not None and not np.isnan(rss).all():
            dot = "." if ascii_only else "·"
            yield f"{dot} RSS, at most {format_bytes(float(np.nanmax(rss)))} in a reading"
    yield from _marks(found)
    yield from (f"note: {one_line(text)}" for text in found.notes)


def _head(series: Series, found: Timeline) -> Iterator[str]:
    from_s, to_s = found.from_ns / _NS, found.to_ns / _NS
    k = highest(series)
    name = "" if series.domain == HOST else f"{one_line(series.domain)}: "
    if k is None:
        yield f"{name}what was in use is not known from {from_s:.3f} to {to_s:.3f} s"
        return
    most = format_total(series.estimate(k), Unit.SPACE)
    sure = "" if series.sure[k] else ", not sure"
    yield (
        f"{name}peak: {most} in use at {series.max_at_ns[k] / _NS:.3f} s{sure}"
        f"   {_sampling(series)}"
    )
    # Intervals are whole, and so is their time.
    low = max(series.from_ns, found.begin_ns)
    high = min(series.from_ns + len(series) * series.interval_ns, found.end_ns)
    seconds = max((high - low) / _NS, 1e-9)
    born, freed = float(series.born_bytes.sum()), float(series.freed_bytes.sum())
    yield (
        f"from {from_s:.3f} to {to_s:.3f} s   allocated {per('s', format_bytes(born / seconds))}"
        f"   freed {per('s', format_bytes(freed / seconds))}"
    )


def _sampling(series: Series) -> str:
    samples = counted(int(series.births.sum()), "sample")
    if series.rate_bytes <= 1:
        return f"{samples}, every block"
    return f"{samples} at {format_rate(series.rate_bytes)}"


def _drawn(series: Series, rss: FloatArray | None, room: int, *, ascii_only: bool) -> Iterator[str]:
    dots = None if rss is None else columns_of(rss, room)
    return area(columns_of(series.max_bytes, room), dots, height=_HEIGHT, ascii_only=ascii_only)


def rss_of(series: Series, readings: Sequence[Reading]) -> FloatArray:
    """Return the highest RSS that was read in each interval of a series; NaN without a reading."""
    found = np.full(len(series), math.nan)
    for reading in readings:
        k = (round(reading.t_s * _NS) - series.from_ns) // series.interval_ns
        if reading.rss_bytes is not None and 0 <= k < len(series):
            found[k] = np.fmax(found[k], reading.rss_bytes)
    return found


def _pointers(found: Timeline, series: Series, width: int) -> Iterator[str]:
    """Yield the line of marks, and that of uncertain times, if there are any."""

    def column(time_ns: float) -> int:
        at = int((time_ns - series.from_ns) // series.interval_ns)
        step = edges(len(series), width)[0][1]
        return min(max(at, 0) // step, width - 1)

    shown = _named(found.marks)
    if shown:
        places = [column(mark.time_s * _NS) for mark, _ in shown]
        yield pointers(places, [letter for _, letter in shown], width)
    if found.unsure:
        unsure = sorted(
            {k for low, high in found.unsure for k in range(column(low), column(high) + 1)}
        )
        yield pointers(unsure, ["?"] * len(unsure), width)


def _named(marks: Sequence[Mark]) -> list[tuple[Mark, str]]:
    """Return the marks with a letter in the picture: the first ones, without ends of ranges."""
    begins = [mark for mark in marks if mark.kind != "end"]
    return list(zip(begins[:_MARKS_SHOWN], _LETTERS, strict=False))


def _marks(found: Timeline) -> Iterator[Block]:
    shown = _named(found.marks)
    if not shown:
        return
    rows = [(letter, f"{mark.time_s:.3f} s", _text(mark)) for mark, letter in shown]
    columns = (
        Column("at", right=False),
        Column("time"),
        Column("mark", right=False, flexible=True),
    )
    yield Grid(columns, list(rows), "Marks")
    left = len([m for m in found.marks if m.kind != "end"]) - len(shown)
    if left:
        yield f"{counted(left, 'more mark')} hidden; --json has all"


def _text(mark: Mark) -> str:
    return " ".join(filter(None, (mark.domain, mark.text)))


# -- for programs ----------------------------------------------------------------------------------


def records(found: Timeline) -> list[Record]:
    """Return a row for each interval of each memory."""
    rows: list[Record] = []
    for series in found.every:
        rss = rss_of(series, found.readings) if series.domain == HOST else None
        rows += [_row(series, k, rss) for k in range(len(series))]
    return rows


def _row(series: Series, k: int, rss: FloatArray | None) -> Record:
    low = series.from_ns + k * series.interval_ns
    known = not math.isnan(series.max_bytes[k])
    most = series.estimate(k) if known else Estimate(0.0, math.nan)
    read = math.nan if rss is None else float(rss[k])
    values = numbers("max_bytes", most)
    return {
        "domain": series.domain,
        "from_s": low / _NS,
        "to_s": (low + series.interval_ns) / _NS,
        **(values if known else dict.fromkeys(values)),
        "at_s": int(series.max_at_ns[k]) / _NS if known else None,
        "min_bytes": round(float(series.min_bytes[k]), 3) if known else None,
        "sure": bool(series.sure[k]),
        "births": int(series.births[k]),
        "born_bytes": round(float(series.born_bytes[k]), 3),
        "deaths": int(series.deaths[k]),
        "freed_bytes": round(float(series.freed_bytes[k]), 3),
        "rss_bytes": None if math.isnan(read) else round(read),
    }


def record(found: Timeline) -> Record:
    """Return the report for programs."""
    return {
        "rows": records(found),
        "from_s": found.from_ns / _NS,
        "to_s": found.to_ns / _NS,
        "domains": [
            {"domain": s.domain, "rate_bytes": s.rate_bytes, "interval_s": s.interval_ns / _NS}
            for s in found.every
        ],
        "readings": [
            {"t_s": r.t_s, "rss_bytes": r.rss_bytes} for r in found.readings if r.rss_bytes
        ],
        "marks": [
            {"time_s": m.time_s, "kind": m.kind, "id": m.id, "domain": m.domain, "text": m.text}
            for m in found.marks
        ],
        "holes": [
            {"from_s": h.from_ns / _NS, "to_s": h.to_ns / _NS, "lost": h.lost, "why": h.why}
            for h in found.holes
        ],
        "not_sure": [{"from_s": low / _NS, "to_s": high / _NS} for low, high in found.unsure],
        "notes": found.notes,
    }
