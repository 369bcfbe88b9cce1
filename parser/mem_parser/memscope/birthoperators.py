"""Find the innermost operator that a thread ran when it allocated a block."""

from __future__ import annotations

import numpy as np

from mem_parser.memscope.rows import UNKNOWN, IntArray, Rows


def operators_at(rows: Rows, births: IntArray) -> IntArray:
    """Return the number of the operator's name for each of these rows, or `UNKNOWN`.

    An operator that began before the dump does not count.
    """
    begins = rows.is_start & (rows.tid >= 0)
    edges = np.flatnonzero(begins | (rows.is_end & (rows.tid >= 0)))
    if not begins.any() or not len(births):
        return np.full(len(births), UNKNOWN, dtype=np.int64)
    every = np.concatenate((edges, births))
    # Operators and births of one thread stand together, in the order of IDs.
    order = np.lexsort((rows.id[every], rows.tid[every]))
    tid = rows.tid[every][order]
    is_birth = order >= len(edges)
    is_start = begins[every][order]
    change = np.where(is_birth, 0, np.where(is_start, 1, -1))
    depth = _depths(change, tid)
    # The last begin of the thread at the depth that a birth finds is not over: another would be
    # behind it.
    width = len(order) + 1
    place = np.arange(len(order))
    starts = np.flatnonzero(is_start)
    key = depth[starts] * width + place[starts]
    by_depth = np.argsort(key)
    asked = np.flatnonzero(is_birth)
    found = np.searchsorted(key[by_depth], depth[asked] * width + place[asked]) - 1
    start = starts[by_depth[np.maximum(found, 0)]]
    good = (depth[asked] > 0) & (tid[asked] >= 0)
    names = np.full(len(births), UNKNOWN, dtype=np.int64)
    names[order[asked] - len(edges)] = np.where(good, rows.name[every[order[start]]], UNKNOWN)
    return names


def _depths(change: IntArray, tid: IntArray) -> IntArray:
    """Return how many operators are open behind each row of a thread; ends without a begin do not
    count.
    """
    depth = np.cumsum(change)
    first = np.flatnonzero(np.diff(tid, prepend=tid[0] - 1))
    length = np.diff(np.append(first, len(tid)))
    depth -= np.repeat(depth[first] - change[first], length)
    # The lowest so far, of each thread alone: threads are shifted far below those before.
    shift = np.repeat(np.arange(len(first)) * (2 * len(tid) + 2), length)
    lowest = np.minimum.accumulate(depth - shift) + shift
    found: IntArray = depth - np.minimum(lowest, 0)
    return found
