"""Live blocks in columns, by slot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
_FIRST_SLOTS = 1 << 10


class BlockTable:
    """Live blocks. Slots of blocks that ended are used again."""

    def __init__(self) -> None:
        self.address = np.zeros(0, dtype=np.uint64)
        self.size = np.zeros(0, dtype=np.uint64)
        self.allocation = np.zeros(0, dtype=np.int64)
        self.row = np.zeros(0, dtype=np.int64)
        """Number of its MALLOC row in its file, 0: not written."""
        self.time_ns = np.zeros(0, dtype=np.int64)
        self.tid = np.zeros(0, dtype=np.int64)
        self.stack = np.zeros(0, dtype=np.int64)
        self.file = np.zeros(0, dtype=np.int64)
        """Number of the file of the log that has its stack."""
        self.track = np.zeros(0, dtype=np.int64)
        self.traits = np.zeros(0, dtype=np.int64)
        """What its driver told of it (`blockfacts`)."""
        self.is_live = np.zeros(0, dtype=np.bool_)
        self._free = np.zeros(0, dtype=np.int64)

    def take(self, count: int) -> IntArray:
        """Return so many slots for new blocks."""
        if count > len(self._free):
            self._grow(count - len(self._free))
        slots, self._free = self._free[:count], self._free[count:]
        self.is_live[slots] = True
        return slots

    def _grow(self, more: int) -> None:
        before = len(self.size)
        more = max(more, before, _FIRST_SLOTS)
        for name, column in vars(self).items():
            if name != "_free":
                setattr(self, name, np.concatenate((column, np.zeros(more, dtype=column.dtype))))
        new = np.arange(before, before + more)
        self._free = np.concatenate((self._free, new))

    def give(self, slots: IntArray) -> None:
        """Take back the slots of blocks that ended."""
        self.is_live[slots] = False
        self._free = np.concatenate((slots, self._free))

    def living(self) -> IntArray:
        """Return the slots of live blocks, in the order of their allocations."""
        slots = np.flatnonzero(self.is_live)
        return slots[np.argsort(self.allocation[slots], kind="stable")]
