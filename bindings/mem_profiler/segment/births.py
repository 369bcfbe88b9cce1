"""The time buckets of births, as sampler/core/births.h has them.

Model: of eight buckets the first scale % 8 are twice as wide as the others, which are the capture's
unit << scale // 8. A row of a site has the scale of its newest birth; at a larger one each bucket
is part of one.
"""

from __future__ import annotations

import math

import numpy as np

from mem_profiler.segment import layout
from mem_profiler.segment.file import Control, Words


def unit_ns(seconds: float | None) -> int:
    """The first width of the buckets of a capture; eight are over when a known time is."""
    if seconds is None:
        return layout.BIRTH_UNIT_NS
    last = max(math.ceil(seconds * 1e9 / layout.BUCKETS), 1)
    scale = max((last // layout.BIRTH_UNIT_NS).bit_length() - 1, 0)
    return -(-last >> scale)


def scale_at(control: Control, since_ns: int) -> int:
    """The scale that the latest capture has so long after its start; none is born behind its
    deadline, so that those of one command have the same however late each was stopped.
    """
    slot = control.capture
    last_ns = min(since_ns, int(slot["deadline_ns"]) - int(slot["start_ns"])) - 1
    return scale_of(max(last_ns, 0) // _unit(control))


def scale_of(units: int) -> int:
    """The scale of a birth after so many units."""
    doubled = max(units.bit_length() - 4, 0)
    return 8 * doubled + max((units >> doubled) - 7, 0)


def _starts(scale: int) -> list[int]:
    """Where the buckets begin, in units."""
    doubled, wide = divmod(scale, 8)
    return [(2 * k if k < wide else k + wide) << doubled for k in range(layout.BUCKETS)]


def ends_ns(control: Control, scale: int) -> Words:
    """The upper ends of the buckets, since the start; the last has none."""
    ends = [min(_unit(control) * start, layout.U64_MAX) for start in _starts(scale)[1:]]
    return np.array([*ends, layout.U64_MAX], np.uint64)


def rescaled(births: Words, scales: Words | int, scale: int) -> Words:
    """Counts by bucket of rows of smaller or equal ``scales``, as they are at ``scale``."""
    each = np.broadcast_to(np.asarray(scales, np.int64), len(births))
    found = np.zeros_like(births)
    for one in np.flatnonzero(np.bincount(each)).tolist():  # `np.unique` may import numpy.ma
        rows = each == one
        to = np.searchsorted(_starts(scale), _starts(one), side="right") - 1
        moved = np.zeros_like(births[rows])
        for bucket, now in enumerate(to):
            moved[:, now] += births[rows, bucket]
        found[rows] = moved
    return found


def blocks_and_scale(words: Words) -> tuple[Words, Words]:
    """What is in the words `alloc_blocks` of sites."""
    scale = np.minimum(words >> np.uint64(layout.SCALE_SHIFT) & np.uint64(layout.SCALE_MAX), 488)
    return words & np.uint64((1 << layout.SCALE_SHIFT) - 1), scale


def _unit(control: Control) -> int:
    return max(int(control.capture["birth_unit_ns"]), 1)
