"""The data of leak verdicts: survivors and births by time bucket, site by site and by place.

A profile may have a million places, most of them with a sample or two, too few for any test. Of
those only the heaviest become groups; the rest stay columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mem_parser.estimate import Estimate, FloatArray, sampling_probability, unsample
from mem_parser.frames import Frame, Places
from mem_parser.interning import distinct
from mem_parser.model import BoolArray, Count, IntArray, Profile, Unit
from mem_parser.symbols.symbolizer import dropped_stacks

MIN_SAMPLES = 12
"""Survivors that a leak needs at least, and births that any judgement by age needs."""
MOST_THIN = 5000
"""Places with fewer samples that are looked at one by one."""
_RECYCLED_SIZES = (24, 56, 64, 120, 168)
"""Bytes of CPython's floats, lists, dicts, and of a small dict's keys from 3.11 on and before."""


@dataclass(slots=True)
class Group:
    """One candidate: its survivors and births by bucket, in samples and in weighed bytes.

    ``frames`` begin at the charged one; ``inner`` are those of libraries below it.
    ``is_recycled``: most bytes are in blocks as large as those that CPython keeps in free lists.
    """

    frames: tuple[Frame, ...]
    inner: tuple[Frame, ...]
    members: IntArray
    live: Estimate
    survivors: FloatArray
    births: FloatArray
    bytes_by_bucket: FloatArray
    variance_by_bucket: FloatArray
    oldest_s: float
    stacks: int = 1
    is_recycled: bool = False


def used_sites(profile: Profile) -> IntArray:
    """Return the sites that verdicts are on; members of groups are positions among them."""
    return np.flatnonzero(profile.sites.alloc_blocks + profile.counts(Count.INUSE)[0] > 0)


class SiteColumns:
    """The columns of all sites with live blocks that verdicts add up by group."""

    def __init__(self, profile: Profile, places: Places, keep: BoolArray | None) -> None:
        sites = profile.sites
        blocks, size = profile.counts(Count.INUSE)
        self.index = used_sites(profile)
        mean = np.divide(size, blocks, out=np.zeros(len(blocks)), where=blocks > 0)[self.index]
        self.stack = sites.stack[self.index]
        self.place = places.place[self.stack]
        self.lost = dropped_stacks(profile.stacks)[self.stack]
        self.frames = places.frames
        self.owner = places.owner
        self.line = places.line
        self.exact = profile.errors_known
        self.unseen = profile.unseen(Unit.SPACE)
        self.survivors = self._buckets(sites.live_births, keep)
        self.births = self._buckets(sites.births, keep)
        if keep is None:
            self.blocks = blocks[self.index].astype(np.float64)
        else:
            self.blocks = self.survivors.sum(axis=1)
        rates = profile.rates
        rates = rates if isinstance(rates, float) else rates[self.index]
        self.recycled = np.isin(mean, _RECYCLED_SIZES)
        weighed = unsample(self.blocks, self.blocks * mean, rates)
        self.live, self.variance = weighed.bytes, weighed.bytes_variance
        # The weight of one survivor, in bytes.
        self.weight = mean / sampling_probability(mean, rates)
        oldest = sites.oldest_birth_s
        self.oldest = np.full(len(self.index), np.nan) if oldest is None else oldest[self.index]

    def _buckets(self, column: Any, keep: BoolArray | None) -> FloatArray:
        if column is None:
            return np.zeros((len(self.index), 1))
        values: FloatArray = column[self.index].astype(np.float64)
        return values if keep is None else values * keep

    def group(self, members: IntArray, stacks: int, *, named: bool = True) -> Group:
        """Add up the sites ``members``, which are positions in these columns.

        Its frames are those that all its places share; with ``named`` False it has none.
        """
        survivors = self.survivors[members]
        weight = self.weight[members]
        variance = float(self.variance[members].sum())
        oldest = self.oldest[members][self.blocks[members] > 0]
        known = oldest[np.isfinite(oldest)]
        frames, inner = self._shared(members) if named else ((), ())
        live = float(self.live[members].sum())
        return Group(
            frames,
            inner,
            members,
            Estimate.of_sums(
                live, variance, self.blocks[members].sum(), self.unseen, exact=self.exact
            ),
            survivors.sum(axis=0),
            self.births[members].sum(axis=0),
            weight @ survivors,
            weight**2 @ survivors,
            float(known.min()) if len(known) else math.nan,
            stacks,
            2 * float(self.live[members][self.recycled[members]].sum()) > live,
        )

    def turning_over(self, mature: BoolArray) -> FloatArray:
        """Return births by bucket, site by site, of places that free at least half of their
        ``mature`` blocks; 0 elsewhere.
        """
        born, left = (
            np.bincount(self.place, column[:, mature].sum(axis=1))
            for column in (self.births, self.survivors)
        )
        chosen = (born >= MIN_SAMPLES) & (2 * left <= born)
        return self.births * chosen[self.place][:, np.newaxis]

    def without_stack(self) -> Estimate | None:
        """Return the live blocks whose stacks were lost; None if there are none."""
        live = self.group(np.flatnonzero(self.lost), 1, named=False).live
        return live if live.samples else None

    def by_place(self) -> tuple[list[Group], Rest]:
        """Return a group for every place with live blocks, except those of lost stacks and the
        lightest of the thin ones.
        """
        order = np.argsort(self.place, kind="stable")
        first = np.flatnonzero(np.diff(self.place[order], prepend=-1))
        if not len(first):
            return [], Rest(order[:0], order[:0])
        born, blocks, size = (
            np.add.reduceat(column[order], first)
            for column in (self.births.sum(axis=1), self.blocks, self.live)
        )
        shown = (np.round(blocks) > 0) & ~self.lost[order[first]]
        thin = np.flatnonzero(shown & (born < MIN_SAMPLES) & (blocks < MIN_SAMPLES))
        lightest = thin[np.argsort(-size[thin], kind="stable")[MOST_THIN:]]
        alone = shown.copy()
        alone[lightest] = False
        bounds = np.append(first, len(order)).tolist()
        groups = []
        for k in np.flatnonzero(alone).tolist():
            part = order[bounds[k] : bounds[k + 1]]
            groups.append(self.group(part, 1))
        number = np.repeat(np.arange(len(first)), np.diff(bounds))
        left = np.zeros(len(first), dtype=np.bool_)
        left[lightest] = True
        mine = left[number]
        return groups, Rest(order[mine], number[mine])

    def _shared(self, members: IntArray) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
        """Return the frames that the places of all ``members`` share from their charged one
        outwards, and of those below it.
        """
        place = distinct(self.place[members])
        owner = self.owner[place]
        inner = self.frames.common(place, np.zeros_like(owner), owner)
        return self.frames.common(place, owner), inner

    def callers(self, members: IntArray) -> tuple[Frame, ...]:
        """Return the frames that the places of all ``members`` share outside their charged one."""
        place = distinct(self.place[members])
        return self.frames.common(place, self.owner[place] + 1)

    def line_of(self, members: IntArray) -> IntArray:
        """Return the number of the line that allocated, for each of the sites."""
        return self.line[self.place[members]]


@dataclass(slots=True)
class Rest:
    """Sites of thin places without a group: positions, and the number of the place of each, in
    rising order.
    """

    members: IntArray
    place: IntArray

    def without(self, taken: IntArray) -> Rest:
        """Return the rest without the ``taken`` sites."""
        kept = ~np.isin(self.members, taken)
        return Rest(self.members[kept], self.place[kept])

    @property
    def places(self) -> int:
        """Number of places."""
        return int(np.count_nonzero(np.diff(self.place, prepend=-1)))
