"""Growth between snapshots of one capture, from births and deaths alone.

Blocks that are live in both snapshots are the same blocks and cancel. What remains are samples born
and samples freed in between: under "no growth" the two are equally frequent, so of their sum n the
births are Bin(n, 1/2).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mem_parser.interning import StackInterner, StackParts, distinct
from mem_parser.model import IntArray, Profile
from mem_parser.python.owners import MergedOwners
from mem_parser.significance import p_rate_above


class Growth:
    """Counts of older snapshots, matched by stack to those of the newest.

    A stack missing in an older snapshot counts as 0 there.
    """

    def __init__(self, newest: Profile, earlier: Sequence[Profile]) -> None:
        index = StackIndex(newest)
        self._born: list[IntArray] = []
        self._freed: list[IntArray] = []
        for profile in (*earlier, newest):
            born = np.zeros(len(newest.stacks), dtype=np.int64)
            freed = np.zeros(len(newest.stacks), dtype=np.int64)
            there = index.match(profile)[profile.sites.stack]
            known = there >= 0
            sites = profile.sites
            np.add.at(born, there[known], sites.alloc_blocks[known])
            np.add.at(freed, there[known], (sites.alloc_blocks - sites.inuse_blocks)[known])
            self._born.append(born)
            self._freed.append(freed)
        self._stack = newest.sites.stack
        self._at = [p.capture.duration_s or float(k) for k, p in enumerate((*earlier, newest))]

    def p_growing(self, sites: IntArray) -> float:
        """Return the p-value of "the stacks of these sites do not grow": between first and last
        snapshot, and with three or more in both halves of that time.
        """
        stacks = distinct(self._stack[sites])
        born = np.array([b[stacks].sum() for b in self._born])
        freed = np.array([f[stacks].sum() for f in self._freed])
        middle = self._middle()
        bounds = [0, len(born) - 1] if middle is None else [0, middle, len(born) - 1]
        worst = 0.0
        for low, high in itertools.pairwise(bounds):
            births = max(float(born[high] - born[low]), 0.0)
            deaths = max(float(freed[high] - freed[low]), 0.0)
            worst = max(worst, p_rate_above(births, 1.0, deaths, 1.0, 1.0))
        return worst

    def _middle(self) -> int | None:
        inner = range(1, len(self._at) - 1)
        if not inner:
            return None
        half = (self._at[0] + self._at[-1]) / 2
        return min(inner, key=lambda k: abs(self._at[k] - half))


class StackIndex:
    """The stacks of a profile by their addresses, loader generation, Python frames and label; of
    equal ones, the last.
    """

    def __init__(self, profile: Profile) -> None:
        self._numbers = StackInterner(np.uint64)
        self._owners = MergedOwners()
        ids, first = self._numbers.intern(self._parts(profile))
        self._last = np.zeros(len(first), dtype=np.int64)
        self._last[ids] = np.arange(len(ids))

    def match(self, profile: Profile) -> IntArray:
        """Return for each stack of ``profile`` its position in the index; -1 if it is absent."""
        ids = self._numbers.find(self._parts(profile))
        known = ids >= 0
        ids[known] = self._last[ids[known]]
        return ids

    def _parts(self, profile: Profile) -> StackParts:
        stacks = profile.stacks
        owners = self._owners.intern(profile)
        tags = (stacks.generation.astype(np.uint64) << np.uint64(32) | owners).view(np.int64)
        return StackParts(stacks.frames, stacks.offsets[:-1], stacks.offsets[1:], tags)
