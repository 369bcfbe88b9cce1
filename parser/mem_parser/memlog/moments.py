"""Live bytes by site at a moment, and the moments of peaks."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from mem_parser.errors import UsageProblem
from mem_parser.estimate import Estimate, FloatArray, turnovers
from mem_parser.memlog.livesites import Sites, SiteSums
from mem_parser.memlog.run import KeyframeBlocks, Run
from mem_parser.memlog.segments import Segment, latest_exact, segments_of
from mem_parser.memlog.series import Series
from mem_parser.memlog.timeline import stretch_of
from mem_parser.model import IntArray

_LEAST_SHARE = 0.01
"""A maximum that stands out by less of the highest one is no peak."""
_WRONG = 0.05


class Moment(NamedTuple):
    """The live blocks at a time, after all events of that time.

    ``sure``: no event is missing since the last keyframe.
    """

    time_ns: int
    sites: Sites
    sure: bool


def live_at(run: Run, times_ns: Sequence[int]) -> list[Moment]:
    """Return what was in use at each of some moments, in their order.

    Raises UsageProblem for a moment of which the log does not know what was in use, InputFileError.
    """
    segments = segments_of(run)
    found: dict[int, Moment] = {}
    sums, at, of = SiteSums(), -1, None
    for time in sorted(set(times_ns)):
        segment = _segment_at(segments, time)
        base = None if segment is None else latest_exact(run, segment, time)
        if segment is None or base is None:
            raise UsageProblem(
                f"the log does not say what was in use at {time / 1e9:.3f} s",
                hint=f"it does from {_known_from(segments)}",
            )
        if of is not segment or base.time_ns > at:
            sums, at, of = _start(run, base), base.time_ns, segment
        for events in stretch_of(run, at, time).events():
            sums.add_signed(events)
        at = time
        found[time] = Moment(time, sums.sums().live(), time < segment.sure_until_ns)
    return [found[time] for time in times_ns]


def _start(run: Run, base: KeyframeBlocks) -> SiteSums:
    return SiteSums(run.keyframe(base))


def _segment_at(segments: list[Segment], time_ns: int) -> Segment | None:
    k = bisect.bisect_right(segments, time_ns, key=lambda s: s.from_ns) - 1
    return segments[k] if k >= 0 and time_ns <= segments[-1].to_ns else None


def known_span(run: Run) -> tuple[int, int]:
    """Return the first and the last moment of which the log knows what was in use.

    Raises UsageProblem where there is none.
    """
    known = [s for s in segments_of(run) if s.base is not None]
    if not known:
        raise UsageProblem("the log has no keyframe, so nobody knows what was in use")
    return known[0].from_ns, known[-1].to_ns - 1


def _known_from(segments: list[Segment]) -> str:
    known = [s for s in segments if s.base is not None]
    if not known:
        return "no moment on"
    return f"{known[0].from_ns / 1e9:.3f} s to {known[-1].to_ns / 1e9:.3f} s"


class Peak(NamedTuple):
    """A local maximum: its moment, the estimate of live bytes, and by how much it stands out.

    ``prominence_bytes``: how far the total fell on the way to any higher moment. ``sure``: no event
    is missing since the keyframe before. ``rivals_ns``: moments of other peaks whose estimates
    differ from this one's by no more than the error of the difference, so that nobody can tell
    which of them is higher.
    """

    time_ns: int
    live: Estimate
    prominence_bytes: float
    sure: bool
    rivals_ns: tuple[int, ...] = ()


def peaks(series: Series, most: int) -> list[Peak]:
    """Return the highest of the local maxima that stand out, at most so many, the highest first.

    A local maximum stands out by how far the total falls, at least, on every way from it to a
    higher one; the highest, by its distance from the lowest total. Of equal ones the first counts
    as higher. One that stands out by less than 1 % of the highest is left out. Where nothing is
    known, nothing is live.
    """
    top, falls, every = _standing_out(series)
    chosen = every[np.argsort(-top[every], kind="stable")][: max(most, 0)].tolist()
    born = float(series.born_bytes.sum())
    return [
        Peak(
            int(series.max_at_ns[k]),
            replace(series.estimate(k), turnovers=turnovers(born, float(top[k]))),
            float(falls[k]), bool(series.sure[k]),
            tuple(series.max_at_ns[_rivals(series, top, every, k)].tolist()),
        )
        for k in chosen
    ]  # fmt: skip


def count_peaks(series: Series) -> int:
    """Return how many local maxima stand out."""
    return len(_standing_out(series)[2])


def _standing_out(series: Series) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return each interval's maximum, by how much it stands out, and which of them are peaks."""
    top = np.nan_to_num(series.max_bytes, nan=0.0)
    falls = _prominences(top, np.nan_to_num(series.min_bytes), np.nan_to_num(series.begin_bytes))
    every = np.flatnonzero((falls > 0) & (falls >= _LEAST_SHARE * top.max(initial=0.0)))
    return top, falls, every


def _rivals(series: Series, top: FloatArray, every: IntArray, k: int) -> IntArray:
    """Return which other peaks are as high as number ``k``, as far as the estimates can tell.

    Blocks that are live at both add nothing to the error of a difference. So its variance is at
    most that of what came and went between, and that is at most the rate times these bytes, since
    s (1 - p) / p <= T for a block of any size s; it is also at most the sum of both variances. The
    bound is for all peaks together: the highest of many estimates is too high by chance.
    """
    others = every[every != k]
    churn = np.concatenate(([0.0], np.cumsum(series.born_bytes + series.freed_bytes)))
    between = churn[np.maximum(others, k) + 1] - churn[np.minimum(others, k)]
    error = np.nan_to_num(series.max_std_error)
    variance = np.minimum(error[others] ** 2 + error[k] ** 2, series.rate_bytes * between)
    bound = NormalDist().inv_cdf(1 - _WRONG / 2 / max(len(others), 1)) * np.sqrt(variance)
    return np.asarray(others[np.abs(top[others] - top[k]) <= bound])


def _prominences(top: FloatArray, low: FloatArray, begin: FloatArray) -> FloatArray:
    """Return by how much the maximum of each interval stands out.

    ``begin``: the totals at the beginnings of the intervals, which are on the way from each to the
    next.
    """
    on_left = _lowest_on_the_way(top, low, begin[1:], equal=True)
    on_right = _lowest_on_the_way(top[::-1], low[::-1], begin[:0:-1], equal=False)[::-1]
    base = np.maximum(on_left, on_right)
    return np.asarray(top - np.where(np.isneginf(base), low.min(initial=0.0), base))


def _lowest_on_the_way(
    top: FloatArray, low: FloatArray, between: FloatArray, *, equal: bool
) -> FloatArray:
    """Return for each interval the lowest total on the way to the last higher one before it; minus
    infinity without any. ``equal``: one that is as high counts as higher.
    """
    result = np.full(len(top), -np.inf)
    tops, lows, steps = top.tolist(), low.tolist(), [np.inf, *between.tolist()]
    # Intervals that fall in height, each with the lowest total on the way from the one before.
    falling: list[tuple[int, float]] = []
    for k, high in enumerate(tops):
        way = steps[k]
        while falling and not _is_higher(tops[falling[-1][0]], high, equal=equal):
            passed, before = falling.pop()
            way = min(way, lows[passed], before)
        if falling:
            result[k] = way
        falling.append((k, way))
    return result


def _is_higher(one: float, other: float, *, equal: bool) -> bool:
    return one > other or (equal and one == other)
