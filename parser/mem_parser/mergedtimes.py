"""The ages of blocks and the readings of captures that cover the same time, added up.

Births and survivors are counted by time buckets since each capture's start. Buckets of captures
that began together, and are as long, can be added; of others, and where a file has no ages, there
are none in the sum. A process that freed its memory as it ended stands with what it held before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.interning import Ids
from mem_parser.leaks.watch import went_on
from mem_parser.model import Capture, Count, PeakSource, Profile, Reading, SiteTable, Unit

AGES_LEFT_OUT = "ages are left out: the captures are not of the same time"
_APART = 0.05
"""Of the time: captures of the same one begin and end no further from each other. The sum counts as
the longest of them, so that its last bucket shows rather too little growth than too much."""
_BOUNDS_APART = 0.01
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


class MergedTimes:
    """`add` each file; its sites are ``rows`` of the sum."""

    def __init__(self) -> None:
        self._captures: list[Capture] = []
        self._readings: list[list[Reading]] = []
        self._columns: dict[str, Column] = {}
        self._are_dated = True
        self._any_dated = False

    def add(self, profile: Profile, rows: Ids, count: int) -> None:
        """Add a file, whose sites are ``rows`` of the ``count`` rows so far."""
        columns = _columns_of(profile)
        self._captures.append(profile.capture)
        self._readings.append(profile.series)
        self._any_dated |= bool(columns)
        self._are_dated &= bool(columns) and same_time(self._captures[0], profile.capture)
        if not self._are_dated:
            self._columns, self._readings = {}, []
            return
        for name, values in columns.items():
            self._columns[name] = _added(name, self._columns.get(name), values, rows, count)

    def fill(self, table: SiteTable, capture: Capture) -> list[Reading]:
        """Give the sum its ages, and return its readings: nothing of captures of other times."""
        if not self._are_dated:
            return []
        ends = [c.before_end_at_s for c in self._captures if c.before_end_at_s is not None]
        for name, values in self._columns.items():
            if ends or not name.startswith("before_end"):
                setattr(table, name, _typed(name, values))
        capture.bucket_end_s = list(self._captures[0].bucket_end_s)
        capture.before_end_at_s = max(ends, default=None)
        series = self._sum_of_readings(capture)
        highest = max(series, key=lambda r: r.estimate_bytes, default=None)
        if highest is not None:
            capture.peak_bytes, capture.peak_at_s = highest.estimate_bytes, highest.t_s
            capture.peak_source = PeakSource.READING
        return series

    @property
    def left_out(self) -> str:
        """What the files had and the sum lacks; empty: nothing."""
        return AGES_LEFT_OUT if self._any_dated and not self._are_dated else ""

    def _sum_of_readings(self, capture: Capture) -> list[Reading]:
        """Return the sums at the moments of the file that was read most often, of the last reading
        of each file: a process without one yet holds nothing.
        """
        if not all(self._readings):
            return []
        starts = [c.started - (capture.started or 0.0) for c in self._captures if c.started]
        of_files = [
            (np.array([start + r.t_s for r in readings]), readings)
            for start, readings in zip(starts, self._readings, strict=True)
        ]
        times = max((at for at, _ in of_files), key=len)
        last = [(np.searchsorted(at, times, "right") - 1, rs) for at, rs in of_files]
        found = []
        for k, t_s in enumerate(times.tolist()):
            now = [readings[at[k]] for at, readings in last if at[k] >= 0]
            error = math.hypot(*(r.std_error_bytes for r in now))
            held = math.fsum(r.estimate_bytes for r in now)
            found.append(Reading(t_s, held, error, sum(r.samples for r in now), None))
        return found


def held_together(profiles: Sequence[Profile]) -> list[float | None]:
    """Return the bytes that each held when all together held most; None for one whose capture had
    ended then, or had not begun. One of unknown times was always there, and one that went on
    somewhat longer than its capture: captures of one command end one after another.
    """
    lives = [_life(profile) for profile in profiles]
    moments = np.unique(np.concatenate([at for at, *_ in lives]))
    sums = np.zeros(len(moments))
    for life in lives:
        sums += np.nan_to_num(_held_at(moments, *life))
    most = float(moments[np.argmax(sums)])
    found: list[float | None] = []
    for profile, life in zip(profiles, lives, strict=True):
        late_s = _APART * (profile.capture.duration_s or 0.0) if went_on(profile.capture) else 0.0
        last = life[2] if life[2] <= most <= life[2] + late_s else most
        held = float(_held_at(np.array([last]), *life)[0])
        found.append(None if math.isnan(held) else held)
    return found


def _life(profile: Profile) -> tuple[Column, Column, float]:
    """Return the moments of a process's readings, what it held, and when its capture ended."""
    capture, readings = profile.capture, profile.series
    held = (profile.before_end or profile).total(Count.INUSE, Unit.SPACE).value
    if capture.started is None or capture.duration_s is None:
        return np.array([-np.inf]), np.array([held]), math.inf
    start, end = capture.started, capture.started + capture.duration_s
    if not readings:
        return np.array([start]), np.array([held]), end
    at = [start, *(min(start + one.t_s, end) for one in readings)]
    return np.array(at), np.array([0.0, *(one.estimate_bytes for one in readings)]), end


def _held_at(moments: Column, at: Column, held: Column, end: float) -> Column:
    """Return what was held at each of ``moments``; nan where the process was not there."""
    place = np.searchsorted(at, moments, "right") - 1
    return np.where((place >= 0) & (moments <= end), held[place], np.nan)


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
