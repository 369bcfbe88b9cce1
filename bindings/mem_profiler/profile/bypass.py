"""Memory that a program took from the kernel while malloc saw hardly any of it.

Anonymous memory of a process grows where malloc gets pages, or where something else does: a
runtime's own heap, mmap. All that malloc returned in the capture, freed or not, bounds its part. If
that is a small share of a large growth, the profile does not show the program's memory, and says
so. Before an attach the program may have allocated memory that it touches only now, so the text
states what was seen, and not why. Of a runtime with its own heap the text says so in any case.
"""

from __future__ import annotations

from mem_parser.model import Count, Profile, Unit
from mem_parser.unseen import BY_MMAP, NOTE
from mem_profiler.process.runtimes import Runtime
from mem_profiler.profile.readings import Growth

LEAST_BYTES = 32 << 20
"""More than the sampler's own tables, stacks of some threads, and data of libraries."""
SHARE = 0.25


def notes_on(profile: Profile, growth: Growth, runtime: Runtime | None, known: bool) -> list[str]:
    """The sentence for the user; none where malloc can account for the growth, or it is small, and
    the program is no ``runtime`` that we know.

    `profile` is that of the host's memory. `known`: it surely was not told to use malloc.
    """
    allocated = profile.total(Count.ALLOC, Unit.SPACE)
    upper = allocated.known_ends[1]
    cure = f"; {runtime.cure}" if runtime is not None and runtime.cure else ""
    who = "the program" if runtime is None else runtime.name
    if growth.bytes >= LEAST_BYTES and upper is not None and upper <= SHARE * growth.bytes:
        grown, seen = (f"{size / (1 << 20):.1f} MiB" for size in (growth.bytes, allocated.value))
        text = f"anonymous memory grew by {grown}, of which malloc gave out {seen}: "
        return [f"{text}{who} {BY_MMAP}{cure}"]
    if runtime is None:
        return []
    if runtime.malloc_if is not None and not known:
        cure = f", unless it ran with {'='.join(runtime.malloc_if)}"
    return [f"{'' if allocated.samples else NOTE}{who} {BY_MMAP}{cure}"]
