"""The time series and the peaks of a running capture.

Model: at every tick the site counters are read once and turned into estimates of live bytes, one
for the host and one for each domain of device memory. A `Track` is one of these: when its estimate
passes the last peak by 5 %, the counts are kept: they are the file's peak column. Peaks between two
ticks are missed. A tick may cost 5 % of a core: the more sites there are, the rarer it comes.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

from mem_parser import estimate
from mem_profiler.capture import guardrail
from mem_profiler.capture.guardrail import Use
from mem_profiler.process import actual, procfs
from mem_profiler.profile.heapwrite import DeviceReading, Reading
from mem_profiler.profile.records import LiveCounts
from mem_profiler.segment import collect, devices, reserve
from mem_profiler.segment.devices import Domain, DomainCounts, MarkLog
from mem_profiler.segment.file import Control, Segment

TICK_S = 0.1
COST_SHARE = 0.05
PEAK_GROWTH = 1.05
# The series of a long capture is thinned to every second point whenever it gets this long.
SERIES_MAX = 4096


class Track:
    """Readings of one kind of memory: a thinned series, the latest one, and the peak."""

    def __init__(self) -> None:
        self.series: list[Reading] = []
        self.latest: Reading | None = None
        self.peak: LiveCounts | None = None
        self.peak_bytes = 0.0
        self.peak_at_s = 0.0
        self._every = 1
        self._count = 0

    def add(self, reading: Reading, counts: LiveCounts, *, final: bool) -> None:
        """Take a reading with the counts behind it; the final one keeps any new peak."""
        self.latest = reading
        self._append(reading, final)
        live = reading.estimate_bytes
        if live > self.peak_bytes * (1.0 if final else PEAK_GROWTH):
            self.peak = counts
            self.peak_bytes, self.peak_at_s = live, reading.t_s

    def _append(self, reading: Reading, final: bool) -> None:
        self._count += 1
        if final or self._count % self._every == 0:
            self.series.append(reading)
        if len(self.series) >= SERIES_MAX:
            del self.series[::2]
            self._every *= 2


@dataclass(frozen=True)
class Pace:
    """How often readings are taken: every `tick_s`, but for no more than a share of a core.

    `exact_peak` asks the sampler to keep the highest total itself (see `capture.start`).
    """

    tick_s: float = TICK_S
    cost_share: float = COST_SHARE
    exact_peak: bool = False


class Recorder:
    """Readings of one capture of one segment. `pid` is as seen from here."""

    def __init__(self, segment: Segment, pid: int, pace: Pace = Pace()) -> None:
        self.segment = segment
        self.pid = pid
        self.pace = pace
        self.host = Track()
        self.devices: dict[int, Track] = {}
        self.domains: list[Domain] = []
        self.marks = MarkLog()
        self.rss_bytes: int | None = None
        self.full = False
        self.too_large = False  # this process has more memory than it may
        self.use: Use | None = None  # what it had used at the final reading
        self._next = 0.0
        self._actual = actual.Asker(pid)

    @property
    def latest(self) -> Reading | None:
        """The latest reading of the host."""
        return self.host.latest

    def due_in(self) -> float:
        """Seconds until the next tick should come."""
        return max(0.0, self._next - time.monotonic())

    def forget_peaks(self) -> None:
        """One reading at the end says nothing about the peak."""
        for track in (self.host, *self.devices.values()):
            track.peak = None

    def tick(self, now_ns: int, *, final: bool = False) -> None:
        """Take a reading and reserve ahead.

        `now_ns` is the target's clock; the final one keeps any new peak.
        """
        began = time.monotonic()
        control = self.segment.control()
        if control.number("capture_number") > 0:
            self._read(control, now_ns, final)
        if not final:
            self.full |= not reserve.ahead(self.segment, control)
        self.too_large |= guardrail.rss_bytes() > guardrail.bound_bytes()
        if final:
            self.use = guardrail.use()
        cost = time.monotonic() - began
        self._next = began + max(self.pace.tick_s, cost / self.pace.cost_share)

    def _read(self, control: Control, now_ns: int, final: bool) -> None:
        slot = control.capture
        number = control.number("capture_number")
        t_s = round(max(0, now_ns - int(slot["start_ns"])) / 1e9, 6)
        quick = collect.read_quick(self.segment, control, number)
        sums = estimate.unsample(quick.blocks, quick.bytes, float(slot["rate_bytes"]))
        self.rss_bytes = procfs.rss_bytes(self.pid) or self.rss_bytes
        reading = Reading(
            t_s=t_s,
            estimate_bytes=round(float(sums.bytes.sum()), 1),
            std_error_bytes=round(float(sums.bytes_variance.sum()) ** 0.5, 1),
            samples=quick.samples,
            rss_bytes=self.rss_bytes,
        )
        self.host.add(reading, LiveCounts(quick.keys, quick.blocks, quick.bytes), final=final)
        self.marks.update(self.segment, control)
        self._read_devices(control, number, t_s, final)

    def _read_devices(self, control: Control, number: int, t_s: float, final: bool) -> None:
        self.domains = devices.read_domains(self.segment, control)
        used = devices.used_in(self.domains, number)
        if not used:
            return
        rate = float(control["device_rate_bytes"][number & 1])
        counts = devices.read_quick(self.segment, control, number)
        readings = [
            (
                domain,
                _device_reading(domain, counts.get(domain.number, devices.NO_COUNTS), rate, t_s),
            )
            for domain in used
        ]
        self._actual.look(
            [(domain, round(found.held_bytes)) for domain, found in readings], now=final
        )
        for domain, found in readings:
            mine = counts.get(domain.number, devices.NO_COUNTS)
            track = self.devices.setdefault(domain.number, Track())
            told = self._actual.of(domain)
            reading = dataclasses.replace(
                found.reading,
                rss_bytes=self.rss_bytes,
                actual_used_bytes=told.used_bytes if told else None,
                actual_total_bytes=told.total_bytes if told else None,
            )
            track.add(reading, LiveCounts(mine.keys, mine.blocks, mine.bytes), final=final)

    def actual_of(self, domain: Domain) -> devices.Actual | None:
        """Used and total bytes of the domain's device, as last known."""
        return self._actual.of(domain)


@dataclass(frozen=True)
class _Held:
    """A reading of a domain, and what its blocks hold: bytes taken, or asked for where unknown."""

    reading: DeviceReading
    held_bytes: float


def _device_reading(domain: Domain, counts: DomainCounts, rate: float, t_s: float) -> _Held:
    sums = estimate.unsample(counts.blocks, counts.bytes, rate)
    taken = counts.taken * sums.objects / np.maximum(counts.blocks, 1)
    reading = DeviceReading(
        t_s=t_s,
        estimate_bytes=round(float(sums.bytes.sum()), 1),
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
