"""Memory that a program took from the kernel while malloc saw hardly any of it.

Anonymous memory of a process grows where malloc gets pages, or where something else does: a
runtime's own heap, mmap. All that malloc returned in the capture, freed or not, bounds its part. If
that is a small share of a large growth, the profile does not show the program's memory, and says
so. Before an attach the program may have allocated memory that it touches only now, so the text
states what was seen, and not why.
"""

from __future__ import annotations

from mem_parser.model import Count, Profile, Unit
from mem_profiler.process.runtimes import Runtime
from mem_profiler.profile.readings import Growth

LEAST_BYTES = 32 << 20
"""More than the sampler's own tables, stacks of some threads, and data of libraries."""
SHARE = 0.25


def notes_on(profile: Profile, growth: Growth, runtime: Runtime | None) -> list[str]:
    """The sentence for the user; none where malloc can account for the growth, or it is small.

    `profile` is that of the host's memory.
    """
    if growth.bytes < LEAST_BYTES:
        return []
    allocated = profile.total(Count.ALLOC, Unit.SPACE)
    upper = allocated.known_ends[1]
    if upper is None or upper > SHARE * growth.bytes:
        return []
    who = "the program" if runtime is None else runtime.name
    cure = f"; {runtime.cure}" if runtime is not None and runtime.cure else ""
    grown, seen = (f"{size / (1 << 20):.1f} MiB" for size in (growth.bytes, allocated.value))
    text = (
        f"anonymous memory grew by {grown}, of which malloc gave out {seen}: {who} takes memory "
        f"by mmap, which the profile does not show{cure}"
    )
    return [text]
