"""The limit on leaks: findings with the verdict `leak`, and the smallest leak that gets it."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mem_parser.budget.bounds import Sampled, sampled
from mem_parser.budget.culprits import MOST
from mem_parser.budget.measure import Measured
from mem_parser.charge import charged_from
from mem_parser.errors import one_line
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame, find_places
from mem_parser.interning import distinct
from mem_parser.leaks.ages import LEAST_WATCH_S, Timeline, timeline
from mem_parser.leaks.findings import Excess, Finding, LeakReport, Verdict, may_hide
from mem_parser.leaks.observed import COMPARABLE
from mem_parser.leaks.suppressions import Suppressions
from mem_parser.leaks.survivors import MIN_SAMPLES, used_sites
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.leaks.watch import may_fill
from mem_parser.model import BoolArray, Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.significance import p_rate_above
from mem_parser.startframes import CONSTRUCTORS
from mem_parser.symbols.symbolizer import dropped_stacks
from mem_parser.symbols.table import Role, Symbols
from mem_parser.units import counted, format_bytes, format_estimate

POWER = 0.9
"""Chance with which a leak of the size that is named would have been found."""
LEAST_BYTES = 2 << 20
"""What libraries alone may hold from their start without being taken for a leak."""
MOST_DOUBTED = 3
"""Stacks that are named as leaks that may be, the largest first."""
_RUNTIME = {
    "_IO_file_doallocate": "the buffer of a stream: `printf` leaves that of standard output",
    "_dl_allocate_tls": "a thread's variables: they stay with its stack, for the next thread",
    "__tls_get_addr": "a thread's variables of a library, which it used for the first time",
    "__cxa_atexit": "the list of what runs at the exit",
    "setlocale": "the locale in use",
    "tzset_internal": "the time zone, for `localtime`",
    "tzset": "the time zone",
    "mktime": "the time zone",
}
"""Functions of the C library and its loader whose blocks they keep for themselves, reachable until
the process ends. No program can free them; none is handed to the caller.
"""
_RUNTIME_FILE = re.compile(r"(?:libc|ld)\b[^/]*\.so[^/]*$")
_POOL = "libstdc++'s pool for exceptions"
"""72 KB allocated before `main`, so that it can throw when memory is exhausted: by a constructor of
the library, or in a program that it is linked into by a function of this name.
"""
_POOL_FILE = re.compile(r"libstdc\+\+\.so[^/]*$")
_POOL_START = re.compile(r"_GLOBAL__sub_I_(?:eh_alloc\.cc|_ZN9__gnu_cxx9__freeresEv)")
_CONSTRUCTORS = re.compile(CONSTRUCTORS)
_RUST_START = "std::rt::lang_start_internal"
_RUST_MAIN = "::__rust_begin_short_backtrace"
"""What calls a program's `main` in it, never inlined; the rest of it notes the main thread."""
_MOST_SAMPLES = 400
_KIB = 1 << 10
_NEARLY_SURE = 1 / 3
"""Relative error of a sample below which it is of one block: 9 of 10 such blocks are sampled."""


@dataclass(slots=True)
class Leaks:
    """Findings with the verdict leak, their measured amounts, and the largest stacks that may leak
    for all that the search can tell.
    """

    found: list[Finding]
    measured: Measured
    doubted: list[Finding] = field(default_factory=list)


def measure_leaks(
    profile: Profile,
    symbols: Symbols,
    known: Suppressions,
    alpha: float,
    allowed: float = 0.0,
    *,
    whole: Profile | None = None,
    allows_held: bool = False,
) -> Leaks:
    """Search for leaks among the blocks of ``profile``, with chance ``alpha`` of any false one.
    It may be a part of ``whole``, whose blocks without stacks can be of any part.

    ``known`` are stacks to skip. What has no verdict may leak, so above the ``allowed`` bytes it
    does not pass. Nor does anything in use where the search could not have found a leak of half of
    it, or where every block is known of a program that ended by itself: a block that it lost looks
    like one that it meant to keep; nor, unless ``allows_held``, what `_Held` doubts.
    """
    excess = None
    if whole is not None and whole is not profile:
        excess = find_leaks(whole, symbols, suppressions=known, at_end=True).excess
    held = _Held.of(profile, symbols, known, alpha, math.inf if allows_held else allowed)
    leaks = _Search(profile, symbols, known, alpha, allowed, excess=excess, held=held).run()
    leaks.measured.notes += filter(None, [held.growth])
    leaks.measured.obstacle = leaks.measured.obstacle or held.doubt or None
    leaks.doubted += held.doubted[:MOST_DOUBTED]
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


@dataclass(frozen=True, slots=True)
class _Held:
    """What grew until the program freed it as it ended, in words.

    Many programs fill memory while they run, but of a service that was told to end it is a leak. So
    where a program that goes on would have been watched for long enough, ``doubt`` says why it must
    not pass, of the stacks ``doubted``.
    """

    growth: str = ""
    doubt: str = ""
    doubted: tuple[Finding, ...] = ()

    @classmethod
    def of(
        cls, profile: Profile, symbols: Symbols, known: Suppressions, alpha: float, allowed: float
    ) -> _Held:
        """Return what is held of ``profile``, and doubted above the ``allowed`` bytes."""
        if profile.before_end is None:
            return cls()
        report = find_leaks(profile, symbols, suppressions=known, alpha=alpha)
        found = [one for one in report.held if one.watched_s >= LEAST_WATCH_S]
        amount = _sum_of(found, profile)
        if not found or amount.upper(alpha) <= allowed:
            return cls(report.growth)
        held = format_estimate(amount.estimate, Unit.SPACE)
        doubt = (
            f"{held} grew until the program freed it as it ended: a leak, if it is a service; "
            "capture that by attach under load and check the file (mem_profiler -s 60 -p PID -o x; "
            'mem_parser budget CHECK.toml x.*.heap), else write held = "allow" below leaks'
        )
        return cls(report.growth, doubt, tuple(found))


class _Search:
    """One search, and what it cannot tell."""

    def __init__(
        self,
        profile: Profile,
        symbols: Symbols,
        known: Suppressions,
        alpha: float,
        allowed: float,
        *,
        excess: Excess | None,
        held: _Held,
    ) -> None:
        self.profile = profile
        self.freed = held
        self.alpha, self.allowed = alpha, allowed
        self.report = find_leaks(
            profile, symbols, suppressions=known, alpha=alpha, at_end=True, excess=excess
        )
        self.found = _sum_of(self.report.leaks, profile)
        own, self.notes = _may_leak(profile, symbols, known)
        self.own = own & ~self._sites_of(self.report.leaks)
        self.held = sampled(profile, Count.INUSE, self.own)
        self.times = _times(profile)
        self.smallest = smallest_leak(profile, symbols, alpha)

    def run(self) -> Leaks:
        """Return what was found, and what may leak besides."""
        leaks = self.report.leaks
        more = len(leaks) - MOST
        self.notes[:0] = _suppressed(self.report)
        if more > 0:
            self.notes.append(f"{more} more of {len(leaks)} leaks are not shown")
        if self.held.samples and self.times is None:
            no_ages = "the file holds no ages of blocks, so it cannot show leaks"
            return Leaks(leaks, Measured(self.found, no_ages, self.notes))
        if leaks and self.times is not None:
            self.notes += filter(None, [may_fill(self.profile.capture, self.times.duration_s)])
        stacks, amount = self._doubted()
        what = _AtMost(self.found, amount)
        if not amount.samples or what.upper(self.alpha) <= self.allowed:
            self.notes += [] if leaks else self._passing(amount)
            return Leaks(leaks, Measured(self.found, notes=self.notes))
        why = self._why(stacks, amount)
        if leaks and not self._exact:
            stacks = [one for one in stacks if one.verdict is not Verdict.CACHE_LIKE]
        if why is None and math.isfinite(self.smallest):
            self.notes += self._named()
        if len(stacks) > MOST_DOUBTED:
            more = len(stacks) - MOST_DOUBTED
            self.notes.append(f"{more} more of {len(stacks)} stacks are not shown")
        if leaks and stacks:
            held = sampled(self.profile, Count.INUSE, self.own & self._sites_of(stacks))
            self.notes.append(_not_in_it(len(stacks), held.estimate))
        told = [self._told(one) for one in stacks[:MOST_DOUBTED]]
        return Leaks(leaks, Measured(what, why, self.notes), told)

    @property
    def _exact(self) -> bool:
        """Whether every block is known that the program left behind."""
        return self.profile.capture.is_whole and self.profile.rate_bytes <= 1

    @property
    def _blind(self) -> bool:
        # Leaked blocks are in use: leaks cannot exceed the bytes in use.
        most = self.held.upper(self.alpha)
        return most > self.allowed and self.smallest > max(self.held.value / 2, self.allowed)

    def _doubted(self) -> tuple[list[Finding], Sampled]:
        """Return the stacks that may leak, the largest first, and what they hold."""
        found = [f for f in self.report.findings if f.verdict is not Verdict.LEAK]
        every = self._exact or self._blind or self.report.too_short
        if not every:
            found = [f for f in found if self._has_no_verdict(f)]
        found = [f for f in found if self._sites_of([f])[self.own].any()]
        found.sort(key=lambda f: (not f.frames, -f.live.value))
        if every:
            return found, self.held
        return found, sampled(self.profile, Count.INUSE, self.own & self._sites_of(found))

    def _has_no_verdict(self, finding: Finding) -> bool:
        """Tell whether a stack may leak for all that is known. Of a program that goes on, blocks of
        the last tenth are its work in hand, up to the leak that would have been found; and where
        every block is known, a stack without any of the later half did not grow.
        """
        open_verdict = finding.verdict in (Verdict.INCONCLUSIVE, Verdict.YOUNG)
        if self.profile.capture.is_whole or not open_verdict or self.times is None:
            return open_verdict
        if finding.verdict is Verdict.YOUNG and finding.live.value <= self.smallest:
            return False
        if self.profile.rate_bytes > 1 or finding.group is None:
            return True
        return bool(finding.group.births[self.times.late | self.times.young].any())

    def _sites_of(self, findings: list[Finding]) -> BoolArray:
        sites = np.zeros(len(self.profile.sites), dtype=np.bool_)
        rows = used_sites(self.profile)
        for finding in findings:
            if finding.group is not None:
                sites[rows[finding.group.members]] = True
        return sites

    def _told(self, finding: Finding) -> Finding:
        """Return a stack with its number of blocks for evidence, where no other is of use."""
        if not self.profile.capture.is_whole or finding.verdict is Verdict.CACHE_LIKE:
            return dataclasses.replace(finding, per_hour=None)
        what = "block" if self.profile.rate_bytes <= 1 else "sample"
        text = counted(finding.live.samples, what)
        return dataclasses.replace(finding, per_hour=None, evidence=text)

    def _why(self, stacks: list[Finding], amount: Sampled) -> str | None:
        """Return why what may leak must not pass; None where a finer rate may tell."""
        short = not math.isfinite(self.smallest)
        if self.profile.capture.is_whole:
            # Of blocks that are large against the rate a finer one sees no more.
            if not short and amount.missed > amount.seen:
                return None
            held = format_estimate(amount.estimate, Unit.SPACE)
            return (
                f"{held} never freed, in {counted(sum(f.stacks for f in stacks), 'stack')}: lost, "
                "or kept on purpose? Free it, or name it in suppressions"
            )
        if self.report.too_short:
            return self.report.too_short
        if short:
            cure = "limit what a short program leaves behind with inuse"
            return f"{self._short()}, and {format_bytes(self.held.value)} are in use: {cure}"
        if self._blind or not stacks:
            return None
        if self.freed.doubt or _without_stacks(self.profile).samples:
            return _no_verdict(stacks[0])
        least = math.ceil(_AtMost(self.found, amount).upper(self.alpha) / _KIB)
        return f"{_no_verdict(stacks[0])}; a limit of {least} KiB would pass this capture"

    def _passing(self, doubted: Sampled) -> list[str]:
        """Return what a search that found none could have found, and what it passes over."""
        if not math.isfinite(self.smallest):
            left = _left(self.held, self.alpha)
            return [(f"{self._short()}; {left}" if self.held.samples else left) + self._cure]
        notes = self._named()
        if doubted.samples:
            size = format_estimate(doubted.estimate, Unit.SPACE)
            notes.append(f"{size} without a verdict is within the limit")
        if self.profile.capture.is_whole and self.held.samples > doubted.samples:
            flat = format_bytes(self.held.value - doubted.value)
            notes.append(f"{flat} never freed grew at first, and then no more")
        return notes

    def _short(self) -> str:
        assert self.times is not None
        return f"{self.times.duration_s:.3g} s are too short to see growth"

    def _named(self) -> list[str]:
        """Name the smallest leak that would have been found, unless the end may have hidden it."""
        if self.freed.doubt:
            return []
        span = self.profile.capture.duration_s
        over = f" in these {span:.3g} s" if span else ""
        size = f"{format_bytes(self.smallest)} in small blocks"
        if self.profile.rate_bytes <= 1:
            size = f"{math.ceil(self.smallest)} blocks"
        left = ", of what the clean-up left" if self.freed.growth else ""
        return [f"the check would have found a steady leak of {size}{over}{left}{self._cure}"]

    @property
    def _cure(self) -> str:
        """What tells of any leak for sure, where none is allowed."""
        return "" if self.allowed or self.profile.rate_bytes <= 1 else "; -c 1 sees every block"


def _not_in_it(stacks: int, held: Estimate) -> str:
    them = f"{counted(stacks, 'stack')} without it, {format_estimate(held, Unit.SPACE)}"
    are = "is" if stacks == 1 else "are"
    return f"the sum is of stacks with the verdict leak; {them}, may leak too and {are} not in it"


def _suppressed(report: LeakReport) -> list[str]:
    leaks = [f for f in report.suppressed if f.verdict is Verdict.LEAK]
    if not report.suppressed:
        return []
    size = format_bytes(math.fsum(f.live.value for f in leaks or report.suppressed))
    what = f"{counted(len(leaks), 'leak')} of {size}" if leaks else f"{size} in use"
    return [f"{what} {'are' if len(leaks) > 1 else 'is'} suppressed"]


def _may_leak(
    profile: Profile, symbols: Symbols, known: Suppressions
) -> tuple[BoolArray, list[str]]:
    """Return the sites whose blocks may leak: not what is suppressed, what the runtime keeps, nor
    what libraries alone hold from their start, unless that is much. With a note on the last two.
    """
    places = find_places(profile, symbols, FrameRule.OWN)
    keepers = [_keeper(frames) for frames in places.frames]
    hidden = np.array([known.match(frames) for frames in places.frames], dtype=np.bool_)
    kept = np.array([bool(name) for name in keepers], dtype=np.bool_)
    role = np.array([f.role for f in symbols.functions], dtype=np.int8)
    charged = symbols.locations_of_stack[charged_from(symbols, FrameRule.PROGRAM)]
    by_program = role[symbols.function_of_location[charged]] == Role.PROGRAM
    stack = profile.sites.stack
    may, kept = ~(hidden | kept)[places.place][stack], kept[places.place][stack]
    others = may & ~by_program[stack]
    if sampled(profile, Count.INUSE, others).value > LEAST_BYTES:
        others[:] = False
    size = sampled(profile, Count.INUSE, kept | others).value
    notes = []
    if size and profile.capture.is_whole:
        blocks, _ = profile.counts(Count.INUSE)
        names = {keepers[k] for k in places.place[stack[kept & (blocks > 0)]].tolist()}
        whose = f" ({', '.join(sorted(names))})" if names else ""
        notes = [f"left out: {format_bytes(size)} that libraries keep for themselves{whose}"]
    return may & ~others, notes


def _keeper(frames: tuple[Frame, ...]) -> str:
    """Return the function of the runtime that keeps a stack's blocks; empty where none does."""
    for frame in frames:
        name = frame.function
        if name in _RUNTIME and (name.startswith("_") or _RUNTIME_FILE.search(frame.module)):
            return name
    names = [frame.function for frame in frames]
    if _RUST_START in names:
        inner = names[: names.index(_RUST_START)]
        return "" if any(name.endswith(_RUST_MAIN) for name in inner) else _RUST_START
    within = next((k for k, f in enumerate(frames) if _CONSTRUCTORS.fullmatch(f.function)), 0)
    if within and all(_POOL_FILE.search(f.module) for f in frames[:within]):
        return _POOL
    return _POOL if any(_POOL_START.fullmatch(f.function) for f in frames[:within]) else ""


def _no_verdict(finding: Finding) -> str:
    held = format_estimate(finding.live, Unit.SPACE)
    if finding.live.samples == 1 and finding.live.std_error <= _NEARLY_SURE * finding.live.value:
        held = f"1 block of {format_bytes(finding.live.value)}"
        finding = dataclasses.replace(
            finding,
            evidence=f"allocated once in {finding.watched_s:.3g} s, and one block shows no growth; "
            "attach after the warm-up (mem_profiler -s 60 -p PID)",
        )
    evidence = finding.evidence[:1].lower() + finding.evidence[1:].removesuffix(".")
    name = one_line(finding.frames[0].told) if finding.frames else "many small stacks"
    return f"no verdict on {name}, {held}: {evidence}"


@dataclass(frozen=True, slots=True)
class _AtMost:
    """The leaks that were found, and those that ``more`` may be."""

    found: Sampled
    more: Sampled

    @property
    def value(self) -> float:
        return self.found.value

    @property
    def estimate(self) -> Estimate:
        return self.found.estimate

    def lower(self, alpha: float) -> float:
        return self.found.lower(alpha)

    def upper(self, alpha: float) -> float:
        return self.found.upper(alpha) + self.more.upper(alpha)


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


def _sum_of(leaks: list[Finding], profile: Profile) -> Sampled:
    """Return the live bytes of ``leaks`` together; blocks count as small, which is safe for both
    bounds.
    """
    rate = profile.rate_bytes if profile.rate_bytes > 1 and leaks else 0.0
    value = sum(f.live.value for f in leaks)
    samples = sum(f.live.samples for f in leaks)
    if not rate:
        return Sampled(value, 0.0, 0.0, samples, 0.0)
    variance = sum(f.live.std_error**2 for f in leaks)
    if not math.isfinite(variance) or variance <= 0:
        return Sampled(value, 0.0, 0.0, samples, rate)
    return Sampled(0.0, value, variance, samples, rate)


def _left(held: Sampled, alpha: float) -> str:
    most = held.upper(alpha)
    what = f"no more than {format_bytes(most)}" if most else "nothing"
    return f"{what} of the program's own is in use that may have leaked"


def _times(profile: Profile) -> Timeline | None:
    live = profile.sites.live_births
    return None if live is None else timeline(profile.capture, live.shape[1])
