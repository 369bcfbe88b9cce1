"""Births by site in eighths of the time that a capture had, where it ends early in the planned one.

Model: the sampler counts births by eighths of the planned time; of a target that dies early all are
in the first ones, which tell no ages. Live rows have the time of their birth. So until half of the
planned time is over the recorder remembers how many blocks each site had allocated at moments of
its own: what was allocated between two of them and is not live was freed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_parser.leaks.ages import LEAST_WATCH_S
from mem_profiler.profile import ages
from mem_profiler.segment import layout
from mem_profiler.segment.file import Control, Words

NS = 1_000_000_000
EARLY = 1 / 2
"""Of the planned time: a capture that ends later has enough of the sampler's buckets."""
SPACING = 1 / 32
"""Of the capture, between two moments that are remembered."""
MOST_BYTES = 64 << 20
"""Of all that is remembered, 120,000 sites or more."""


@dataclass(frozen=True)
class Allocated:
    """How many blocks each site had allocated so many nanoseconds after the start; keys sorted."""

    at_ns: int
    keys: Words
    blocks: Words

    @property
    def memory_bytes(self) -> int:
        """Memory used by this object."""
        return self.keys.nbytes + self.blocks.nbytes


@dataclass(frozen=True)
class Division:
    """The moments that divide a capture into eighths, in order."""

    inner: Sequence[Allocated]

    @property
    def ends_ns(self) -> Words:
        """The upper ends of the buckets, as `ages.bucket_ends_ns`."""
        return np.array([*(one.at_ns for one in self.inner), layout.U64_MAX], np.uint64)

    def births(
        self, keys: Words, record: NDArray[np.int64], allocated: Words, live: NDArray[np.uint32]
    ) -> NDArray[np.uint32]:
        """Births by (record, bucket). `record` is that of each key, `allocated` are the blocks of
        each record, and `live` those still live by bucket.

        The counts of a moment are not quite of its time. They only tell how many of the blocks that
        were freed are older, so that no bucket has fewer births than live blocks, and a record that
        freed nothing has exactly these.
        """
        held = live.astype(np.int64)
        gone = np.maximum(allocated.astype(np.int64) - held.sum(axis=1), 0)
        before = np.zeros((len(held), layout.BUCKETS + 1), np.int64)
        before[:, -1] = gone
        for k, one in enumerate(self.inner, 1):
            at = ages.position_of(one.keys, keys)
            known = at >= 0
            blocks = np.zeros(len(held), np.int64)
            np.add.at(blocks, record[known], one.blocks[at[known]].astype(np.int64))
            freed = np.clip(blocks - held[:, :k].sum(axis=1), before[:, k - 1], gone)
            before[:, k] = freed
        return (held + np.diff(before, axis=1)).astype(np.uint32)


class BirthHistory:
    """What sites had allocated at moments of one capture."""

    def __init__(self) -> None:
        self._kept: list[Allocated] = []

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def add(self, at_s: float, keys: Words, blocks: Words) -> None:
        """Remember a moment, the newest."""
        at_ns = round(at_s * NS)
        if self._kept and np.array_equal(keys, self._kept[-1].keys):
            keys = self._kept[-1].keys
        every, self._kept = [*self._kept, Allocated(at_ns, keys, blocks)], []
        for k, one in enumerate(every):
            last_ns = self._kept[-1].at_ns if self._kept else 0
            if one.at_ns - last_ns >= at_ns * SPACING or k + 1 == len(every):
                self._kept.append(one)
        if sum(one.memory_bytes for one in self._kept) > MOST_BYTES:
            del self._kept[:-1:2]

    def division(self, until_s: float, control: Control) -> Division | None:
        """The eighths of the time until then; None where the sampler's buckets do, where no verdict
        is given after so short a time, and where too little is remembered.
        """
        if not LEAST_WATCH_S <= until_s < early_s(control):
            return None
        found: dict[int, Allocated] = {}
        for k in range(1, layout.BUCKETS):
            # Not the nearest: the first eighth is the warm-up, the last one is young.
            end_ns = until_s * NS * k / layout.BUCKETS
            older = [one for one in self._kept if one.at_ns <= end_ns]
            if older:
                found[older[-1].at_ns] = older[-1]
        inner = tuple(found.values())
        return Division(inner) if len(inner) == layout.BUCKETS - 1 else None


def early_s(control: Control) -> float:
    """The time until which the latest capture is in the early part of the planned time, in seconds
    since its start; 0 without a planned time.
    """
    planned_ns = int(control.capture["bucket_end_ns"][-1])
    return 0.0 if planned_ns == layout.U64_MAX else planned_ns * EARLY / NS
