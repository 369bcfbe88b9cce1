"""The processes of one service beside their sum: which holds most, and which leak by themselves."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mem_parser.escape import one_line
from mem_parser.estimate import Estimate
from mem_parser.leaks.ages import LEAST_WATCH_S
from mem_parser.leaks.findings import LeakReport
from mem_parser.leaks.headline import growth_text
from mem_parser.leaks.watch import time_text
from mem_parser.model import Count, Profile, Unit
from mem_parser.programname import captured_name, names_of_siblings
from mem_parser.reports.grid import Block, Column, Grid, Record, amounts, numbers
from mem_parser.reports.opening import Sentence
from mem_parser.units import format_bytes
from mem_parser.words import phrase, shown

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Member:
    """One process, ``added`` to the sum or not. ``growth``: bytes per hour in the functions that
    leak in the sum or in any process; None: unknown.
    """

    file: str
    pid: int | None
    peak_rss_bytes: int | None
    in_use: Estimate
    growth: Estimate | None
    leaks: int | None
    watched_s: float
    program: str = ""
    added: bool = True

    @property
    def rate(self) -> str:
        """The growth in words; empty where it is unknown or below its error."""
        return growth_text(self.growth, self.watched_s)


def members(
    judged: Sequence[tuple[str, Profile, LeakReport | None]],
    whole: LeakReport | None,
    others: Sequence[tuple[str, Profile]] = (),
) -> list[Member]:
    """Return the processes of ``judged`` (file, profile, verdicts) and the ``others``, the one that
    grows most first, or took most. ``whole`` are the verdicts on the sum of the former.
    """
    keys = _leaking(whole).union(*(_leaking(report) for *_, report in judged))
    every = [one.capture for one in (*(one for _, one, _ in judged), *(one for _, one in others))]
    programs = names_of_siblings([(captured_name(one), one.command) for one in every])
    found = [_member(*one, keys) for one in judged]
    found += [replace(_member(*one, None, keys), added=False) for one in others]
    found = [replace(one, program=name) for one, name in zip(found, programs, strict=True)]

    def weight(one: Member) -> tuple[float, ...]:
        growth = one.growth.value if one.growth is not None else 0.0
        return growth, one.peak_rss_bytes or 0, one.in_use.value

    return sorted(found, key=weight, reverse=True)


def _member(file: str, profile: Profile, report: LeakReport | None, keys: set[Key]) -> Member:
    grown = [
        one.per_hour
        for one in (report.findings if report is not None else [])
        if one.per_hour is not None and one.frames and one.frames[0].function_key in keys
    ]
    return Member(
        file,
        profile.capture.pid,
        profile.capture.memory.peak_rss_bytes,
        (profile.before_end or profile).total(Count.INUSE, Unit.SPACE),
        functools.reduce(operator.add, grown) if grown else None,
        None if report is None or (report.blind and not report.leaks) else len(report.leaks),
        profile.capture.duration_s or 0.0,
    )


def _leaking(report: LeakReport | None) -> set[Key]:
    leaks = report.leaks if report is not None else []
    return {one.frames[0].function_key for one in leaks if one.frames}


def sentences(found: Sequence[Member], whole: LeakReport | None) -> list[Sentence]:
    """Return how many processes leak by themselves, and the worst where it surely is that. Without
    a leak in them or in the ``whole`` there is nothing to say, but where there are no verdicts on
    that, and not all processes were there for long enough.
    """
    found = [one for one in found if one.added]
    leaking = [one for one in found if one.leaks]
    if not leaking and not _leaking(whole):
        short = sum(one.watched_s < LEAST_WATCH_S for one in found)
        text = phrase(
            "no verdict on leaks: {short} of {number} processes were watched for less than {time}",
            short=short,
            number=len(found),
            time=time_text(LEAST_WATCH_S),
        )
        return [Sentence("no verdict", text)] if short and whole is None else []
    text = phrase(
        "leaks of their own: {leaking} of {number} processes{worst}",
        leaking=len(leaking),
        number=len(found),
        worst=_worst(found),
    )
    return [Sentence("leak" if leaking else "no verdict", text)]


def _worst(found: Sequence[Member]) -> str:
    first, others = found[0], [one.growth for one in found[1:] if one.growth is not None]
    lower = None if first.growth is None else first.growth.known_ends[0]
    ends = [growth.known_ends[1] for growth in others]
    if lower is None or not all(end is not None and end < lower for end in ends):
        return ""
    return phrase("; {process} grows fastest, {rate}", process=first.pid, rate=first.rate)


def blocks(found: Sequence[Member], most: int) -> Iterator[Block]:
    """Yield the table of the first ``most`` processes, or all for 0, and the number of others."""
    kept = found[: most or None]
    yield _grid(kept)
    if len(kept) < len(found):
        more = len(found) - len(kept)
        yield shown(phrase("{number} more hidden. Use -n 0 to show all.", number=more))


def _grid(found: Sequence[Member]) -> Grid:
    columns = (
        Column(phrase("process")), Column(phrase("program"), right=False),
        Column(phrase("peak RSS")), Column(phrase("in use")), Column(phrase("growth of leaks")),
        Column(phrase("leaks")), Column(phrase("file"), right=False, flexible=True),
    )  # fmt: skip
    held = amounts((one.in_use for one in found), Unit.SPACE)
    rows = [
        (
            str(one.pid),
            one.program,
            "-" if one.peak_rss_bytes is None else f"≥ {format_bytes(one.peak_rss_bytes)}",
            size,
            one.rate or "-",
            "-" if one.leaks is None else str(one.leaks),
            one_line(one.file),
        )
        for one, size in zip(found, held, strict=True)
    ]
    return Grid(columns, list(rows))


def records(found: Sequence[Member]) -> list[Record]:
    """Return the table for programs."""
    return [
        {
            "file": one.file,
            "pid": one.pid,
            "program": one.program,
            "added": one.added,
            "peak_rss_bytes": one.peak_rss_bytes,
            "leaks": one.leaks,
            "growth": one.rate or None,
        }
        | numbers("bytes", one.in_use)
        for one in found
    ]
