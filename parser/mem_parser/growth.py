"""Growth between snapshots of one capture, from births and deaths alone.

Blocks that are live in both snapshots are the same blocks and cancel. What remains are samples born
and samples freed in between: under "no growth" the two are equally frequent, so of their sum n the
births are Bin(n, 1/2).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mem_parser.model import AddressArray, IntArray, Profile
from mem_parser.significance import p_rate_above


class Growth:
    """Counts of older snapshots, matched by stack to those of the newest.

    A stack that an older snapshot does not have was empty then.
    """

    def __init__(self, newest: Profile, earlier: Sequence[Profile]) -> None:
        index = stack_index(newest)
        self._born: list[IntArray] = []
        self._freed: list[IntArray] = []
        for profile in (*earlier, newest):
            born = np.zeros(len(newest.stacks), dtype=np.int64)
            freed = np.zeros(len(newest.stacks), dtype=np.int64)
            there = match_stacks(profile, index)[profile.sites.stack]
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
        stacks = np.unique(self._stack[sites])
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


def stack_index(profile: Profile) -> dict[bytes, int]:
    """Return the stacks of a profile by their addresses and loader generation."""
    return {key: k for k, key in enumerate(_stack_keys(profile))}


def match_stacks(profile: Profile, index: dict[bytes, int]) -> IntArray:
    """Return for each stack of ``profile`` its number in ``index``; -1 where it is absent."""
    return np.array([index.get(key, -1) for key in _stack_keys(profile)], dtype=np.int64)


def _stack_keys(profile: Profile) -> list[bytes]:
    stacks = profile.stacks
    frames: AddressArray = stacks.frames
    offsets = stacks.offsets.tolist()
    return [
        frames[low:high].tobytes() + b"/%d" % generation
        for low, high, generation in zip(
            offsets[:-1], offsets[1:], stacks.generation.tolist(), strict=True
        )
    ]
