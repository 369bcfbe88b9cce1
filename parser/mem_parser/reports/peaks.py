"""`peaks`: the times of highest memory use, and the functions that held the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mem_parser.memlog.moments import Peak
from mem_parser.model import Unit
from mem_parser.reports.aggregate import Row
from mem_parser.reports.grid import NAME, Block, Column, Grid, Record, number_keys, numbers, shares
from mem_parser.reports.table import ranked
from mem_parser.reports.view import View
from mem_parser.units import format_bytes, format_total

_NS = 1e9
HOLDERS = 3
KEYS = (
    "peak", "at_s", *number_keys("live_bytes"), "prominence_bytes", "sure",
    "peaks_within_error", "first_within_error_s", "last_within_error_s",
    "function", *number_keys("flat"), "share",
)  # fmt: skip
"""Columns of the rows for programs."""


@dataclass(frozen=True, slots=True)
class PeakView:
    """A peak, and the functions on top at that moment, the largest first."""

    peak: Peak
    view: View
    holders: list[Row]


def peak_view(peak: Peak, view: View, holders: int = HOLDERS) -> PeakView:
    """Return a peak with the functions of ``view`` at that time, at most so many."""
    shown, _ = ranked(view.sums(), by_cum=False, limit=holders or None)
    return PeakView(peak, view, [row for row in shown[: holders or None] if row.flat.value > 0])


def blocks(found: Sequence[PeakView], notes: Sequence[str]) -> Iterator[Block]:
    """Yield the report for people, the highest peak first."""
    if not found:
        yield "no peak: nothing was live"
    for number, one in enumerate(found, 1):
        if number > 1:
            yield ""
        live = format_total(one.peak.live, Unit.SPACE)
        sure = "" if one.peak.sure else "   not sure"
        yield (
            f"peak {number}: {live} in use at {one.peak.time_ns / _NS:.3f} s"
            f"   {format_bytes(one.peak.prominence_bytes)} above its surroundings{sure}"
        )
        yield from filter(None, [rivals_line(one.peak)])
        whole = one.view.total.value
        flat = shares((row.flat for row in one.holders), Unit.SPACE, whole)
        rows = [(*f, row.name) for f, row in zip(flat, one.holders, strict=True)]
        yield Grid((Column("own"), Column("%"), NAME), list(rows))
    yield from (f"note: {note}" for note in notes)


def hidden_notes(shown: int, every: int) -> list[str]:
    """Return the note about peaks that are not shown, if there are any."""
    more = every - shown
    peaks, them = ("peak", "it") if more == 1 else ("peaks", "them")
    return [f"{more} more {peaks} hidden, -n {every} shows {them}"] if more > 0 else []


def rivals_line(peak: Peak) -> str:
    """Return the other peaks that may be higher, given the error."""
    if not peak.rivals_ns:
        return ""
    first, last = min(peak.rivals_ns) / _NS, max(peak.rivals_ns) / _NS
    count = len(peak.rivals_ns)
    others = (
        f"another peak is as high within the error (at {first:.3f} s)"
        if count == 1
        else f"{count} other peaks are as high within the error (first at {first:.3f} s, last at "
        f"{last:.3f} s)"
    )
    return f"{others}; the functions are those of {peak.time_ns / _NS:.3f} s"


def records(found: Sequence[PeakView]) -> list[Record]:
    """Return a row for each peak, with its functions."""
    return [
        {"peak": number, **_of_peak(one.peak), "functions": _functions(one)}
        for number, one in enumerate(found, 1)
    ]


def flat_records(found: Sequence[PeakView]) -> list[Record]:
    """Return a row for each function of each peak."""
    return [
        {"peak": number, **_of_peak(one.peak), **function}
        for number, one in enumerate(found, 1)
        for function in _functions(one)
    ]


def _of_peak(peak: Peak) -> Record:
    return {
        "at_s": peak.time_ns / _NS,
        **numbers("live_bytes", peak.live),
        "prominence_bytes": round(peak.prominence_bytes, 3),
        "sure": peak.sure,
        "peaks_within_error": len(peak.rivals_ns),
        "first_within_error_s": min(peak.rivals_ns) / _NS if peak.rivals_ns else None,
        "last_within_error_s": max(peak.rivals_ns) / _NS if peak.rivals_ns else None,
    }


def _functions(one: PeakView) -> list[Record]:
    whole = one.view.total.value
    return [
        {
            "function": row.name,
            **numbers("flat", row.flat),
            "share": round(row.flat.value / whole, 6) if whole else 0.0,
        }
        for row in one.holders
    ]
