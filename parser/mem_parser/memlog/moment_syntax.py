"""Moments of a log as users write them: `12.3s`, `1m30s`, `50%`, `end`, or a mark's text."""

from __future__ import annotations

import math

from mem_parser.devices import Mark
from mem_parser.errors import UsageProblem
from mem_parser.memlog.moments import known_span
from mem_parser.memlog.run import Run
from mem_parser.sizes import parse_seconds

_MOST_S = 1e9
_NS = 1_000_000_000


def parse_moment(text: str, run: Run, *, behind: bool = False) -> int:
    """Return nanoseconds since the capture began.

    A time counts from there; percent are of the time of which the log knows what was in use, and so
    are `begin` and `end`. Anything else is the text of a mark: the first one with it, `TEXT#3` the
    third. ``behind``: of a mark that begins a range its end is meant. Raises UsageProblem.
    """
    text = text.strip()
    seconds = _seconds(text)
    if seconds is not None:
        return round(seconds * _NS)
    low, high = known_span(run)
    share = _share(text)
    if share is not None:
        return low + round((high - low) * share)
    return _of_mark(text, run, behind=behind)


def _seconds(text: str) -> float | None:
    try:
        seconds = parse_seconds(text)
    except ValueError:
        return None
    if not 0 <= seconds <= _MOST_S:
        raise UsageProblem(f"{text} is no time of a log", hint="such as 12.3s, 500ms or 1m30s")
    return seconds


def _share(text: str) -> float | None:
    if text in ("begin", "end"):
        return float(text == "end")
    if not text.endswith("%"):
        return None
    try:
        percent = float(text[:-1])
    except ValueError:
        return None
    if not (math.isfinite(percent) and 0 <= percent <= 100):
        raise UsageProblem(f"{text} is no part of a log", hint="from 0% to 100%")
    return percent / 100


def _of_mark(text: str, run: Run, *, behind: bool) -> int:
    marks = sorted([] if run.facts is None else run.facts.marks, key=lambda m: m.time_s)
    named = [m for m in marks if m.kind != "end"]
    number, found = 1, [m for m in named if m.text == text]
    name, hash_, which = text.rpartition("#")
    if not found and hash_ and which.isdecimal() and len(which) < 10:
        number, found = int(which), [m for m in named if m.text == name]
    if not 1 <= number <= len(found):
        known = list(dict.fromkeys(m.text for m in named))
        raise UsageProblem(
            f"{text!r} is no time, and the log has no such mark",
            hint=f"a time such as 12.3s, 500ms, 1m30s, 50%{_list(known)}",
        )
    mark = found[number - 1]
    if behind and mark.kind == "begin":
        mark = _end_of(mark, marks)
    return round(mark.time_s * _NS)


def _end_of(begin: Mark, marks: list[Mark]) -> Mark:
    """Return the end of a range; the begin itself where the log has none."""
    ends = (
        m
        for m in marks
        if m.kind == "end"
        and (m.domain, m.id) == (begin.domain, begin.id)
        and m.time_s >= begin.time_s
    )
    return next(ends, begin)


def _list(names: list[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > 5 else ""
    return f", or a mark: {', '.join(names[:5])}{more}"
