"""Births and deaths by site between moments: estimates that add.

What was live at a moment is the sum of the changes up to it, and what was allocated in between is
the sum of the births; both with their variances. Estimates of what is live are those of the counts
of each site at the moment, as `mem_parser.memlog.window` makes them. Births are weighed for each
step alone: that differs from weighing them together by less than 1/10000, since sizes of a site
differ by at most 1/64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mem_parser.estimate import FloatArray, unsample
from mem_parser.memlog.events import Kind
from mem_parser.memlog.livesites import Ints, Sites, SiteSums, counts
from mem_parser.memlog.moments import live_at
from mem_parser.memlog.run import Run
from mem_parser.memlog.segments import segments_of
from mem_parser.memlog.timeline import stretch_of


class Step(NamedTuple):
    """What happened after one moment up to the next, number ``moment``, included; of the first
    moment, what was in use then.

    One row per site, by its key. ``born``: blocks that were allocated, ``live``: how much more is
    live; both of shape (sites, 5): bytes and their variance, objects and their variance, samples.
    """

    moment: int
    keys: Ints
    born: FloatArray
    live: FloatArray


def steps(run: Run, moments_ns: Sequence[int], domains: Sequence[int]) -> Iterator[Step]:
    """Yield the step to each of some moments, in ascending order; sites of some domains only.

    Raises UsageProblem for a moment of which the log does not know what was in use, InputFileError.
    """
    rates = np.array(run.file_facts.rates_bytes)
    wanted = np.isin(np.arange(len(rates)), domains)
    anew = np.array([s.from_ns for s in segments_of(run) if s.base is not None], dtype=np.int64)
    live = _Live(rates)
    (first,) = live_at(run, moments_ns[:1])
    sites = first.sites.take(wanted[first.sites.domain])
    yield Step(0, sites.keys, np.zeros((len(sites.keys), 5)), live.become(sites.keys, sites))
    for k in range(1, len(moments_ns)):
        before, at = int(moments_ns[k - 1]), int(moments_ns[k])
        born, change = SiteSums(), SiteSums()
        for events in stretch_of(run, before, at).events():
            mine = events.take(wanted[events.domain])
            change.add_signed(mine)
            births = mine.take(mine.kind == Kind.BIRTH)
            born.add(*counts(births, np.ones(len(births), dtype=np.int64)))
        births_of, change_of = born.sums(), change.sums()
        if np.searchsorted(anew, at, side="right") > np.searchsorted(anew, before, side="right"):
            (now,) = live_at(run, [at])
            target = now.sites.take(wanted[now.sites.domain])
            keys = np.union1d(np.union1d(live.keys, target.keys), births_of.keys)
            more = live.become(keys, target)
        else:
            keys = np.union1d(births_of.keys, change_of.keys)
            more = live.add(keys, change_of)
        blocks, size = births_of.at(keys)
        yield Step(k, keys, _weighed(Sites(keys, blocks, size), rates), more)


class _Live:
    """The counts of all sites so far, also of those that have none any more."""

    def __init__(self, rates_bytes: FloatArray) -> None:
        none = np.zeros(0, dtype=np.int64)
        self._rates = rates_bytes
        self._sites = Sites(none, none, none)

    @property
    def keys(self) -> Ints:
        """The sites."""
        return self._sites.keys

    def add(self, keys: Ints, change: Sites) -> FloatArray:
        """Add counts to sites, and return by how much their estimates grow."""
        place = self._places(keys)
        old = self._at(keys, place)
        blocks, size = change.at(keys)
        self._sites.blocks[place] += blocks
        self._sites.bytes[place] += size
        return self._grown(old, self._at(keys, place))

    def become(self, keys: Ints, now: Sites) -> FloatArray:
        """Give sites other counts, and return by how much their estimates grow."""
        place = self._places(keys)
        old = self._at(keys, place)
        self._sites.blocks[place], self._sites.bytes[place] = now.at(keys)
        return self._grown(old, self._at(keys, place))

    def _places(self, keys: Ints) -> Ints:
        sites = self._sites
        place = np.searchsorted(sites.keys, keys)
        known = place < len(sites.keys)
        known[known] = sites.keys[place[known]] == keys[known]
        fresh, before = keys[~known], place[~known]
        if len(fresh):
            self._sites = Sites(
                np.insert(sites.keys, before, fresh),
                np.insert(sites.blocks, before, 0),
                np.insert(sites.bytes, before, 0),
            )
            place = np.searchsorted(self._sites.keys, keys)
        return place

    def _at(self, keys: Ints, place: Ints) -> Sites:
        return Sites(keys, self._sites.blocks[place], self._sites.bytes[place])

    def _grown(self, old: Sites, new: Sites) -> FloatArray:
        return _weighed(new, self._rates) - _weighed(old, self._rates)


def _weighed(sites: Sites, rates_bytes: FloatArray) -> FloatArray:
    """Return the estimates of sites; a count below 0, caused by missing events, counts as 0."""
    blocks = np.maximum(sites.blocks, 0)
    found = unsample(blocks, np.maximum(sites.bytes, 0), rates_bytes[sites.domain])
    return np.column_stack(
        (
            found.bytes, found.bytes_variance, found.objects, found.objects_variance,
            blocks.astype(np.float64),
        )
    )  # fmt: skip
