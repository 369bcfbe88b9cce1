"""Running a test's body under capture, and holding the capture against its limits."""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from mem_cli.pytest_plugin import tested
from mem_cli.pytest_plugin.marks import (
    HIDDEN,
    NO_INCREASE,
    LeakLimit,
    Stack,
    StackFilter,
    StackFrame,
    Wanted,
)
from mem_cli.pytest_plugin.outside import Outside
from mem_cli.pytest_plugin.settings import Settings
from mem_parser.budget import (
    Report,
    Subject,
    Verdict,
    check,
    combine,
    first_rate,
    needed_rate,
    open_subject,
    unmatched,
)
from mem_parser.budget.baseline import read
from mem_parser.budget.growth import needed_baseline_rate
from mem_parser.budget.measure import highest, obstacle_of, with_lost
from mem_parser.budget.outputs.text import result_lines
from mem_parser.budget.outputs.words import place, up_to_test
from mem_parser.budget.rules import FINEST_FIRST_RATE, Budget
from mem_parser.diff import Change, Diff, Level, diff_profiles
from mem_parser.escape import file_part, log_line, one_line
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame
from mem_parser.libraries.rules import Libraries
from mem_parser.model import Count, Profile, Unit
from mem_parser.output_path import make_folder
from mem_parser.startframes import runs_tests
from mem_parser.symbols.table import Symbols
from mem_parser.units import format_bytes, format_estimate
from mem_parser.unseen import LEAST_BESIDE_BYTES, missing
from mem_profiler.inprocess import Sidecar

_ERROR = 0.05
LEVEL = 0.95
_SAMPLES_AT_LEAK_LIMIT = 256


@dataclass(frozen=True, slots=True)
class OfHighest(Estimate):
    """A peak: the highest of many totals is high by chance alone, which its ends allow for
    (`budget.measure`).
    """

    ends: tuple[float, float] = (0.0, math.inf)

    @property
    def interval95(self) -> tuple[float, float]:
        """The ends of the 95 % interval."""
        return self.ends


@dataclass
class Outcome:
    """What became of the limits of one test."""

    verdict: Verdict = Verdict.PASS
    lines: list[str] = field(default_factory=list)
    peak: Estimate = field(default_factory=lambda: Estimate(0.0))
    allocated: Estimate = field(default_factory=lambda: Estimate(0.0))
    subject: Subject | None = None
    unmatched: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict, lines: list[str]) -> None:
        """Take one more verdict in; the worst of them counts."""
        order = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]
        self.verdict = max(self.verdict, verdict, key=order.index)
        if verdict is not Verdict.PASS:
            self.lines += map(log_line, lines)


class Meter:
    """Captures of tests of this process, one at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = Path(settings.keep or tempfile.mkdtemp(prefix="pytest-mem-"))
        make_folder(str(self.folder))
        self._sidecar: Sidecar | None = None

    @property
    def sidecar(self) -> Sidecar:
        """The capturing process."""
        if self._sidecar is None:
            self._sidecar = Sidecar()
        return self._sidecar

    @functools.cached_property
    def _rules(self) -> Libraries:
        return tested.rules(self.settings.root)

    def close(self) -> None:
        """End the capturing process."""
        if self._sidecar is not None:
            self._sidecar.close()
        if not self.settings.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def prefix(self, item: pytest.Item) -> Path:
        """Where the files of a test go."""
        return self.folder / file_part(item.nodeid.rpartition("/")[2])

    def captured(self, item: pytest.Item, rate: int, body: Callable[[], object]) -> Subject:
        """Run `body` under capture. What it raises is raised, after the capture has ended."""
        sidecar, before = self.sidecar, Outside.now()
        sidecar.start(rate)
        try:
            body()
        finally:
            path = sidecar.stop(self.prefix(item))
        subject = self._subject(path, item)
        before.add_to(subject.profile.capture)
        return subject

    def _subject(self, path: str, item: pytest.Item) -> Subject:
        subject = open_subject(path, libraries=self._rules)
        subject.name = item.nodeid
        if not self.settings.keep:
            Path(path).unlink()
        return subject

    def check(self, item: pytest.Item, wanted: Wanted, body: Callable[[], object]) -> Outcome:
        """Run a test and check everything that is wanted of it; the first run is the test itself.

        Raises what the test raises.
        """
        outcome = Outcome()
        if wanted.budget.every_limit or self.settings.update_baseline:
            self._check_budget(item, wanted, body, outcome)
        if wanted.leaks is not None:
            self._check_leaks(item, wanted.leaks, body, outcome)
        return outcome

    def _check_budget(
        self, item: pytest.Item, wanted: Wanted, body: Callable[[], object], outcome: Outcome
    ) -> None:
        rate = self.settings.rate_bytes or self._first_rate(wanted.budget)
        report: Report | None = None
        for attempt in range(1, self.settings.tries + 1):
            subject = self.captured(item, rate, body)
            found = check([(subject, wanted.budget)], tries=self.settings.tries, attempt=attempt)
            self._judge_increase(found, subject)
            report = found if report is None else combine(report, found)
            if attempt == 1:
                outcome.subject = subject
                outcome.unmatched = list(unmatched([(subject, wanted.budget)]).values())
            _facts(subject, outcome)  # of the last try, as the verdict is
            if not report.may_be_decided or rate <= 1:
                break
            rate = max(int(needed_rate(report, rate)), 1)
        assert report is not None
        for _, result in report.results:
            outcome.add(result.verdict, result_lines(result))

    def _first_rate(self, budget: Budget) -> int:
        """Bytes per sample: of a baseline and what is held against it the finest that is cheap."""
        rate = first_rate([budget])
        growth = self.settings.update_baseline or budget.needs_baseline
        return min(rate, FINEST_FIRST_RATE) if growth else rate

    def _judge_increase(self, report: Report, subject: Subject) -> None:
        """Pass a test that did not surely grow, if it surely did not grow by much."""
        if obstacle_of(subject.profile) or missing(subject.profile.capture):
            return
        for _, result in report.results:
            if result.limit != NO_INCREASE or result.verdict is not Verdict.INCONCLUSIVE:
                continue
            if result.estimate is None or result.amount is None:
                continue
            if result.upper <= HIDDEN.raised(result.amount):
                result.verdict, result.reason = Verdict.PASS, ""
            elif result.reason:
                grown = format_bytes(result.upper - result.amount)
                rate = self._baseline_rate(subject)
                result.reason = (
                    f"it may have grown by up to {grown}, since the baseline is too coarse: "
                    f"write it again with --mem-update-baseline --mem-rate={rate}"
                )

    def _baseline_rate(self, subject: Subject) -> int:
        """The bytes per sample at which the baseline of a test tells whether it grew."""
        program = read(self.settings.baseline).programs[subject.title]
        limit = dataclasses.replace(NO_INCREASE, growth=HIDDEN)
        needed = needed_baseline_rate(program, Budget(limits=(limit,)), self.settings.tries)
        return max(int(min(needed, program.rate / 4)), 1)

    def _check_leaks(
        self, item: pytest.Item, limit: LeakLimit, body: Callable[[], object], outcome: Outcome
    ) -> None:
        share = limit.amount * (limit.repeat - 1) / _SAMPLES_AT_LEAK_LIMIT
        rate = self.settings.rate_bytes or max(1, 1 << int(math.log2(max(share, 1.0))))
        self.sidecar.start(rate)
        try:
            # What a warm-up left behind may be freed, or made longer, in a later run.
            _run_test(body, limit.warmups + 1)
            gc.collect()
            first = self.sidecar.snapshot(self.prefix(item))
            _run_test(body, limit.repeat - 1)
            gc.collect()
        finally:
            last = self.sidecar.stop(self.prefix(item))
        before, after = self._subject(first, item), self._subject(last, item)
        growth = diff_profiles(
            _of_the_test(before, limit.filter_fn),
            _of_the_test(after, limit.filter_fn),
            level=Level.STACK,
            count=Count.INUSE,
        )
        verdict, lines = _leak_verdict(growth, limit, rate)
        doubt = _doubt(before.profile, after.profile) or _unseen_growth(
            before.profile, after.profile, limit
        )
        if doubt and verdict is Verdict.PASS:
            verdict, lines = Verdict.INCONCLUSIVE, [*lines, f"      {one_line(doubt)}"]
        outcome.add(verdict, lines)


def _doubt(before: Profile, after: Profile) -> str:
    """Return why blocks that no snapshot has may have stayed in use; empty where none may."""
    lost = after.samples_missing - before.samples_missing
    if lost > 0:  # of what size, and whether they were freed, is not known
        return with_lost(lost)
    return obstacle_of(after) or next(iter(missing(after.capture)), "")


def _unseen_growth(before: Profile, after: Profile, limit: LeakLimit) -> str:
    """Return how much anonymous memory grew that is in no block, if that is over the limit; empty:
    it did not, or pages of malloc may be all of it.
    """
    (was, held), (now, holds) = (
        (p.capture.memory.anon_bytes, p.total(Count.INUSE, Unit.SPACE).value)
        for p in (before, after)
    )
    rest = 0.0 if was is None or now is None else (now - was) - (holds - held)
    each = rest / (limit.repeat - 1)
    if rest <= LEAST_BESIDE_BYTES or each <= limit.amount:
        return ""
    return f"anonymous memory grew by {format_bytes(each)} more for each run, in no block"


def _of_the_test(subject: Subject, accepts: StackFilter | None) -> tuple[Profile, Symbols]:
    """Only the blocks that the test allocated, on stacks that its filter accepts. Both look at
    whole stacks: shown ones begin with the charged frame, which may be outside the test.
    """
    places, profile = subject.whole_places, subject.profile
    stacks = map(_stack, places.frames)
    kept = [not _is_ours(stack) and (accepts is None or accepts(stack)) for stack in stacks]
    of_stack = np.array(kept, dtype=np.bool_)[places.place]
    return profile.where(of_stack[profile.sites.stack]), subject.symbols


def _run_test(body: Callable[[], object], times: int) -> None:
    """Run a test. What it allocates has this frame on its stack (`_is_ours`)."""
    for _ in range(times):
        body()


def _is_ours(stack: Stack) -> bool:
    """Tell whether the measurement itself allocated, in whatever library: the innermost frame of
    this file is none that runs the test; or whoever runs the tests, in a thread of its own.
    """
    own = next((f.function for f in stack.frames if f.filename == __file__), "")
    if own:
        return own.rpartition(".")[2] != _run_test.__name__
    files = (f.filename for f in reversed(stack.frames) if f.filename.endswith(".py"))
    return runs_tests(next(files, ""))


def _stack(frames: Sequence[Frame]) -> Stack:
    return Stack(tuple(StackFrame(f.function, f.file or f.module, f.line) for f in frames))


def _facts(subject: Subject, outcome: Outcome) -> None:
    profile = subject.profile
    peak = highest(profile, profile)
    top, tail = peak.estimate, (1 - LEVEL) / 2
    outcome.peak = OfHighest(
        top.value, top.std_error, top.samples, top.unseen,
        ends=(peak.lower(tail), peak.upper(tail)),
    )  # fmt: skip
    if profile.has_alloc:
        outcome.allocated = profile.total(Count.ALLOC, Unit.SPACE)


def amount_text(amount: Estimate) -> str:
    """An amount with its error; `under 96 KiB` where no sample came of it."""
    upper = amount.interval95[1]
    if not amount.samples and upper > 0:
        return f"under {format_bytes(upper)}"
    return format_estimate(amount, Unit.SPACE)


def _leak_verdict(growth: Diff, limit: LeakLimit, rate: int) -> tuple[Verdict, list[str]]:
    """Hold what grew for each run against the limit, at 5 % on either side.

    The bounds are normal ones, widened by the sample that has not come (T; see `budget.bounds`).
    """
    runs = limit.repeat - 1
    error = math.hypot(growth.total.std_error, rate if rate > 1 else 0.0)
    margin = NormalDist().inv_cdf(1 - _ERROR) * error / runs
    each = growth.total.value / runs
    verdict = Verdict.INCONCLUSIVE
    if each - margin > limit.amount:
        verdict = Verdict.FAIL
    elif each + margin <= limit.amount:
        verdict = Verdict.PASS
    word = "FAIL  " if verdict is Verdict.FAIL else "?     "
    total = growth.total
    shown = Estimate(
        each, total.std_error / runs, total.samples, total.unseen.scaled(1 / runs), signed=True
    )
    text = f"{word}leaks  {format_estimate(shown, Unit.SPACE)} for each run, limit {limit.text}"
    return verdict, [text, *_culprits(growth, runs)]


def _culprits(growth: Diff, runs: int) -> list[str]:
    lines = []
    for row in growth.rows[:3]:
        if row.delta.value <= 0 or row.change is Change.NOISE:
            break
        first, *callers = up_to_test(row.frames)
        gain = format_bytes(row.delta.value / runs)
        lines.append(f"      +{gain}  {first.function}  {place(first)}".rstrip())
        lines += [
            f"        called by {frame.function}  {place(frame)}".rstrip() for frame in callers[:3]
        ]
    return lines
