"""Growth that adds nothing to the process: blocks which replace ones that the capture did not see.

A capture that begins late sees no free of a block that is older. So of a cache that was full
already, each new entry seems to be kept, and survival alone cannot tell it from a leak. Memory
tells: what leaks makes anonymous memory grow, what replaces does not. Where the leaks of a report
surely grow faster than that, the difference, the *excess*, adds nothing: it replaces older blocks,
fills memory that was free in the allocator, or was never written. A finding stays a leak if it
grows so much faster than the excess that more than a third of it must add to memory, where nothing
else does. The others have no verdict: each may be most of the excess.

The growth of memory is the median slope of its readings in the time that leaks are judged in. It
may be too low by what readings scatter about it, and where what was free was used up only later: so
it counts as at most the larger of that, with the scatter, and the slope of the second half; plus
what is swapped out.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mem_parser.leaks.ages import Timeline
from mem_parser.leaks.findings import Excess, Finding, LeakReport, Verdict, growth_of
from mem_parser.leaks.headline import growth_text, rate_text
from mem_parser.leaks.watch import time_text, went_on
from mem_parser.model import Capture, Profile
from mem_parser.significance import hourly_slope
from mem_parser.words import phrase

_LEAST_READINGS = 16
_MOST_READINGS = 400
_COVERED = 0.8
"""Of the time in question, between the first and the last reading."""
_LEAST_SHARE = 0.1
"""Of the growth, that surely adds nothing: less may be the allocator's rounding."""
_LEAST_BYTES = 256 << 10
"""Twice what glibc keeps free at the end of its heap (M_TRIM_THRESHOLD)."""
_SURPLUS = 1.5
"""A leak stays one if it grows so many times faster than the excess."""
_LEAST_ADVICE_S = 300.0
_HOUR_S = 3600.0


def memory_growth(profile: Profile, times: Timeline) -> tuple[float, float] | None:
    """Return how anonymous memory grew in the early and late time, in bytes per hour: probably, and
    at most. None where too few readings tell.
    """
    judged = times.early | times.late
    capture = profile.capture
    if not judged.any() or capture.device is not None:
        return None
    begin, end = float(times.start[judged].min()), float(times.end[judged].max())
    read = [
        (r.t_s, float(r.anon_bytes))
        for r in profile.series
        if r.anon_bytes is not None and begin <= r.t_s <= end
    ]
    read = read[:: max(-(-len(read) // _MOST_READINGS), 1)]
    if len(read) < _LEAST_READINGS:
        return _between_ends(capture)
    at, size = np.array(read).T
    span, half = float(at[-1] - at[0]), len(at) // 2
    slope, second = hourly_slope(at, size), hourly_slope(at[half:], size[half:])
    if span < _COVERED * (end - begin) or slope is None or second is None:
        return _between_ends(capture)
    low, high = np.quantile(size - slope / _HOUR_S * at, (0.05, 0.95))
    unsure = float(high - low) + (capture.memory.swap_bytes or 0)
    return max(slope, 0.0), max(slope + unsure / span * _HOUR_S, second, 0.0)


def _between_ends(capture: Capture) -> tuple[float, float] | None:
    """Return the same of a capture by hand, which no controller followed, from what it read at both
    ends; an allocator may have had some of that growth before.
    """
    start, end = capture.memory.start_anon_bytes, capture.memory.anon_bytes
    if start is None or end is None or not capture.duration_s:
        return None
    grown = max(end - start, 0.0)
    unsure = _LEAST_BYTES + (capture.memory.swap_bytes or 0)
    per_hour = _HOUR_S / capture.duration_s
    return grown * per_hour, (grown + unsure) * per_hour


def find_excess(report: LeakReport, profile: Profile, times: Timeline) -> Excess | None:
    """Return how much faster the leaks surely grow than memory; None: not much, or not known."""
    sees_all = profile.since_start or profile.capture.from_start
    if sees_all or not went_on(profile.capture):
        return None
    every = [f for f in (*report.findings, *report.suppressed) if f.verdict is Verdict.LEAK]
    total, memory = growth_of(every), memory_growth(profile, times) if every else None
    if memory is None or total is None:
        return None
    least = total.interval95[0] - memory[1]
    enough = max(_LEAST_SHARE * total.value, _LEAST_BYTES / times.duration_s * _HOUR_S)
    if not least > enough:  # nan: the error is unknown
        return None
    return Excess(total, *memory, least)


def doubt(report: LeakReport, excess: Excess, watched_s: float) -> None:
    """Take the verdict from leaks that may replace older blocks, and say so in the report."""
    bound = _SURPLUS * (excess.grown.value - excess.memory_per_hour)
    advised = time_text(max(_LEAST_ADVICE_S, round(watched_s / 12) * 60.0))
    reason = phrase(
        "its blocks may replace ones older than the capture: watch {advised}", advised=advised
    )
    doubted = [f for f in report.leaks if not _is_beyond(f, bound)]
    report.findings = [_undecided(f, reason) if f in doubted else f for f in report.findings]
    report.excess = excess
    if doubted and not report.leaks:
        report.too_short = phrase(
            "{grown} may replace blocks older than the capture: watch {advised}",
            grown=growth_text(growth_of(doubted), watched_s),
            advised=advised,
        )
    report.notes.append(
        phrase(
            "growth of {grown}, but anonymous memory grew by {memory}: at least {least} replaces "
            "older blocks, as in a full cache, fills memory that was free, or is never written",
            grown=growth_text(excess.grown, watched_s),
            memory=rate_text(excess.memory_per_hour, watched_s),
            least=rate_text(excess.least_per_hour, watched_s),
        )
    )


def _is_beyond(finding: Finding, bound: float) -> bool:
    return finding.per_hour is not None and finding.per_hour.interval95[0] > bound


def _undecided(finding: Finding, reason: str) -> Finding:
    rate = growth_text(finding.per_hour, finding.watched_s)
    text = phrase("grows; {reason}", reason=reason)
    if rate:
        text = phrase("grows by {rate}; {reason}", rate=rate, reason=reason)
    return dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE, evidence=text, is_open=True)
