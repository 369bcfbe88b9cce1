"""Find the block at an address and time, for accesses and owners.

Blocks that are live at one time do not overlap. Most questions name the begin of a block: one
search by begin and birth answers them. The others ask a segment tree over time, all questions level
by level: a node has the blocks that live all its time, by address, so that one search in a node
finds the only one that may contain the address. A question takes O(log n) searches at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
AddressArray = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]
NEVER = np.iinfo(np.int64).max
NOWHERE = -1


@dataclass(frozen=True)
class LiveBlocks:
    """Blocks: columns of one length.

    A block lives from ``born_ns`` on and before ``died_ns`` (`NEVER`: it was never freed). ``tid``
    is the thread that allocated it. Sizes are in bytes.
    """

    address: AddressArray
    size: IntArray
    born_ns: IntArray
    died_ns: IntArray
    tid: IntArray

    def __len__(self) -> int:
        return len(self.address)

    def containing(self, address: AddressArray, time_ns: IntArray) -> IntArray:
        """Return for each address and time the row of the block there, or `NOWHERE`."""
        found = self._beginning(address, time_ns)
        rest = np.flatnonzero(found == NOWHERE)
        if len(rest) and len(self):
            found[rest] = self._around(address[rest], time_ns[rest])
        return found

    def _beginning(self, address: AddressArray, time_ns: IntArray) -> IntArray:
        """Return the blocks that begin there."""
        if not len(self):
            return np.full(len(address), NOWHERE, dtype=np.int64)
        begins, group = np.unique(self.address, return_inverse=True)
        order = np.lexsort((self.born_ns, group))
        births = np.sort(self.born_ns)
        # Group and rank of the birth in one number.
        width = len(births) + 1
        key = group[order] * width + np.searchsorted(births, self.born_ns[order], side="right")
        mine = np.searchsorted(begins, address)
        there = mine < len(begins)
        there[there] = begins[mine[there]] == address[there]
        asked = mine * width + np.searchsorted(births, time_ns, side="right")
        place = np.searchsorted(key, asked, side="right") - 1
        row = order[np.maximum(place, 0)]
        good = there & (place >= 0)
        good &= (self.address[row] == address) & (time_ns < self.died_ns[row])
        good &= self.born_ns[row] <= time_ns
        return np.where(good, row, NOWHERE)

    def _around(self, address: AddressArray, time_ns: IntArray) -> IntArray:
        """Return the blocks that contain an address."""
        begins = np.unique(self.address)
        rank = np.searchsorted(begins, self.address)
        moments = np.unique(np.concatenate((self.born_ns, self.died_ns)))
        leaves = 1 << max(len(moments) - 1, 1).bit_length()
        low = np.searchsorted(moments, self.born_ns) + leaves
        high = np.searchsorted(moments, self.died_ns) + leaves
        leaf = np.searchsorted(moments, time_ns, side="right") - 1
        asked_rank = np.searchsorted(begins, address, side="right") - 1
        found = np.full(len(address), NOWHERE, dtype=np.int64)
        left = np.flatnonzero((leaf >= 0) & (asked_rank >= 0))
        node = leaf + leaves
        rows = np.flatnonzero(low < high)
        while len(rows) and len(left):
            at, block = _of_level(low, high, rows)
            key = at * len(begins) + rank[block]
            order = np.argsort(key, kind="stable")
            key, block = key[order], block[order]
            place = np.searchsorted(key, node[left] * len(begins) + asked_rank[left], "right") - 1
            if len(key):
                row = block[np.maximum(place, 0)]
                good = (place >= 0) & (key[np.maximum(place, 0)] // len(begins) == node[left])
                good &= address[left] - self.address[row] < self.size[row].astype(np.uint64)
                found[left[good]] = row[good]
                left = left[~good]
            low[rows] = (low[rows] + 1) >> 1
            high[rows] >>= 1
            rows = rows[low[rows] < high[rows]]
            node >>= 1
        return found


def _of_level(low: IntArray, high: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Return the nodes of this level that belong to blocks whose parents do not: node, block."""
    first = rows[low[rows] & 1 == 1]
    last = rows[high[rows] & 1 == 1]
    nodes = np.concatenate((low[first], high[last] - 1))
    blocks = np.concatenate((first, last))
    # A block of one node has it from both sides.
    once = np.concatenate((np.ones(len(first), dtype=bool), ~_same(low, high, last)))
    return nodes[once], blocks[once]


def _same(low: IntArray, high: IntArray, rows: IntArray) -> BoolArray:
    same: BoolArray = (low[rows] & 1 == 1) & (low[rows] == high[rows] - 1)
    return same
