"""Memory that a program took from the kernel and that the profile does not have.

Anonymous memory of a process grows where malloc gets pages, or where something else does: a
runtime's own heap, an allocator that a library brings along, mmap. All that malloc returned in the
capture, freed or not, bounds its part. If that is a small share of a large growth, the profile
surely lacks the program's memory. What was in use at once bounds it less surely, since malloc
keeps pages of blocks that were freed, but a program that churns allocates without end: a large rest
beyond what malloc needs for that peak is said, and where a library may be the cause any. Before an
attach the program may have allocated memory that it touches only now, so the text states what was
seen, and not why. Of a runtime with its own heap the text says so in any case.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mem_parser.model import Count, Profile, Unit
from mem_parser.runtimes import Runtime, library_of
from mem_parser.unseen import BY_MMAP, MMAP_CURE, NOTE, needed, without_readings
from mem_profiler.profile.readings import Growth

LEAST_BYTES = 32 << 20
"""More than the sampler's own tables, stacks of some threads, and data of libraries."""
LEAST_BROUGHT_BYTES = 8 << 20
"""The same where a library with an allocator of its own is there: more than the sampler's."""
SHARE = 0.25
REST_SHARE = 0.5
_FREE_PAGES = "malloc keeps free pages, or "
_OPENED = "libraries that it opened allocated before the sampler saw them, or "


def notes_on(
    profile: Profile,
    growth: Growth,
    runtime: Runtime | None,
    brought: Mapping[str, str],
    *,
    known: bool,
    opened: bool,
    mapped: Sequence[Profile] | None = None,
) -> list[str]:
    """The sentence for the user; none where malloc and files beside can account for the growth, or
    it is small, and the program is no ``runtime`` that we know.

    `profile` is that of the host's memory; `brought` names allocators of libraries, by path.
    `known`: the program surely was not told to use malloc. `opened`: it opened libraries after an
    attach, which saw them later. `mapped` are the profiles of private mappings; None: the capture
    did not look for those.
    """
    cure = MMAP_CURE if mapped is None else ""
    growth = replace(
        growth,
        most_bytes=growth.most_bytes - _most_held(mapped or (), Count.PEAK),
        last_bytes=growth.last_bytes - _most_held(mapped or (), Count.INUSE),
    )
    between = without_readings(profile) - _most_held(mapped or (), Count.PEAK)
    most = replace(growth, most_bytes=max(growth.most_bytes, between))
    some = bool(brought) and runtime is None
    least = LEAST_BROUGHT_BYTES if some else LEAST_BYTES
    for one, grew in ((growth, "grew"), (most, "may have grown")):
        if one.bytes >= least and (seen := _seen(profile, one, runtime, brought, grew)):
            unless = _OPENED if opened and runtime is None and not brought else ""
            return [f"{seen}{unless}{_who(runtime, brought, cure)}"]
    if runtime is None:
        return []
    text = _who(runtime, brought)
    if runtime.malloc_if is not None and not known:
        text = f"{runtime.name} {BY_MMAP}, unless it ran with {'='.join(runtime.malloc_if)}"
    return [f"{'' if profile.total(Count.ALLOC, Unit.SPACE).samples else NOTE}{text}"]


def _most_held(profiles: Sequence[Profile], count: Count) -> int:
    return sum(
        round(one.total(count if one.has(count) else Count.INUSE, Unit.SPACE).value)
        for one in profiles
    )


def _seen(
    profile: Profile, growth: Growth, runtime: Runtime | None, brought: Mapping[str, str], how: str
) -> str:
    """How much memory grew by, and what of it the profile has; empty: it may have it all."""
    peak = Count.PEAK if profile.has(Count.PEAK) else Count.INUSE
    ever, most, left = (_bounds(profile, c) for c in (Count.ALLOC, peak, Count.INUSE))
    some = bool(brought) and runtime is None
    grew = f"anonymous memory {how} by {_mib(growth.bytes)}"
    if ever[1] <= SHARE * growth.bytes:
        return f"{grew}, of which malloc gave out {_mib(ever[0])}: "
    rest = growth.bytes - (most[1] if some else needed(profile, peak))
    least = LEAST_BROUGHT_BYTES if some else LEAST_BYTES
    if rest >= least or (not some and most[1] <= SHARE * growth.bytes):
        return f"{grew}, of which the profile has {_mib(most[0])} at most: {_FREE_PAGES}"
    if some and growth.left_bytes - left[1] >= max(
        LEAST_BROUGHT_BYTES, REST_SHARE * growth.left_bytes
    ):
        grew = f"anonymous memory has grown by {_mib(growth.left_bytes)}"
        return f"{grew} at the end, of which the profile has {_mib(left[0])}: {_FREE_PAGES}"
    return ""


def _bounds(profile: Profile, count: Count) -> tuple[float, float]:
    """What was counted, and its upper end; without a known error that is all of it."""
    total = profile.total(count, Unit.SPACE)
    # Turnovers are for the lower end alone, and need a module that a child without rights lacks.
    upper = replace(total, turnovers=0.0).known_ends[1]
    return total.value, float("inf") if upper is None else upper


def _who(runtime: Runtime | None, brought: Mapping[str, str], otherwise: str = "") -> str:
    """Who takes the memory, and what makes it use malloc; ``otherwise``: what shows it of one that
    cannot.
    """
    if runtime is not None:
        who, cures = runtime.name, [runtime.cure]
    else:
        names = {os.path.basename(path): own for path, own in brought.items()}
        named = [f"{name} brings along ({own})" for name, own in names.items()]
        who = f"the allocator that {' or that '.join(named)}" if named else "the program"
        cures = [
            f"{name}: {known.cure}" if len(names) > 1 else known.cure
            for name in names
            if (known := library_of(name)) and known.cure
        ] or [otherwise]
    return "; ".join(filter(None, [f"{who} {BY_MMAP}", *cures]))


def _mib(size: float) -> str:
    return f"{size / (1 << 20):.1f} MiB"
