"""The highest resident memory of a process, from the kernel's own numbers.

They are exact, but for these: part of the memory is the sampler's; a reading misses what was
resident after it; and where a run waited for a program, the kernel's last word is of the program or
the largest child that it waited for.
"""

from __future__ import annotations

from dataclasses import dataclass

from mem_parser.budget.measure import Measured
from mem_parser.escape import shell_path
from mem_parser.estimate import Estimate
from mem_parser.leaks.watch import went_on
from mem_parser.model import Count, Profile, Unit
from mem_parser.units import counted, format_bytes, format_estimate
from mem_parser.unseen import FEWEST_READINGS

_LIBRARY_BYTES = 8 << 20
"""More than the sampler's code and tables mostly take in a program, beside the segment."""
_CURE = "a program that ends by exit() tells its highest, one that runs longer shows it"
_UNTOLD = "the file does not say how much was resident"


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes read, those of them that may be the sampler's, and the ``most`` that it may have been;
    no ``alpha`` changes them.
    """

    value: float
    sampler: float
    most: float

    @property
    def estimate(self) -> Estimate:
        """What was read."""
        return Estimate(self.value)

    def lower(self, alpha: float) -> float:
        """Return what the program had at least, without the sampler."""
        del alpha
        return max(self.value - self.sampler, 0.0)

    def upper(self, alpha: float) -> float:
        """Return what it had at most."""
        del alpha
        return self.most


def explains(profile: Profile, excess: float) -> bool:
    """Whether the heap in use at its own peak may be what exceeds a limit by that much."""
    _, heap = _heap(profile).known_ends
    return excess >= 0 and (heap is None or heap >= excess)


def _heap(profile: Profile) -> Estimate:
    return profile.total(Count.PEAK if profile.has(Count.PEAK) else Count.INUSE, Unit.SPACE)


def measure_resident(profile: Profile, amount: float | None, path: str) -> Measured:
    """Measure the highest RSS, for a limit of ``amount`` bytes. Raises nothing."""
    memory = profile.capture.memory
    if memory.peak_rss_bytes is None:
        return Measured(None, _UNTOLD)
    highest = float(max(memory.peak_rss_bytes, memory.rss_bytes or 0))
    segment, most = memory.segment_bytes or 0, highest
    own = _LIBRARY_BYTES + segment
    share = between = f"up to {format_bytes(own)} of it is the sampler's"
    if segment > _LIBRARY_BYTES:
        between += ": a coarser rate (-c) needs less"
    readings = sum(r.rss_bytes is not None for r in profile.series)
    if readings < FEWEST_READINGS and not went_on(profile.capture):
        read = counted(readings, "reading")
        if memory.rss_bound_bytes is None:
            return Measured(Resident(highest, own, highest), f"only {read}: {_CURE}")
        most = max(highest, float(memory.rss_bound_bytes))
        if most > highest:
            between = f"only {read}, and at most {format_bytes(most)} in all: {_CURE}"
    heap = _heap(profile)
    held = f"the heap held {format_estimate(heap, Unit.SPACE)} at its own peak"
    if amount is not None and highest > amount and not explains(profile, highest - amount):
        rest = format_bytes(highest - heap.value)
        held += f": the other {rest} is no heap in use; mem_parser rss {shell_path(path)} says more"
    notes = [share, held]
    return Measured(Resident(highest, own, most), notes=notes, between=between)
