"""The time series and the peak of a running capture.

Model: at every tick the site counters are read once and turned into an estimate of live bytes.
When the estimate passes the last peak by 5 %, the counts are kept: they are the file's peak column.
Peaks between two ticks are missed. A tick may cost 5 % of a core: the more sites there are, the
rarer it comes.
"""

from __future__ import annotations

import time

from mem_parser import estimate
from mem_profiler import collect, procfs, reserve
from mem_profiler.heapwrite import Reading
from mem_profiler.records import LiveCounts
from mem_profiler.segment import Control, Segment

TICK_S = 0.1
COST_SHARE = 0.05
PEAK_GROWTH = 1.05
# The series of a long capture is thinned to every second point whenever it gets this long.
SERIES_MAX = 4096


class Recorder:
    """Readings of one capture of one segment. `pid` is as seen from here."""

    def __init__(self, segment: Segment, pid: int) -> None:
        self.segment = segment
        self.pid = pid
        self.series: list[Reading] = []
        self.latest: Reading | None = None
        self.peak: LiveCounts | None = None
        self.peak_bytes = 0.0
        self.peak_at_s = 0.0
        self.rss_bytes: int | None = None
        self._next = 0.0
        self._every = 1
        self._count = 0
        self.full = False

    def due_in(self) -> float:
        """Seconds until the next tick should come."""
        return max(0.0, self._next - time.monotonic())

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
        cost = time.monotonic() - began
        self._next = began + max(TICK_S, cost / COST_SHARE)

    def _read(self, control: Control, now_ns: int, final: bool) -> None:
        slot = control.capture
        quick = collect.read_quick(self.segment, control, control.number("capture_number"))
        sums = estimate.unsample(quick.blocks, quick.bytes, float(slot["rate_bytes"]))
        live = float(sums.bytes.sum())
        self.rss_bytes = procfs.rss_bytes(self.pid) or self.rss_bytes
        reading = Reading(
            t_s=round(max(0, now_ns - int(slot["start_ns"])) / 1e9, 6),
            estimate_bytes=round(live, 1),
            std_error_bytes=round(float(sums.bytes_variance.sum()) ** 0.5, 1),
            samples=quick.samples,
            rss_bytes=self.rss_bytes,
        )
        self.latest = reading
        self._append(reading, final)
        if live > self.peak_bytes * (1.0 if final else PEAK_GROWTH):
            self.peak = LiveCounts(quick.keys, quick.blocks, quick.bytes)
            self.peak_bytes, self.peak_at_s = live, reading.t_s

    def _append(self, reading: Reading, final: bool) -> None:
        self._count += 1
        if final or self._count % self._every == 0:
            self.series.append(reading)
        if len(self.series) >= SERIES_MAX:
            del self.series[::2]
            self._every *= 2
