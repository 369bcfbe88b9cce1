"""Memory of a test that its capture lacks: of the processes that it started, and shared memory.
What ran before the test, as a fixture's server, is none of it.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, replace

from mem_parser import unseen
from mem_parser.model import Capture
from mem_profiler.process import procfs, touched


@dataclass(frozen=True, slots=True)
class Outside:
    """What there was as a test began; of ``children`` their faults, by number and start."""

    shared_bytes: int
    waited_faults: int
    children: dict[tuple[int, int], int]

    @classmethod
    def now(cls) -> Outside:
        """Look at this process, and those below it."""
        found = {key: sum(procfs.faults(key[0])) for key in _children()}
        return cls(_shared_bytes(), procfs.faults(os.getpid())[1], found)

    def add_to(self, capture: Capture) -> None:
        """Add to the facts of a test's capture what there may be since."""
        grown = _shared_bytes() - self.shared_bytes
        if grown > 0:
            grown = max(grown - _sampler_bytes(), 0)
        children = [key for key in _children() if key not in self.children]
        held = max([self._waited_for(), *(touched.most_bytes(pid) for pid, _ in children)])
        capture.memory = replace(
            capture.memory, mapped_shared_bytes=grown, tree_peak_rss_bytes=held or None
        )
        if held:
            alive = any(not procfs.is_gone(pid) for pid, _ in children)
            state = unseen.WITHOUT_SAMPLER if alive else unseen.ALL_ENDED
            capture.notes.append(f"child processes of the test {state}")

    def _waited_for(self) -> int:
        """The most that one of those that were waited for may have had resident; 0: none was."""
        now = set(_children())
        gone = sum(faults for key, faults in self.children.items() if key not in now)
        new = procfs.faults(os.getpid())[1] - self.waited_faults - gone
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return touched.waited_bytes(new, most)


def _children() -> list[tuple[int, int]]:
    below = procfs.family(os.getpid())[1:]
    return [(pid, ticks) for pid in below if (ticks := procfs.start_ticks(pid)) is not None]


def _shared_bytes() -> int:
    return procfs.kinds(os.getpid())["shmem_bytes"] or 0


def _sampler_bytes() -> int:
    """What is resident of the sampler's shared memory."""
    maps = procfs.smaps(os.getpid()).partition(b"/mem_profiler.")[2]
    return touched.sum_bytes(maps.partition(b"\nVmFlags:")[0], b"Rss:")
