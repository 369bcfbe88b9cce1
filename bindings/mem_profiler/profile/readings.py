"""The readings of a running capture: time series, peaks, marks, the use of devices."""

from __future__ import annotations

from dataclasses import dataclass, field

from mem_parser.model import ControllerUse, Reading
from mem_profiler.profile.tables import LiveCounts
from mem_profiler.segment.devices import Actual, MarkLog

PEAK_GROWTH = 1.05
# A series that gets this long keeps every second point only.
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
        """Add a reading with its counts; the final one keeps any new peak."""
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


@dataclass
class Readings:
    """All readings of one capture. The keys of domains of device memory are their numbers.

    `use` is what this process had used at the final reading.
    """

    host: Track = field(default_factory=Track)
    devices: dict[int, Track] = field(default_factory=dict)
    actual: dict[int, Actual | None] = field(default_factory=dict)
    marks: MarkLog = field(default_factory=MarkLog)
    rss_bytes: int | None = None
    use: ControllerUse | None = None

    def forget_peaks(self) -> None:
        """Drop the peaks: one reading at the end says nothing about the peak."""
        for track in (self.host, *self.devices.values()):
            track.peak = None
