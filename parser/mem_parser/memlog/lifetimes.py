"""Lifetimes of blocks, temporary blocks.

Counts are of sampled blocks. Two notions of *temporary*, as other tools have them:

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

import numpy as np

from mem_parser.devices import HOST
from mem_parser.errors import UsageProblem
from mem_parser.memlog.lifesums import MOST_OTHERS, STEPS, LifeSums, sum_lives, thread_pair_of
from mem_parser.memlog.livesites import Sites, SiteSums
from mem_parser.memlog.run import Run
from mem_parser.memlog.timeline import stretch_of

_MANY_EVENTS = 1 << 22


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

    def temporary(self, most_between: int = 1, *, thread: int | None = None) -> Sites:
        """Return the blocks that one thread allocated and freed with at most so many other
        allocations in between; ``thread``: only those of this row.

        Raises UsageProblem for more than `MOST_OTHERS`.
        """
        if not 0 <= most_between <= MOST_OTHERS:
            raise UsageProblem(f"temporary: from 0 to {MOST_OTHERS} allocations in between")
        others, of = thread_pair_of(self.sums.between.number)
        chosen = others <= most_between
        if thread is not None:
            chosen &= of == thread
        return self.sums.between.where(chosen).by_site()

    def following(self) -> Sites:
        """Return the blocks freed when the last allocation had their stack and size."""
        return self.sums.following.by_site()

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
        for group in (self.sums.exact, self.sums.about, self.sums.alive, self.sums.unended):
            sums.add(*group.by_site())
        return sums.sums()


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
