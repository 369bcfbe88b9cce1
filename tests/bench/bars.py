"""The bars the sampler is held to, and what the last measurement says of each.

Every bar is a ratio or a difference inside one run. A bar whose parts were not measured says so.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any

import events
import live_refresh
from programs import ratios_of
from pyfiles import FRAMES, SECTION, STACKS, below_frames
from rounds import Series, added, median, ratio, ratios
from serving_viewers import AS_MUCH, VIEWED

Sections = dict[str, Series]
ONE, TWO = "depth 24, 1 thread", "depth 24, 2 threads"
PEERS = f"peers, {ONE}"
CPU = "cpu_ns"


@dataclass(frozen=True)
class Bar:
    """One bar: what was asked, what was measured, whether that meets it (None: not measured)."""

    what: str
    asked: str
    measured: str
    met: bool | None

    def as_json(self) -> dict[str, Any]:
        """For the JSON file."""
        return asdict(self)


def _bar(what: str, asked: str, value: float | None, text: str, *, met: bool) -> Bar:
    if value is None or math.isnan(value):
        return Bar(what, asked, "not measured", None)
    return Bar(what, asked, text.format(value), met)


def _at_most(what: str, asked: str, value: float | None, limit: float, text: str) -> Bar:
    return _bar(what, asked, value, text, met=value is not None and value <= limit)


def _at_least(what: str, asked: str, value: float | None, limit: float, text: str) -> Bar:
    return _bar(what, asked, value, text, met=value is not None and value >= limit)


def _hot_path(sections: Sections) -> list[Bar]:
    series = sections.get(ONE, {})
    idle = added(series, "idle", "forwarding", CPU)
    slow = added(series, "512K", "forwarding", CPU)
    pair = median(series, "forwarding", CPU) or 0.0
    limit = max(1.0, pair / 10)
    return [
        _at_most("idle, over forwarding", f"<= {limit:.1f} ns", idle, limit, "{:.2f} ns"),
        _at_most("at 512K, over forwarding", "<= 3 ns", slow, 3.0, "{:.2f} ns"),
    ]


def _against_peers(sections: Sections) -> list[Bar]:
    series = sections.get(PEERS, {})
    ours_1024 = added(series, "1024", "not loaded", CPU)
    ours_every = added(series, "every block", "not loaded", CPU)
    jemalloc = added(series, "jemalloc prof 1024", "jemalloc", CPU)
    same = added(series, "ours on jemalloc 1024", "jemalloc", CPU)
    heaptrack = added(series, "heaptrack", "not loaded", CPU)
    memray = added(series, "python, memray --native", "python", CPU)
    python = added(series, "python, ours every block", "python", CPU)
    x1024, xsame = ratio(ours_1024, jemalloc), ratio(same, jemalloc)
    xmemray, xpython = ratio(ours_every, memray), ratio(python, memray)
    return [
        _at_most("1024: added / jemalloc prof's", "<= 1/15", x1024, 1 / 15, "{:.3f}"),
        _at_most("  the same, ours on jemalloc too", "<= 1/15", xsame, 1 / 15, "{:.3f}"),
        _at_most("every: added / memray --native's", "<= 2/5", xmemray, 2 / 5, "{:.2f}"),
        _at_most("  the same, both in Python", "<= 2/5", xpython, 2 / 5, "{:.2f}"),
        _at_most(
            "every: added / heaptrack's", "<= 1/8", ratio(ours_every, heaptrack), 1 / 8, "{:.2f}"
        ),
    ]


def _unwinder(sections: Sections) -> list[Bar]:
    series = sections.get("unwind", {})
    case = "ns per frame"
    hit, kept = median(series, case, "cfi_hit.nofp.24"), median(series, case, "cfi_hit.fp.24")
    walk = median(series, case, "fp_walk.fp.24")
    libunwind = median(series, case, "libunwind.nofp.24")
    libunwind_kept = median(series, case, "libunwind.fp.24")
    asked = "<= 2"
    return [
        _at_most("hit, per frame / frame-pointer walk", asked, ratio(kept, walk), 2, "{:.2f}"),
        _at_most("  code without frame pointers", asked, ratio(hit, walk), 2, "{:.2f}"),
        _at_least("unw_backtrace / hit", ">= 3", ratio(libunwind_kept, kept), 3, "{:.2f}"),
        _at_least("  code without frame pointers", ">= 3", ratio(libunwind, hit), 3, "{:.2f}"),
    ]


def _threads(sections: Sections) -> Bar:
    one = added(sections.get(ONE, {}), "1024", "not loaded", CPU)
    two = added(sections.get(TWO, {}), "1024", "not loaded", CPU)
    return _at_most("1024: added, 2 threads / 1 thread", "<= 1.3", ratio(two, one), 1.3, "{:.2f}")


def paired_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean of ratios with its 95 % interval (normal approximation of their logarithms)."""
    logs = [math.log(v) for v in values]
    mean = statistics.fmean(logs)
    # Two-sided 95 % points of Student's t for n - 1 degrees of freedom, by the usual expansion.
    degrees = len(logs) - 1
    t = 1.96 + 2.37 / degrees + 2.82 / degrees**2
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def _redis(sections: Sections) -> list[Bar]:
    series = sections.get("redis", {})
    name = "all cpu_ns"  # its inverse is throughput: the server has a CPU and nothing to wait for
    at_1024 = median(series, "1024", name)
    plain, peer = median(series, "unprofiled", name), median(series, "jemalloc prof 1024", name)
    bars = [
        _at_least("redis at 1024 / unprofiled", ">= 0.85", ratio(plain, at_1024), 0.85, "{:.2f}"),
        _at_least("redis at 1024 / jemalloc prof", ">= 3", ratio(peer, at_1024), 3, "{:.2f}"),
    ]
    pairs = ratios(sections.get("redis pairs", {}), "unprofiled", "512K", name)
    what, asked = "redis at 512K / unprofiled", "1 inside"
    if len(pairs) < 3:
        return [*bars, Bar(what, asked, "not measured", None)]
    mean, low, high = paired_interval(pairs)
    return [*bars, Bar(what, asked, f"{mean:.3f} ({low:.3f}-{high:.3f})", low <= 1 <= high)]


def _serve(sections: Sections) -> Bar:
    # Whoever takes the processor of the load makes each request dearer: see serving_viewers.
    pairs = ratios(sections.get("serve", {}), AS_MUCH, VIEWED, "all cpu_ns")
    what, asked = "redis with five viewers / as much work", "1 inside"
    if len(pairs) < 3:
        return Bar(what, asked, "not measured", None)
    mean, low, high = paired_interval(pairs)
    return Bar(what, asked, f"{mean:.3f} ({low:.3f}-{high:.3f})", low <= 1 <= high)


def _live(sections: Sections) -> list[Bar]:
    series = sections.get(live_refresh.SECTION, {})
    limits_ms = {10_000: 50.0, 100_000: 500.0}
    return [
        _at_most(
            f"refresh of a live view, {case}",
            f"<= {limit_ms:.0f} ms",
            median(series, case, "cpu_ms"),
            limit_ms,
            "{:.0f} ms",
        )
        for sites, limit_ms in limits_ms.items()
        for case in (live_refresh.case_name("C", sites), live_refresh.case_name("Python", sites))
    ]


def _memory(sections: Sections) -> Bar:
    value = added(sections.get("memory", {}), "512K", "not loaded", "rss_mib")
    return _at_most("added resident at 512K, 1 GiB", "<= 8 MiB", value, 8.0, "{:.1f} MiB")


def _parsing(sections: Sections) -> list[Bar]:
    series = next((s for name, s in sections.items() if name.startswith("parse, ")), {})
    cold = median(series, "mem_parser cold", "seconds")
    warm = median(series, "mem_parser warm", "seconds")
    return [
        _at_most("mem_parser -t, no cache", "<= 2 s", cold, 2.0, "{:.2f} s"),
        _at_most("mem_parser -t, symbols cached", "<= 0.5 s", warm, 0.5, "{:.2f} s"),
    ]


def _programs(sections: Sections) -> list[Bar]:
    def middle(case: str) -> float | None:
        values = ratios_of(sections, case, "cpu_s")
        return statistics.median(values) if values else None

    limits = {"512K": 1.02, "64K": 1.05, "1024": 1.25}
    bars = [
        _at_most(f"Python programs at {rate} / none", f"<= {limit}", middle(rate), limit, "{:.3f}")
        for rate, limit in limits.items()
    ]
    pairs = (
        ("  malloc's blocks / memray's", "1, malloc only", "memray"),
        ("  objects too / memray's, objects", "1", "memray objects"),
        ("  objects too / memray's of malloc", "1", "memray"),
    )
    for what, ours, theirs in pairs:
        share = ratio(middle(ours), middle(theirs))
        bars.append(_at_most(what, "<= 1", share, 1.0, "{:.2f}"))
    return bars


def _python_files(sections: Sections) -> list[Bar]:
    files, stacks = sections.get(SECTION, {}), sections.get(STACKS, {})
    frames = median(files, "data frames for 3 s at 1024", "file_mib")
    table = median(files, "table of 10,000 functions, warm", "all_wall_s")
    known, new = below_frames(stacks, "known_ns"), below_frames(stacks, "new_ns")
    what = f"{FRAMES} Python frames"
    return [
        _at_most("file of data frames, 3 s at 1024", "<= 10 MiB", frames, 10.0, "{:.1f} MiB"),
        _at_most("table of 10,000 functions, warm", "<= 0.5 s", table, 0.5, "{:.2f} s"),
        _at_most(f"{what}, known", "<= 40 ns", known, 40.0, "{:.0f} ns"),
        _at_most(f"{what}, new", "<= 2,000 ns", new, 2000.0, "{:,.0f} ns"),
    ]


def _events(sections: Sections) -> list[Bar]:
    series = sections.get(events.SECTION, {})
    more = added(series, events.with_events("1024"), "1024", CPU)
    share = ratio(more, added(series, "1024", "not loaded", CPU))
    every = added(series, events.with_events("every block"), "not loaded", CPU)
    heaptrack = added(series, "heaptrack", "not loaded", CPU)
    memray = added(series, "python, memray --native", "python", CPU)
    size = max(
        (n["log_bytes"][0] / n["events"][0] for n in series.values() if n.get("events")),
        default=None,
    )
    speed = median(sections.get(events.LOGS, {}), f"{events.SIMULATED:,} events", "written_per_s")
    millions = None if speed is None else speed / 1e6
    xmemray, xheaptrack = ratio(every, memray), ratio(every, heaptrack)
    return [
        _at_most("events at 1024: added / the capture's", "<= 1/4", share, 0.25, "{:.2f}"),
        _slow_events(series),
        _at_most("events of every block / heaptrack's", "<= 1", xheaptrack, 1.0, "{:.2f}"),
        _at_most("  / memray --native's", "<= 1/3", xmemray, 1 / 3, "{:.2f}"),
        _at_most("bytes per event in a log", "<= 16", size, 16.0, "{:.1f}"),
        _at_least("events written, per s of a core", ">= 3 M", millions, 3.0, "{:.1f} M"),
    ]


def _slow_events(series: Series) -> Bar:
    pairs = ratios(series, events.with_events("512K"), "512K", CPU)
    what, asked = "events at 512K / without", "1 inside"
    if len(pairs) < 3:
        return Bar(what, asked, "not measured", None)
    mean, low, high = paired_interval(pairs)
    return Bar(what, asked, f"{mean:.3f} ({low:.3f}-{high:.3f})", low <= 1 <= high)


def judge(sections: Sections) -> list[Bar]:
    """Every bar, in the order of the tables."""
    return [
        *_hot_path(sections),
        *_against_peers(sections),
        *_unwinder(sections),
        _threads(sections),
        *_redis(sections),
        _serve(sections),
        *_live(sections),
        *_programs(sections),
        *_python_files(sections),
        *_events(sections),
        _memory(sections),
        *_parsing(sections),
    ]
