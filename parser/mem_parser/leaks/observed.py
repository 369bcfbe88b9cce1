"""What the survivors of a group say: whether growth goes on, and whether its old blocks die."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mem_parser.estimate import Z95, Estimate, FloatArray
from mem_parser.leaks.ages import Timeline
from mem_parser.leaks.survivors import MIN_SAMPLES, Group
from mem_parser.model import BoolArray
from mem_parser.significance import p_rate_above, trend

COMPARABLE = 0.25
"""A part of the capture grew comparably to the other if its rate is above this share of it."""
FLAT = 0.5
SURE = 0.01
_DOUBT = 0.05
_DOUBT_Z = 1.645
"""One-sided 5 % of the normal distribution: enough to doubt a leak."""
SURE_Z = 2.326
"""One-sided 1 %: enough to call something replaced."""
_LEVEL = 0.8
_KNOWN_SHARE = 0.8
_STEADY_SHARE = 0.6
_STEADY_RATE = 0.125
_HOUR_S = 3600.0
_FEWEST_TIMES = 3
"""Buckets of a part of the time, from which on one of them can be a burst."""


def ages_known(group: Group) -> bool:
    """Tell whether the file says of most blocks when they were born."""
    return bool(group.survivors.sum() >= _KNOWN_SHARE * group.live.samples)


def steady(group: Group, times: Timeline) -> bool:
    """Tell whether growth went on through most of the early and late time, not in a few bursts."""
    mask = times.early | times.late
    rate = survived(group, mask) / max(times.span(mask), 1e-9)
    width = times.width[mask]
    busy = group.survivors[mask] >= _STEADY_RATE * rate * width
    return bool(width[busy & (group.survivors[mask] > 0)].sum() >= _STEADY_SHARE * width.sum())


def without_burst(group: Group, times: Timeline, part: BoolArray) -> BoolArray:
    """Return the buckets of ``part`` but for one that surely grew faster than the others of it:
    growth that goes on shows without it, too.
    """
    buckets = np.flatnonzero(part & (times.width > 0))
    if len(buckets) < _FEWEST_TIMES:
        return part
    most = int(buckets[np.argmax(group.survivors[buckets] / times.width[buckets])])
    others = part.copy()
    others[most] = False
    x, y = float(group.survivors[most]), survived(group, others)
    p = p_rate_above(x, float(times.width[most]), y, times.span(others), 1.0)
    return others if p * len(buckets) < SURE else part


class Spans(NamedTuple):
    """How long two parts of the time were: the earlier one in seconds, the later one at the least
    and at the most.
    """

    earlier: float
    least: float
    most: float


def spans(
    times: Timeline, clock: FloatArray, earlier: BoolArray, later: BoolArray,
    slowest: float = COMPARABLE,
) -> Spans:  # fmt: skip
    """Return how long the parts were, in seconds and by the program's own ``clock``: blocks of its
    turnover by bucket.

    A machine's pace changes with its load, and a stopped program does nothing: per second, growth
    then slows down or begins late; per block of turnover it does not. Other growth goes by the
    seconds. So only what both clocks say is an observation. The program's counts where its pace
    surely changed, with one standard error; one that went at less than ``slowest`` of its pace has
    other work.
    """
    v, w = times.span(earlier), times.span(later)
    before, after = float(clock[earlier].sum()), float(clock[later].sum())
    if not before or abs(after * v - before * w) < Z95 * math.sqrt((before + after) * v * w):
        return Spans(v, w, w)
    same, error = v * after / before, math.sqrt(1 / before + 1 / max(after, 1))
    least, most = same * math.exp(-error), same * math.exp(error)
    return Spans(v, min(w, max(least, slowest * w)), max(w, min(most, w / COMPARABLE)))


def slowed(group: Group, times: Timeline, clock: FloatArray) -> bool:
    """Tell whether the late rate is surely below the early one and below two thirds of it."""
    early, late = survived(group, times.early), survived(group, times.late)
    v, w, _ = spans(times, clock, times.early, times.late)
    if not early or not v or not w or late / w >= early / v * 2 / 3:
        return False
    return p_rate_above(early, v, late, w, 1.0) < _DOUBT


def stopped(group: Group, times: Timeline, clock: FloatArray) -> bool:
    """Tell whether the youngest blocks are too few for growth that goes on: less than half the late
    rate, and surely below it. A leak has more of them: they include short-lived blocks.
    """
    late, young = survived(group, times.late), survived(group, times.young)
    v, w, _ = spans(times, clock, times.late, times.young, slowest=0.0)
    if not w or not v or young / w >= FLAT * late / v:
        return False
    return p_rate_above(late, v, young, w, 1.0) < _DOUBT


def aging(group: Group, times: Timeline) -> float:
    """Return how surely blocks die with age, in standard errors: survival rises with the time of
    birth.
    """
    return _trend(group, times, times.aging)


def dying(group: Group, times: Timeline) -> bool:
    """Tell whether survival falls with age, and does not surely come to rest: after the turnover of
    what is freed early, a leak's oldest blocks survive like those that are a little younger.
    """
    if aging(group, times) <= _DOUBT_Z:
        return False
    return _old_die(group, times) or not _nearly_level(group, times)


def may_stay(group: Group, times: Timeline) -> bool:
    """Tell whether the oldest blocks that are left are enough for a leak, and not surely dying."""
    if survived(group, times.oldest) < MIN_SAMPLES:
        return False
    return not _old_die(group, times) or _nearly_level(group, times)


def _old_die(group: Group, times: Timeline) -> bool:
    """Tell whether survival still falls with age in the older half of the time."""
    return _trend(group, times, times.oldest | times.middle) > _DOUBT_Z


def _nearly_level(group: Group, times: Timeline) -> bool:
    """Tell whether survival surely falls by less than a fifth in the older half of the time."""
    return _p_kept(group, times.oldest, times.middle, _LEVEL) < SURE


def _trend(group: Group, times: Timeline, mask: BoolArray) -> float:
    middle = (times.start + times.end) / 2
    return trend(middle[mask], group.survivors[mask], group.births[mask])


def kept(group: Group, times: Timeline) -> bool:
    """Tell whether the oldest blocks surely stay: where none is freed, more than half of them; else
    at more than half the rate of late ones.
    """
    if not _freed(group, times):
        return bool(FLAT ** float(group.births[times.oldest].sum()) < SURE)
    return _p_kept(group, times.oldest, times.late, FLAT) < SURE


def _freed(group: Group, times: Timeline) -> bool:
    """Tell whether any block that is not young was freed."""
    return survived(group, times.mature) < float(group.births[times.mature].sum())


def _p_kept(group: Group, older: BoolArray, younger: BoolArray, ratio: float) -> float:
    """Return the p-value of "of blocks born in ``older`` at most ``ratio`` times the share survives
    of those born in ``younger``".
    """
    x, y = survived(group, older), survived(group, younger)
    v, w = (float(group.births[m].sum()) for m in (older, younger))
    return p_rate_above(x, v, y, w, ratio)


def only_recent(group: Group, times: Timeline, mature: float) -> bool:
    """Tell whether survivors are mostly of the youngest blocks, and the older ones surely died."""
    young = survived(group, times.young)
    share = times.span(times.mature) / max(times.span(times.young), 1e-9)
    if mature > COMPARABLE * young * share:
        return False
    return _trend(group, times, np.ones_like(times.young)) > SURE_Z


def survived(group: Group, mask: BoolArray) -> float:
    """Return the survivors of the buckets of ``mask``, in samples."""
    return float(group.survivors[mask].sum())


def per_hour(group: Group, times: Timeline | None) -> Estimate | None:
    """Return the survivors' bytes per hour of the time over which we judge growth.

    Of a compound Poisson process the variance is the sum of squared weights, w = s/p each: chance
    of the program (s^2/p) and of sampling (s^2 (1-p)/p^2) together.
    """
    if times is None:
        return None
    mask = times.early | times.late if times.late.any() else times.mature
    span = times.span(mask)
    if span <= 0:
        return None
    scale = _HOUR_S / span
    value = float(group.bytes_by_bucket[mask].sum()) * scale
    error = math.sqrt(float(group.variance_by_bucket[mask].sum())) * scale
    return Estimate(value, error, round(survived(group, mask)), group.live.unseen.scaled(scale))
