"""Find the live block at an address: a dictionary of starts, and sorted lists on demand.

A list of begins is made when somebody asks what is around an address, and then kept.
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
        """Return where the block of a place begins that has an address; None: there is none."""
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
