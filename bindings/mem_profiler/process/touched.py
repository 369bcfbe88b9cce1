"""What a process that has no capture may have held, from page faults and the kernel's highest.

Model: the kernel tells the most that a child had resident once it was waited for. That is never
less than what its parent had, whose pages it has until it becomes another program. But each page
that a process touches takes a page fault, and its faults too are added to its parent's. So a child
held at most the lesser of both; several that were waited for are taken for one. A huge page takes
one fault: those of a child that lives are seen, those of one that ended are not.
"""

from __future__ import annotations

import os

from mem_profiler.process import procfs

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def most_bytes(pid: int) -> int:
    """The most that a process, or one that it waited for, may have had resident of its own."""
    own, of_children = (count * PAGE_BYTES for count in procfs.faults(pid))
    highest = procfs.kinds(pid)["peak_rss_bytes"]
    if highest is not None:  # a zombie has none
        own = min(highest, max(own, sum_bytes(procfs.smaps_rollup(pid), b"Private_Dirty:")))
    return max(own, of_children)


def waited_bytes(faults: int, highest_bytes: int) -> int:
    """The same of children that were waited for: from the faults of all, and the highest of any."""
    return min(max(faults, 0) * PAGE_BYTES, highest_bytes)


def sum_bytes(smaps: bytes, word: bytes) -> int:
    """Sum up the lines of a word, which has kB."""
    lines = (line.split() for line in smaps.splitlines() if line.startswith(word))
    return sum(int(line[1]) for line in lines) * 1024
