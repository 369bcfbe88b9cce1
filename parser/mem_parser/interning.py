"""Equal values in arrays: number keys (64 bits) and stacks, find distinct and following rows.

Numbers are given in the order of first appearance, as a dictionary would give them, and cost some
bytes for each distinct key instead of some hundred. Keys are found by bisection in a sorted array.

Stacks are found by a hash with secret random factors, so that nobody can make a file of stacks that
collide; and since chance could, each stack is compared with the one whose number it gets. If they
differ, all hashes are made anew with other factors: the numbers never depend on them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
_Number = TypeVar("_Number", bound=np.generic)
_ITEMS_AT_A_TIME = 1 << 18
_HALF = np.uint64(32)


def distinct(values: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """Return the distinct values of an array without NaN, sorted.

    As `numpy.unique`, which would load `numpy.ma` for it: 15 ms in every command and child.
    """
    ordered = np.sort(values, axis=None)
    is_first = np.ones(len(ordered), dtype=np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_first]


def previous_equal(*columns: npt.NDArray[Any]) -> Ids:
    """Return for each row the previous row with equal values in all columns, or -1.

    Birth and death of a block are two such rows if the columns are its location.
    """
    order = np.lexsort(columns) if len(columns) > 1 else np.argsort(columns[0], kind="stable")
    ordered = [column[order] for column in columns]
    is_same = np.logical_and.reduce([column[1:] == column[:-1] for column in ordered])
    found = np.full(len(order), -1, dtype=np.int64)
    found[order[1:]] = np.where(is_same, order[:-1], -1)
    return found


def next_equal(previous: Ids) -> Ids:
    """Return for each row the next one with equal values, from the result of `previous_equal`."""
    found = np.full(len(previous), -1, dtype=np.int64)
    has_previous = np.flatnonzero(previous >= 0)
    found[previous[has_previous]] = has_previous
    return found


class Interner:
    """Numbers keys of 64 bits, all of one type: all signed or all unsigned."""

    def __init__(self) -> None:
        self._keys: npt.NDArray[Any] = np.zeros(0, dtype=np.int64)
        self._ids: Ids = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: npt.NDArray[Any]) -> Ids:
        """Return the number of each key, -1 for new ones."""
        if not len(self._keys):
            return np.full(len(keys), -1, dtype=np.int64)
        at = np.searchsorted(self._keys, keys)
        np.minimum(at, len(self._keys) - 1, out=at)
        return np.where(self._keys[at] == keys, self._ids[at], -1)

    def intern(self, keys: npt.NDArray[Any]) -> tuple[Ids, Ids]:
        """Return the number of each key, and the positions at which the new ones are first, in the
        order of their numbers.
        """
        ids = self.find(keys)
        unknown = np.flatnonzero(ids < 0)
        if not len(unknown):
            return ids, unknown
        order = np.argsort(keys[unknown], kind="stable")
        ordered = keys[unknown][order]
        begins = np.concatenate(([True], ordered[1:] != ordered[:-1]))
        first = order[begins]  # of each new key, in the order of the keys
        by_appearance = np.argsort(first)
        number = np.empty(len(first), dtype=np.int64)
        number[by_appearance] = np.arange(len(self), len(self) + len(first))
        ids[unknown[order]] = number[np.cumsum(begins) - 1]
        self._insert(ordered[begins], number)
        return ids, unknown[first[by_appearance]]

    def _insert(self, keys: npt.NDArray[Any], ids: Ids) -> None:
        if not len(self._keys):
            self._keys, self._ids = keys, ids
            return
        at = np.searchsorted(self._keys, keys)
        self._keys = np.insert(self._keys, at, keys)
        self._ids = np.insert(self._ids, at, ids)


def pairs(high: Ids, low: Ids) -> Ids:
    """Return one key for each pair of numbers that are at least 0 and below 2^31 and 2^32."""
    return high << 32 | low


class Growing(Generic[_Number]):
    """A growing array that others are appended to."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._place: npt.NDArray[_Number] = np.empty(0, dtype=dtype)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    @property
    def values(self) -> npt.NDArray[_Number]:
        """Its content."""
        return self._place[: self._used]

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Append ``values``."""
        end = self._used + len(values)
        if end > len(self._place):
            place = np.empty(max(end, self._used * 5 // 4), dtype=self._place.dtype)
            place[: self._used] = self.values
            self._place = place
        self._place[self._used : end] = values
        self._used = end


class StackParts(NamedTuple):
    """Sequences of numbers, back to back: sequence *k* is ``items[starts[k]:ends[k]]``. It is equal
    to another only if its number in ``tags`` is, too.
    """

    items: npt.NDArray[Any]
    starts: Ids
    ends: Ids
    tags: Ids

    def take(self, which: Ids) -> StackParts:
        """Return the sequences at these positions."""
        return StackParts(self.items, self.starts[which], self.ends[which], self.tags[which])

    def batches(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of sequences with some hundred thousand items each."""
        return _batches(self.ends - self.starts)


class StackInterner:
    """Numbers sequences of numbers, whose items have a type that fits all of them."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.items: Growing[Any] = Growing(dtype)
        self.ends: Growing[np.int64] = Growing(np.int64)
        self.tags: Growing[np.int64] = Growing(np.int64)
        self._factors = _Factors()
        self._index = Interner()

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def offsets(self) -> Ids:
        """Where each stack begins in ``items``, and where the last one ends."""
        return np.concatenate((np.zeros(1, dtype=np.int64), self.ends.values))

    def find(self, stacks: StackParts) -> Ids:
        """Return the number of each stack, -1 for unknown ones."""
        ids = self._index.find(self._factors.hashes(stacks))
        known = np.flatnonzero(ids >= 0)
        other = ~self._equal(stacks.take(known), ids[known])
        ids[known[other]] = -1
        return ids

    def intern(self, stacks: StackParts) -> tuple[Ids, Ids]:
        """Return the number of each stack, and the positions at which the new ones are first, in
        the order of their numbers.
        """
        while True:
            before = len(self)
            ids, first = self._index.intern(self._factors.hashes(stacks))
            known = np.flatnonzero(ids < before)
            repeated = np.flatnonzero(ids >= before)
            if self._equal(stacks.take(known), ids[known]).all() and _equal(
                stacks.take(repeated), stacks.take(first[ids[repeated] - before])
            ).all():  # fmt: skip
                break
            self._hash_anew()
        self._append(stacks.take(first))
        return ids, first

    def _equal(self, stacks: StackParts, ids: Ids) -> npt.NDArray[np.bool_]:
        return _equal(stacks, self._known().take(ids))

    def _known(self) -> StackParts:
        offsets = self.offsets
        return StackParts(self.items.values, offsets[:-1], offsets[1:], self.tags.values)

    def _append(self, stacks: StackParts) -> None:
        size = int((stacks.ends - stacks.starts).sum())
        # A single extension moves the array only once.
        values = np.empty(size, dtype=stacks.items.dtype)
        done = 0
        for low, high in stacks.batches():
            part = stacks.items[positions(stacks.starts[low:high], stacks.ends[low:high])]
            values[done : done + len(part)] = part
            done += len(part)
        base = len(self.items)
        self.items.extend(values)
        self.ends.extend(base + np.cumsum(stacks.ends - stacks.starts))
        self.tags.extend(stacks.tags)

    def _hash_anew(self) -> None:
        """Choose new factors for which no two known stacks collide."""
        while True:
            self._factors = _Factors()
            self._index = Interner()
            self._index.intern(self._factors.hashes(self._known()))
            if len(self._index) == len(self):
                return


class _Factors:
    """The secret numbers of a hash: a sum over the items, each mixed and multiplied by an odd
    number that depends on its position.
    """

    def __init__(self) -> None:
        self._add, self._times, self._tag = self._odd(3)
        self._of_place: Hashes = self._odd(64)

    def _odd(self, count: int) -> Hashes:
        # numpy.random takes 20 ms to import.
        return np.frombuffer(os.urandom(8 * count), dtype=np.uint64) | np.uint64(1)

    def hashes(self, stacks: StackParts) -> Hashes:
        """Return a hash of each sequence."""
        depth = stacks.ends - stacks.starts
        deepest = int(depth.max(initial=0))
        if deepest > len(self._of_place):
            more = self._odd(max(deepest, 2 * len(self._of_place)) - len(self._of_place))
            self._of_place = np.concatenate((self._of_place, more))
        result = self._mixed(stacks.tags.astype(np.uint64) * self._tag + depth.astype(np.uint64))
        for low, high in stacks.batches():
            place = positions(stacks.starts[low:high], stacks.ends[low:high])
            within = place - np.repeat(stacks.starts[low:high], depth[low:high])
            terms = self._mixed(stacks.items[place].astype(np.uint64)) * self._of_place[within]
            filled = np.flatnonzero(depth[low:high])
            begins = (np.cumsum(depth[low:high]) - depth[low:high])[filled]
            if len(filled):
                result[low + filled] += np.add.reduceat(terms, begins)
        return self._mixed(result)

    def _mixed(self, values: Hashes) -> Hashes:
        values = (values + self._add) * self._times
        values ^= values >> _HALF
        values *= self._times
        values ^= values >> _HALF
        return values


def _equal(one: StackParts, other: StackParts) -> npt.NDArray[np.bool_]:
    """Tell for each position whether both have the same sequence there."""
    depth = one.ends - one.starts
    result: npt.NDArray[np.bool_] = (depth == other.ends - other.starts) & (one.tags == other.tags)
    alike = np.flatnonzero(result)
    one, other, depth = one.take(alike), other.take(alike), depth[alike]
    for low, high in one.batches():
        mine = one.items[positions(one.starts[low:high], one.ends[low:high])]
        theirs = other.items[positions(other.starts[low:high], other.ends[low:high])]
        wrong = np.flatnonzero(mine != theirs)
        if len(wrong):
            stack = np.searchsorted(np.cumsum(depth[low:high]), wrong, side="right")
            result[alike[low + stack]] = False
    return result


def positions(starts: Ids, ends: Ids) -> Ids:
    """Return all positions from each start to its end, one range after the other."""
    depth = ends - starts
    behind = np.cumsum(depth) - depth
    places: Ids = np.arange(int(depth.sum())) + np.repeat(starts - behind, depth)
    return places


def _batches(depth: Ids) -> Iterator[tuple[int, int]]:
    """Yield ranges of sequences of such depths, with some hundred thousand items each."""
    end = np.cumsum(depth)
    low = 0
    while low < len(depth):
        before = int(end[low - 1]) if low else 0
        high = int(np.searchsorted(end, before + _ITEMS_AT_A_TIME, side="right"))
        high = max(high, low + 1)
        yield low, high
        low = high
