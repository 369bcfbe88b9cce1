"""The time series of a running capture.

Model: every tick reads the site counters once and estimates live bytes from them, one estimate for
the host and one for each domain of device memory. A `Track` keeps the series of one of these. A
tick may cost 5 % of a core: the more sites there are, the rarer ticks are. The peak does not depend
on ticks: the sampler tracks it. A few ticks also store all sites (`profile.moments`), for verdicts
on a program that frees its memory as it ends.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

from mem_parser import estimate
from mem_parser.model import Reading
from mem_parser.processfacts import Memory
from mem_profiler.capture import actual, guardrail
from mem_profiler.process import procfs
from mem_profiler.profile.readings import Readings, Track
from mem_profiler.profile.tables import end_of
from mem_profiler.segment import collect, devices, reserve
from mem_profiler.segment.devices import Domain, DomainCounts
from mem_profiler.segment.file import Control, Segment
from mem_profiler.segment.peaks import TOTAL_MAX_BYTES, Peak, peak_of

TICK_S = 0.1
COST_SHARE = 0.05
GROUP_S = 1.0


@dataclass(frozen=True)
class Pace:
    """The interval of readings: `tick_s`, or more to stay within a share of a core."""

    tick_s: float = TICK_S
    cost_share: float = COST_SHARE


class Recorder:
    """Readings of one capture of one segment. `pid` is as seen from here. `reserves`: it also
    reserves memory of the segment ahead, as the controller does.
    """

    def __init__(
        self,
        segment: Segment,
        pid: int,
        pace: Pace = Pace(),
        *,
        reserves: bool = True,
    ) -> None:
        self.segment = segment
        self.pid = pid
        self.pace = pace
        self._reserves = reserves
        self.readings = Readings()
        self.domains: list[Domain] = []
        self.full = False
        self.too_large = False  # this process exceeds its memory limit
        self._next = self._next_group = 0.0
        self._actual = actual.Asker(pid)
        self.readings.anon.first_bytes = _at_start(segment.control())
        self._read_memory()  # of a target that is killed before the first tick this is all

    @property
    def latest(self) -> Reading | None:
        """The latest reading of the host."""
        return self.readings.host.latest

    def most_bytes(self) -> int:
        """The most memory that the process is known to have had, at its end too."""
        control = self.segment.control()
        peak, at_exit = peak_of(control), _at_exit(control).get("peak_rss_bytes") or 0
        resident = self.readings.memory.peak_rss_bytes or 0
        return max(resident, at_exit, round(peak.bytes) if peak else 0)

    def due_in(self) -> float:
        """Seconds until the next tick is due."""
        return max(0.0, self._next - time.monotonic())

    def tick(self, now_ns: int, *, final: bool = False) -> None:
        """Take a reading, and reserve ahead.

        `now_ns` is the target's clock; the series keeps the final reading always.
        """
        began, began_cpu = time.monotonic(), time.thread_time()
        control = self.segment.control()
        t_s = None
        if control.latest_capture > 0:
            t_s = self._read(control, now_ns, final)
        if self._reserves and not final:
            self.full |= not reserve.ahead(self.segment, control)
        self.too_large |= guardrail.rss_bytes() > guardrail.bound_bytes()
        if final:
            self.readings.use = guardrail.use()
        cost = time.thread_time() - began_cpu  # on a busy machine less than what went by
        self._next = began + max(self.pace.tick_s, cost / self.pace.cost_share)
        if t_s is not None and not final:
            self.readings.moments.update(self.segment, control, t_s)  # has a share of its own

    def _read(self, control: Control, now_ns: int, final: bool) -> float:
        """Take a reading; returns its time since the start of the capture."""
        slot = control.capture
        number = control.number("capture_number")
        end_ns = end_of(control, now_ns) if final else now_ns
        t_s = round(max(0, end_ns - int(slot["start_ns"])) / 1e9, 6)
        quick = collect.read_quick(self.segment, control, number)
        sums = estimate.unsample(quick.blocks, quick.bytes, float(slot["rate_bytes"]))
        peak = peak_of(self.segment.control())
        readings = self.readings
        memory = readings.memory if self._read_memory(final=final) else Memory()
        self._read_group(final)
        reading = Reading(
            t_s=t_s,
            estimate_bytes=_held_at_once(sums, peak),
            std_error_bytes=round(float(sums.bytes_variance.sum()) ** 0.5, 1),
            samples=quick.samples,
            rss_bytes=memory.rss_bytes,
            anon_bytes=memory.anon_bytes,
            file_bytes=memory.file_bytes,
            shmem_bytes=memory.shmem_bytes,
            group_bytes=readings.memory.group_bytes,
        )
        readings.host.add(reading, final=final)
        readings.marks.update(self.segment, control)
        self._read_devices(control, number, t_s, final)
        return t_s

    def _read_memory(self, *, final: bool = False) -> bool:
        """Read how much of the process is resident, and of which kind; False: nothing is known."""
        kinds = procfs.kinds(self.pid)
        resident = procfs.resident(self.pid)  # none of one that was ending as its kinds were read
        if (resident is None or not resident.rss_bytes) and final:
            kinds = _at_exit(self.segment.control())
            rss, anon = kinds.get("rss_bytes") or 0, kinds.get("anon_bytes") or 0
            resident = procfs.Resident(rss, anon)
        if resident is None or not resident.rss_bytes:
            return False
        highest = max(self.readings.memory.peak_rss_bytes or 0, kinds["peak_rss_bytes"] or 0)
        memory = dataclasses.replace(self.readings.memory, **kinds)
        rss = memory.rss_bytes or resident.rss_bytes
        self.readings.memory = dataclasses.replace(
            memory, rss_bytes=rss, peak_rss_bytes=max(highest, rss)
        )
        self.readings.anon.add(resident.anon_bytes)
        return True

    def _read_group(self, final: bool) -> None:
        """Read what the control group uses, not at every tick: the kernel has to sum it up."""
        now = time.monotonic()
        if now < self._next_group and not final:
            return
        self._next_group = now + GROUP_S
        group = procfs.group(self.pid)
        if group["limit_bytes"] is not None:  # else it may be gone
            self.readings.memory = dataclasses.replace(self.readings.memory, **group)

    def _read_devices(self, control: Control, number: int, t_s: float, final: bool) -> None:
        self.domains = devices.read_domains(self.segment, control)
        if not devices.used_in(self.domains, number):
            return
        counts = devices.read_quick(self.segment, control, number)
        self.domains = devices.read_domains(self.segment, control)
        used = devices.used_in(self.domains, number)
        readings = []
        for domain in used:
            quick = counts.get(domain.number, devices.NO_COUNTS)
            rate = domain.rate_bytes(control)
            readings.append((domain, _device_reading(domain, quick, rate, t_s)))
        self._actual.update(
            [(domain, round(found.held_bytes)) for domain, found in readings], now=final
        )
        for domain, found in readings:
            track = self.readings.devices.setdefault(domain.number, Track())
            told = self.readings.actual[domain.number] = self._actual.of(domain)
            reading = dataclasses.replace(
                found.reading,
                rss_bytes=self.readings.memory.rss_bytes,
                actual_used_bytes=told.used_bytes if told else None,
                actual_total_bytes=told.total_bytes if told else None,
            )
            track.add(reading, final=final)


def _at_start(control: Control) -> int | None:
    """Anonymous memory as the sampler itself began the capture; None: it did not, or is unknown."""
    begun = control.number("capture_number") and not int(control.capture["owner_pid"])
    bytes_ = int(control["at_start"]["anon_bytes"]) if begun else 0
    return bytes_ if 0 < bytes_ <= TOTAL_MAX_BYTES else None


def _at_exit(control: Control) -> dict[str, int | None]:
    """As `procfs.kinds`, what a program that has ended had as its destructors ran, where that was
    in the capture; empty: unknown.
    """
    told, exited_ns = control["at_exit"], control.number("exited_ns")
    anon, file, shmem, high = (int(told[f"{k}_bytes"]) for k in ("anon", "file", "shmem", "high"))
    rss = anon + file + shmem
    if not exited_ns or exited_ns > end_of(control, exited_ns) or not anon or rss > TOTAL_MAX_BYTES:
        return {}
    highest = min(max(rss, high), TOTAL_MAX_BYTES)
    return {
        "rss_bytes": rss, "peak_rss_bytes": highest, "rss_bound_bytes": highest,
        "anon_bytes": anon, "file_bytes": file, "shmem_bytes": shmem,
    }  # fmt: skip


def _held_at_once(sums: estimate.Unsampled, peak: Peak | None) -> float:
    """The sum of the bytes of all rows. They are of different moments; the sum of one moment is at
    most the peak, which was read after them.
    """
    total = float(sums.bytes.sum())
    return round(total if peak is None else min(total, peak.bytes), 1)


@dataclass(frozen=True)
class _Held:
    """A reading of a domain, and the bytes of its blocks: taken, or requested if unknown."""

    reading: Reading
    held_bytes: float


def _device_reading(domain: Domain, counts: DomainCounts, rate: float, t_s: float) -> _Held:
    sums = estimate.unsample(counts.blocks, counts.bytes, rate)
    taken = counts.taken * sums.objects / np.maximum(counts.blocks, 1)
    reading = Reading(
        t_s=t_s,
        estimate_bytes=_held_at_once(sums, domain.peak),
        std_error_bytes=round(float(sums.bytes_variance.sum()) ** 0.5, 1),
        samples=counts.samples,
        rss_bytes=None,
        taken_bytes=round(float(taken.sum()), 1),
        failed=counts.failed,
        actual_used_bytes=None,
        actual_total_bytes=None,
        reserved_bytes=domain.reserved_bytes if domain.kind == "pool" else None,
    )
    return _Held(reading, float(np.where(taken > 0, taken, sums.bytes).sum()))
