"""`rss`: the sum that makes up the resident memory, and how it grows."""

from __future__ import annotations

from collections.abc import Iterator

from mem_parser.model import Unit
from mem_parser.rss import RssAccount
from mem_parser.units import format_bytes, format_change, format_margin, percent


def account_lines(result: RssAccount) -> Iterator[str]:
    """Yield the lines of the report."""
    if result.rss_bytes is None:
        yield f"RSS unknown   live heap {format_bytes(result.parts[0].bytes)}"
    else:
        peak = result.peak_rss_bytes
        high = f"   highest so far {format_bytes(peak)}" if peak is not None else ""
        yield f"RSS {format_bytes(result.rss_bytes)}{high}"
        for part in result.parts:
            share = percent(part.bytes, result.rss_bytes)
            inner = part.label.startswith(" ")
            margin = "" if part.estimate is None else format_margin(part.estimate, Unit.SPACE)
            sign = " " if inner else "+" if part.key != "live" else "="
            yield f"{sign} {format_bytes(part.bytes):>10} {margin:<12} {share:>6}  {part.label}"
    if result.slope_heap is not None:
        rss = f", RSS {_growth(result.slope_rss)}" if result.slope_rss is not None else ""
        yield f"second half of the capture: live heap {_growth(result.slope_heap)}{rss}"
    if result.arena_slack is not None:
        slack = result.arena_slack
        held = f"{_signed(slack.value)} {format_margin(slack, Unit.SPACE)}".rstrip()
        yield f"[heap] and arenas hold {held} beyond live blocks below 128 KiB"
    for note in result.notes:
        yield f"note: {note}"


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else ''}{format_bytes(abs(value))}"


def _growth(bytes_per_hour: float) -> str:
    return f"{format_change(bytes_per_hour, Unit.SPACE)}/h"
