"""Sums over stacks of made-up functions."""

import numpy as np

from mem_parser.estimate import NOTHING_UNSEEN
from mem_parser.reports.aggregate import StackSums

NAMES = 6


def sums_of(stacks: list[list[int]]) -> StackSums:
    """Sums whose stack *k* stands for 2^k bytes, so that every set of stacks has its own sum."""
    values = 2.0 ** np.arange(len(stacks))
    return StackSums(
        names=[f"f{k}" for k in range(NAMES)],
        offsets=np.cumsum([0, *map(len, stacks)]).astype(np.int64),
        keys=np.array([k for stack in stacks for k in stack], dtype=np.int32),
        values=values,
        variances=values * 2,
        samples=np.arange(len(stacks), dtype=np.int64) + 1,
        exact_samples=True,
        unseen=NOTHING_UNSEEN,
    )
