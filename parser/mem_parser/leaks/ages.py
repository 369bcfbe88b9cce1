"""The time buckets of a capture, and how a leak verdict divides them.

    |warm-up|------ early ------|------- late -------|young|
    0                      about half                      end

Young: the last buckets that make a tenth of the capture. Warm-up: buckets that end within its first
eighth. The rest is split as near to the middle as bucket bounds allow. A capture of known length
has eight equal buckets; an open-ended one has bounds at powers of four, so the parts differ in
length and every rate uses its real width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mem_parser.estimate import FloatArray
from mem_parser.model import BoolArray, Capture

LEAST_WATCH_S = 30.0
"""A program that goes on is watched so long at least before growth is called a leak: one that
starts, or whose data is loaded, grows as steadily for some seconds."""
YOUNG_SHARE = 0.1
_YOUNG_MOST = 0.3
_WARM_UP_SHARE = 0.13
_OLD_ENOUGH = 0.78
_OLDEST_SHARE = 0.27


@dataclass(slots=True)
class Timeline:
    """Buckets as [start, end) in seconds; the masks say which part a bucket belongs to.

    ``aging`` are the buckets whose survivors tell whether blocks die with age: those whose blocks
    are all at least a quarter of the capture old. ``oldest`` are those of its first quarter, as
    near as bounds allow.
    """

    start: FloatArray
    end: FloatArray
    warm_up: BoolArray
    early: BoolArray
    late: BoolArray
    young: BoolArray
    aging: BoolArray
    oldest: BoolArray
    duration_s: float

    @property
    def width(self) -> FloatArray:
        """Length of each bucket in seconds."""
        return self.end - self.start

    @property
    def middle(self) -> BoolArray:
        """The buckets of the older half of the time that are not among the oldest."""
        return (self.warm_up | self.early) & ~self.oldest

    @property
    def mature(self) -> BoolArray:
        """The buckets that are not young."""
        return ~self.young & (self.width > 0)

    def span(self, mask: BoolArray) -> float:
        """Seconds that the buckets of ``mask`` cover."""
        return float(self.width[mask].sum())


def timeline(capture: Capture, buckets: int) -> Timeline | None:
    """Return the buckets of a capture; None where the file has no times, or not for so many
    buckets.
    """
    ends, duration = capture.bucket_end_s, capture.duration_s
    if len(ends) != buckets or duration is None or not 1e-3 <= duration < math.inf:
        return None
    end = np.array([_bound(e) for e in ends], dtype=np.float64)
    end = np.minimum(np.maximum.accumulate(np.maximum(end, 0.0)), duration)
    # Blocks born after the last bound are in the last bucket.
    end[-1] = duration
    start = np.concatenate(([0.0], end[:-1]))
    return divide(start, end, duration)


def _bound(value: float | None) -> float:
    """Return a bound as the file has it; an invalid time counts as no bound."""
    try:
        found = math.inf if value is None else float(value)
    except OverflowError:
        return math.inf
    return math.inf if math.isnan(found) else found


def divide(start: FloatArray, end: FloatArray, duration: float) -> Timeline:
    """Return the buckets divided into warm-up, early, late and young."""
    filled = end > start
    young = filled & (start >= _young_from(start, end, duration))
    mature = filled & ~young
    warm = end <= _WARM_UP_SHARE * duration
    split = _split(start, end, mature, warm)
    warm_up = mature & warm & (end < split)
    early = mature & ~warm_up & (end <= split)
    late = mature & (start >= split)
    aging = mature & (end <= _OLD_ENOUGH * duration)
    if aging.sum() < 2:
        aging = mature
    oldest = mature & ~late & (end <= _OLDEST_SHARE * duration)
    if not oldest.any():
        oldest = warm_up | early
    return Timeline(start, end, warm_up, early, late, young, aging, oldest, duration)


def until(times: Timeline, end_s: float) -> Timeline:
    """Return the times before ``end_s``, divided anew; later buckets are empty."""
    return divide(np.minimum(times.start, end_s), np.minimum(times.end, end_s), end_s)


def _young_from(start: FloatArray, end: FloatArray, duration: float) -> float:
    """Return the start of the young part; ``duration`` where no bucket is small enough for it."""
    found = duration
    for k in range(len(start) - 1, -1, -1):
        if end[k] <= start[k]:
            continue
        covered = 1 - start[k] / duration
        if covered > _YOUNG_MOST:
            break
        found = float(start[k])
        if covered >= YOUNG_SHARE:
            break
    return found


def _split(start: FloatArray, end: FloatArray, mature: BoolArray, warm: BoolArray) -> float:
    """Return the inner bucket bound nearest to the middle of the mature time after warm-up; its end
    where there is none.
    """
    if not mature.any():
        return 0.0
    last = float(end[mature].max())
    low = float(end[mature & warm].max(initial=0.0))
    inner = start[mature & (start > low)]
    if not len(inner):
        inner = start[mature & (start > 0)]
    if not len(inner):
        return last
    return float(inner[np.argmin(np.abs(inner - (low + last) / 2))])
