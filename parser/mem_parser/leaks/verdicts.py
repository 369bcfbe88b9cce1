"""Leak verdicts by survival: which stacks keep growing while their old blocks stay.

    leak          grew early and late at comparable rates, and its old blocks do not die
    held-to-end   so did this, but the program ended and freed (nearly) all of it
    cache-like    grew, then stayed flat as long; or new blocks replace old ones
    young         allocated only in the last tenth of the capture
    inconclusive  too few samples, or growth in bursts

The test, on the survivors born in the early and the late part of the capture (see `ages`): neither
part's rate is at most a quarter of the other's. The exact test of `significance.p_rate_above`
rejects each of the two hypotheses; the larger p-value counts, and Holm's correction over all stacks
keeps the chance of any false leak among stacks at that limit below `ALPHA`. More observations
forbid the verdict (`observed`): survival falls with age, the oldest blocks do not surely stay,
growth slowed down, had stopped at the end, or came in bursts. With snapshots of one capture, a test
on births and deaths alone must show growth between them as well.

Stacks too thin for a verdict of their own are pooled by the line that allocates and the one that is
charged, and tested again. Stacks keep the frames of libraries for the tests: a container that leaks
and one that does not may be on one line. Leaks that are charged to one function are then one
finding, whose numbers are those of all its sites together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from mem_parser.estimate import Estimate, FloatArray
from mem_parser.frames import find_places
from mem_parser.growth import Growth
from mem_parser.leaks.ages import YOUNG_SHARE, Timeline, divide, timeline, until
from mem_parser.leaks.evidence import flat_text, full_at, leak_text, percent
from mem_parser.leaks.findings import Excess, Finding, LeakReport, Verdict, tell_apart
from mem_parser.leaks.observed import (
    COMPARABLE,
    FLAT,
    SURE,
    SURE_Z,
    ages_known,
    aging,
    dying,
    kept,
    may_stay,
    only_recent,
    per_hour,
    slowed,
    spans,
    steady,
    stopped,
    survived,
    without_burst,
)
from mem_parser.leaks.replaced import doubt, find_excess
from mem_parser.leaks.suppressions import Suppressions
from mem_parser.leaks.survivors import MIN_SAMPLES, Group, Rest, SiteColumns
from mem_parser.leaks.watch import (
    blindness,
    ended_midway,
    idle_since,
    is_whole,
    least_watch_s,
    may_fill,
    postponement,
    time_text,
    too_short,
    went_on,
    worked_s,
)
from mem_parser.model import MERGED, BoolArray, Capture, Count, IntArray, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.significance import holm, p_rate_above
from mem_parser.symbols.table import Symbols
from mem_parser.units import counted, format_bytes, format_estimate
from mem_parser.words import inside, phrase

ALPHA = 0.05
"""Chance of any false leak among all stacks of one report."""
_LEFT_SHARE = 0.1
"""Of what a program held before its end, still held after it: less was freed by design."""
_LEAST_AGE_S = 0.001
_LEAST_REPLACED = 0.1
"""Of older blocks, freed: with fewer it is no cache; more blocks are allocated than before."""
_FEWEST_TIMES = 3
"""Buckets of births that ages can be told by."""
_TURNOVER_SHARE = 0.5
"""Of older blocks, freed: fewer are no turnover in the words of the evidence."""
_ORDER = list(Verdict)


def find_leaks(
    profile: Profile,
    symbols: Symbols,
    *,
    earlier: Sequence[Profile] = (),
    window: tuple[float, float] | None = None,
    suppressions: Suppressions | None = None,
    alpha: float = ALPHA,
    rule: FrameRule = FrameRule.PROGRAM,
    at_end: bool = False,
    excess: Excess | None = None,
) -> LeakReport:
    """Return a verdict for every stack with live blocks.

    Of a program that freed what it held as it ended, these are the blocks from before that, unless
    ``at_end``. ``earlier`` are older snapshots of the same capture, in order of time. ``window``
    (seconds since the start) restricts the question to blocks born in it. ``symbols`` are those of
    ``profile``. ``alpha`` is the chance of any false leak. ``rule`` says which frames findings
    leave out; with another than `FrameRule.PROGRAM` each stack is a finding of its own. ``excess``
    is that of a whole that ``profile`` is a part of.
    """
    report = LeakReport([])
    judged = profile if at_end or earlier else _before_its_end(profile, report)
    times = _times_of_births(judged, report, at_end=at_end)
    keep: BoolArray | None = None
    if window is not None and times is not None:
        times, keep = _restrict(times, window, report.notes)
    by_owner = rule is FrameRule.PROGRAM
    shown = FrameRule.OWN if by_owner else rule
    listed = (suppressions or Suppressions(())).match_stacks(judged, symbols, shown)
    places = find_places(judged, symbols, shown, to_jit=by_owner, apart=listed)
    table = SiteColumns(judged, places, keep)
    worked = times if times is None or keep is not None else _of_work(times, table)
    growth = Growth(judged, earlier) if earlier else None
    judge = _Judge(table, worked, growth, alpha, goes_on=went_on(judged.capture))
    _find(report, judge, listed, by_owner=by_owner)
    if judged is not profile and report.leaks:
        rest = find_leaks(
            profile, symbols, window=window, suppressions=suppressions, alpha=alpha, rule=rule,
            at_end=True,
        )  # fmt: skip
        _hold_what_was_freed(report, rest, table, profile.sites.inuse_blocks)
    if times is not None and worked is not None:
        need_s = least_watch_s(judged.capture, table, worked)
        _wait(report, judged.capture, times.duration_s, worked.duration_s, need_s)
    if times is not None and report.leaks:
        excess = excess or find_excess(report, judged, times)
        if excess is not None:
            doubt(report, excess, times.duration_s)
    if report.leaks:
        report.notes += _what_looks_the_same(judged, times)
    report.findings = tell_apart(sorted(report.findings, key=_by_weight))
    return report


def _before_its_end(profile: Profile, report: LeakReport) -> Profile:
    """Return what a program held before it freed it as it ended, and note that; else the profile
    itself.
    """
    before = profile.before_end
    if before is None:
        return profile
    grew = _peak_bytes(profile) > 2 * before.total(Count.INUSE, Unit.SPACE).value
    report.until_s = before.capture.duration_s if grew else None
    report.notes.append(_before_end_note(profile, before, grew=grew))
    return before


def _times_of_births(profile: Profile, report: LeakReport, *, at_end: bool) -> Timeline | None:
    """Return the times by which blocks have ages, and note what cannot be judged by them."""
    live = profile.sites.live_births
    times = timeline(profile.capture, live.shape[1]) if live is not None else None
    report.blind = blindness(profile, times, at_end=at_end)
    if times is None and (live is None or len(live)):  # of no blocks there are no ages to miss
        report.notes.append(phrase("the file holds no ages of blocks, so it cannot show leaks"))
    return times


def _find(report: LeakReport, judge: _Judge, listed: BoolArray, *, by_owner: bool) -> None:
    """Judge every stack; those that are ``listed`` are suppressed."""
    table, findings = judge.table, judge.run()
    report.without_stack = table.without_stack()
    if report.without_stack is not None:
        report.notes.append(_unjudged(report.without_stack))
    for finding in findings:
        hidden = finding.group is not None and listed[table.stack[finding.group.members]].all()
        (report.suppressed if hidden else report.findings).append(finding)
    if by_owner:
        report.findings = judge.by_owner(report.findings)


def _hold_what_was_freed(
    report: LeakReport, rest: LeakReport, table: SiteColumns, left: IntArray
) -> None:
    """Call leaks held to the end that are none in the ``rest`` that the program left behind."""
    still = {_owner(one) for one in rest.leaks}
    report.findings = [
        one if _owner(one) in still else _freed(one, table, left) for one in report.findings
    ]


def _of_work(times: Timeline, table: SiteColumns) -> Timeline:
    """Return the time in which the program worked."""
    end_s = worked_s(times, table.turning_over(times.mature).sum(axis=0))
    return until(times, end_s) if end_s < times.duration_s else times


def _what_looks_the_same(profile: Profile, times: Timeline | None) -> list[str]:
    """Return notes on what looks like the leaks that were found."""
    notes: list[str] = []
    if times is not None:
        notes += filter(None, [may_fill(profile.capture, times.duration_s)])
    if profile.capture.kind == MERGED:
        notes.append(
            phrase(
                "growth of one process after another looks the same in their sum; mem_parser "
                "FILE... judges each too"
            )
        )
    return notes


def _owner(finding: Finding) -> object:
    return finding.frames[0].function_key if finding.frames else None


def _freed(finding: Finding, table: SiteColumns, left: IntArray) -> Finding:
    """Return a leak as held to the end if the program freed nearly all of it as it ended."""
    if finding.verdict is not Verdict.LEAK or finding.group is None:
        return finding
    members = finding.group.members
    if left[table.index[members]].sum() > _LEFT_SHARE * table.blocks[members].sum():
        return finding
    text = phrase(
        "grew until the end, then nearly all was freed: no leak of a program that ends, but "
        "perhaps of one that goes on"
    )
    return dataclasses.replace(finding, verdict=Verdict.HELD, evidence=text)


def _wait(
    report: LeakReport, capture: Capture, watched_s: float, worked_s: float, need_s: float
) -> None:
    """Take back the verdict on leaks of a watch that was too short, or of which the program spent
    the rest idle: what grew until then may have been filled.
    """
    if watched_s < need_s:
        reason = too_short(watched_s, need_s)
    elif worked_s < watched_s:
        reason = idle_since(worked_s)
    else:
        return
    if report.held:
        report.notes.append(reason)
    advice = postponement(reason)
    report.findings = [_postponed(finding, advice) for finding in report.findings]
    report.suppressed = [_postponed(finding, advice) for finding in report.suppressed]
    is_short = ended_midway(capture) and worked_s < need_s
    if is_short or any(finding.is_open for finding in report.findings):
        report.too_short = reason


def _postponed(finding: Finding, advice: str) -> Finding:
    """Return the finding without a verdict that needs more time."""
    if finding.verdict is not Verdict.LEAK:
        return finding
    return dataclasses.replace(
        finding, verdict=Verdict.INCONCLUSIVE, evidence=advice, per_hour=None, is_open=True
    )


def _peak_bytes(profile: Profile) -> float:
    return profile.total(Count.PEAK, Unit.SPACE).value if profile.has(Count.PEAK) else 0.0


def _before_end_note(profile: Profile, before: Profile, *, grew: bool) -> str:
    held, left = (p.total(Count.INUSE, Unit.SPACE).value for p in (before, profile))
    if grew:
        return phrase(
            "Verdicts are for second {second} ({held} in use): growth after it, to the peak of "
            "{peak}, has none. mem_parser leaks --at-end judges the {left} left.",
            second=f"{before.capture.duration_s:.3g}",
            held=format_bytes(held),
            peak=format_bytes(_peak_bytes(profile)),
            left=format_bytes(left),
        )
    return phrase(
        "Verdicts are for second {second} ({held} in use), before the program's clean-up. "
        "mem_parser leaks --at-end judges the {left} left.",
        second=f"{before.capture.duration_s:.3g}",
        held=format_bytes(held),
        left=format_bytes(left),
    )


def _unjudged(live: Estimate) -> str:
    return phrase(
        "no verdict on {amount} in use, {samples} without stacks",
        amount=format_estimate(live, Unit.SPACE),
        samples=counted(live.samples, "sample"),
    )


def _by_weight(finding: Finding) -> tuple[int, bool, bool, float]:
    per_hour = finding.per_hour.value if finding.per_hour is not None else 0.0
    leak = finding.verdict is Verdict.LEAK
    of_many = finding.stacks > 1 and not finding.frames
    weight = per_hour if leak else finding.live.value
    return _ORDER.index(finding.verdict), not finding.is_open, of_many, -weight


def _restrict(
    times: Timeline, window: tuple[float, float], notes: list[str]
) -> tuple[Timeline, BoolArray]:
    """Return the timeline of the buckets in ``window``, widened to bucket bounds."""
    keep = (times.end > window[0]) & (times.start < window[1]) & (times.width > 0)
    if not keep.any():
        notes.append(phrase("nothing was captured in that window"))
        return times, keep
    first, last = float(times.start[keep].min()), float(times.end[keep].max())
    notes.append(
        phrase(
            "blocks born from {first} s to {last} s, still live at the end",
            first=f"{first:.4g}",
            last=f"{last:.4g}",
        )
    )
    inner = divide(
        np.where(keep, times.start - first, 0.0), np.where(keep, times.end - first, 0.0),
        last - first,
    )  # fmt: skip
    # Where the window ends before the capture, its blocks are older than young already.
    gap = times.duration_s - last
    if gap >= YOUNG_SHARE * times.duration_s:
        inner.late |= inner.young
        inner.young = np.zeros_like(inner.young)
    inner.warm_up = np.zeros_like(inner.warm_up)
    return dataclasses.replace(inner, duration_s=times.duration_s), keep


class _Judge:
    """Gives every group its verdict."""

    def __init__(
        self,
        table: SiteColumns,
        times: Timeline | None,
        growth: Growth | None,
        alpha: float,
        *,
        goes_on: bool,
    ) -> None:
        self.alpha = alpha
        self.table = table
        self.times = times
        self.growth = growth
        self.goes_on = goes_on
        self.turnover = np.zeros((0, 0)) if times is None else table.turning_over(times.mature)
        self.whole_turnover: FloatArray = self.turnover.sum(axis=0)

    def run(self) -> list[Finding]:
        """Judge stack by stack, then the rest in pools by allocating line."""
        groups, rest = self.table.by_place()
        times = self.times
        if times is None:
            why = phrase("no ages recorded")
            findings = [_finding(g, Verdict.INCONCLUSIVE, why, None) for g in groups]
            return [*findings, *self._of_rest(rest, None)]
        alone = [self.p_leak(g, times) for g in groups]
        weak = [g for g, p in zip(groups, alone, strict=True) if p > self.alpha]
        pools = self._pools(weak, rest, times)
        pooled = [self.p_leak(g, times) for g in pools]
        candidates = [p for p in alone + pooled if p < 1]
        stands = holm(candidates, self.alpha)
        worst = max((p for p, s in zip(candidates, stands, strict=True) if s), default=-1.0)
        leaks = [g for g, p in zip(pools, pooled, strict=True) if p <= worst]
        members = [g.members for g in leaks]
        taken = {int(m) for part in members for m in part}
        findings = [_finding(g, Verdict.LEAK, leak_text(g, times), times) for g in leaks]
        for group, p in zip(groups, alone, strict=True):
            if p <= worst:
                text = leak_text(group, times)
                findings.append(_finding(group, Verdict.LEAK, text, times))
            elif int(group.members[0]) not in taken:
                findings.append(_finding(group, *self.otherwise(group, times), times))
        left = rest.without(np.concatenate(members)) if members else rest
        return [*findings, *self._of_rest(left, times)]

    def by_owner(self, findings: list[Finding]) -> list[Finding]:
        """Return the findings with those of one verdict as one that are charged to one function."""
        times = self.times
        if times is None:
            return findings
        owners: dict[object, list[Finding]] = {}
        for finding in findings:
            if finding.verdict is not Verdict.INCONCLUSIVE and finding.frames:
                key = finding.verdict, finding.frames[0].function_key
                owners.setdefault(key, []).append(finding)
        several = [same for same in owners.values() if len(same) > 1]
        joined = {id(f) for same in several for f in same}
        kept = [f for f in findings if id(f) not in joined]
        for same in several:
            lines = tuple(sorted({f.frames[0].line for f in same}))
            kept.append(dataclasses.replace(self._joined(same, times), lines=lines))
        return kept

    def _joined(self, findings: list[Finding], times: Timeline) -> Finding:
        """Return the findings on one function as one: sums of their sites, each weighed by itself,
        so errors add in squares. The line is that of the fastest leak, or of the largest.
        """
        groups = [f.group for f in findings if f.group is not None]
        members = np.concatenate([g.members for g in groups])
        group = self.table.group(members, sum(f.stacks for f in findings))
        fastest = min(findings, key=_by_weight)
        if not group.frames:
            # Different lines of the function.
            group.frames = (fastest.frames[0], *self.table.callers(members))
        if fastest.verdict is Verdict.LEAK:
            return _finding(group, Verdict.LEAK, leak_text(group, times), times)
        together, evidence = self.otherwise(group, times)
        if together is not fastest.verdict:
            evidence = phrase("largest stack: {evidence}", evidence=inside(fastest.evidence))
        return _finding(group, fastest.verdict, evidence, times)

    def _of_rest(self, rest: Rest, times: Timeline | None) -> list[Finding]:
        """Return one finding for all thin stacks without a group."""
        if not len(rest.members):
            return []
        group = self.table.group(rest.members, rest.places, named=False)
        text = phrase(
            "fewer than {least} samples in each of {stacks} stacks",
            least=MIN_SAMPLES,
            stacks=rest.places,
        )
        return [_finding(group, Verdict.INCONCLUSIVE, text, times)]

    def _pools(self, groups: list[Group], rest: Rest, times: Timeline) -> list[Group]:
        """Return the stacks joined by their innermost and their charged line, where there are
        several to join.

        A line that also allocates for caches is a common wrapper; its sum says nothing.
        """
        by_line: dict[int, list[Group]] = {}
        for group in groups:
            if group.frames:
                line = int(self.table.line_of(group.members[:1])[0])
                by_line.setdefault(line, []).append(group)
        others = self._rest_by_line(rest)
        nothing = Rest(rest.members[:0], rest.place[:0])
        pools = []
        for line in [*by_line, *(k for k in others if k not in by_line)]:
            same = by_line.get(line, [])
            more = others.get(line, nothing)
            count = len(same) + more.places
            if count < 2 or any(self._may_be_cache(g, times) for g in same):
                continue
            members = np.concatenate([more.members, *(g.members for g in same)])
            pools.append(self.table.group(members, count))
        return pools

    def _may_be_cache(self, group: Group, times: Timeline) -> bool:
        is_cache = self.otherwise(group, times)[0] is Verdict.CACHE_LIKE
        return is_cache or (ages_known(group) and self._ended(group, times))

    def _rest_by_line(self, rest: Rest) -> dict[int, Rest]:
        """Return the thin stacks by line, for lines with enough samples."""
        line = self.table.line_of(rest.members)
        order = np.argsort(line, kind="stable")
        found: dict[int, Rest] = {}
        for part in np.split(order, np.flatnonzero(np.diff(line[order])) + 1):
            if len(part) and self.table.blocks[rest.members[part]].sum() >= MIN_SAMPLES:
                found[int(line[part[0]])] = Rest(rest.members[part], rest.place[part])
        return found

    def clock(self, group: Group) -> FloatArray:
        """Return the program's own clock: the blocks that others than ``group`` turn over. What is
        kept is no clock: a cache that fills slows down by itself.
        """
        clock: FloatArray = self.whole_turnover - self.turnover[group.members].sum(axis=0)
        return clock

    def p_leak(self, group: Group, times: Timeline) -> float:
        """Return the p-value against "no leak"; 1 where an observation forbids the verdict."""
        before, after = (without_burst(group, times, part) for part in (times.early, times.late))
        early, late = survived(group, before), survived(group, after)
        if early + late < MIN_SAMPLES or not times.late.any() or not ages_known(group):
            return 1.0
        clock = self.clock(group)
        if not steady(group, times) or slowed(group, times, clock) or stopped(group, times, clock):
            return 1.0
        if dying(group, times) or not kept(group, times):
            return 1.0
        v, least, most = spans(times, clock, before, after)
        p = max(
            p_rate_above(late, least, early, v, COMPARABLE),
            p_rate_above(early, v, late, most, COMPARABLE),
        )
        if self.growth is not None:
            p = max(p, self.growth.p_growing(self.table.index[group.members]))
        return min(p, 1.0 - 1e-12)

    def otherwise(self, group: Group, times: Timeline) -> tuple[Verdict, str]:
        """Return the verdict of a group that is not a leak, with its evidence."""
        if not ages_known(group):
            return Verdict.INCONCLUSIVE, phrase("the ages of its blocks are not known")
        end = times.duration_s
        mature = survived(group, times.mature)
        came = float(group.births[times.mature].sum())
        recent = group.oldest_s >= (1 - YOUNG_SHARE) * end or (not mature and times.young.any())
        if recent and came < MIN_SAMPLES:
            age = time_text(max(end - group.oldest_s, _LEAST_AGE_S))
            return Verdict.YOUNG, phrase("All blocks are less than {age} old.", age=age)
        if recent:
            return Verdict.CACHE_LIKE, phrase("Steady turnover: all older blocks were freed.")
        early, late = survived(group, times.early), survived(group, times.late)
        before = early + survived(group, times.warm_up)
        v, _, most = spans(times, self.clock(group), times.early | times.warm_up, times.late)
        if self._ended(group, times):
            return self._flat(group, times)
        born = float(group.births[times.early | times.warm_up].sum())
        if born >= MIN_SAMPLES:
            gone = 1 - before / born
            share = percent(gone)
            freed = phrase("Steady turnover: all older blocks were freed.")
            if gone < _TURNOVER_SHARE:
                freed = phrase("{share} of the older blocks were freed.", share=share)
            elif share != "100 %":
                freed = phrase(
                    "Steady turnover: {share} of the older blocks were freed.", share=share
                )
            replaced = aging(group, times) > SURE_Z or p_rate_above(late, most, before, v, 2) < SURE
            replaced |= only_recent(group, times, mature)
            if replaced and gone >= _LEAST_REPLACED and not may_stay(group, times):
                return Verdict.CACHE_LIKE, freed
        return Verdict.INCONCLUSIVE, self._doubt(group, times, early + late)

    def _falls(self, group: Group, times: Timeline, first: BoolArray, then: BoolArray) -> bool:
        """Tell whether growth surely fell below half its rate, by seconds and by work."""
        before, after = survived(group, first), survived(group, then)
        v, least, _ = spans(times, self.clock(group), first, then)
        falls = before and least and p_rate_above(before, v, after, least, 1 / FLAT) < SURE
        return bool(falls)

    def _ended(self, group: Group, times: Timeline) -> bool:
        falls = self._falls(group, times, times.early | times.warm_up, times.late)
        return falls and full_at(group, times) < int(np.flatnonzero(times.mature)[-1])

    def _flat(self, group: Group, times: Timeline) -> tuple[Verdict, str]:
        """Return the verdict on growth that ended. Where a program goes on and freed hardly any of
        it, and it did not slow down first, it must have stayed flat for as long as it grew: perhaps
        nobody called it since.
        """
        text = flat_text(group, times, survived(group, times.late))
        born = float(group.births[times.mature].sum())
        frees = born - survived(group, times.mature) >= _LEAST_REPLACED * born
        grew_s = float(times.end[full_at(group, times)])
        is_long = 2 * grew_s <= times.duration_s
        grew = times.mature & (times.end <= grew_s)
        first = grew & (2 * times.end <= grew_s)
        if frees or is_long or not self.goes_on or self._falls(group, times, first, grew & ~first):
            return Verdict.CACHE_LIKE, text
        return Verdict.INCONCLUSIVE, phrase(
            "{text}: a cache that is full, or a leak not called since", text=text
        )

    def _doubt(self, group: Group, times: Timeline, tested: float) -> str:
        if tested < MIN_SAMPLES:
            samples = counted(group.live.samples, "sample")
            return phrase("Only {samples}; not enough for a verdict.", samples=samples)
        if not steady(group, times):
            return phrase("grew in bursts")
        if slowed(group, times, self.clock(group)):
            return phrase("grows, but perhaps ever more slowly")
        if stopped(group, times, self.clock(group)):
            return phrase("grew, but perhaps not at the end")
        if dying(group, times):
            return phrase("grows, but the program may free its old blocks")
        if is_whole(times) and int((times.width > 0).sum()) < _FEWEST_TIMES:
            return phrase("too short a time to tell ages")
        if not kept(group, times):
            if group.births[times.oldest].sum() < MIN_SAMPLES <= tested / 2:
                return phrase("grows, but began too late to tell whether its blocks stay")
            return phrase("grows, but too few samples to tell whether its old blocks stay")
        if self.growth is not None:
            return phrase("no sure growth between the snapshots")
        return phrase("grows, but not surely in both halves of the capture")


def _finding(group: Group, verdict: Verdict, evidence: str, times: Timeline | None) -> Finding:
    return Finding(
        verdict,
        group.live,
        per_hour(group, times),
        group.frames,
        evidence,
        math.nan if times is None else times.duration_s,
        group.stacks,
        group.inner,
        group=group,
    )
