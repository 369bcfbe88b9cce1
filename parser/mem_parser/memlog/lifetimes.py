"""Lifetimes of blocks, frees by other threads, temporary blocks.

Counts are of sampled blocks. Estimates weigh each site before the sum and have their errors
(`mem_parser.estimate`). Two notions of *temporary*, as other tools have them:

- by thread (memray): between birth and death, the thread that did both allocated at most N other
  blocks;
- following (heaptrack): the last allocation before the death, of all threads, had the block's stack
  and size.

Where only some blocks are sampled, both see too few allocations in between, and so find too many:
`Lifetimes.temporary_is_bound` says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.devices import HOST
from mem_parser.errors import UsageProblem
from mem_parser.estimate import Estimate, FloatArray, unsample, unseen_objects
from mem_parser.memlog.lifesums import (
    MOST_OTHERS,
    STEPS,
    Group,
    LifeSums,
    sum_lives,
    thread_pair_of,
)
from mem_parser.memlog.livesites import Ints, Sites, SiteSums
from mem_parser.memlog.run import Run
from mem_parser.memlog.timeline import stretch_of

_MANY_EVENTS = 1 << 22


class Distribution(NamedTuple):
    """Lifetimes in buckets, the shortest first; one entry per bucket that has any.

    From ``from_ns`` up to ``to_ns`` (not included, but for 1 ns, which includes 0). ``objects`` is
    the estimate of how many blocks lived so long, ``std_error`` its standard error.
    """

    from_ns: FloatArray
    to_ns: FloatArray
    objects: FloatArray
    std_error: FloatArray
    samples: Ints


class FreedBy(NamedTuple):
    """Blocks by the thread that allocated them and the one that freed them, rows of threads; -1
    where the birth is not in the log. One entry per site and pair; ``site`` as in `Sites`.
    """

    site: Ints
    born_thread: Ints
    died_thread: Ints
    blocks: Ints
    bytes: Ints


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The lives of the blocks of one domain."""

    domain: int
    rate_bytes: float
    sums: LifeSums

    @property
    def temporary_is_bound(self) -> bool:
        """Whether temporary blocks are at most so many, because not every block is sampled."""
        return self.rate_bytes > 1

    def distribution(self, site: int | None = None, *, exact: bool | None = None) -> Distribution:
        """Return how long the blocks lived that were freed: all, or those of one site.

        ``exact``: only those whose birth is in the log, or only the others.
        """
        chosen = [
            group
            for group, known in ((self.sums.exact, True), (self.sums.about, False))
            if exact is None or exact is known
        ]
        parts = [g if site is None else g.where(g.site == site) for g in chosen]
        bucket = np.concatenate([p.number for p in parts])
        blocks = np.concatenate([p.blocks for p in parts])
        size = np.concatenate([p.bytes for p in parts])
        found = unsample(blocks, size, self.rate_bytes)
        buckets, code = np.unique(bucket, return_inverse=True)
        step = buckets.astype(np.float64)
        count = len(buckets)
        samples = np.bincount(code, blocks, minlength=count)
        variance = np.bincount(code, found.objects_variance, minlength=count).astype(np.float64)
        objects = np.bincount(code, found.objects, minlength=count).astype(np.float64)
        return Distribution(
            np.exp2(step / STEPS),
            np.exp2((step + 1) / STEPS),
            objects,
            np.sqrt(variance),
            samples.astype(np.int64),
        )

    def mean_ns(self) -> tuple[Ints, FloatArray]:
        """Return the sites with exact lifetimes, and their means."""
        total = self.sums.total
        return total.site, total.bytes / np.maximum(total.blocks, 1)

    def censored(self) -> tuple[Estimate, Estimate]:
        """Return how many blocks' lives have no known end: still live, and those whose death is
        missing.
        """
        return self._objects(self.sums.alive), self._objects(self.sums.unended)

    def freed(self) -> Estimate:
        """Return how many blocks were freed."""
        return self._objects(self.sums.threads)

    def freed_by(self) -> FreedBy:
        """Return which threads freed what."""
        group = self.sums.threads
        born, died = thread_pair_of(group.number)
        return FreedBy(group.site, born, died, group.blocks, group.bytes)

    def temporary(self, most_between: int = 1, *, thread: int | None = None) -> Sites:
        """Return the blocks that one thread allocated and freed with at most so many other
        allocations in between; ``thread``: only those of this row.

        Raises UsageProblem for more than `MOST_OTHERS`.
        """
        if not 0 <= most_between <= MOST_OTHERS:
            raise UsageProblem(f"temporary: from 0 to {MOST_OTHERS} allocations in between")
        others, of = thread_pair_of(self.sums.between.number)
        chosen = others <= most_between
        return self._of_thread(self.sums.between, chosen, of, thread)

    def following(self, *, thread: int | None = None) -> Sites:
        """Return the blocks freed when the last allocation had their stack and size; ``thread``:
        only those that this row freed.
        """
        group = self.sums.following
        every = np.ones(len(group.site), dtype=np.bool_)
        return self._of_thread(group, every, group.number, thread)

    def within(self, most_ns: int) -> tuple[Sites, float]:
        """Return the blocks that lived at most about so long, and the time that they lived at most:
        the largest end of a bucket that is not longer.
        """
        last = int(np.floor(np.log2(max(most_ns, 1)) * STEPS + 1e-9)) - 1
        sums = SiteSums()
        for group in (self.sums.exact, self.sums.about):
            sums.add(*group.where(group.number <= last).by_site())
        return sums.sums(), float(2.0 ** ((last + 1) / STEPS))

    def allocated(self) -> Sites:
        """Return all blocks of the part of which anything is known."""
        sums = SiteSums()
        for group in (self.sums.threads, self.sums.alive, self.sums.unended):
            sums.add(*group.by_site())
        return sums.sums()

    def _of_thread(
        self, group: Group, chosen: npt.NDArray[np.bool_], of: Ints, thread: int | None
    ) -> Sites:
        if thread is not None:
            chosen = chosen & (of == thread)
        return group.where(chosen).by_site()

    def objects(self, sites: Sites) -> Estimate:
        """Return the estimate of a number of blocks."""
        found = unsample(sites.blocks, sites.bytes, self.rate_bytes)
        error = float(np.sqrt(found.objects_variance.sum()))
        samples, unseen = int(sites.blocks.sum()), unseen_objects(self.rate_bytes)
        return Estimate(float(found.objects.sum()), error, samples, unseen)

    def _objects(self, group: Group) -> Estimate:
        return self.objects(group.by_site())


def lifetimes(
    run: Run,
    from_ns: int | None = None,
    to_ns: int | None = None,
    *,
    domain: int = 0,
    jobs: int | None = None,
) -> Lifetimes:
    """Return the lives of the blocks of a domain that ended after one moment and up to another;
    None: of the whole run. A birth before the first moment is not in what is read.

    ``jobs``: how many processes work; None: as many as there are processors, for a long log. Raises
    UsageProblem for a domain that the log does not have, InputFileError.
    """
    facts = run.file_facts
    if not 0 <= domain < len(facts.domains):
        raise UsageProblem(f"the log has no domain {domain}")
    low = run.begin_ns - 1 if from_ns is None else from_ns
    stretch = stretch_of(run, low, run.end_ns if to_ns is None else to_ns)
    if jobs is None:
        events = sum(block.entry.head.rows for block in stretch.blocks)
        jobs = len(os.sched_getaffinity(0)) if events > _MANY_EVENTS else 1
    sums = sum_lives(stretch, domain, jobs, frees_fail=facts.domains[domain] != HOST)
    return Lifetimes(domain, facts.rates_bytes[domain], sums)
