"""Ages of live blocks: which site each belongs to, and the time bucket of its birth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mem_profiler.segment import births, layout
from mem_profiler.segment.collect import LiveBlocks
from mem_profiler.segment.file import Control, Words


def position_of(sorted_keys: Words, keys: Words) -> NDArray[np.int64]:
    """Index of each key in `sorted_keys`, -1 where it is missing."""
    if len(sorted_keys) == 0:
        return np.full(len(keys), -1, np.int64)
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return np.where(sorted_keys[at] == keys, at, -1).astype(np.int64)


def since(moments_ns: Words, start_ns: int) -> Words:
    """Nanoseconds since the start; 0 for moments before it: births use the coarse clock."""
    signed = (moments_ns - np.uint64(start_ns)).view(np.int64)
    return np.maximum(signed, 0).view(np.uint64)


def count_live(
    live: LiveBlocks,
    record: NDArray[np.int64],
    count: int,
    control: Control,
    scale: int,
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Live blocks by (record, bucket of birth), and the oldest birth of each of `count` records in
    seconds since the start of the latest capture; NaN: none. `record` is that of each block,
    `scale`: of the buckets (`segment.births`).
    """
    since_ns = since(live.birth_ns, int(control.capture["start_ns"]))
    bucket = np.minimum(
        np.searchsorted(births.ends_ns(control, scale), since_ns, side="right"), layout.BUCKETS - 1
    )
    found = np.bincount(record * layout.BUCKETS + bucket, minlength=count * layout.BUCKETS)
    oldest = np.full(count, np.inf)
    np.minimum.at(oldest, record, since_ns / 1e9)
    oldest[np.isinf(oldest)] = np.nan
    return found.reshape(count, layout.BUCKETS).astype(np.uint32), oldest
