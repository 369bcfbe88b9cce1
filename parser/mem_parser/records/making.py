"""Make records of a profile: one for each thread and stack, and which stacks are the tracker's."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from mem_parser.estimate import FloatArray
from mem_parser.model import BoolArray, IntArray, Profile
from mem_parser.records.own_frames import own_stacks
from mem_parser.records.record import MERGED, AllocationRecord
from mem_parser.records.stacks import Stacks

MERGED_NAME = "merged thread"


class Maker:
    """Makes the records of one profile."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.stacks = Stacks(profile)

    @functools.cached_property
    def thread_names(self) -> dict[int, str]:
        """The names of threads by their number: those that Python gave, else those that the system
        has, where a program tells the former: unless it is that of the whole process.
        """
        names = {thread.tid: thread.name for thread in self.profile.threads}
        tracked = self.profile.capture.tracked
        if tracked is None or not tracked.threads:
            return names
        process = names.get(self.profile.capture.pid or 0, "")
        return {t: n for t, n in names.items() if n != process} | dict(tracked.threads)

    @functools.cached_property
    def own(self) -> BoolArray:
        """Which stacks are those of the tracker in the program."""
        python, stacks = self.profile.python, self.profile.stacks
        if python is None or not len(python):
            return np.zeros(len(stacks), dtype=np.bool_)
        known = own_stacks(python)
        of_stack = known[np.where(stacks.interpreters < len(known), stacks.interpreters, 0)]
        return np.asarray(of_stack, dtype=np.bool_)

    def records(
        self, tid: IntArray, stack: IntArray, size: FloatArray, blocks: FloatArray
    ) -> Iterator[AllocationRecord]:
        """Yield one record for each thread and stack: the sites of different sizes together."""
        stacks = self.profile.stacks
        numbers = stacks.interpreters
        names = self.thread_names
        keys, group = np.unique(np.stack((tid, stack)), axis=1, return_inverse=True)
        group = np.asarray(group).reshape(-1)
        sizes = np.bincount(group, size, minlength=keys.shape[1])
        counts = np.bincount(group, blocks, minlength=keys.shape[1])
        for k, (thread, at) in enumerate(keys.T.tolist()):
            yield AllocationRecord(
                tid=thread,
                address=0,
                size=round(float(sizes[k])),
                allocator=self.stacks.allocators[at],
                stack_id=int(numbers[at]),
                n_allocations=round(float(counts[k])),
                native_stack_id=at + 1,
                native_segment_generation=int(stacks.generation[at]),
                thread_name=MERGED_NAME if thread == MERGED else names.get(thread, ""),
                _stacks=self.stacks,
            )
