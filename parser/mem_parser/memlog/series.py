"""Live bytes over time: for each interval its exact maximum and when that was.

The total is an estimate, and has the error of one (`mem_parser.estimate`); the maximum is exact of
that estimate: no moment between two intervals is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.errors import UsageProblem
from mem_parser.estimate import Estimate, FloatArray, unsample, unseen_bytes
from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.livesites import Sites, SiteSums
from mem_parser.memlog.run import Run
from mem_parser.memlog.running import EVENTS_OF_A_TASK, Rows, Task, scan_all
from mem_parser.memlog.segments import Segment, segments_of
from mem_parser.memlog.timeline import split, stretch_of
from mem_parser.memlog.weights import rounded

USUAL_INTERVAL_NS = 100_000_000
MOST_INTERVALS = 1 << 22
Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Series:
    """One domain over time; all arrays have one entry per interval.

    Interval k is from ``from_ns + k * interval_ns`` on. ``max_bytes``: the highest estimate of live
    bytes, NaN where it is not known at any moment; ``max_at_ns``: its first moment, and
    ``max_std_error`` its standard error. ``min_bytes`` is the lowest, and ``begin_bytes`` the one
    with which the interval begins, or is first known. ``sure``: no event is missing since the last
    keyframe. Births and deaths: of sampled blocks, and the bytes that they stand for.
    """

    domain: str
    rate_bytes: float
    from_ns: int
    interval_ns: int
    max_bytes: FloatArray
    max_at_ns: Ints
    max_std_error: FloatArray
    min_bytes: FloatArray
    begin_bytes: FloatArray
    sure: npt.NDArray[np.bool_]
    births: Ints
    born_bytes: FloatArray
    deaths: Ints
    freed_bytes: FloatArray

    def __len__(self) -> int:
        return len(self.max_bytes)

    def between(self, first: int, behind: int) -> Series:
        """Return the intervals from ``first`` on, without ``behind``."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        cut: dict[str, Any] = {
            k: v[first:behind] if isinstance(v, np.ndarray) else v for k, v in values.items()
        }
        cut["from_ns"] += first * self.interval_ns
        return Series(**cut)

    def estimate(self, k: int) -> Estimate:
        """Return the maximum of interval ``k`` with its error."""
        return Estimate(
            float(self.max_bytes[k]), float(self.max_std_error[k]), 0, unseen_bytes(self.rate_bytes)
        )


def series(
    run: Run, interval_ns: int = USUAL_INTERVAL_NS, *, jobs: int | None = None
) -> list[Series]:
    """Return the series of each domain of a run.

    ``jobs``: how many processes work; None: as many as there are processors, for a long log. Raises
    UsageProblem for an interval that is too short, InputFileError.
    """
    first, last = run.begin_ns // interval_ns, run.end_ns // interval_ns
    count = last - first + 1
    if interval_ns < 1 or count > MOST_INTERVALS:
        raise UsageProblem(
            f"{count} intervals are too many (at most {MOST_INTERVALS})",
            hint="choose longer ones",
        )
    segments = segments_of(run)
    facts = run.file_facts
    tasks, of_segment = [], []
    for k, segment in enumerate(segments):
        stretch = stretch_of(run, segment.events_after_ns, segment.to_ns, stacks=False)
        for part in split(stretch, EVENTS_OF_A_TASK):
            tasks.append(Task(part, interval_ns, facts.rates_bytes, segment.to_ns))
            of_segment.append(k)
    found = scan_all(tasks, _jobs(run) if jobs is None else jobs)
    tables = [
        _Table(name, rate, first, count, interval_ns)
        for name, rate in zip(facts.domains, facts.rates_bytes, strict=True)
    ]
    for k, segment in enumerate(segments):
        base = None if segment.base is None else run.keyframe(segment.base)
        parts = [rows for of, rows in zip(of_segment, found, strict=True) if of == k]
        for domain, table in enumerate(tables):
            table.take(segment, base, domain, [p[domain] for p in parts if domain in p])
    return [table.result() for table in tables]


def _jobs(run: Run) -> int:
    events = sum(block.entry.head.rows for block in run.blocks)
    return len(os.sched_getaffinity(0)) if events > EVENTS_OF_A_TASK else 1


def total_of(keyframe: Keyframe, domain: int, rate_bytes: float) -> tuple[float, float]:
    """Return the estimate of live bytes of one domain in a keyframe, and its variance."""
    return estimate_of(SiteSums(keyframe).sums().of_domain(domain), rate_bytes)


def estimate_of(sites: Sites, rate_bytes: float) -> tuple[float, float]:
    """Return the estimate of the live bytes of sites of one domain, and its variance."""
    sites = sites.live()
    found = unsample(sites.blocks, sites.bytes, rate_bytes)
    return float(rounded(found.bytes).sum()), float(np.rint(found.bytes_variance).sum())


class _Table:
    """The series of one domain while segments are put into it."""

    def __init__(
        self, domain: str, rate_bytes: float, first: int, count: int, interval_ns: int
    ) -> None:
        self._first = first
        self._series = Series(
            domain,
            rate_bytes,
            first * interval_ns,
            interval_ns,
            max_bytes=np.full(count, -np.inf),
            max_at_ns=np.zeros(count, dtype=np.int64),
            max_std_error=np.zeros(count),
            min_bytes=np.full(count, np.inf),
            begin_bytes=np.full(count, np.nan),
            sure=np.ones(count, dtype=np.bool_),
            births=np.zeros(count, dtype=np.int64),
            born_bytes=np.zeros(count),
            deaths=np.zeros(count, dtype=np.int64),
            freed_bytes=np.zeros(count),
        )

    def take(
        self, segment: Segment, base: Keyframe | None, domain: int, parts: Iterable[Rows]
    ) -> None:
        """Add a segment: its initial live blocks, and the rows of its parts."""
        s = self._series
        low = segment.from_ns // s.interval_ns - self._first
        high = (segment.to_ns - 1) // s.interval_ns - self._first
        if segment.sure_until_ns < segment.to_ns:
            s.sure[max(segment.sure_until_ns // s.interval_ns - self._first, low) : high + 1] = (
                False
            )
        value, variance = (0.0, 0.0) if base is None else total_of(base, domain, s.rate_bytes)
        # One more than there are, for births at the very end.
        totals = _Begins(value, variance, (low + self._first) * s.interval_ns, high - low + 2)
        for rows in parts:
            at = rows.interval - self._first
            np.add.at(s.births, at, rows.births)
            np.add.at(s.born_bytes, at, rows.born_bytes)
            np.add.at(s.deaths, at, rows.deaths)
            np.add.at(s.freed_bytes, at, rows.freed_bytes)
            if base is not None:
                self._higher(at, rows.top + value, rows.top_at_ns, rows.top_variance + variance)
                np.minimum.at(s.min_bytes, at, rows.low + value)
                totals.take(at - low, rows, value, variance, s.interval_ns)
            value += float(rows.last[-1])
            variance += float(rows.last_variance[-1])
        if base is not None:
            at = np.arange(low, high + 1)
            time = np.maximum((at + self._first) * s.interval_ns, segment.from_ns)
            begin, begin_variance = totals.result()
            self._higher(at, begin[:-1], time, begin_variance[:-1])
            np.minimum.at(s.min_bytes, at, begin[:-1])
            fresh = np.isnan(s.begin_bytes[at])
            s.begin_bytes[at[fresh]] = begin[:-1][fresh]

    def _higher(self, at: Ints, value: FloatArray, time: Ints, variance: FloatArray) -> None:
        s = self._series
        old = s.max_bytes[at]
        better = (value > old) | ((value == old) & (time < s.max_at_ns[at]))
        chosen = at[better]
        s.max_bytes[chosen] = value[better]
        s.max_at_ns[chosen] = time[better]
        s.max_std_error[chosen] = np.sqrt(np.maximum(variance[better], 0.0))

    def result(self) -> Series:
        """Return the series."""
        s = self._series
        unknown = np.isneginf(s.max_bytes)
        s.max_bytes = np.where(unknown, np.nan, np.maximum(s.max_bytes, 0.0))
        s.min_bytes = np.where(unknown, np.nan, np.maximum(s.min_bytes, 0.0))
        s.begin_bytes = np.maximum(s.begin_bytes, 0.0)
        s.max_std_error[unknown] = np.nan
        s.sure &= ~unknown
        return s


class _Begins:
    """The totals with which the intervals of a segment begin: that of the first events, if they are
    at the very beginning; else the last one before.
    """

    def __init__(self, value: float, variance: float, from_ns: int, count: int) -> None:
        self._from_ns = from_ns
        self._values = np.full((2, count + 1), np.nan)
        self._values[:, 0] = value, variance
        self._own = np.full((2, count), np.nan)

    def take(self, at: Ints, rows: Rows, value: float, variance: float, interval_ns: int) -> None:
        """Take in rows of the intervals ``at``, and the total before all of them."""
        self._values[0, at + 1] = rows.last + value
        self._values[1, at + 1] = rows.last_variance + variance
        begins = rows.first_ns == self._from_ns + at * interval_ns
        fresh = begins & np.isnan(self._own[0, at])
        self._own[0, at[fresh]] = rows.first[fresh] + value
        self._own[1, at[fresh]] = rows.first_variance[fresh] + variance

    def result(self) -> tuple[FloatArray, FloatArray]:
        """Return the totals, and their variances."""
        values = self._values[:, :-1]
        known = np.where(np.isnan(values[0]), 0, np.arange(values.shape[1]))
        filled = values[:, np.maximum.accumulate(known)]
        filled = np.where(np.isnan(self._own), filled, self._own)
        return filled[0], filled[1]
