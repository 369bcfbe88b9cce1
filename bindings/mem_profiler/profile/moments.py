"""Live bytes by site at earlier moments of a capture.

Model: a program that ends frees its memory first, so its last counts say nothing of leaks. While a
capture runs, a recorder keeps the sites at a few moments whose distance grows with the capture: the
newest is about a sixteenth of the capture old, all together cover its last fifth. If the target has
ended and holds less than half of what it held at one of them, `before_end` gives the newest moment
before that.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_profiler.profile import ages
from mem_profiler.segment import collect, devices
from mem_profiler.segment.collect import LiveBlocks, Source
from mem_profiler.segment.file import Control, Segment, Words

FIRST_S = 0.25
SPACING = 1 / 16
MOST = 4
MOST_BYTES = 128 << 20
"""Of all moments together, 1.3 million sites; where a single one has more, none is kept."""
SITE_ROWS_MAX = 1 << 21
LIVE_ROWS_MAX = 1 << 22
"""Of tables that are read at all: the target makes them, and may make them of any size."""
COST_SHARE = 0.02
"""Of a core, for reading them."""
ENDING_SHARE = 0.5


@dataclass(frozen=True)
class Held:
    """Sites of one kind of memory at one moment, one entry per site key, sorted by key.

    `births` and `live_births` have shape (n, 8); `oldest_s` is in seconds since the start of the
    capture, NaN where nothing was live.
    """

    at_s: float
    keys: Words
    blocks: Words
    bytes: Words
    births: NDArray[np.uint32]
    live_births: NDArray[np.uint32]
    oldest_s: NDArray[np.float64]

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
        )

    @property
    def memory_bytes(self) -> int:
        """Memory used by this object."""
        columns = (
            self.keys, self.blocks, self.bytes, self.births, self.live_births, self.oldest_s
        )  # fmt: skip
        return sum(column.nbytes for column in columns)


def read_held(
    segment: Segment, control: Control, capture: int, source: Source, at_s: float
) -> Held:
    """Read the target's live blocks. Raises MemError."""
    sites = collect.read_sites(segment, control, capture, source)
    live = collect.read_live(segment, control, capture, source)
    at = ages.position_of(sites.keys, live.site)
    known = at >= 0
    live = LiveBlocks(
        live.site[known], live.size_bytes[known], live.birth_ns[known], live.thread[known]
    )
    live_births, oldest_s = ages.count_live(live, at[known], len(sites.keys), control)
    return Held(
        at_s,
        sites.keys,
        sites.live_blocks,
        sites.live_bytes,
        sites.births.astype(np.uint32),
        live_births,
        oldest_s,
    )


def _is_readable(control: Control, source: Source) -> bool:
    sites = sum(level.rows for level in collect.site_levels(control, source))
    live = sum(level.rows for level in control.levels(source.live, source.live_row))
    return sites <= SITE_ROWS_MAX and live <= LIVE_ROWS_MAX


class Moments:
    """The moments that are kept of one capture; another capture begins anew."""

    def __init__(self) -> None:
        self._capture = 0
        self._next_s = FIRST_S
        self._kept: deque[list[Held]] = deque()

    def update(self, segment: Segment, control: Control, t_s: float) -> None:
        """Keep this moment, if it is time for one. `t_s` is that since the start of the capture.
        Raises MemError.
        """
        number = control.number("capture_number")
        if number != self._capture:
            self._capture, self._next_s = number, FIRST_S
            self._kept.clear()
        if t_s < self._next_s:
            return
        if not all(_is_readable(control, source) for source in (collect.HOST, collect.DEVICES)):
            self._kept.clear()  # later allocations are unknown
            self._next_s = math.inf
            return
        began = time.monotonic()
        moment = [read_held(segment, control, number, collect.HOST, t_s)]
        if devices.used_in(devices.read_domains(segment, control), number):
            moment.append(read_held(segment, control, number, collect.DEVICES, t_s))
        self._kept.append(moment)
        while len(self._kept) > MOST or self._memory_bytes() > MOST_BYTES:
            self._kept.popleft()
        cost_s = time.monotonic() - began
        pause_s = max(FIRST_S, t_s * SPACING, cost_s / COST_SHARE)
        self._next_s = t_s + pause_s if self._kept else math.inf

    def _memory_bytes(self) -> int:
        return sum(held.memory_bytes for moment in self._kept for held in moment)

    def before_end(self, capture: int, domain: int, left_bytes: int) -> Held | None:
        """What `domain` held before the target of `capture` began to end; None where it still
        holds most of that. `left_bytes` are the sampled bytes that it holds now.
        """
        if capture != self._capture:
            return None
        found = [held.of_domain(domain) for moment in self._kept for held in moment]
        held_bytes = [int(held.bytes.sum()) for held in found]
        most = max(held_bytes, default=0)
        if left_bytes >= ENDING_SHARE * most:
            return None
        return next(
            held
            for held, size in zip(reversed(found), reversed(held_bytes), strict=True)
            if size >= ENDING_SHARE * most
        )
