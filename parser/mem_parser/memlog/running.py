"""Running totals of live bytes: for each interval of time, and each domain, the exact extremes.

A part of a run is scanned alone, from a total of 0; who joins the parts adds what was live before.
Sums are exact (`weights`), so it does not matter where a part begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import FloatArray
from mem_parser.interning import distinct
from mem_parser.memlog.events import Events
from mem_parser.memlog.timeline import Stretch
from mem_parser.memlog.weights import weigh
from mem_parser.memlog.workers import run_all

Ints = npt.NDArray[np.int64]
EVENTS_OF_A_TASK = 1 << 22


@dataclass(slots=True)
class Rows:
    """One row per interval that has events, by time.

    ``top``, ``low``: the highest and the lowest total, which begins with 0; ``top_at_ns``: the
    first moment of the highest, ``top_variance`` its variance; ``first``, ``first_variance``: at
    the first moment with events, ``first_ns``; ``last``, ``last_variance``: at the end. Births and
    deaths: sampled blocks, and the bytes that they stand for.
    """

    interval: Ints
    top: FloatArray
    top_at_ns: Ints
    top_variance: FloatArray
    low: FloatArray
    first_ns: Ints
    first: FloatArray
    first_variance: FloatArray
    last: FloatArray
    last_variance: FloatArray
    births: Ints
    born_bytes: FloatArray
    deaths: Ints
    freed_bytes: FloatArray

    def __len__(self) -> int:
        return len(self.interval)


class Task(NamedTuple):
    """What a worker scans: the events of a stretch. Totals take in those before ``live_until_ns``
    only, births and deaths all. One rate per domain.
    """

    stretch: Stretch
    interval_ns: int
    rates_bytes: tuple[float, ...]
    live_until_ns: int


def scan(task: Task) -> dict[int, Rows]:
    """Return the rows of each domain that has events in a stretch. Raises InputFileError."""
    domains: dict[int, _Total] = {}
    for events in task.stretch.events():
        present = distinct(events.domain).tolist()
        for domain in present:
            own = events if len(present) == 1 else events.take(events.domain == domain)
            if domain not in domains:
                rate = task.rates_bytes[domain]
                domains[domain] = _Total(rate, task.interval_ns, task.live_until_ns)
            domains[domain].add(own)
    return {domain: total.rows() for domain, total in domains.items() if total.parts}


def scan_all(tasks: list[Task], jobs: int) -> list[dict[int, Rows]]:
    """Return `scan` of each task, in ``jobs`` processes. Raises MemError."""
    return run_all(scan, tasks, jobs)


@dataclass(slots=True)
class _Total:
    """The running total of one domain."""

    rate_bytes: float
    interval_ns: int
    live_until_ns: int
    value: float = 0.0
    variance: float = 0.0
    parts: list[Rows] = field(default_factory=list)

    def add(self, events: Events) -> None:
        """Go on with these events, which have all of their last time."""
        sign = events.sign
        moving = sign != 0
        if not moving.all():
            events, sign = events.take(moving), sign[moving]
        if not len(events):
            return
        size, variance = weigh(events.size_bytes, self.rate_bytes)
        born, time = sign > 0, events.time_ns
        # What happens at one time happens at once: only the total behind it counts.
        ends = np.flatnonzero(np.concatenate((time[1:] != time[:-1], [True])))
        behind = np.repeat(ends, np.diff(ends, prepend=-1))
        settled = behind == np.arange(len(time))
        if int(time[-1]) >= self.live_until_ns:
            settled &= time < self.live_until_ns
        total = np.cumsum(size * sign)
        total += self.value
        spread = np.cumsum(variance * sign)
        spread += self.variance
        self.value, self.variance = float(total[-1]), float(spread[-1])
        self.parts.append(
            _reduced(
                Rows(
                    interval=time // self.interval_ns,
                    top=np.where(settled, total, -np.inf),
                    top_at_ns=time,
                    top_variance=spread,
                    low=np.where(settled, total, np.inf),
                    first_ns=time,
                    first=total[behind],
                    first_variance=spread[behind],
                    last=total,
                    last_variance=spread,
                    births=born.astype(np.int64),
                    born_bytes=np.where(born, size, 0.0),
                    deaths=(~born).astype(np.int64),
                    freed_bytes=np.where(born, 0.0, size),
                )
            )
        )

    def rows(self) -> Rows:
        """Return all rows, one per interval."""
        return _reduced(_concatenated(self.parts))


def _concatenated(parts: list[Rows]) -> Rows:
    return Rows(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Rows)))


def _reduced(rows: Rows) -> Rows:
    """Join the rows of each interval, which lie side by side."""
    interval = rows.interval
    starts = np.flatnonzero(np.concatenate(([True], interval[1:] != interval[:-1])))
    ends = np.concatenate((starts[1:], [len(interval)])) - 1
    top = np.maximum.reduceat(rows.top, starts)
    highest = np.flatnonzero(rows.top == np.repeat(top, np.diff([*starts.tolist(), len(interval)])))
    first = highest[np.searchsorted(highest, starts)]
    return Rows(
        interval=interval[starts],
        top=top,
        top_at_ns=rows.top_at_ns[first],
        top_variance=rows.top_variance[first],
        low=np.minimum.reduceat(rows.low, starts),
        first_ns=rows.first_ns[starts],
        first=rows.first[starts],
        first_variance=rows.first_variance[starts],
        last=rows.last[ends],
        last_variance=rows.last_variance[ends],
        births=np.add.reduceat(rows.births, starts),
        born_bytes=np.add.reduceat(rows.born_bytes, starts),
        deaths=np.add.reduceat(rows.deaths, starts),
        freed_bytes=np.add.reduceat(rows.freed_bytes, starts),
    )
