"""The readings of a running capture: time series, marks, the use of devices."""

from __future__ import annotations

from dataclasses import dataclass, field

from mem_parser.model import Reading
from mem_parser.processfacts import ControllerUse, Memory
from mem_profiler.profile.moments import Moments
from mem_profiler.segment.devices import Actual, MarkLog

# A series that gets this long keeps every second point only.
SERIES_MAX = 4096


class Track:
    """Readings of one kind of memory: a thinned series and the latest one."""

    def __init__(self) -> None:
        self.series: list[Reading] = []
        self.latest: Reading | None = None
        self._every = 1
        self._count = 0

    def add(self, reading: Reading, *, final: bool) -> None:
        """Add a reading; the series keeps the final one always."""
        self.latest = reading
        self._append(reading, final)

    def _append(self, reading: Reading, final: bool) -> None:
        self._count += 1
        if final or self._count % self._every == 0:
            self.series.append(reading)
        if len(self.series) >= SERIES_MAX:
            del self.series[::2]
            self._every *= 2


@dataclass
class Growth:
    """How far anonymous memory rose above its first reading."""

    first_bytes: int | None = None
    most_bytes: int = 0
    last_bytes: int = 0

    def add(self, now_bytes: int) -> None:
        """Add a reading."""
        if self.first_bytes is None:
            self.first_bytes = now_bytes
        self.most_bytes = max(self.most_bytes, now_bytes)
        self.last_bytes = now_bytes

    @property
    def bytes(self) -> int:
        """The growth; 0 without a reading."""
        return self.most_bytes - (self.first_bytes or 0)

    def follow(self, earlier: Growth) -> None:
        """Count pages that are left of an earlier growth of the same process as grown: an allocator
        that keeps them may use them anew.
        """
        if self.first_bytes is not None and earlier.first_bytes is not None:
            self.first_bytes = min(self.first_bytes, earlier.first_bytes)

    @property
    def left_bytes(self) -> int:
        """The growth at the end."""
        return self.last_bytes - (self.first_bytes or 0)


@dataclass
class Readings:
    """All readings of one capture. The keys of domains of device memory are their numbers.

    `memory` is what was read of the process last. `use` is the resource use of this process at the
    final reading.
    """

    host: Track = field(default_factory=Track)
    devices: dict[int, Track] = field(default_factory=dict)
    actual: dict[int, Actual | None] = field(default_factory=dict)
    marks: MarkLog = field(default_factory=MarkLog)
    moments: Moments = field(default_factory=Moments)
    memory: Memory = field(default_factory=Memory)
    anon: Growth = field(default_factory=Growth)
    use: ControllerUse | None = None
