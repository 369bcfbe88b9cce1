"""Facts of a moment that stand above its rows: totals, graphs, threads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

from mem_cli.live.braille import Series
from mem_cli.live.screen_state import HEAP, Graph, Head, Place
from mem_parser.estimate import Estimate
from mem_parser.interning import distinct
from mem_parser.model import Count, Profile, Reading, Unit
from mem_parser.programname import captured_name
from mem_parser.units import format_bytes
from mem_profiler.live.watched import Moment

HOST = "host"
Value = Callable[[Reading], float | None]


def domain_name(profile: Profile) -> str:
    """Return the memory that a profile of a moment is of."""
    return profile.domains[0] if profile.domains else HOST


def head(moment: Moment, domain: int) -> Head:
    """Return the facts of the profile number ``domain``; RSS is that of the whole process."""
    profile, host = moment.profiles[domain], moment.profiles[0]
    live = profile.total(Count.INUSE, Unit.SPACE)
    return Head(
        program=captured_name(host.capture),
        exe=host.capture.exe,
        pid=moment.pid or host.capture.pid or 0,
        allocator=os.path.basename(host.capture.allocator),
        rate_bytes=profile.rate_bytes,
        t_s=moment.t_s,
        samples=profile.capture.samples or 0,
        lost=profile.samples_missing,
        live=live,
        highest=_highest(profile, live),
        rss_bytes=next((r.rss_bytes for r in reversed(host.series) if r.rss_bytes), None),
    )


def _highest(profile: Profile, live: Estimate) -> Estimate:
    """Return the highest live total: of the sites that the sampler kept for it, else of the
    readings, whose error is that of their sum.
    """
    if profile.has(Count.PEAK):
        return profile.total(Count.PEAK, Unit.SPACE)
    top = max(profile.series, key=lambda r: r.estimate_bytes, default=None)
    if top is None or top.estimate_bytes <= live.value:
        return live
    error = top.std_error_bytes if profile.errors_known else math.nan
    return Estimate(top.estimate_bytes, error, top.samples, profile.unseen(Unit.SPACE))


def graphs(moment: Moment) -> list[Graph]:
    """Return the graphs of the head: the heap, RSS, and each domain of device memory."""
    host, *devices = moment.profiles
    found = [_graph(HEAP, host.series, _estimate), _graph("RSS", host.series, _rss)]
    return found + [_graph(domain_name(one), one.series, _estimate) for one in devices]


def _estimate(reading: Reading) -> float | None:
    return reading.estimate_bytes


def _rss(reading: Reading) -> float | None:
    return reading.rss_bytes


def _graph(title: str, series: Sequence[Reading], value: Value) -> Graph:
    known = [(r.t_s, v) for r in series if (v := value(r)) is not None]
    now = format_bytes(known[-1][1]) if known else "?"
    return Graph(title, now, Series([t for t, _ in known], [v for _, v in known]))


def threads(profile: Profile) -> list[Place]:
    """Return the threads that have blocks in use, in the order of their numbers."""
    blocks = profile.thread_blocks
    if blocks is None:
        return []
    rows = set(distinct(blocks.row).tolist())
    found = sorted((one for one in profile.threads if one.row in rows), key=lambda t: t.tid)
    return [Place(t.row, f"{t.name or '?'} ({t.tid})") for t in found]
