"""The limit on leaks: findings with the verdict `leak`, and the smallest leak that gets it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mem_parser.budget.bounds import Sampled, sampled
from mem_parser.budget.culprits import MOST
from mem_parser.budget.measure import Measured
from mem_parser.charge import charged_from
from mem_parser.errors import one_line
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame, find_places
from mem_parser.interning import distinct
from mem_parser.leaks.ages import Timeline, timeline
from mem_parser.leaks.findings import Excess, Finding, LeakReport, Verdict, may_hide
from mem_parser.leaks.observed import COMPARABLE
from mem_parser.leaks.suppressions import Suppressions
from mem_parser.leaks.survivors import MIN_SAMPLES
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.significance import p_rate_above
from mem_parser.symbols.symbolizer import dropped_stacks
from mem_parser.symbols.table import Role, Symbols
from mem_parser.units import counted, format_bytes, format_estimate

POWER = 0.9
"""Chance with which a leak of the size that is named would have been found."""
LEAST_BYTES = 2 << 20
"""What libraries alone may hold from their start without being taken for a leak."""
_STREAM_BUFFER = "_IO_file_doallocate"
"""The C library's buffer of a stream, which goes with it: `printf` leaves that of standard output.
"""
_MOST_SAMPLES = 400


@dataclass(slots=True)
class Leaks:
    """Findings with the verdict leak, and their measured amounts."""

    found: list[Finding]
    measured: Measured


def measure_leaks(
    profile: Profile,
    symbols: Symbols,
    suppressions: tuple[str, ...],
    alpha: float,
    allowed: float = 0.0,
    *,
    whole: Profile | None = None,
) -> Leaks:
    """Search for leaks among the blocks of ``profile``, with chance ``alpha`` of any false one.
    It may be a part of ``whole``, whose blocks without stacks can be of any part.

    ``suppressions`` are patterns of stacks to skip. Memory that a program freed at exit is not a
    leak here, only a note: many programs fill memory while they run, and free it at the end. Where
    the search finds nothing, but could not have found a leak of half of what is in use and may be
    one, all that may leak: unless it is within the ``allowed`` bytes.
    """
    known = Suppressions(suppressions) if suppressions else None
    excess = None
    if whole is not None and whole is not profile:
        excess = find_leaks(whole, symbols, suppressions=known, at_end=True).excess
    leaks = _search(profile, symbols, known, alpha, allowed, excess=excess)
    if profile.before_end is not None:
        growth = find_leaks(profile, symbols, suppressions=known, alpha=alpha).growth
        leaks.measured.notes += filter(None, [growth])
    lost = _without_stacks(profile if whole is None else whole)
    found = leaks.measured.what
    if not may_hide(lost.samples) or found is None:
        return leaks
    # Leaked blocks without stacks are in use.
    most = lost.upper(alpha)
    if found.upper(alpha) + most > allowed:
        leaks.measured.obstacle = leaks.measured.obstacle or (
            f"up to {format_bytes(most)} without stacks may leak: capture at a coarser rate, "
            "or with a larger MEM_PROFILER_MAX_MEMORY"
        )
    return leaks


def _without_stacks(profile: Profile) -> Sampled:
    """Return what is in use of samples whose stacks were lost."""
    return sampled(profile, Count.INUSE, dropped_stacks(profile.stacks)[profile.sites.stack])


def _search(
    profile: Profile,
    symbols: Symbols,
    known: Suppressions | None,
    alpha: float,
    allowed: float,
    *,
    excess: Excess | None,
) -> Leaks:
    report = find_leaks(
        profile, symbols, suppressions=known, alpha=alpha, at_end=True, excess=excess
    )
    if report.leaks:
        more = len(report.leaks) - MOST
        notes = [f"{more} more of {len(report.leaks)} leaks are not shown"] if more > 0 else []
        return Leaks(report.leaks, Measured(_sum_of(report, profile), notes=notes))
    held = _may_leak(profile, symbols, known)
    found = _found_none(profile, symbols, report, held, alpha=alpha, allowed=allowed)
    found.notes[:0] = _suppressed(report)
    return Leaks([], found)


def _suppressed(report: LeakReport) -> list[str]:
    leaks = [f for f in report.suppressed if f.verdict is Verdict.LEAK]
    if not report.suppressed:
        return []
    size = format_bytes(math.fsum(f.live.value for f in leaks or report.suppressed))
    what = f"{counted(len(leaks), 'leak')} of {size}" if leaks else f"{size} in use"
    return [f"{what} {'are' if len(leaks) > 1 else 'is'} suppressed"]


def _found_none(
    profile: Profile,
    symbols: Symbols,
    report: LeakReport,
    held: Sampled,
    *,
    alpha: float,
    allowed: float,
) -> Measured:
    """Tell what the search could have found that found none, of the ``held`` that may leak."""
    nothing = Sampled(0.0, 0.0, 0.0, 0, 0.0)
    times = _times(profile)
    smallest = smallest_leak(profile, symbols, alpha)
    if not held.samples:
        sure = math.isfinite(smallest)
        return Measured(nothing, notes=[_named(profile, smallest) if sure else _left(held, alpha)])
    if times is None:
        return Measured(nothing, "the file holds no ages of blocks, so it cannot show leaks")
    # Leaked blocks are in use: leaks cannot exceed the bytes in use.
    most = held.upper(alpha)
    blind = most > allowed and smallest > max(held.value / 2, allowed)
    what = _Unfound(most) if blind else nothing
    if report.too_short:
        return Measured(_Unfound(most), report.too_short if most > allowed else None)
    if math.isfinite(smallest):
        doubted = _doubted(report, max(smallest, allowed), profile, times)
        if doubted is not None and not blind:
            upper = doubted.live.value + doubted.live.margin95
            return Measured(_Unfound(upper), _doubt(doubted))
        return Measured(what, notes=[_named(profile, smallest)])
    short = f"{times.duration_s:.3g} s are too short to see growth"
    if blind:
        cure = "limit what a short program leaves behind with inuse"
        return Measured(what, f"{short}, and {format_bytes(held.value)} are in use: {cure}")
    return Measured(nothing, notes=[f"{short}; {_left(held, alpha)}"])


def _may_leak(profile: Profile, symbols: Symbols, known: Suppressions | None) -> Sampled:
    """Return what is in use and may be a leak: not what is suppressed, nor what libraries alone
    hold from their start, unless that is much.
    """
    places = find_places(profile, symbols, FrameRule.OWN)
    left = [not _is_expected(frames, known) for frames in places.frames]
    counted_in = np.array(left, dtype=np.bool_)[places.place]
    role = np.array([f.role for f in symbols.functions], dtype=np.int8)
    charged = symbols.locations_of_stack[charged_from(symbols, FrameRule.PROGRAM)]
    own = counted_in & (role[symbols.function_of_location[charged]] == Role.PROGRAM)
    stack = profile.sites.stack
    every = sampled(profile, Count.INUSE, counted_in[stack])
    found = sampled(profile, Count.INUSE, own[stack])
    return found if every.value - found.value <= LEAST_BYTES else every


def _is_expected(frames: tuple[Frame, ...], known: Suppressions | None) -> bool:
    if known is not None and known.match(frames):
        return True
    return any(f.function == _STREAM_BUFFER for f in frames[:1])


def _doubted(
    report: LeakReport, least_bytes: float, profile: Profile, times: Timeline
) -> Finding | None:
    """Return the largest stack without a verdict that holds more than so many bytes: a leak of this
    size would have been found if it were steady, and it may have begun late. Where every block is
    sampled, it did not grow if none is of the later half.
    """
    open_verdicts = (Verdict.INCONCLUSIVE, Verdict.YOUNG)
    found = [f for f in report.findings if f.verdict in open_verdicts and f.frames]
    if profile.rate_bytes <= 1:
        later = times.late | times.young
        found = [f for f in found if f.group is None or f.group.births[later].any()]
    largest = max(found, key=lambda f: f.live.value, default=None)
    return largest if largest is not None and largest.live.value > least_bytes else None


def _doubt(finding: Finding) -> str:
    held = format_estimate(finding.live, Unit.SPACE)
    evidence = finding.evidence[:1].lower() + finding.evidence[1:].removesuffix(".")
    return f"no verdict on {one_line(finding.frames[0].told)}, {held}: {evidence}"


@dataclass(frozen=True, slots=True)
class _Unfound:
    """No leak that was found, and up to ``most`` bytes of those that could not be."""

    most: float

    @property
    def value(self) -> float:
        return 0.0

    @property
    def estimate(self) -> Estimate:
        return Estimate(0.0, 0.0, 0)

    def lower(self, alpha: float) -> float:  # noqa: ARG002 - the same at any
        return 0.0

    def upper(self, alpha: float) -> float:  # noqa: ARG002 - the same at any
        return self.most


def smallest_leak(profile: Profile, symbols: Symbols, alpha: float) -> float:
    """Return how many bytes a steady leak of one stack must reach within the capture so that 9 of
    10 captures find it; infinite where none would. For blocks small against the rate; larger ones
    need more bytes, but fewer blocks.
    """
    times = _times(profile)
    if times is None or not times.late.any() or not times.early.any():
        return math.inf
    blocks, _ = profile.counts(Count.INUSE)
    places = find_places(profile, symbols, FrameRule.OWN)
    stacks = len(distinct(places.place[profile.sites.stack[blocks > 0]]))
    samples = samples_needed(times.span(times.early), times.span(times.late), alpha / (stacks + 1))
    tested = times.span(times.early) + times.span(times.late)
    return samples * max(profile.rate_bytes, 1.0) * times.duration_s / tested


@functools.lru_cache(maxsize=64)
def samples_needed(early_s: float, late_s: float, alpha: float) -> float:
    """Return the mean number of survivors at which a steady leak's p-value is below ``alpha`` with
    chance `POWER`. Survivors are a Poisson process; given their number, those of the late part are
    binomial.
    """
    share = late_s / (early_s + late_s)
    regions = [_region(n, early_s, late_s, alpha) for n in range(_MOST_SAMPLES + 1)]
    powers = np.array([_between(n, share, *r) if r else 0.0 for n, r in enumerate(regions)])
    if not powers.any():
        return math.inf
    low, high = float(MIN_SAMPLES), float(_MOST_SAMPLES) / 2
    if _power(powers, high) < POWER:
        return math.inf
    while high - low > 0.25:
        middle = (low + high) / 2
        low, high = (low, middle) if _power(powers, middle) >= POWER else (middle, high)
    return high


def _region(n: int, early_s: float, late_s: float, alpha: float) -> tuple[int, int] | None:
    """Return the smallest and the largest late count of ``n`` that make a leak."""
    if n < MIN_SAMPLES:
        return None
    low = _first(n, lambda x: p_rate_above(x, late_s, n - x, early_s, COMPARABLE) <= alpha)
    high = n - _first(n, lambda y: p_rate_above(y, early_s, n - y, late_s, COMPARABLE) <= alpha)
    return (low, high) if low <= high else None


def _first(n: int, holds: Callable[[int], bool]) -> int:
    """Return the smallest number for which ``holds``, which stays true above it; n + 1: none."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _between(n: int, share: float, low: int, high: int) -> float:
    """Return P(low <= X <= high), X ~ Bin(n, share)."""
    k = np.arange(low, high + 1)
    logs = (
        math.lgamma(n + 1)
        - np.array([math.lgamma(a + 1) + math.lgamma(n - a + 1) for a in k.tolist()])
        + k * math.log(share)
        + (n - k) * math.log1p(-share)
    )
    return float(np.exp(logs).sum())


def _power(powers: np.ndarray[tuple[int], np.dtype[np.float64]], mean: float) -> float:
    n = np.arange(len(powers))
    logs = n * math.log(mean) - mean - np.array([math.lgamma(k + 1) for k in n.tolist()])
    return float(np.exp(logs) @ powers)


def _sum_of(report: LeakReport, profile: Profile) -> Sampled:
    """Return the live bytes of all leaks together; blocks count as small, which is safe for both
    bounds.
    """
    rate = profile.rate_bytes if profile.rate_bytes > 1 else 0.0
    value = sum(f.live.value for f in report.leaks)
    samples = sum(f.live.samples for f in report.leaks)
    if not rate:
        return Sampled(value, 0.0, 0.0, samples, 0.0)
    variance = sum(f.live.std_error**2 for f in report.leaks)
    if not math.isfinite(variance) or variance <= 0:
        return Sampled(value, 0.0, 0.0, samples, rate)
    return Sampled(0.0, value, variance, samples, rate)


def _named(profile: Profile, smallest: float) -> str:
    span = profile.capture.duration_s
    over = f" in these {span:.3g} s" if span else ""
    return f"the check would have found a leak of {format_bytes(smallest)}{over}"


def _left(held: Sampled, alpha: float) -> str:
    most = held.upper(alpha)
    what = f"no more than {format_bytes(most)}" if most else "nothing"
    return f"{what} of the program's own is in use that may have leaked"


def _times(profile: Profile) -> Timeline | None:
    live = profile.sites.live_births
    return None if live is None else timeline(profile.capture, live.shape[1])
