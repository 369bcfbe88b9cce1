"""Live blocks by site, updated by events, in columns.

A site is (stack, domain, size class), as in a `.heap` file; counts are sampled blocks and bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.contents import MOST_COUNT, Keyframe
from mem_parser.memlog.events import Events
from mem_parser.memlog.sizeclasses import CLASS_BITS, size_classes

Ints = npt.NDArray[np.int64]
_DOMAIN_BITS = 8
_STACK_SHIFT = CLASS_BITS + _DOMAIN_BITS
_WAITING = 1 << 20


def site_keys(
    stack: npt.NDArray[np.uint32],
    domain: npt.NDArray[np.uint8],
    size_class: npt.NDArray[np.int64],
) -> Ints:
    """Return the key of each site."""
    key = stack.astype(np.int64) << _STACK_SHIFT
    key |= domain.astype(np.int64) << CLASS_BITS
    key |= size_class
    return key


def stack_of(keys: Ints) -> Ints:
    """Return the stack of each site."""
    return keys >> _STACK_SHIFT


def domain_of(keys: Ints) -> Ints:
    """Return the domain of each site."""
    return keys >> CLASS_BITS & ((1 << _DOMAIN_BITS) - 1)


class Sites(NamedTuple):
    """Sums per site, in ascending order of `keys`."""

    keys: Ints
    blocks: Ints
    bytes: Ints

    @property
    def stack(self) -> Ints:
        """The stack of each site."""
        return stack_of(self.keys)

    @property
    def domain(self) -> Ints:
        """The domain of each site."""
        return domain_of(self.keys)

    @property
    def size_class(self) -> Ints:
        """The size class of each site."""
        return self.keys & ((1 << CLASS_BITS) - 1)

    def of_domain(self, domain: int) -> Sites:
        """Return the sites of one domain."""
        return self.take(self.domain == domain)

    def take(self, mask: npt.NDArray[np.bool_]) -> Sites:
        """Return the sites that ``mask`` selects."""
        return Sites(self.keys[mask], self.blocks[mask], self.bytes[mask])

    def live(self) -> Sites:
        """Return the sites with blocks: a count below 0, caused by missing events, is dropped."""
        there = self.take(self.blocks > 0)
        return there._replace(bytes=np.maximum(there.bytes, 0))

    def at(self, keys: Ints) -> tuple[Ints, Ints]:
        """Return blocks and bytes of the sites with these keys; 0 for missing ones."""
        if not len(self.keys):
            return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.int64)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        there = self.keys[place] == keys
        return np.where(there, self.blocks[place], 0), np.where(there, self.bytes[place], 0)


class SiteSums:
    """Adds up signed counts of sites. Additions are buffered until there are enough to sort."""

    def __init__(self, keyframe: Keyframe | None = None) -> None:
        none = np.zeros(0, dtype=np.int64)
        self._sums = Sites(none, none, none)
        self._waiting: list[Sites] = []
        self._count = 0
        if keyframe is not None:
            classes = keyframe.size_class.astype(np.int64)
            keys = site_keys(keyframe.stack, keyframe.domain, classes)
            self.add(keys, keyframe.blocks, keyframe.bytes)

    def add(self, keys: Ints, blocks: Ints, size_bytes: Ints) -> None:
        """Add blocks and bytes, which may be negative, to sites."""
        self._waiting.append(Sites(keys, blocks, size_bytes))
        self._count += len(keys)
        if self._count >= _WAITING:
            self._join()

    def add_signed(self, events: Events) -> None:
        """Add births and take away deaths."""
        sign = events.sign
        moving = sign != 0
        if not moving.all():
            events, sign = events.take(moving), sign[moving]
        self.add(*counts(events, sign.astype(np.int64)))

    def sums(self) -> Sites:
        """Return the sums now."""
        self._join()
        return self._sums

    def _join(self) -> None:
        if not self._waiting:
            return
        parts = [self._sums, *self._waiting]
        self._waiting, self._count = [], 0
        keys = np.concatenate([p.keys for p in parts])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        if not len(keys):
            return
        blocks = np.add.reduceat(np.concatenate([p.blocks for p in parts])[order], starts)
        size = np.add.reduceat(np.concatenate([p.bytes for p in parts])[order], starts)
        there = (blocks != 0) | (size != 0)
        self._sums = Sites(keys[starts][there], blocks[there], size[there])


def counts(events: Events, times: Ints) -> tuple[Ints, Ints, Ints]:
    """Return for each event the key of its site, ``times`` a block, and so many times its bytes."""
    keys = site_keys(events.stack, events.domain, size_classes(events.size_bytes))
    size = np.minimum(events.size_bytes, np.uint64(MOST_COUNT)).astype(np.int64)
    return keys, times, times * size
