"""What is found of leaks: a verdict for each stack, and the sentence on all of them."""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mem_parser.errors import one_line
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame
from mem_parser.leaks.headline import NO_LEAKS, growth_text, headline, rate_text
from mem_parser.leaks.survivors import MIN_SAMPLES, Group
from mem_parser.units import format_bytes
from mem_parser.words import inside, joined, phrase

MOST_UNDECIDED = 0.5
"""Share of the bytes without a verdict, from which on it is no news that there is no leak."""
LEAST_TOLD = 0.01
"""Of the bytes in use: a headline does not speak of less without a stack; the notes do."""
_MOST_TOLD, _MOST_COMPARED = 200, 16
"""Findings of a function that are told apart, and those of another verdict beside each."""


class Verdict(enum.StrEnum):
    """The verdict on a stack; in the order of reports."""

    LEAK = "leak"
    HELD = "held-to-end"
    INCONCLUSIVE = "inconclusive"
    CACHE_LIKE = "cache-like"
    YOUNG = "young"


@dataclass(slots=True)
class Finding:
    """One stack, or the common part of several, and the verdict on it.

    ``per_hour`` is the growth in bytes, with a standard error that includes the chance in the
    program as well as that of sampling; None where the file has no times. ``watched_s`` are the
    seconds that it was measured in. ``frames`` begin at the one that is charged; ``inner`` are
    those of libraries below it. ``lines`` are the charged function's, of which ``frames``
    have the fastest. ``is_open``: it would be a leak if the program had been watched for longer.
    ``by_line``: a line alone tells it from one of another verdict (see `tell_apart`).
    """

    verdict: Verdict
    live: Estimate
    per_hour: Estimate | None
    frames: tuple[Frame, ...]
    evidence: str
    watched_s: float = math.nan
    stacks: int = 1
    inner: tuple[Frame, ...] = ()
    lines: tuple[int, ...] = ()
    group: Group | None = field(default=None, repr=False, compare=False)
    is_open: bool = False
    by_line: bool = False

    def is_in(self, other: Finding) -> bool:
        """Tell whether it is charged to the function that another profile's finding is."""
        keys = [one.frames[0].function_key if one.frames else None for one in (self, other)]
        return keys[0] == keys[1]

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON tools and pages take it; margins of None are unknown."""
        growth = self.per_hour
        lower, upper = self.live.known_ends
        return {
            "verdict": str(self.verdict),
            "bytes": self.live.value,
            "std_error": _finite(self.live.std_error),
            "lower95": lower,
            "upper95": upper,
            "growth": growth_text(growth, self.watched_s),
            "bytes_per_hour": None if growth is None else _finite(growth.value),
            "bytes_per_hour_error": None if growth is None else _finite(growth.margin95),
            "bytes_per_hour_lower95": None if growth is None else growth.known_ends[0],
            "bytes_per_hour_upper95": None if growth is None else growth.known_ends[1],
            "samples": self.live.samples,
            "stacks": self.stacks,
            "evidence": self.evidence,
            "stack": [f.as_json() for f in self.frames],
            "folded": [f.as_json() for f in self.inner],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Excess:
    """Growth of leaks beyond that of memory, in bytes per hour. ``grown`` is that of all leaks,
    ``memory_per_hour`` that of anonymous memory, ``most_per_hour`` that at most, ``least_per_hour``
    the difference at least.
    """

    grown: Estimate
    memory_per_hour: float
    most_per_hour: float
    least_per_hour: float


@dataclass(slots=True)
class LeakReport:
    """All findings, leaks first, the largest first among equals. ``until_s``: the second that they
    are of, where the program held much more later than is judged. ``without_stack``: what is in use
    of samples whose stacks were lost, which has no verdict; None: nothing.
    ``too_short``: why no growth could be called a leak; empty where it could. ``blind``: why there
    is no verdict on anything; empty where there is. ``excess``: growth, of this report or of the
    whole that it is a part of, that adds nothing to the process's memory; None: nothing tells of
    any.
    """

    findings: list[Finding]
    suppressed: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    until_s: float | None = None
    without_stack: Estimate | None = None
    too_short: str = ""
    blind: str = ""
    excess: Excess | None = None

    @property
    def leaks(self) -> list[Finding]:
        """The findings that are leaks."""
        return [f for f in self.findings if f.verdict is Verdict.LEAK]

    @property
    def held(self) -> list[Finding]:
        """What grew like leaks, and was freed as the program ended."""
        return [f for f in self.findings if f.verdict is Verdict.HELD]

    @property
    def headline(self) -> str:
        """The leaks in one sentence, and the growth that is none."""
        found, growth = self._no_leaks(), self.growth
        if self.leaks:
            most = None if self.excess is None else self.excess.most_per_hour
            found = headline_of(self.leaks, most_per_hour=most)
        elif growth:  # of a program that goes on it may be the leak
            found = phrase("no leaks by the end") if found == NO_LEAKS else found
            found, growth = growth, found
        more = [growth, self._grows_too(), self._adds_nothing()]
        return joined(phrase("; "), filter(None, [found, *more]))

    @property
    def growth(self) -> str:
        """What is `held` in words; empty where nothing is."""
        what = phrase("growth held until the clean-up")
        return headline_of(self.held, what) if self.held else ""

    def _no_leaks(self) -> str:
        if self.blind:
            return self.blind
        if self.too_short and any(f.is_open for f in self.findings):
            return phrase("no verdict on leaks; {reason}", reason=self.too_short)
        if self.too_short:
            return phrase("no leak seen; {reason}", reason=self.too_short)
        none = headline_of([])
        if self.until_s is not None:
            none = phrase("no leaks found in the first {seconds} s", seconds=f"{self.until_s:.3g}")
        if self.without_stack is not None and self.is_clouded:
            return phrase(
                "no verdict on {size} without stacks; {none} in the rest",
                size=format_bytes(self.without_stack.value),
                none=none,
            )
        if self.undecided < MOST_UNDECIDED:
            return none
        share = f"{100 * self.undecided:.0f}"
        if share == "100":
            return phrase("no verdict on leaks")
        return phrase("no verdict on {share} % of the bytes; no leaks in the rest", share=share)

    def _grows_too(self) -> str:
        """Return the growth that has no verdict, where it is much beside that of the leaks."""
        leaks = growth_of(self.leaks)
        more = growth_of([f for f in self.findings if f.verdict is Verdict.INCONCLUSIVE])
        if more is None or leaks is None or more.value < max(leaks.value / 10, leaks.margin95):
            return ""
        rate = growth_text(more, _watched_s(self.leaks))
        return phrase("{rate} more without a verdict", rate=rate) if rate else ""

    def _adds_nothing(self) -> str:
        if self.excess is None or not self.leaks:
            return ""
        least = rate_text(self.excess.least_per_hour, _watched_s(self.leaks))
        return phrase("at least {least} of all this adds nothing to memory", least=least)

    @property
    def is_partial(self) -> bool:
        """Whether there may be a leak among the samples without a stack."""
        return self.without_stack is not None and may_hide(self.without_stack.samples)

    @property
    def is_clouded(self) -> bool:
        """`is_partial`, and these samples are more than a trifle of what is in use."""
        if self.without_stack is None or not self.is_partial:
            return False
        named = math.fsum(f.live.value for f in (*self.findings, *self.suppressed))
        return self.without_stack.value >= LEAST_TOLD * (named + self.without_stack.value)

    @property
    def undecided(self) -> float:
        """The share of the bytes that have no verdict, of all that are not too young for one."""
        every = (*self.findings, *self.suppressed)
        held = math.fsum(f.live.value for f in every if f.verdict is not Verdict.YOUNG)
        open_bytes = math.fsum(
            f.live.value for f in self.findings if f.verdict is Verdict.INCONCLUSIVE
        )
        return open_bytes / held if held > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the block of `leaks --json` and of the page's tab."""
        return {
            "rows": [f.as_json() for f in self.findings],
            "headline": self.headline,
            "leaks": len(self.leaks),
            "suppressed": len(self.suppressed),
            "notes": self.notes,
        }


def tell_apart(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings, which come by weight; of leaks, and of others in the same function, the
    evidence begins with the nearest place that tells them apart. Only the heaviest of a function
    are compared: all with all would take minutes where it has thousands of stacks.
    """
    owned: dict[object, list[Finding]] = {}
    for one in findings:
        if one.frames:
            owned.setdefault(one.frames[0].function_key, []).append(one)
    told: dict[int, Finding] = {}
    for every in owned.values():
        kinds: tuple[list[Finding], list[Finding]] = ([], [])
        for one in every:
            kinds[_is_leak(one)].append(one)
        for one in every[:_MOST_TOLD]:
            told[id(one)] = _told_from(one, kinds[not _is_leak(one)][:_MOST_COMPARED])
    return [told.get(id(one), one) for one in findings]


def _is_leak(one: Finding) -> bool:
    return one.verdict is Verdict.LEAK


def _told_from(one: Finding, others: Sequence[Finding]) -> Finding:
    apart = [(at, other) for other in others if (at := _parting(one, other)) is not None]
    if not apart:
        return one
    at, other = max(apart, key=operator.itemgetter(0))
    if at >= len(one.frames):
        text = phrase("called from several places")
    else:
        text = phrase("at {place}", place=one.frames[0].spot)
        if at:
            called = filter(None, [one.frames[at].function, one.frames[at].spot])
            text = phrase("called by {place}", place=one_line(", ".join(called)))
    same = [f.frames[at : at + 1] for f in (one, other)]
    by_line = not all(same) or same[0][0].function_key == same[1][0].function_key
    if not at and _is_leak(one):  # its lines are beside its name
        return dataclasses.replace(one, by_line=True)
    evidence = joined(phrase("; "), filter(None, [text, inside(one.evidence)]))
    return dataclasses.replace(one, evidence=evidence, by_line=by_line)


def _parting(one: Finding, other: Finding) -> int | None:
    """Return the first frame that is at another line, the charged one is 0; None: there is none."""
    lines = [{f.frames[0].line, *f.lines} for f in (one, other)]
    if lines[0].isdisjoint(lines[1]):
        return 0
    callers = itertools.zip_longest(one.frames[1:], other.frames[1:])
    return next(
        (k for k, (a, b) in enumerate(callers, 1) if not (a and b and a.line_key == b.line_key)),
        None,
    )


def may_hide(samples: int) -> bool:
    """Tell whether there may be a leak among so many samples without a stack."""
    return samples >= MIN_SAMPLES


def headline_of(
    leaks: Sequence[Finding], what: str = "", most_per_hour: float | None = None
) -> str:
    """Return the leaks, or ``what`` else they are, in one sentence; ``most_per_hour`` is as of
    `headline`.
    """
    frames = [f.frames for f in leaks]
    return headline(growth_of(leaks), frames, _watched_s(leaks), what, most_per_hour)


def _watched_s(findings: Sequence[Finding]) -> float:
    return min((f.watched_s for f in findings), default=math.nan)


def growth_of(findings: Sequence[Finding]) -> Estimate | None:
    """Return the growth of all together, in bytes per hour. They have no samples in common, so
    their errors add in squares.
    """
    known = [f.per_hour for f in findings if f.per_hour is not None]
    return functools.reduce(operator.add, known) if known else None
