"""The verdict on every limit, and on all of them together.

    pass          the upper bound is not above the limit
    fail          the lower bound is above it
    inconclusive  neither: the samples do not tell; or an obstacle forbids to pass

The chance of a wrong verdict, `Budget.error` (5 %), has these parts:

- over tries: each gets an equal part, since any of them may decide (Bonferroni), so repeating does
  not buy a verdict;
- fail, over limits: one limit that fails is enough to fail the whole, so each gets an equal part of
  the try's error (Bonferroni);
- pass, not over limits: the whole passes only if every limit does. If it should not, the program
  truly exceeds at least one limit, and the chance that this one passes already bounds the chance
  that all do (the intersection-union test: R. L. Berger, Technometrics 24, 1982).
"""

from __future__ import annotations

import enum
import functools
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mem_parser import unseen
from mem_parser.budget import baseline as baselines
from mem_parser.budget import culprits, growth, leakage
from mem_parser.budget.baseline import Baseline, Program
from mem_parser.budget.bounds import sampled
from mem_parser.budget.culprits import Culprit
from mem_parser.budget.matching import unknown_names, unmatched, without_capture
from mem_parser.budget.measure import (
    Measured,
    freed_at_end,
    lost_share,
    measure,
    obstacle_of,
    running,
    with_lost,
)
from mem_parser.budget.resident import explains, measure_resident
from mem_parser.budget.rules import Budget, Limit, Measure, Site
from mem_parser.budget.subject import Subject
from mem_parser.budget.uncounted import Pass, bounds_children, mappings_of, without_mappings
from mem_parser.errors import BaselineError, OverBudget, Undecided
from mem_parser.estimate import Estimate
from mem_parser.leaks.findings import headline_of
from mem_parser.leaks.suppressions import Suppressions, as_regex, read_suppressions
from mem_parser.model import BoolArray, Count, Profile
from mem_parser.programname import names_of_siblings
from mem_parser.symbols.functionnames import is_own, nearest
from mem_parser.units import counted, format_bytes, format_value
from mem_parser.unseen import is_of_children


class Verdict(enum.StrEnum):
    """The verdict on a limit; in the order of reports."""

    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"  # noqa: S105 - no password


ORDER = list(Verdict)
_WITHOUT_A_READING = 2
_FEW = 3
EXIT_CODES = {
    Verdict.PASS: 0,
    Verdict.FAIL: OverBudget.exit_code,
    Verdict.INCONCLUSIVE: Undecided.exit_code,
}


@dataclass(slots=True)
class Result:
    """One limit and the verdict on it.

    ``amount`` is the limit of the value, in bytes (per second for rates), tolerance included; None
    where a growth limit has no baseline amount. ``lower`` and ``upper`` are one-sided bounds at
    their allowed error. ``reason`` says why it is inconclusive.
    """

    limit: Limit
    site: Site | None
    verdict: Verdict
    amount: float | None
    estimate: Estimate | None
    lower: float = 0.0
    upper: float = math.inf
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    culprits: list[Culprit] = field(default_factory=list)
    attempt: int = 1
    headline: str = ""
    """The leaks in one sentence, of a limit on leaks that finds some."""
    rate_bytes: float = 0.0
    """That of the samples, where another run may have another one (-c); else 0."""

    @property
    def name(self) -> str:
        """The name of the limit: `peak`, or `inuse of module:libparser`."""
        word = str(self.limit.measure)
        return word if self.site is None else f"{word} of {self.site.title}"

    @property
    def excess(self) -> float:
        """How far the estimate is above the limit; negative below."""
        if self.estimate is None or self.amount is None:
            return 0.0
        return self.estimate.value - self.amount

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON tools and pages take it."""
        known = self.estimate
        lower, upper = (None, None) if known is None else known.known_ends
        return {
            "verdict": str(self.verdict),
            "measure": str(self.limit.measure),
            "name": self.name,
            "site": self.site.key if self.site else None,
            "limit": self.amount,
            "limit_text": self.limit.text,
            "where": self.limit.where,
            "value": None if known is None else known.value,
            "std_error": None if known is None else _finite(known.std_error),
            "lower95": lower,
            "upper95": upper,
            "samples": None if known is None else known.samples,
            "lower": _finite(self.lower),
            "upper": _finite(self.upper),
            "excess": self.excess,
            "reason": self.reason,
            "headline": self.headline,
            "notes": self.notes,
            "attempt": self.attempt,
            "culprits": [c.as_json() for c in self.culprits],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(slots=True)
class CaptureReport:
    """All results of one capture. ``program`` is what to call it, ``title`` its subject's."""

    path: str
    program: str
    results: list[Result]
    rate_bytes: float
    samples: int
    notes: list[str] = field(default_factory=list)
    sampling: str = ""
    """As of `mem_parser.model.Profile`."""
    started: float | None = None
    duration_s: float | None = None
    title: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return min((r.verdict for r in self.results), key=ORDER.index, default=Verdict.PASS)

    def as_json(self) -> dict[str, Any]:
        """Return the block of `budget --json`."""
        return {
            "rows": [r.as_json() for r in self.results],
            "file": self.path,
            "program": self.program,
            "verdict": str(self.verdict),
            "rate_bytes": self.rate_bytes,
            "samples": self.samples,
            "notes": self.notes,
        }


@dataclass(slots=True)
class Report:
    """The result of one check: one report for each capture."""

    captures: list[CaptureReport]
    error: float
    tries: int = 1
    attempt: int = 1
    program_code: int = 0
    """The exit code of a program that failed by itself, whatever its memory."""

    @property
    def verdict(self) -> Verdict:
        """The worst of all captures."""
        return min((c.verdict for c in self.captures), key=ORDER.index, default=Verdict.PASS)

    @property
    def worst(self) -> CaptureReport:
        """The first capture with the worst verdict."""
        return min(self.captures, key=lambda c: ORDER.index(c.verdict))

    @property
    def exit_code(self) -> int:
        """0 pass, 6 over budget, 7 inconclusive."""
        return EXIT_CODES[self.verdict]

    @property
    def may_be_decided(self) -> bool:
        """Whether nothing failed, and a finer rate may decide an inconclusive limit."""
        undecided = [r for _, r in self.results if r.verdict is Verdict.INCONCLUSIVE]
        return self.verdict is Verdict.INCONCLUSIVE and any(
            not r.reason and (r.estimate is not None) for r in undecided
        )

    @property
    def results(self) -> list[tuple[CaptureReport, Result]]:
        """All results with their captures."""
        return [(c, r) for c in self.captures for r in c.results]

    def as_json(self) -> dict[str, Any]:
        """Return the object that `budget --json` prints."""
        return {
            "rows": [c.as_json() for c in self.captures],
            "verdict": str(self.verdict),
            "exit_code": self.exit_code,
            "program_code": self.program_code,
            "error": self.error,
            "tries": self.tries,
            "attempt": self.attempt,
        }


def count_of(kind: Measure) -> Count:
    """Return what a limit counts, but one on growth, which counts what its baseline has."""
    if kind.startswith("alloc"):
        return Count.ALLOC
    return Count.PEAK if kind in (Measure.PEAK, Measure.RSS) else Count.INUSE


def check(given: Sequence[tuple[Subject, Budget]], *, tries: int = 1, attempt: int = 1) -> Report:
    """Check captures against budgets, all together.

    ``tries`` is the number of tries in all, ``attempt`` the number of this one; the tries share the
    error. Leaves out a capture without limits (mostly a device's). Raises `BaselineError` for a
    baseline that is broken, or that a limit needs and that is missing or of other programs alone;
    `InputFileError` for a broken list of suppressions.
    """
    asked = [(s, budget.for_domains(s.profile.domains)) for s, budget in given]
    pairs = [(s, budget) for s, budget in asked if budget.every_limit]
    checks = sum(len(budget.every_limit) for _, budget in pairs)
    error = min((budget.error for _, budget in pairs), default=0.0)
    judges = [
        _Judge(s, budget, budget.error / tries, checks, mappings_of(s, asked))
        for s, budget in pairs
    ]
    _check_baselines([judge for judge in judges if judge.baseline is not None])
    reports = [judge.run(attempt) for judge in judges]
    _tell_apart(reports, [judge.subject for judge in judges])
    pairs = [(judge.subject, judge.budget) for judge in judges]
    unknown = unknown_names(pairs)
    for result in [result for report in reports for result in report.results]:
        reason = unknown.get(result.site.key) if result.site is not None else None
        if reason and result.verdict is Verdict.PASS:
            result.verdict, result.reason = Verdict.INCONCLUSIVE, reason
    if reports:
        budgets = [budget for _, budget in given]
        missing = without_mappings(asked, budgets)
        reports[0].results += [
            Result(
                one, site, Verdict.INCONCLUSIVE, one.allowed, None, reason=reason, attempt=attempt
            )
            for site, reason in missing.values()
            for one in site.limits
        ]
        reports[0].notes += [
            text for key, text in without_capture(asked, budgets).items() if key not in missing
        ]
        reports[0].notes += [text for key, text in unmatched(pairs).items() if key not in unknown]
        reports[0].notes += _idle(judges)
    return Report(reports, error, tries, attempt)


def _tell_apart(reports: Sequence[CaptureReport], subjects: Sequence[Subject]) -> None:
    """Name programs of one name, as the scripts of an interpreter, by what each has alone."""
    programs = [(one.title, one.profile.capture.command) for one in subjects]
    alike = Counter(title for title, _ in programs)
    for report, told in zip(reports, names_of_siblings(programs), strict=True):
        if alike[report.title] > 1:
            report.program = told


def _check_baselines(judges: Sequence[_Judge]) -> None:
    """Refuse baselines that have none of the programs. Of a helper beside one that they have, the
    growth is only inconclusive.
    """
    if not judges or any(judge.program is not None or judge.of_launcher for judge in judges):
        return
    judge = judges[0]
    assert judge.baseline is not None
    text, hint = judge.baseline.lacks(judge.subject.title)
    raise BaselineError(text, hint=hint)


def _idle(judges: Sequence[_Judge]) -> list[str]:
    """Name the suppressions that match nothing in any of the captures that they are for."""
    found: dict[str, set[str]] = {}
    used: set[str] = set()
    for judge in (one for one in judges if one.known.patterns):
        names = judge.subject.spelled
        idle = judge.known.idle(names)
        used |= set(judge.known.patterns) - idle
        for pattern in idle:
            found.setdefault(pattern, set()).update(names)
    notes, alone = [], []
    for pattern in (one for one in found if one not in used):
        near = nearest(as_regex(pattern), found[pattern])
        if near:
            notes.append(f"leak:{pattern} matches nothing; nearest: {', '.join(near)}")
        else:
            alone.append(f"leak:{pattern}")
    if alone:
        more = f" and {len(alone) - _FEW} more" if len(alone) > _FEW else ""
        notes.append(f"{', '.join(alone[:_FEW])}{more}: no stack of this run matches")
    return notes


def _stripped(found: Sequence[Culprit]) -> list[str]:
    """Say how culprits get names that have none."""
    unnamed = [c.frames[0].module for c in found if c.frames and c.frames[0].build_id]
    files = dict.fromkeys(os.path.basename(module) for module in filter(is_own, unnamed))
    return [
        f"{name} has no symbols: keep them, or mem_parser budget -p UNSTRIPPED" for name in files
    ]


class _Judge:
    """Checks one capture against its budget."""

    def __init__(
        self, subject: Subject, budget: Budget, error: float, checks: int,
        beside: Sequence[tuple[Subject, Budget]],
    ) -> None:  # fmt: skip
        self.subject = subject
        self.beside = beside
        self.budget = budget
        self.pass_alpha = error
        self.fail_alpha = error / max(checks, 1)
        self.baseline: Baseline | None = None
        self.of_launcher = unseen.of_launcher(subject.profile.capture) if budget.is_for_all else ""
        self.program = self._baseline()
        if self.program is not None:
            self.subject = subject.charged_like(self.program.passing)
        self.known = Suppressions(
            pattern
            for path in budget.suppressions
            for pattern in read_suppressions(path, chosen_by_user=False)
        )

    @functools.cached_property
    def _suppressed(self) -> BoolArray:
        places = self.subject.whole_places
        hidden = [self.known.match(frames) for frames in places.frames]
        return np.array(hidden, dtype=np.bool_)[places.place]

    def _counted(self, part: Profile | None, kind: Measure) -> Profile | None:
        """Return the blocks of ``part`` that a limit counts: of those in use, none suppressed."""
        if part is None or kind is not Measure.INUSE or not self.known.patterns:
            return part
        return part.where(~self._suppressed[part.sites.stack])

    def _baseline(self) -> Program | None:
        """Return the baseline; one that no limit needs may be missing, but not broken."""
        path, title = self.budget.baseline, self.subject.title
        if self.budget.needs_baseline:
            if path is None:
                raise BaselineError("a limit on growth needs a baseline")
            self.baseline = baselines.read(path)
            return self.baseline.programs.get(title)
        return None if path is None else baselines.read_or_empty(path).programs.get(title)

    def run(self, attempt: int) -> CaptureReport:
        profile = self.subject.profile
        obstacle = obstacle_of(profile, of_children=self.budget.is_for_all)
        results = [self._result(site, limit, obstacle) for site, limit in self.budget.every_limit]
        for result in results:
            result.attempt = attempt
        samples = profile.capture.samples
        report = CaptureReport(
            self.subject.path, self.subject.title, results, profile.rate_bytes,
            int(profile.counts(Count.ALLOC)[0].sum()) if samples is None else samples,
            sampling=profile.sampling, started=profile.capture.started,
            duration_s=profile.capture.duration_s, title=self.subject.title,
        )  # fmt: skip
        if obstacle:
            report.notes.append(obstacle)
        elif profile.samples_missing:
            lost = counted(profile.samples_missing, "sample")
            report.notes.append(f"{lost} lost, for which every upper bound is raised")
        compared = any(c.delta is not None for result in results for c in result.culprits)
        if self.program is not None and compared:
            report.notes += filter(None, [growth.unlike_names(self.subject, self.program)])
        if profile.capture.pymalloc:
            report.notes.append(
                "small objects of this CPython went through pymalloc; they are not in the numbers"
            )
        return report

    def _result(self, site: Site | None, limit: Limit, obstacle: str | None) -> Result:
        if self.of_launcher:  # what it took is not the program's
            return Result(
                limit, site, Verdict.INCONCLUSIVE, limit.allowed, None, reason=self.of_launcher
            )
        part = self.subject.part(site)
        measured, amount, leaks = self._measured(site, part, limit)
        result = self._judge(site, limit, measured, amount, obstacle)
        result.headline = headline_of(leaks.found) if leaks and leaks.found else ""
        if site is not None and part is not None and result.verdict is Verdict.PASS:
            self._doubt(result, site, part)
        if result.verdict is Verdict.FAIL and limit.measure.is_growth:
            result.notes += self._same_build()
        if result.verdict is not Verdict.PASS and amount is not None:
            result.culprits = self._culprits(result, leaks)
            result.notes += _stripped(result.culprits)
        return result

    def _measured(
        self, site: Site | None, part: Profile | None, limit: Limit
    ) -> tuple[Measured, float | None, leakage.Leaks | None]:
        """Measure ``part``, that of ``site``; with the amount it may have, and any leaks."""
        amount = limit.allowed
        if limit.measure.is_growth:
            return *self._growth(site, part, limit), None
        if limit.measure is Measure.RSS:
            return measure_resident(self.subject.profile, amount, self.subject.path), amount, None
        if limit.measure is not Measure.LEAKS:
            left = self._counted(part, limit.measure)
            found = measure(self.subject.profile, left, limit.measure)
            if left is not None and limit.measure is Measure.INUSE:
                found.obstacle = freed_at_end(left, amount, self.pass_alpha)
            if part is not None and left is not None and left is not part:
                hidden = sampled(part, Count.INUSE).value - sampled(left, Count.INUSE).value
                found.notes += [f"{format_bytes(hidden)} in use is suppressed"] if hidden else []
            return found, amount, None
        if part is None:
            return Measured(None, "the file has no counts by thread"), amount, None
        whole = None if part is self.subject.profile else self.subject.profile
        if not limit.allows_held:
            part, whole = running(part), None if whole is None else running(whole)
        leaks = leakage.measure_leaks(
            part, self.subject.symbols, self.known, self.fail_alpha, amount,
            whole=whole, allows_held=limit.allows_held,
        )  # fmt: skip
        return leaks.measured, amount, leaks

    def _doubt(self, result: Result, site: Site, part: Profile) -> None:
        """Take a pass back that blocks of functions without a name may be too many for."""
        nameless = self.subject.nameless
        wide = self.subject.part(site, unnamed=True) if nameless else None
        if wide is None or result.amount is None:
            return
        what = self._measured(site, wide, result.limit)[0].what
        if what is None or what.upper(self.pass_alpha) <= result.amount:
            return
        count = self._count(result.limit.measure)
        count = count if part.has(count) else Count.INUSE
        unnamed = sampled(wide, count).value - sampled(part, count).value
        broken = {p.module for p in self.subject.symbols.problems if p.names_missing}
        files = ", ".join(os.path.basename(m) for m in nameless[:_FEW])
        cure = (
            "capture with --symbolize" if broken & set(nameless) else f"keep the symbols of {files}"
        )
        result.verdict = Verdict.INCONCLUSIVE
        result.reason = f"{format_bytes(unnamed)} in functions without names: cannot tell; {cure}"

    def _growth(
        self, site: Site | None, part: Profile | None, limit: Limit
    ) -> tuple[Measured, float | None]:
        if self.program is None:
            assert self.baseline is not None, "needs_baseline made sure of it"
            return Measured(None, ": ".join(self.baseline.lacks(self.subject.title))), None
        found = growth.measure_growth(self.subject.profile, part, site, self.program, limit)
        if not isinstance(found.what, growth.Grown):
            return found, None
        key = baselines.key_of(limit.measure, site)
        spread = self.program.between_runs(key, self.fail_alpha)
        if self.program.runs > 1:
            found.notes.append(
                f"the baseline is the mean of {self.program.runs} runs, with "
                f"{format_value(spread, limit.measure.unit)} more for what lies between them"
            )
        return found, found.what.allowed + growth.allowed_more(limit) + spread

    def _same_build(self) -> list[str]:
        assert self.program is not None
        if not self.subject.is_of_build(self.program.build):
            return []
        build = self.program.build[:7]
        note = f"the same build as the baseline's, {build}: runs of it, or its input, differ"
        cure = "" if self.program.runs > 1 else "; a baseline of several captures allows for that"
        return [note + cure]

    def _judge(
        self,
        site: Site | None,
        limit: Limit,
        measured: Measured,
        amount: float | None,
        obstacle: str | None,
    ) -> Result:
        what = measured.what
        if what is None or amount is None:
            reason = measured.obstacle or obstacle or ""
            return Result(limit, site, Verdict.INCONCLUSIVE, amount, None, reason=reason)
        is_sampled = limit.measure is not Measure.RSS
        if not is_sampled and not is_of_children(obstacle or ""):
            obstacle = None  # of samples
        if bounds_children(site, limit) and unseen.WITHOUT_SAMPLER in (obstacle or ""):
            obstacle = None
        known = self.subject.profile.errors_known or not is_sampled
        lower = what.lower(self.fail_alpha) if known else 0.0
        # Lost samples could only have added to the value.
        counted_upper = what.upper(self.pass_alpha)
        lost = lost_share(self.subject.profile) if is_sampled else 0.0
        upper = counted_upper / (1 - min(lost, 0.99))
        stops = obstacle or measured.obstacle
        verdict, reason = Verdict.INCONCLUSIVE, ""
        if lower > amount:
            verdict = Verdict.FAIL
        elif stops:
            reason = stops
        elif upper <= amount:
            reason = Pass(
                self.subject, self.budget, site, limit, amount, upper,
                self._count(limit.measure), self.pass_alpha, self.beside,
            ).doubt()  # fmt: skip
            verdict = Verdict.INCONCLUSIVE if reason else Verdict.PASS
        elif measured.between:
            reason = measured.between
        elif counted_upper <= amount:
            reason = with_lost(self.subject.profile.samples_missing)
        elif isinstance(what, growth.Grown) and what.blurred(amount, self.pass_alpha):
            reason = "the error of the baseline itself is too large: renew it at a finer rate (-c)"
        notes = [note for note in measured.notes if not reason.startswith(note)]
        rate = self.subject.profile.rate_bytes if self.subject.is_of_host else 0.0
        return Result(
            limit, site, verdict, amount, what.estimate, lower, upper, reason, notes,
            rate_bytes=rate,
        )  # fmt: skip

    def _culprits(self, result: Result, leaks: leakage.Leaks | None) -> list[Culprit]:
        if leaks is not None:
            return culprits.leaking([*leaks.found, *leaks.doubted])
        kind = result.limit.measure
        part = self._counted(self.subject.part(result.site), kind)
        is_innocent = result.verdict is Verdict.INCONCLUSIVE and result.reason and result.excess < 0
        if part is None or is_innocent:
            return []
        if kind is Measure.RSS and not explains(self.subject.profile, result.excess):
            return []
        count = self._count(kind)
        if count is Count.PEAK and not part.has(count) and part.has_alloc:
            result.notes.append(
                "the peak fell between two readings: the stacks show all that they ever allocated"
            )
            return culprits.largest(self.subject, part, Count.ALLOC, math.inf)[:_WITHOUT_A_READING]
        excess = max(result.excess, 0.0)
        key = baselines.key_of(kind, None)
        if self.program is not None and (self.program.measure is count or key):
            if self.program.functions_by(key):
                return culprits.grown_and_largest(self.subject, part, self.program, excess, key)
            if kind.is_growth:
                result.notes.append(
                    "the baseline has no functions of allocations: renew it with --update-baseline"
                )
        scale = self._scale(part, kind)
        return culprits.largest(self.subject, part, count, excess, scale, unit=kind.unit)

    def _count(self, kind: Measure) -> Count:
        if kind is Measure.GROWTH and self.program is not None:
            return self.program.measure
        return count_of(kind)

    def _scale(self, part: Profile, kind: Measure) -> float:
        return 1 / (part.capture.duration_s or 1.0) if kind is Measure.ALLOC_RATE else 1.0
