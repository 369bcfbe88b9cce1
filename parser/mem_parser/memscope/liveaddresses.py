"""Live blocks: in columns by slot, and by address.

A list of begins is made at the first query around an address, and then cached.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.interning import next_equal, previous_equal

IntArray = npt.NDArray[np.int64]
_RENEWED = 64
"""So many events may change a list of begins one by one; after more it is made anew."""


class LiveAddresses:
    """The numbers of live blocks, by the address at which they begin."""

    def __init__(self, size_of: Callable[[int], int]) -> None:
        """``size_of`` returns the bytes of a block, by its number."""
        self.of_place: list[dict[int, int]] = []
        self._size_of = size_of
        self._starts: dict[int, list[int]] = {}

    @property
    def has_lists(self) -> bool:
        """Whether `renew` has something to do."""
        return bool(self._starts)

    def start_of(self, place: int, address: int) -> int | None:
        """Return where the block of a place begins that has an address; None if there is none."""
        live = self.of_place[place]
        if address in live:
            return address
        starts = self._starts.get(place)
        if starts is None:
            starts = self._starts[place] = sorted(live)
        at = bisect_right(starts, address) - 1
        if at < 0:
            return None
        start = starts[at]
        return start if address < start + max(self._size_of(live[start]), 1) else None

    def happen(
        self, places: IntArray, addresses: npt.NDArray[np.uint64], numbers: IntArray
    ) -> IntArray:
        """Let events happen in their order, and return the number of the block that each ends; -1:
        none. An event ends what lives at its address, and begins the block of its number, if that
        is not negative.
        """
        is_one_place = bool((places == places[0]).all())
        before = previous_equal(addresses) if is_one_place else previous_equal(addresses, places)
        ended = np.where(before >= 0, numbers[before], -1)
        first = np.flatnonzero(before < 0)
        there = zip(places[first].tolist(), addresses[first].tolist(), strict=True)
        ended[first] = [self.of_place[k].pop(at, -1) for k, at in there]
        last = np.flatnonzero((next_equal(before) < 0) & (numbers >= 0))
        after = (column[last].tolist() for column in (places, addresses, numbers))
        for k, at, born in zip(*after, strict=True):
            self.of_place[k][at] = born
        return ended

    def renew(self, places: IntArray, addresses: Sequence[int]) -> None:
        """Let the lists of begins have what changed at these addresses."""
        for place in np.unique(places).tolist():
            starts = self._starts.get(place)
            if starts is None:
                continue
            if len(addresses) > _RENEWED:
                del self._starts[place]
                continue
            live = self.of_place[place]
            for k in np.flatnonzero(places == place).tolist():
                _renew(starts, live, addresses[k])

    def put(self, places: IntArray, addresses: npt.NDArray[np.uint64], numbers: IntArray) -> None:
        """Give the blocks that begin at these addresses other numbers."""
        for k in np.flatnonzero(np.bincount(places, minlength=len(self.of_place))).tolist():
            mine = places == k
            found = zip(addresses[mine].tolist(), numbers[mine].tolist(), strict=True)
            self.of_place[k].update(found)


def _renew(starts: list[int], live: dict[int, int], address: int) -> None:
    """Have an address in a sorted list if, and only if, a live block begins there."""
    at = bisect_left(starts, address)
    is_there = at < len(starts) and starts[at] == address
    if address in live:
        if not is_there:
            insort(starts, address)
    elif is_there:
        del starts[at]


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
