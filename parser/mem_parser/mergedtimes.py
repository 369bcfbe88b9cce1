"""The ages of blocks and the readings of captures that cover the same time, added up.

Births and survivors are counted by time buckets since each capture's start. Buckets of captures
that began together, and are as long, can be added; of others, and where a file has no ages, there
are none in the sum: how much of a bucket falls into one of the sum's, nobody knows. A process that
freed its memory as it ended stands with what it held before.

Readings have moments, so those of captures of one time without a gap add up wherever each began: a
process holds the smaller one of two between them, and nothing before its start and after its end.
The peak that the sampler kept is one more reading. The peak of all is the highest sum or more, and
at most the sum of the peaks of those that lived at one time.
"""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.interning import Ids
from mem_parser.leaks.watch import has_ended, was_killed, went_on
from mem_parser.model import Capture, Count, PeakSource, Profile, Reading, SiteTable, Unit
from mem_parser.units import format_bytes

PEAKS_LEFT_OUT = "peaks are left out: each file's was at its own time, and is in that file alone"
PEAKS_AT_MOST = "the peak is at most {bound}, the sum of the peaks of those that lived at one time"
HELD_MOST = "all together held {held} or more, {seconds} s after the first began"
AGES_LEFT_OUT = "ages are left out: the captures are not of the same time"
_APART = 0.05
"""Of the time: captures of the same one begin and end no further from each other. The sum counts as
the longest of them, so that its last bucket shows rather too little growth than too much."""
_BOUNDS_APART = 0.01
_MOST_READINGS = 1000
_MOST_BIRTHS = (1 << 32) - 1
_MOST_COUNTED = float(1 << 62)
_MOMENT = "_s"
"""End of the names of columns that hold moments."""
Column = npt.NDArray[np.float64]
_OF_SITES: dict[str, tuple[str, str]] = {
    "births": ("births", "births"),
    "live_births": ("live_births", "live_births"),
    "oldest_birth_s": ("oldest_birth_s", "oldest_birth_s"),
    "before_end_blocks": ("before_end_blocks", "inuse_blocks"),
    "before_end_bytes": ("before_end_bytes", "inuse_bytes"),
    "before_end_births": ("before_end_births", "births"),
    "before_end_live_births": ("before_end_live_births", "live_births"),
    "before_end_oldest_s": ("before_end_oldest_s", "oldest_birth_s"),
}
"""Columns of the sum: of a process that freed its memory as it ended, and of another one."""


class _Life(NamedTuple):
    """What a process held, its variance and its samples (``held``) from the moments ``at`` on: from
    its start to the ``end`` of its capture. What it held later is ``known``: nothing. It was read
    at the moments ``read_at``.
    """

    at: Column
    held: Column
    read_at: Column
    end: float
    known: bool
    peak: float | None

    def steady(self, held: float) -> _Life:
        """Return one that held the same all the time."""
        return self._replace(at=self.at[:1], held=np.array([[held, 0.0, 0.0]]))


class MergedTimes:
    """`add` each file; its sites are ``rows`` of the sum."""

    def __init__(self) -> None:
        self._captures: list[Capture] = []
        self._lives: list[_Life] = []
        self._columns: dict[str, Column] = {}
        self._are_dated = True
        self._any_dated = False
        self._has_peaks = False

    def add(self, profile: Profile, rows: Ids, count: int) -> None:
        """Add a file, whose sites are ``rows`` of the ``count`` rows so far."""
        columns = _columns_of(profile)
        self._captures.append(profile.capture)
        self._lives.append(_life(profile))
        self._any_dated |= bool(columns)
        self._has_peaks |= profile.capture.peak_bytes is not None or profile.has(Count.PEAK)
        self._are_dated &= bool(columns) and same_time(self._captures[0], profile.capture)
        if not self._are_dated:
            self._columns = {}
            return
        for name, values in columns.items():
            self._columns[name] = _added(name, self._columns.get(name), values, rows, count)

    def fill(self, table: SiteTable, capture: Capture) -> list[Reading]:
        """Give the sum its ages, of captures of the same time alone, and return its readings."""
        if self._are_dated:
            ends = [c.before_end_at_s for c in self._captures if c.before_end_at_s is not None]
            for name, values in self._columns.items():
                if ends or not name.startswith("before_end"):
                    setattr(table, name, _typed(name, values))
            capture.bucket_end_s = list(self._captures[0].bucket_end_s)
            capture.before_end_at_s = max(ends, default=None)
        series = self._sum_of_readings()
        if series:
            highest = _highest(series)
            capture.peak_bytes, capture.peak_at_s = highest.estimate_bytes, highest.t_s
            capture.peak_source = PeakSource.READING
            if not self._are_dated:
                start, end = self._span()
                capture.duration_s = end - start
        return series

    @property
    def left_out(self) -> list[str]:
        """What the files had and the sum lacks, with what is known of it."""
        ages = AGES_LEFT_OUT if self._any_dated and not self._are_dated else ""
        return list(filter(None, [self._of_peaks() if self._has_peaks else "", ages]))

    def _of_peaks(self) -> str:
        peaks = [life.steady(life.peak) for life in self._lives if life.peak is not None]
        if len(peaks) < len(self._lives):
            return PEAKS_LEFT_OUT
        said = PEAKS_AT_MOST.format(bound=format_bytes(float(_added_up(peaks)[1][:, 0].max())))
        if not (series := self._sum_of_readings()):
            return said
        highest = _highest(series)
        held = format_bytes(highest.estimate_bytes)
        return f"{HELD_MOST.format(held=held, seconds=f'{highest.t_s:.1f}')}; {said}"

    def _span(self) -> tuple[float, float]:
        return float(min(one.at[0] for one in self._lives)), max(one.end for one in self._lives)

    def _sum_of_readings(self) -> list[Reading]:
        """Return the sums at the moments of all readings, or at some of very many. None where none
        was captured for a while, or a capture ended before another one and its process went on.
        """
        start, end = self._span()
        late = _APART * (end - start)
        if not math.isfinite(late) or all(len(one.read_at) < 2 for one in self._lives):
            return []
        if not all(self._are_dated or one.known or one.end + late >= end for one in self._lives):
            return []
        lives = [one if one.known else one._replace(end=end) for one in self._lives]
        if not _added_up([one.steady(1.0) for one in lives])[1][:-1, 0].all():
            return []
        at, sums = _added_up(lives)
        times = np.unique(np.concatenate([one.read_at for one in lives]))
        rows = np.clip(sums[np.searchsorted(at, times, "right") - 1], 0.0, _MOST_COUNTED)
        if len(times) > _MOST_READINGS:
            some = np.linspace(0, len(times) - 1, _MOST_READINGS).astype(np.int64)
            kept = np.union1d(some, np.argmax(rows[:, 0]))
            times, rows = times[kept], rows[kept]
        return [
            Reading(at_s - start, held, math.sqrt(variance), round(samples), None)
            for at_s, (held, variance, samples) in zip(times.tolist(), rows.tolist(), strict=True)
        ]


def _highest(series: list[Reading]) -> Reading:
    return max(series, key=lambda one: one.estimate_bytes)


def held_together(profiles: Sequence[Profile]) -> list[float | None]:
    """Return the bytes that each held when all together held most; None for one whose capture had
    ended then, or had not begun. One of unknown times was always there, and one that went on
    somewhat longer than its capture: captures of one command end one after another.
    """
    lives = list(map(_life, profiles))
    for k, (life, profile) in enumerate(zip(lives, profiles, strict=True)):
        if went_on(profile.capture):
            late_s = _APART * (profile.capture.duration_s or 0.0)
            lives[k] = life._replace(end=life.end + late_s)
    at, sums = _added_up(lives)
    most = at[np.argmax(sums[:, 0])]
    places = [int(np.searchsorted(life.at, most, "right")) - 1 for life in lives]
    return [
        float(life.held[place, 0]) if place >= 0 and most <= life.end else None
        for life, place in zip(lives, places, strict=True)
    ]


def _life(profile: Profile) -> _Life:
    capture = profile.capture
    held = (profile.before_end or profile).total(Count.INUSE, Unit.SPACE)
    start, length, peak = capture.started, capture.duration_s, capture.kept_peak_bytes
    if start is None or length is None or capture.part_s is not None:
        ever, none = np.array([-np.inf]), np.zeros((0, 3))
        return _Life(ever, none, ever, math.inf, known=True, peak=peak).steady(held.value)
    steps = sorted(
        (start + min(max(r.t_s, 0.0), length), r.estimate_bytes, r.std_error_bytes, r.samples)
        for r in profile.series
    ) or [(start, held.value, held.std_error, held.samples)]
    steps.insert(0, (start, 0.0, 0.0, 0))
    if peak is not None and capture.peak_at_s is not None and 0.0 <= capture.peak_at_s <= length:
        at = start + capture.peak_at_s
        place = bisect.bisect(steps, at, key=operator.itemgetter(0))
        steps.insert(place, (at, peak, *steps[place - 1][2:]))
    least = [
        (math.nextafter(one[0], math.inf), *after[1:])
        for one, after in itertools.pairwise(steps)
        if after[1] < one[1]
    ]
    table = np.nan_to_num(np.array(sorted((*steps, *least)), dtype=np.float64))
    sums = np.clip(table[:, 1:], 0.0, _MOST_COUNTED)
    sums[:, 1] **= 2
    read_at = np.array([one[0] for one in steps[1:]])
    known = has_ended(capture) or was_killed(capture)
    return _Life(table[:, 0], sums, read_at, start + length, known=known, peak=peak)


def _added_up(lives: Sequence[_Life]) -> tuple[Column, Column]:
    """Return the moments at which what all hold changes, and the sums of their columns then."""
    at = np.concatenate([[*one.at, np.nextafter(one.end, np.inf)] for one in lives])
    changes = np.concatenate([np.diff(one.held, axis=0, prepend=0, append=0) for one in lives])
    order = np.argsort(at, kind="stable")
    at, sums = at[order], np.cumsum(changes[order], axis=0)
    is_last = np.append(at[1:] != at[:-1], True)
    return at[is_last], sums[is_last]


def same_time(one: Capture, other: Capture) -> bool:
    """Tell whether two captures cover the same time in the same buckets."""
    if one.started is None or other.started is None or not one.duration_s or not other.duration_s:
        return False
    length = max(one.duration_s, other.duration_s)

    def near(a: float, b: float, share: float = _APART) -> bool:
        return abs(a - b) <= share * length

    return (
        near(one.started, other.started)
        and near(one.duration_s, other.duration_s)
        and near(*(c.before_end_at_s or c.duration_s or 0.0 for c in (one, other)))
        and len(one.bucket_end_s) == len(other.bucket_end_s) > 0
        and all(
            near(a, b, _BOUNDS_APART)
            for a, b in zip(_bounds(one), _bounds(other), strict=True)
            if min(a, b) < (1 - _APART) * length
        )
    )


def _bounds(capture: Capture) -> list[float]:
    """Return the upper ends of the buckets; none is behind the end of the capture."""
    end = capture.duration_s or 0.0
    return [end if bound is None else min(bound, end) for bound in capture.bucket_end_s]


def _columns_of(profile: Profile) -> dict[str, Column]:
    """Return what ages need, of a file that has it all; empty for another one."""
    sites, buckets = profile.sites, len(profile.capture.bucket_end_s)
    ended = profile.before_end is not None
    found = {}
    for name, (before, otherwise) in _OF_SITES.items():
        values = getattr(sites, before if ended else otherwise)
        if values is None and name.endswith(_MOMENT):
            values = np.full(len(sites), np.nan)
        if values is None or (values.ndim == 2 and values.shape[1] != buckets):
            return {}
        found[name] = values
    return {} if profile.capture.part_s else found


def _added(name: str, sums: Column | None, values: Column, rows: Ids, count: int) -> Column:
    """Return the sums for ``count`` rows with ``values`` at theirs; of moments the earliest."""
    moment = name.endswith(_MOMENT)
    grown = np.full((count, *values.shape[1:]), np.nan if moment else 0.0)
    if sums is not None:
        grown[: len(sums)] = sums
    if moment:
        np.fmin.at(grown, rows, values)
    else:
        np.add.at(grown, rows, values)
    return grown


def _typed(name: str, values: Column) -> npt.NDArray[np.generic]:
    if name.endswith(_MOMENT):
        return values
    if values.ndim == 2:
        return np.minimum(values, _MOST_BIRTHS).astype(np.uint32)
    return np.clip(values, 0.0, _MOST_COUNTED).astype(np.int64)
