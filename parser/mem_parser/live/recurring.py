"""Names that are on a stack more than once: which of them to count."""

from __future__ import annotations

import numpy as np

from mem_parser.model import BoolArray, IntArray
from mem_parser.reports.aggregate import stack_parts


def last_of_name(key: IntArray, offsets: IntArray) -> BoolArray:
    """Tell for each entry of stacks, back to back, whether its ``key`` (-1: of none) is not on the
    rest of its stack. However much of the inner end is left out, each key of the rest has one such
    entry.
    """
    result = np.zeros(len(key), dtype=np.bool_)
    width = int(key.max(initial=0)) + 2
    for low, high in stack_parts(offsets):
        begin, end = int(offsets[low]), int(offsets[high])
        stack = np.repeat(np.arange(high - low), np.diff(offsets[low : high + 1]))
        pair = stack * width + key[begin:end] + 1
        # The first of a run of equal ones in reverse order is the last of the stack.
        _, place = np.unique(pair[::-1], return_index=True)
        result[end - 1 - place] = True
    return result
