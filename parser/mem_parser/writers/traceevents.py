"""Write a log's time as JSON in the Trace Event Format, which ui.perfetto.dev and Chrome open.

Of each memory there are counters: live bytes (each interval's begin and its exact maximum), the
standard error of the maximum, and what was allocated and freed a second; also RSS. Peaks and single
marks are instants, ranges of marks and what is not known are spans. Times are microseconds since
the capture began.

Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from mem_parser.devices import HOST, Mark
from mem_parser.errors import one_line
from mem_parser.escape import json_text
from mem_parser.memlog.series import Series
from mem_parser.model import Profile
from mem_parser.reports.grid import numbers
from mem_parser.reports.peaks import PeakView
from mem_parser.reports.timeline import Timeline
from mem_parser.units import counted
from mem_parser.version import __version__

Event = dict[str, Any]
_NS = 1e9
_AT_A_TIME = 1000
_MARKS, _HOLES, _UNSURE = "mark", "missing events", "not sure"


def write_trace(
    found: Timeline, peaks: Sequence[tuple[str, Sequence[PeakView]]], capture: Profile
) -> Iterator[bytes]:
    """Yield the file's bytes, some events at a time. ``peaks``: those of each memory, by its name.
    ``capture`` has the program's name and its threads.
    """
    pid = capture.capture.pid or 0
    threads = {t.row: t.tid for t in capture.threads}
    events = [
        *_names(found, capture, pid),
        *sorted(
            itertools.chain(
                *(_changes(_counters(series, found)) for series in found.every),
                _rss(found),
                *(_peaks(name, views) for name, views in peaks),
                _marks(found, threads, pid),
                _spans(found),
            ),
            key=lambda event: float(event["ts"]),
        ),
    ]
    about = {
        "writer": f"mem_parser {__version__}",
        "command": capture.capture.command,
        "rates_bytes": {s.domain: s.rate_bytes for s in found.every},
        "notes": found.notes,
    }
    yield f'{{"displayTimeUnit":"ms","otherData":{json_text(about)},"traceEvents":[\n'.encode()
    for low in range(0, len(events), _AT_A_TIME):
        part = events[low : low + _AT_A_TIME]
        text = ",\n".join(json_text({"pid": pid, "tid": pid} | event) for event in part)
        yield (text if low + _AT_A_TIME >= len(events) else f"{text},\n").encode()
    yield b"\n]}\n"


def _us(time_ns: float) -> float:
    return time_ns / 1e3


def _names(found: Timeline, capture: Profile, pid: int) -> Iterator[Event]:
    facts = capture.capture
    yield {"ph": "M", "name": "process_name", "args": {"name": one_line(facts.comm) or "program"}}
    marking = {mark.thread for mark in found.marks}
    for thread in capture.threads:
        if thread.row in marking and thread.name and thread.tid != pid:
            yield {
                "ph": "M", "name": "thread_name", "tid": thread.tid,
                "args": {"name": one_line(thread.name)},
            }  # fmt: skip


def _counter(name: str, time_ns: float, value: float) -> Event:
    return {"ph": "C", "name": name, "ts": _us(time_ns), "args": {"value": round(value, 3)}}


def _changes(events: Iterable[Event]) -> Iterator[Event]:
    """Yield counters without those that repeat the value before: a counter keeps its value."""
    before: dict[str, float] = {}
    for event in events:
        name, value = event["name"], event["args"]["value"]
        if before.get(name) != value:
            before[name] = value
            yield event


def _counters(series: Series, found: Timeline) -> Iterator[Event]:
    """Yield the counters of one memory."""
    name = "" if series.domain == HOST else f"{one_line(series.domain)}: "
    step_s = series.interval_ns / _NS
    lows = series.from_ns + np.arange(len(series)) * series.interval_ns
    for k, low in enumerate(lows.tolist()):
        at = max(low, found.begin_ns)
        if not math.isnan(series.max_bytes[k]):
            most_at = int(series.max_at_ns[k])
            if not math.isnan(series.begin_bytes[k]) and at < most_at:
                yield _counter(f"{name}live bytes", at, float(series.begin_bytes[k]))
            most, error = float(series.max_bytes[k]), float(series.max_std_error[k])
            yield _counter(f"{name}live bytes", max(most_at, at), most)
            yield _counter(f"{name}live bytes, standard error", max(most_at, at), error)
        born, freed = float(series.born_bytes[k]), float(series.freed_bytes[k])
        yield _counter(f"{name}allocated bytes/s", at, born / step_s)
        yield _counter(f"{name}freed bytes/s", at, freed / step_s)
    end = series.from_ns + len(series) * series.interval_ns
    for what in ("allocated", "freed"):
        yield _counter(f"{name}{what} bytes/s", end, 0.0)


def _rss(found: Timeline) -> Iterator[Event]:
    for reading in found.readings:
        if reading.rss_bytes is not None:
            yield _counter("RSS", round(reading.t_s * _NS), reading.rss_bytes)


def _peaks(domain: str, views: Sequence[PeakView]) -> Iterator[Event]:
    for number, one in enumerate(views, 1):
        holders = [{"function": r.name, **numbers("bytes", r.flat)} for r in one.holders]
        first = holders[0]["function"] if holders else "nobody"
        yield {
            "ph": "i", "s": "p", "cat": "peak", "name": f"peak {number}: {first}",
            "ts": _us(one.peak.time_ns),
            "args": {
                "domain": domain, "function": first, **numbers("live_bytes", one.peak.live),
                "prominence_bytes": round(one.peak.prominence_bytes, 3), "sure": one.peak.sure,
                "functions": holders,
            },
        }  # fmt: skip


def _marks(found: Timeline, threads: dict[int, int], pid: int) -> Iterator[Event]:
    """Yield points as instants, ranges as spans: one without a begin, or an end, is as long as
    what is shown.
    """
    opened: dict[tuple[str, int], list[tuple[Mark, Event]]] = {}
    number = itertools.count(1)

    def begin(mark: Mark, time_ns: float) -> Event:
        return {
            "ph": "b", "cat": _MARKS, "id": f"mark{next(number)}", "name": _text(mark),
            "ts": _us(time_ns), "tid": threads.get(mark.thread, pid),
            "args": {"library": mark.domain},
        }  # fmt: skip

    def end(event: Event, time_ns: float) -> Event:
        return {k: v for k, v in event.items() if k != "args"} | {"ph": "e", "ts": _us(time_ns)}

    for mark in found.marks:
        time_ns, key = round(mark.time_s * _NS), (mark.domain, mark.id)
        if mark.kind == "begin":
            event = begin(mark, time_ns)
            opened.setdefault(key, []).append((mark, event))
            yield event
        elif mark.kind == "end":
            if opened.get(key):
                yield end(opened[key].pop()[1], time_ns)
            else:
                event = begin(mark, found.from_ns)
                yield event
                yield end(event, time_ns)
        else:
            yield {
                "ph": "i", "s": "t", "cat": _MARKS, "name": _text(mark), "ts": _us(time_ns),
                "tid": threads.get(mark.thread, pid), "args": {"library": mark.domain},
            }  # fmt: skip
    for _, event in itertools.chain.from_iterable(opened.values()):
        yield end(event, found.to_ns)


def _text(mark: Mark) -> str:
    return one_line(mark.text) or "mark"


def _spans(found: Timeline) -> Iterator[Event]:
    for k, hole in enumerate(found.holes):
        lost = "events" if hole.lost is None else counted(hole.lost, "event")
        args = {"lost": hole.lost, "ring": hole.ring, "why": hole.why}
        name = f"{lost} missing"
        yield from _span(_HOLES, f"hole{k}", name, (hole.from_ns, hole.to_ns), args)
    for k, (low, high) in enumerate(found.unsure):
        yield from _span(_UNSURE, f"unsure{k}", "what was in use is not sure", (low, high), {})


def _span(
    kind: str, number: str, name: str, times_ns: tuple[int, int], args: Event
) -> Iterable[Event]:
    low, high = times_ns
    head = {"cat": kind, "id": number, "name": name}
    return (
        {"ph": "b", **head, "ts": _us(low), "args": args},
        {"ph": "e", **head, "ts": _us(high)},
    )
