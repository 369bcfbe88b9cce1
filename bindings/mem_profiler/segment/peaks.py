"""The peak of a capture, and live bytes by site at that moment.

Model: the sampler keeps the highest live total of the host and of each domain of device memory
(sampler/core/peak.h). A new high of the total begins an epoch. A site's
word says in which epoch the site last changed, and how many blocks it had before. So a reader of
the latest epoch finds the moment's count in the word, or, where the site has not changed since, in
its counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_profiler.segment import layout
from mem_profiler.segment.file import Control, Words

# No valid total comes near it.
TOTAL_MAX_BYTES = 1 << 52


@dataclass
class PeakCounts:
    """Sampled blocks and bytes live at the highest total of a capture, one entry per site."""

    blocks: Words
    bytes: Words

    def pick(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> PeakCounts:
        """The entries that `index` selects."""
        return PeakCounts(self.blocks[index], self.bytes[index])


def epoch_of(total_parts: int) -> int:
    """The class of a live total, which numbers the epochs (mp_peak_class() in core/peak.h)."""
    total = max(total_parts, 0)
    shift = max(total.bit_length() - 1 - layout.PEAK_STEP_BITS, 0)
    return (
        total
        if total < 1 << layout.PEAK_STEP_BITS
        else ((shift << layout.PEAK_STEP_BITS) + (total >> shift))
    )


@dataclass(frozen=True)
class Peak:
    """The highest live total of one kind of memory in a capture, as the sampler kept it.

    `bytes` is the estimate at `at_ns` (CLOCK_MONOTONIC). Sites remember the moment at which `epoch`
    began; `now`: the present live total is nearer to the highest one. `held_bytes` is that total.
    """

    bytes: float
    at_ns: int
    epoch: int
    now: bool
    held_bytes: float = 0.0

    @classmethod
    def of(cls, row: np.void, capture: int) -> Peak | None:
        """The peak of a struct mp_peak; None if it is of another capture or invalid."""
        live, high = int(row["live_parts"]), int(row["high_parts"])
        if int(row["capture"]) != capture or not 0 <= high <= TOTAL_MAX_BYTES << layout.PART_BITS:
            return None
        epoch, part = int(row["epoch"]), 1 << layout.PART_BITS
        is_now = epoch_of(live) > epoch
        return cls(high / part, int(row["high_ns"]), epoch, is_now, min(max(live, 0), high) / part)


def peak_of(control: Control) -> Peak | None:
    """The peak of the host's memory in the latest capture."""
    number = control.number("capture_number")
    return Peak.of(control["peak"][number & 1], number)


def columns(table: Words, peaks: dict[int, Peak], domain: Words) -> Words:
    """(n, 2): blocks and bytes of rows at the peak of their `domain`.

    The first four columns of `table` are blocks and bytes allocated and freed, the last one is the
    row's word. A row knows its blocks. All of them are of one size class, whose greatest size is at
    most 1/64 above its smallest: their bytes are computed with the mean size of all its blocks.
    """
    alloc, word = table[:, 0], table[:, -1]
    live = alloc - np.minimum(table[:, 2], alloc)
    live_bytes = table[:, 1] - np.minimum(table[:, 3], table[:, 1])
    stamped = np.zeros(len(table), np.bool_)
    for number, peak in peaks.items():
        if not peak.now:
            stamped |= (domain == number) & (word >> np.uint64(32) >= peak.epoch)
    blocks = np.where(stamped, np.minimum(word & np.uint64(0xFFFFFFFF), alloc), live)
    mean = table[:, 1] / np.maximum(alloc, np.uint64(1)).astype(np.float64)
    size = np.where(blocks == live, live_bytes, np.rint(blocks * mean).astype(np.uint64))
    return np.column_stack([blocks, size])
