"""A capture's measure for each limit: an estimate, one-sided bounds, and any obstacle.

    peak        the highest live total
    inuse       bytes in use at the end of the capture
    alloc       all bytes allocated in the capture
    allocs      the number of these allocations
    alloc_rate  all bytes allocated, over the capture's duration

Bounds are those of `bounds`; the ones for leaks are in `leakage`, for growth in `baseline`.

The sampler itself keeps the highest total, after every sample, and the sites that made it up:
their variances add up to the total's. In older files it kept the total alone. None of its blocks
adds more than T times its weight to the variance (s^2 (1-p)/p^2 <= T s/p), so the root of T times
the total bounds its error. Where nobody kept it, the peak is the highest reading.

The peak is the highest of many noisy totals, and the highest of many is high by chance alone. So
its lower bound is the highest of all totals' lower bounds, each at the allowed error over the
number of totals. Its upper bound is the highest upper bound of any, which needs no such correction:
it can be wrong only if that of the truly highest total is wrong.

Readings that share their live blocks share their errors. Over a time in which the program replaces
its live total R times, the highest of all readings exceeds a bound of z standard errors about
1 + z^2 R times as often as a single reading does (the scan statistic of a Poisson process: S. E.
Alm, Journal of Applied Probability 20, 1983), so no more than that many count, with z^2 = 20.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from mem_parser.budget.bounds import Bounded, Sampled, of_reading, sampled, sampled_objects
from mem_parser.budget.rules import Measure
from mem_parser.estimate import Estimate
from mem_parser.model import Count, PeakSource, Profile, Unit
from mem_parser.units import counted, format_bytes, format_estimate, percent
from mem_parser.unseen import FEWEST_READINGS, NOTE, is_of_children, is_service, why_unseen

MOST_LOST = 0.01
"""Share of samples that may be lost; above it a capture cannot pass."""
FEWER_LOST = "capture at a coarser rate (-c)"
"""What helps where samples were lost: mostly a table had no room for so many."""
_READINGS_PER_TURNOVER = 20.0
_LIKELY = 6.0
_MET = 0.1
_MOST_LIKELY = 64
_OF_PEAK = "at the program's peak, which need not be its own"


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest of a number of ``readings``; ``likely`` are those that may be the highest."""

    likely: tuple[Sampled, ...]
    readings: int

    @property
    def value(self) -> float:
        """The highest estimate."""
        return self.top.value

    @property
    def estimate(self) -> Estimate:
        """The highest estimate with its error."""
        return self.top.estimate

    @property
    def top(self) -> Sampled:
        """The reading with the highest estimate."""
        return max(self.likely, key=lambda s: s.value)

    def lower(self, alpha: float) -> float:
        """Return the highest lower bound, each at its part of ``alpha``."""
        return max(s.lower(alpha / self.readings) for s in self.likely)

    def upper(self, alpha: float) -> float:
        """Return the highest upper bound."""
        return max(s.upper(alpha) for s in self.likely)


@dataclass(slots=True)
class Measured:
    """The measured value of ``what``; ``obstacle`` says why it must not pass with any bounds;
    ``notes`` are for the reader. None where the file does not have it. ``between`` says why it is
    not decided with a limit between the bounds, where no samples decide that.
    """

    what: Bounded | None
    obstacle: str | None = None
    notes: list[str] = field(default_factory=list)
    between: str = ""


def measure(profile: Profile, part: Profile | None, what: Measure) -> Measured:
    """Measure peak, in use, allocated bytes or their rate of ``part`` of ``profile`` (of all of it,
    where they are the same). Raises nothing.
    """
    if part is None:
        return Measured(None, "the file has no counts by thread")
    if what is Measure.PEAK:
        return _peak(profile, part)
    if what is Measure.INUSE:
        return Measured(sampled(part, Count.INUSE))
    if not profile.has_alloc:
        return Measured(None, "the file holds no counts of all allocations")
    if what is Measure.ALLOC:
        return Measured(sampled(part, Count.ALLOC))
    if what is Measure.ALLOCS:
        return Measured(sampled_objects(part, Count.ALLOC))
    duration = profile.capture.duration_s
    if not duration or duration <= 0:
        return Measured(None, "the file does not say how long the capture was")
    return Measured(sampled(part, Count.ALLOC).scaled(1 / duration))


def running(profile: Profile) -> Profile:
    """Return a service before it was told to end and freed what it held, as one that goes on; any
    other program as it is.
    """
    before = profile.before_end if is_service(profile.capture) else None
    if before is None:
        return profile
    capture = dataclasses.replace(before.capture, end="stopped")
    return dataclasses.replace(before, capture=capture)


def freed_at_end(part: Profile, amount: float, alpha: float) -> str | None:
    """Return why what a service has in use at its end must not pass: it freed it then."""
    before = running(part)
    held = sampled(before, Count.INUSE)
    if before is part or held.upper(alpha) <= amount:
        return None
    size, at_s = format_estimate(held.estimate, Unit.SPACE), before.capture.duration_s or 0.0
    return (
        f"{size} in use at second {at_s:.3g}, before its clean-up: limit the peak, or check a file "
        "of mem_profiler snapshot PID, taken beside run"
    )


def highest(profile: Profile, part: Profile) -> Highest:
    """Return the highest live total of the whole, or a part's live bytes at the program's peak."""
    found = [sampled(part, Count.INUSE)]
    if part.has(Count.PEAK):
        found.append(sampled(part, Count.PEAK))
    if part is not profile:
        return Highest(tuple(found), len(found))
    rate = profile.rate_bytes
    kept = profile.capture.kept_peak_bytes
    if kept is not None:
        found[1:] = [_kept_total(profile, kept)]
    readings = [
        of_reading(r.estimate_bytes, r.std_error_bytes, r.samples, rate) for r in profile.series
    ]
    every = sorted([*found, *readings], key=lambda s: -s.value)
    floor = every[0].value - _LIKELY * every[0].variance ** 0.5
    likely = [s for s in every if s.value + _LIKELY * s.variance**0.5 >= floor]
    count = float(len(every))
    if profile.has_alloc:
        allocated = sampled(profile, Count.ALLOC)
        count += allocated.samples if kept is not None else 0
        turnovers = max(allocated.value / max(every[0].value, 1.0), 1.0)
        count = min(count, 1 + _READINGS_PER_TURNOVER * turnovers)
    return Highest(tuple(likely[:_MOST_LIKELY]), math.ceil(count))


def _kept_total(profile: Profile, kept_bytes: float) -> Sampled:
    """The highest total that the sampler kept, with its error."""
    rate = profile.rate_bytes
    if profile.capture.peak_source is PeakSource.SAMPLER and profile.has(Count.PEAK):
        sites = profile.total(Count.PEAK, Unit.SPACE)
        return of_reading(kept_bytes, sites.std_error, sites.samples, rate)
    return of_reading(kept_bytes, math.sqrt(rate * kept_bytes), round(kept_bytes / rate), rate)


def _peak(profile: Profile, part: Profile) -> Measured:
    found = highest(profile, part)
    if part is not profile:
        return _part_peak(profile, part, found)
    if len(profile.series) >= FEWEST_READINGS or profile.capture.kept_peak_bytes is not None:
        return Measured(found)
    # Live bytes cannot exceed allocated bytes.
    ever = sampled(part, Count.ALLOC) if profile.has_alloc else None
    short = (
        f"only {counted(len(profile.series), 'reading')}: a peak shorter than 0.1 s does not show"
    )
    if not part.has(Count.PEAK):
        short = "the file holds no peak"
    if ever is None:
        return Measured(found, short)
    return Measured(
        _Bounded(found, ever), notes=[f"{short}; the upper bound is all that was ever allocated"]
    )


def _part_peak(profile: Profile, part: Profile, found: Highest) -> Measured:
    notes = [_OF_PEAK]
    ever = sampled(part, Count.ALLOC) if profile.has_alloc else None
    if not part.has(Count.PEAK):
        if ever is None:
            return Measured(found, "the file holds no peak", notes)
        notes.append("the file holds no peak; the upper bound is all that was ever allocated")
        return Measured(_Bounded(found, ever), notes=notes)
    whole = highest(profile, profile)
    behind = peak_unseen(profile, whole.value)
    notes += filter(None, [reading_note(profile, whole.value)])
    return Measured(_Bounded(found, ever, behind) if behind else found, notes=notes)


def peak_unseen(profile: Profile, highest_bytes: float) -> float:
    """Return the bytes by which the highest total exceeds the peak's counts by site: these are of a
    reading, and blocks that lived between two readings are in the total alone. 0 where the sampler
    kept the counts by site too.
    """
    if profile.capture.peak_source is PeakSource.SAMPLER:
        return 0.0
    seen = max(sampled(profile, Count.PEAK).value, sampled(profile, Count.INUSE).value)
    return max(highest_bytes - seen, 0.0)


def reading_note(profile: Profile, highest_bytes: float) -> str:
    """Say that the sites are those well before the peak; empty where a reading is at the peak."""
    unseen = peak_unseen(profile, highest_bytes)
    if not profile.has(Count.PEAK) or unseen <= _MET * highest_bytes:
        return ""
    seen = format_bytes(highest_bytes - unseen)
    peak = format_bytes(highest_bytes)
    return f"the peak ({peak}) fell between two readings; the sites are from a reading of {seen}"


@dataclass(frozen=True, slots=True)
class _Bounded:
    """A peak between readings: at most ``unseen`` bytes above the ``seen`` ones, and at most all
    bytes ``ever`` allocated.
    """

    seen: Highest
    ever: Sampled | None
    unseen: float = math.inf

    @property
    def value(self) -> float:
        return self.seen.value

    @property
    def estimate(self) -> Estimate:
        return self.seen.estimate

    def lower(self, alpha: float) -> float:
        return self.seen.lower(alpha)

    def upper(self, alpha: float) -> float:
        more = self.seen.upper(alpha) + self.unseen
        return more if self.ever is None else min(more, self.ever.upper(alpha))


def lost_share(profile: Profile) -> float:
    """Return the share of samples that are in no total."""
    missing = profile.samples_missing
    samples = profile.capture.samples or 0
    return missing / (missing + samples) if missing else 0.0


def with_lost(lost: int) -> str:
    """Say that so many lost samples may be what exceeds a limit."""
    return f"{counted(lost, 'sample')} lost, and with them it may be over the limit: {FEWER_LOST}"


def obstacle_of(profile: Profile, *, of_children: bool = True) -> str | None:
    """Return why no limit of this capture may pass; None if there is no obstacle. ``of_children``:
    the limits are for child processes too.
    """
    lost = lost_share(profile)
    if lost > MOST_LOST:
        share = f"{percent(lost, 1.0)} of the samples were lost"
        return f"{share}, more than {100 * MOST_LOST:.0f} %: {FEWER_LOST}"
    if profile.incomplete:
        return f"the file is incomplete: {profile.incomplete}"
    if not profile.errors_known:
        return "the file has no numbers of samples, so its errors are unknown"
    why = why_unseen(profile.capture)
    return NOTE + why if why and (of_children or not is_of_children(why)) else None
