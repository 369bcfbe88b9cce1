"""Live bytes by site at earlier moments of a capture.

Model: a program that ends frees its memory first, so its last counts say nothing of leaks. While a
capture runs, a recorder keeps the sites at a few moments whose distance grows with the capture: the
newest is about a sixteenth of the capture old, all together cover its last fifth. A total that has
grown much brings the next moment forward, and while a total falls there is none: it could be in the
midst of the clean-up. If the target has ended and holds less than half of what it held lately,
`before_end` gives the newest moment before that.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_profiler.profile import ages
from mem_profiler.segment import births, collect, devices
from mem_profiler.segment.collect import Sites, Source
from mem_profiler.segment.file import Control, Segment, Words
from mem_profiler.segment.peaks import Peak, peak_of

FIRST_S = 0.25
SPACING = 1 / 16
MOST = 4
MOST_BYTES = 128 << 20
"""Of all moments together, 1.3 million sites; where a single one has more, none is kept."""
SITE_ROWS_MAX = 1 << 21
LIVE_ROWS_MAX = 1 << 22
"""Of tables that are read at all: the target makes them, and may make them of any size."""
COST_SHARE = 0.02
"""Of a core since the start of the capture, for reading them."""
ENDING_SHARE = 0.5
GROWN = 1.25
"""So many times what it was at the moments that are kept, a total brings the next one forward."""
FALLEN = 0.9
"""Below this part of its highest value lately, a total falls."""
CLEAN_UP_S, CLEAN_UP = 2.0, 1 / 4
"""So many seconds, or this part of the capture if that is more, a clean-up may take: what a program
gave back before is no part of its end."""
LATELY_S = 1.0
LATELY = 1 / 64
"""Of the capture, or `LATELY_S` if that is more; up to twice as long ago counts."""


STAYED = 0.9
"""Of what a site ever allocated, in use at the peak: so little of it was freed before that it does
not matter when that was born."""


@dataclass(frozen=True)
class Held:
    """Sites of one kind of memory at one moment, one entry per site key, sorted by key.

    `births` and `live_births` have shape (n, 8) and `scale` (`segment.births`); `oldest_s` is in
    seconds since the start of the capture, NaN where nothing was live.
    """

    at_s: float
    keys: Words
    blocks: Words
    bytes: Words
    births: NDArray[np.uint32]
    live_births: NDArray[np.uint32]
    oldest_s: NDArray[np.float64]
    scale: int = 0

    def of_domain(self, number: int) -> Held:
        """The sites of one domain."""
        at = collect.domains(self.keys) == number
        return Held(
            self.at_s,
            self.keys[at],
            self.blocks[at],
            self.bytes[at],
            self.births[at],
            self.live_births[at],
            self.oldest_s[at],
            self.scale,
        )

    @property
    def memory_bytes(self) -> int:
        """Memory used by this object."""
        columns = (
            self.keys, self.blocks, self.bytes, self.births, self.live_births, self.oldest_s
        )  # fmt: skip
        return sum(column.nbytes for column in columns)


def read_held(
    segment: Segment,
    control: Control,
    source: Source,
    at_s: float,
) -> Held:
    """Read the live blocks of the latest capture. Raises MemError."""
    capture = control.number("capture_number")
    sites = collect.read_sites(segment, control, capture, source)
    live = collect.read_live(segment, control, capture, source)
    at = ages.position_of(sites.keys, live.site)
    known = at >= 0
    scale = max(sites.scale, births.scale_at(control, round(at_s * 1e9)))
    live_births, oldest_s = ages.count_live(
        live.pick(known), at[known], len(sites.keys), control, scale
    )
    return Held(
        at_s,
        sites.keys,
        sites.live_blocks,
        sites.live_bytes,
        births.rescaled(sites.births, sites.scale, scale).astype(np.uint32),
        live_births,
        oldest_s,
        scale,
    )


def held_at_peak(sites: Sites, peak: Peak, control: Control) -> Held | None:
    """What the sampler alone keeps of the time before the end of a program that nobody watched, or
    not lately: its peak, if it freed most of that as it exited.

    Sites remember their blocks at the peak and not when these were born. Where hardly any block was
    freed before, these are the births; other sites that held something then have no ages.
    """
    start_ns = int(control.capture["start_ns"])
    end_ns, at_ns = control.number("exited_ns") - start_ns, max(peak.at_ns - start_ns, 0)
    if sites.peak is None or at_ns < end_ns - max(CLEAN_UP_S * 1e9, end_ns * CLEAN_UP):
        return None
    if end_ns <= 0 or sites.live_bytes.sum() >= ENDING_SHARE * sites.peak.bytes.sum():
        return None
    share = sites.peak.blocks / np.maximum(sites.alloc_blocks, np.uint64(1))
    stayed = np.where(share >= STAYED, share, 0.0)[:, np.newaxis]
    return Held(
        at_ns / 1e9,
        sites.keys,
        sites.peak.blocks,
        sites.peak.bytes,
        sites.births.astype(np.uint32),
        np.rint(sites.births * stayed).astype(np.uint32),
        np.full(len(sites.keys), np.nan),
        sites.scale,
    )


def _is_readable(control: Control, source: Source) -> bool:
    sites = sum(level.rows for level in collect.site_levels(control, source))
    live = sum(level.rows for level in control.levels(source.live, source.live_row))
    return sites <= SITE_ROWS_MAX and live <= LIVE_ROWS_MAX


class _Total:
    """The bytes in use of one kind of memory, as the sampler counts them, at every reading."""

    def __init__(self) -> None:
        self._now = self._high = self._before = 0.0
        self._since_s = 0.0
        self._kept: deque[float] = deque(maxlen=MOST)

    def update(self, now_bytes: float, t_s: float) -> None:
        """Take a reading."""
        if t_s - self._since_s >= max(LATELY_S, t_s * LATELY):
            self._before, self._high, self._since_s = self._high, 0.0, t_s
        self._now = now_bytes
        self._high = max(self._high, now_bytes)

    @property
    def falls(self) -> bool:
        """Whether it was clearly higher just before."""
        return self._now < FALLEN * max(self._high, self._before)

    @property
    def has_grown(self) -> bool:
        """Whether it is much higher than at all moments that are kept."""
        return self._now > GROWN * max(self._kept, default=0.0)

    def keep(self) -> None:
        """Compare with this reading from now on."""
        self._kept.append(self._now)


class Moments:
    """The moments that are kept of one capture; another capture begins anew."""

    def __init__(self) -> None:
        self._begin(0)

    def _begin(self, capture: int) -> None:
        self._capture = capture
        self._now_s = self._last_s = 0.0
        self._cost_s = 0.0
        self._is_too_large = False
        self._kept: deque[list[Held]] = deque()
        self._totals = _Total(), _Total()

    def update(self, segment: Segment, control: Control, t_s: float) -> None:
        """Keep this moment, if it is time for one. `t_s` is that since the start of the capture.
        Raises MemError.
        """
        number = control.number("capture_number")
        if number != self._capture:
            self._begin(number)
        self._now_s = t_s
        if self._is_too_large:
            return
        domains = devices.used_in(devices.read_domains(segment, control), number)
        highest = [peak_of(control)], [domain.peak for domain in domains]
        for total, peaks in zip(self._totals, highest, strict=True):
            total.update(sum(peak.held_bytes for peak in peaks if peak is not None), t_s)
        if not self._is_due(t_s):
            return
        if not all(_is_readable(control, source) for source in (collect.HOST, collect.DEVICES)):
            self._kept.clear()  # later allocations are unknown
            self._is_too_large = True
            return
        began_s = time.thread_time()
        sources = [collect.HOST, collect.DEVICES] if domains else [collect.HOST]
        self._kept.append([read_held(segment, control, one, t_s) for one in sources])
        while len(self._kept) > MOST or self._memory_bytes() > MOST_BYTES:
            self._kept.popleft()
        self._is_too_large = not self._kept
        for total in self._totals:
            total.keep()
        self._last_s = t_s
        self._cost_s += time.thread_time() - began_s

    def _is_due(self, t_s: float) -> bool:
        since_s = t_s - self._last_s
        if since_s < FIRST_S or self._cost_s > t_s * COST_SHARE:
            return False
        if any(total.falls for total in self._totals):
            return False
        return since_s >= t_s * SPACING or any(total.has_grown for total in self._totals)

    def _memory_bytes(self) -> int:
        return sum(held.memory_bytes for moment in self._kept for held in moment)

    def before_end(
        self, capture: int, domain: int, left_bytes: int, peak: tuple[float, int] | None = None
    ) -> Held | None:
        """What `domain` held before the target of `capture` began to end; None where it still
        holds most of that. `left_bytes` are the sampled bytes that it holds now, `peak` is when it
        held most of them in the capture, and how many these were.
        """
        if capture != self._capture:
            return None
        since_s = self._now_s - max(CLEAN_UP_S, self._now_s * CLEAN_UP)
        every = [held for moment in self._kept for held in moment if held.at_s >= since_s]
        found = [held for held in (one.of_domain(domain) for one in every) if len(held.keys)]
        sizes = [(held.at_s, int(held.bytes.sum())) for held in found]
        lately = [*sizes, peak] if peak and sizes and peak[0] >= sizes[0][0] else sizes
        most_s, most = max(lately, key=lambda size: size[1], default=(0.0, 0))
        enough = [size >= ENDING_SHARE * most for _, size in sizes]
        if not any(enough):  # the program grew and fell between two moments
            enough = [at_s <= most_s for at_s, _ in sizes]
        for held, (_, size), is_enough in zip(found[::-1], sizes[::-1], enough[::-1], strict=True):
            if is_enough:
                return held if left_bytes < ENDING_SHARE * size else None
        return None
