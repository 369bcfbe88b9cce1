"""`rss`: the sum that makes up the resident memory, and how it grows."""

from __future__ import annotations

from collections.abc import Iterator

from mem_parser.estimate import Estimate
from mem_parser.leaks.headline import growth_text, time_unit
from mem_parser.leaks.watch import time_text, too_short
from mem_parser.model import Unit
from mem_parser.rss import RssAccount
from mem_parser.units import format_bytes, format_change, format_estimate, format_margin, percent
from mem_parser.words import joined, phrase

_LEAST_PLACE = 0.01
"""Of the largest change, below which that of a place is not told."""


def account_lines(result: RssAccount) -> Iterator[str]:
    """Yield the lines of the report."""
    if result.rss_bytes is None:
        yield f"RSS unknown   heap in use {format_bytes(result.parts[0].bytes)}"
    else:
        peak = result.peak_rss_bytes
        high = f"   highest so far {format_bytes(peak)}" if peak is not None else ""
        if result.at_s is not None:
            high = f", {at_highest(result.at_s)}"
            if peak is not None and peak > result.rss_bytes:
                high += phrase("; peak {size}", size=format_bytes(peak))
        yield f"RSS {format_bytes(result.rss_bytes)}{high}"
        yield from filter(None, [result.of_limit])
        for part in result.parts:
            share = percent(part.bytes, result.rss_bytes)
            margin = "" if part.estimate is None else format_margin(part.estimate, Unit.SPACE)
            sign = "=" if part is result.parts[0] else "+"
            yield f"{sign} {format_bytes(part.bytes):>10} {margin:<11} {share:>6}  {part.label}"
    if result.in_use:
        yield "heap in use:"
        for part in result.in_use:
            margin = format_margin(part.estimate, Unit.SPACE) if part.estimate else ""
            yield f"  {format_bytes(part.bytes):>10} {margin:<11} {part.label}"
    if result.places:
        yield "heap in use and slack together, by place:"
        for place in result.places:
            yield f"  {format_bytes(place.bytes):>10} {place.label}"
    yield from growth_lines(result)
    yield from _grown(result)
    slack = result.arena_slack
    if slack is not None and slack.value > 0:
        held = format_estimate(slack, Unit.SPACE)
        yield f"{held} of [heap] and arenas holds no block of this capture:"
        older = "" if result.since_start else ", or blocks from before the capture"
        yield f"  free memory that malloc keeps for later{older}"
    for note in result.notes:
        yield f"note: {note}"


def at_highest(at_s: float) -> str:
    """Say of which moment the numbers on a program that ended are."""
    return phrase("the highest that was read, at {seconds} s", seconds=f"{at_s:.1f}")


def _grown(result: RssAccount) -> Iterator[str]:
    """Yield the growth of RSS by place, but for places with next to nothing of it."""
    total = sum(part.bytes for part in result.grown)
    if not result.grown:
        return
    change, time = format_change(total, Unit.SPACE), time_text(result.read_s)
    yield phrase("RSS {change} in {time}, by place:", change=change, time=time)
    least = _LEAST_PLACE * max(abs(part.bytes) for part in result.grown)
    for part in result.grown:
        if abs(part.bytes) >= max(least, 1):
            yield f"  {format_change(part.bytes, Unit.SPACE):>11} {part.label}"


def growth_lines(result: RssAccount) -> Iterator[str]:
    """Yield the growth of heap in use and RSS, and of its kinds."""
    told = []
    heap = result.slope_heap
    if result.is_short:
        told_in_time = result.at_s is None  # of one that ended nobody can watch more
        if told_in_time and (heap is not None or result.slope_rss is not None):
            yield phrase("growth: {reason}", reason=too_short(result.read_s))
        return
    if heap is not None and (heap.value or heap.std_error):
        told.append(_heap_growth(heap, result))
    if result.slope_rss is not None:
        told.append(f"RSS {_rate(result.slope_rss, result)}")
    if told:
        yield phrase("second half: {growth}", growth=joined(phrase(", "), told))
    if result.slope_kinds:
        names = {
            "anon": phrase("anonymous"),
            "file": phrase("files"),
            "shmem": phrase("shared memory, the sampler's included"),
        }
        kinds = [f"{names[k]} {_rate(slope, result)}" for k, slope in result.slope_kinds.items()]
        yield phrase("of it {growth}", growth=joined(phrase(", "), kinds))
    least = 0.0 if heap is None or result.since_start else heap.interval95[0]
    if result.slope_rss is not None and least > max(result.slope_rss, 0.0):
        yield phrase(
            "heap in use grows faster than RSS: its new blocks may replace ones older than the "
            "capture, as in a full cache"
        )


def _rate(per_hour: float, result: RssAccount) -> str:
    unit, hours = time_unit(result.read_s / 2)
    return f"{format_change(float(round(per_hour * hours)), Unit.SPACE)}/{unit}"


def _heap_growth(growth: Estimate, result: RssAccount) -> str:
    rate = growth_text(growth, result.read_s / 2)
    if not rate and 0 < (result.slope_rss or 0) <= growth.interval95[1]:
        return phrase("heap in use: its error is too large to tell")
    if not rate:
        return phrase("heap in use: no growth beyond its error")
    return phrase("heap in use {rate}", rate=rate if growth.value < 0 else f"+{rate}")
