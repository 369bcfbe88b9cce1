"""Culprits: the stacks behind a limit that does not hold, with lines and callers.

With a baseline they are the functions that surely grew since, the largest growth first; then, and
without one, the largest lines. Functions that grew are enough to add up to the excess; the largest
lines, of which nobody knows what is new, to nine tenths of the whole. Both are five at most.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mem_parser.budget.baseline import Program
from mem_parser.budget.growth import FunctionChange, changes
from mem_parser.budget.subject import Subject
from mem_parser.diff import Change
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame
from mem_parser.interning import distinct
from mem_parser.leaks.findings import Finding
from mem_parser.leaks.headline import growth_text
from mem_parser.model import Count, Profile, Unit

MOST = 5
_OF_WHOLE = 0.9


@dataclass(frozen=True, slots=True)
class Culprit:
    """One stack (innermost frame first) and its part of an excess: ``bytes`` held (of a limit on
    their number: blocks), and ``delta`` since the baseline where there is one. ``text`` says more
    in a few words. All its stacks share the first ``shared`` frames; None: all of them. The first
    has no line where one of several ``lines`` grew, and nobody knows which.
    """

    frames: tuple[Frame, ...]
    bytes: Estimate
    delta: Estimate | None = None
    text: str = ""
    shared: int | None = None
    lines: int = 1

    @property
    def amount(self) -> Estimate:
        """Its part of the excess."""
        return self.bytes if self.delta is None else self.delta

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON tools and pages take it."""
        lower, upper = self.bytes.known_ends
        low, high = (None, None) if self.delta is None else self.delta.known_ends
        return {
            "bytes": self.bytes.value,
            "std_error": _finite(self.bytes.std_error),
            "lower95": lower,
            "upper95": upper,
            "delta": None if self.delta is None else self.delta.value,
            "delta_error": None if self.delta is None else _finite(self.delta.std_error),
            "delta_lower95": low,
            "delta_upper95": high,
            "samples": self.bytes.samples,
            "text": self.text,
            "stack": [f.as_json() | {"module": f.module} for f in self.frames],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def largest(
    subject: Subject,
    part: Profile,
    count: Count,
    excess: float,
    scale: float = 1.0,
    *,
    unit: Unit = Unit.SPACE,
) -> list[Culprit]:
    """Return the largest lines of ``part`` by ``count``, each with its largest stack, until they
    add up to ``excess`` and to most of the whole. ``scale`` converts them to the limit's unit (per
    second).
    """
    value, variance, blocks = part.weigh(count, unit)
    unseen = part.unseen(unit)
    places = subject.places
    place = places.place[part.sites.stack]
    sums = [np.bincount(place, weights=w, minlength=len(places)) for w in (value, variance, blocks)]
    by_line: dict[object, list[int]] = {}
    for k in np.flatnonzero(sums[2]).tolist():
        by_line.setdefault(places.frames[k][0].line_key, []).append(k)
    rows = []
    for members in by_line.values():
        total = [float(s[members].sum()) for s in sums]
        top = max(members, key=lambda k: float(sums[0][k]))
        error = math.sqrt(total[1])
        amount = Estimate(scale * total[0], scale * error, round(total[2]), unseen.scaled(scale))
        text = f"the largest of {len(members)} stacks" if len(members) > 1 else ""
        rows.append(Culprit(places.frames[top], amount, text=text))
    rows.sort(key=lambda c: -c.bytes.value)
    return _enough(rows, max(excess, _OF_WHOLE * math.fsum(c.bytes.value for c in rows)))


def grown_and_largest(
    subject: Subject, part: Profile, program: Program, excess: float, key: str = ""
) -> list[Culprit]:
    """Return the functions of ``part`` by ``key`` that surely grew since the baseline, and the
    largest other lines for the rest of ``excess``.
    """
    found = _grown(subject, part, program, excess, key)
    left = excess - sum(c.amount.value for c in found)
    if found and left <= 0:
        return found
    named = {c.frames[0].function_key for c in found}
    count, unit = program.counted(key)
    others = largest(subject, part, count, math.inf, unit=unit)
    rest = [c for c in others if c.frames[0].function_key not in named]
    return found + _enough(rest[: MOST - len(found)], left)


def _grown(
    subject: Subject, part: Profile, program: Program, excess: float, key: str
) -> list[Culprit]:
    count, unit = program.counted(key)
    within = _innermost(subject, part, count)
    since = _since(program, same_build=subject.is_of_build(program.build))
    rows = [
        _culprit_of(change, change.row.amount.estimate(subject.profile.rate_bytes, unit), since)
        for change in changes(subject, program, key)
        if change.change in (Change.NEW, Change.GROWN)
        and change.now.frames[0].function_key in within
    ]
    return _enough(rows, excess)


def _culprit_of(change: FunctionChange, amount: Estimate, since: str) -> Culprit:
    stacks = change.stacks
    lines = 1 if change.line is not None else len(change.now.by_line)
    said = [f"{change.change} since {since}"]
    if change.was:
        said.append(f"then called {change.was}")
    if lines > 1:
        said.append(f"at one of its {lines} lines")
    if len(stacks) > 1:
        said.append(f"the largest of {len(stacks)} stacks")
    alike = (len(set(level)) == 1 for level in zip(*stacks, strict=False))
    shared = sum(1 for _ in itertools.takewhile(bool, alike))
    return Culprit(stacks[0], amount, change.delta, ", ".join(said), shared, lines)


def leaking(findings: list[Finding]) -> list[Culprit]:
    """Return leaks with their growth, the fastest first."""
    rows = []
    for finding in findings[:MOST]:
        rate = growth_text(finding.per_hour, finding.watched_s)
        evidence = finding.evidence
        if finding.stacks > 1:
            evidence = f"{evidence.removesuffix('.')}, by {finding.stacks} stacks"
        text = f"{f'+{rate}, ' if rate else ''}{evidence}"
        rows.append(Culprit(finding.frames, finding.live, text=text))
    return rows


def _enough(rows: list[Culprit], excess: float) -> list[Culprit]:
    kept: list[Culprit] = []
    for row in rows[:MOST]:
        if kept and sum(c.amount.value for c in kept) >= excess:
            break
        kept.append(row)
    return kept


def _innermost(subject: Subject, part: Profile, count: Count) -> set[tuple[str, str]]:
    blocks, _ = part.counts(count)
    used = distinct(subject.places.place[part.sites.stack[blocks > 0]])
    return {subject.places.frames[k][0].function_key for k in used.tolist()}


def _since(program: Program, *, same_build: bool) -> str:
    if same_build:
        return "the baseline, of the same build"
    return f"the baseline of build {program.build[:7]}" if program.build else "the baseline"
