"""Memory of a test that its capture lacks: of the processes that it started, and shared memory.

Model: the kernel tells the most that a child had resident once it was waited for. That is never
less than what its parent had, whose pages it has until it becomes another program. But each page
that a process touches takes a page fault, and its faults too are added to its parent's. So a child
held at most the lesser of both; several that were waited for are taken for one. A huge page takes
one fault: those of a child that lives are seen, those of one that ended are not.
What ran before the test, as a fixture's server, is none of it.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, replace

from mem_parser import unseen
from mem_parser.model import Capture
from mem_profiler.process import procfs

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


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
        held = max([self._waited_for(), *(_most_bytes(pid) for pid, _ in children)])
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
        touched = procfs.faults(os.getpid())[1] - self.waited_faults - gone
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return min(max(touched, 0) * _PAGE_BYTES, most)


def _children() -> list[tuple[int, int]]:
    below = procfs.family(os.getpid())[1:]
    return [(pid, ticks) for pid in below if (ticks := procfs.start_ticks(pid)) is not None]


def _most_bytes(pid: int) -> int:
    """The most that a process, or one that it waited for, may have had resident of its own."""
    own, of_children = (count * _PAGE_BYTES for count in procfs.faults(pid))
    highest = procfs.kinds(pid)["peak_rss_bytes"]
    if highest is not None:  # none of one that nobody has waited for
        own = min(highest, max(own, _sum_bytes(procfs.smaps_rollup(pid), b"Private_Dirty:")))
    return max(own, of_children)


def _shared_bytes() -> int:
    return procfs.kinds(os.getpid())["shmem_bytes"] or 0


def _sampler_bytes() -> int:
    """What is resident of the sampler's shared memory."""
    maps = procfs.smaps(os.getpid()).partition(b"/mem_profiler.")[2]
    return _sum_bytes(maps.partition(b"\nVmFlags:")[0], b"Rss:")


def _sum_bytes(smaps: bytes, word: bytes) -> int:
    """Sum up the lines of a word, which has kB."""
    lines = (line.split() for line in smaps.splitlines() if line.startswith(word))
    return sum(int(line[1]) for line in lines) * 1024
