"""Sums over the lives of blocks: by site and by how long, how short."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.interning import Growing, Interner, pairs
from mem_parser.memlog.contents import MOST_COUNT
from mem_parser.memlog.livesites import Ints, Sites, SiteSums, site_keys
from mem_parser.memlog.matching import NO_THREAD, Lives, Matcher, Open
from mem_parser.memlog.sizeclasses import size_classes
from mem_parser.memlog.timeline import Stretch
from mem_parser.memlog.workers import run_all

MOST_OTHERS = 64
"""Lives with more allocations of their thread in between are not kept apart."""
STEPS = 4
_SHIFT = 32


class Group(NamedTuple):
    """Sampled counts by site and one number more: one entry per pair, whatever the number means."""

    site: Ints
    number: Ints
    blocks: Ints
    bytes: Ints

    def where(self, mask: npt.NDArray[np.bool_]) -> Group:
        """Return the entries that ``mask`` selects."""
        return Group(*(column[mask] for column in self))

    def by_site(self) -> Sites:
        """Return the sums by site alone."""
        sums = SiteSums()
        sums.add(self.site, self.blocks, self.bytes)
        return sums.sums()


class _Numbered:
    """Numbers that are given small ones, in the order of first appearance."""

    def __init__(self) -> None:
        self._interner = Interner()
        self._values: Growing[np.int64] = Growing(np.int64)

    def codes(self, values: Ints) -> Ints:
        """Return the small number of each."""
        codes, first = self._interner.intern(values)
        self._values.extend(values[first])
        return codes

    def values(self, codes: Ints) -> Ints:
        """Return the numbers that got these."""
        return self._values.values[codes]


class GroupSums:
    """Adds up counts by pairs of numbers. ``sites`` may be shared: all find a site only once."""

    def __init__(self, sites: _Numbered | None = None) -> None:
        self._sites = _Numbered() if sites is None else sites
        self._numbers = _Numbered()
        self._sums = SiteSums()

    def add(self, group: Group) -> None:
        """Add the counts of pairs, which may come several times."""
        self.add_coded(group._replace(site=self._sites.codes(group.site)))

    def add_coded(self, group: Group) -> None:
        """The same, where instead of sites there are their small numbers already."""
        keys = pairs(group.site, self._numbers.codes(group.number))
        self._sums.add(keys, group.blocks, group.bytes)

    def result(self) -> Group:
        """Return the sums."""
        sums = self._sums.sums()
        site = self._sites.values(sums.keys >> _SHIFT)
        number = self._numbers.values(sums.keys & ((1 << _SHIFT) - 1))
        return Group(site, number, sums.blocks, sums.bytes)


class LifeSums(NamedTuple):
    """Sums over all lives of one domain; ``number`` is, in

    ``exact``, ``about``: `bucket_of` the lifetime, of blocks whose birth is in the log, and of
    others, whose lifetime is known to 4 ms; ``between``: how many blocks the thread allocated in
    between, and the thread, as a `thread_pair`; in the others nothing. ``alive`` blocks are not
    freed at the end; of ``unended`` ones the event is missing.
    """

    exact: Group
    about: Group
    between: Group
    following: Group
    alive: Group
    unended: Group


class LifeTask(NamedTuple):
    """The task of a worker: its share of the addresses of one domain."""

    stretch: Stretch
    domain: int
    share: int
    shares: int
    frees_fail: bool


def sum_lives(stretch: Stretch, domain: int, jobs: int, *, frees_fail: bool = False) -> LifeSums:
    """Return the sums over the lives of a stretch, found by ``jobs`` processes that divide the
    addresses. ``frees_fail``: as in `Matcher`. Raises MemError.
    """
    jobs = max(jobs, 1)
    tasks = [LifeTask(stretch, domain, k, jobs, frees_fail) for k in range(jobs)]
    found = run_all(sum_share, tasks, jobs)
    if len(found) == 1:
        return found[0]
    joined = [GroupSums() for _ in LifeSums._fields]
    for sums in found:
        for into, group in zip(joined, sums, strict=True):
            into.add(group)
    return LifeSums(*(into.result() for into in joined))


def sum_share(task: LifeTask) -> LifeSums:
    """Return the sums over the lives of a share of the addresses. Raises InputFileError."""
    matcher = Matcher(task.share, task.shares, frees_fail=task.frees_fail)
    sums = _Sums(task.domain)
    for events in task.stretch.events():
        own = events.domain == task.domain
        for lives in matcher.add(events if own.all() else events.take(own)):
            sums.take(lives)
            sums.take_open("unended", matcher.take_lost())
    lives, alive = matcher.finish()
    sums.take(lives)
    sums.take_open("unended", matcher.take_lost())
    sums.take_open("alive", [alive])
    return sums.result()


def bucket_of(lifetime_ns: Ints) -> Ints:
    """Return the bucket of each lifetime: four for each power of two, the first for 0 and 1 ns."""
    ns = np.maximum(lifetime_ns, 1).astype(np.float64)
    bucket: Ints = np.floor(np.log2(ns) * STEPS).astype(np.int64)
    return bucket


def thread_pair(one: npt.NDArray[np.uint32], other: npt.NDArray[np.uint32]) -> Ints:
    """Return one number for both."""
    pair = one.astype(np.uint64) << np.uint64(_SHIFT) | other.astype(np.uint64)
    numbers: Ints = pair.view(np.int64)
    return numbers


def thread_pair_of(number: Ints) -> tuple[Ints, Ints]:
    """Return the two of each number; -1 for no thread."""
    both = number.view(np.uint64)
    halves = (both >> np.uint64(_SHIFT), both & np.uint64(NO_THREAD))
    one, other = (np.where(h == NO_THREAD, -1, h.astype(np.int64)) for h in halves)
    return one, other


class _Sums:
    def __init__(self, domain: int) -> None:
        self._domain = domain
        self._codes = _Numbered()
        self._sums = {name: GroupSums(self._codes) for name in LifeSums._fields}

    def take(self, lives: Lives) -> None:
        count = len(lives)
        site, size = self._sites(lives.stack, lives.size_bytes)
        one = np.ones(count, dtype=np.int64)
        lived = np.maximum(lives.died_ns - lives.born_ns, 0)
        bucket = bucket_of(lived)
        exact = lives.exact
        entries = Group(site, bucket, one, size)
        self._add("exact", entries, exact)
        self._add("about", entries, ~exact)
        few = (lives.others >= 0) & (lives.others <= MOST_OTHERS)
        between = thread_pair(lives.others.astype(np.uint32), lives.died_thread)
        self._add("between", entries._replace(number=between), few)
        self._add("following", entries._replace(number=0 * one), lives.follows)

    def take_open(self, name: str, parts: list[Open]) -> None:
        for part in parts:
            site, size = self._sites(part.stack, part.size_bytes)
            zero = np.zeros(len(site), dtype=np.int64)
            self._add(name, Group(site, zero, zero + 1, size))

    def _add(self, name: str, entries: Group, mask: npt.NDArray[np.bool_] | None = None) -> None:
        chosen = entries if mask is None or mask.all() else entries.where(mask)
        self._sums[name].add_coded(chosen)

    def _sites(
        self, stack: npt.NDArray[np.uint32], size_bytes: npt.NDArray[np.uint64]
    ) -> tuple[Ints, Ints]:
        domain = np.full(len(stack), self._domain, dtype=np.uint8)
        keys = site_keys(stack, domain, size_classes(size_bytes))
        return self._codes.codes(keys), np.minimum(size_bytes, np.uint64(MOST_COUNT)).astype(
            np.int64
        )

    def result(self) -> LifeSums:
        return LifeSums(*(sums.result() for sums in self._sums.values()))
