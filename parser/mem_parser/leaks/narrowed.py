"""Apply filters to a profile for leak verdicts, keeping whole stacks.

Verdicts need the ages of blocks, which a file has by stack and not by thread. So a choice of
threads is a choice of the stacks on which these threads hold blocks at the end, with all blocks
there; what they held before is not known.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from mem_parser.filters import Filters
from mem_parser.model import IntArray, Profile
from mem_parser.names import FrameRule
from mem_parser.symbols.table import Symbols


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The rest of a profile, and what to say about it."""

    profile: Profile
    symbols: Symbols
    notes: list[str] = field(default_factory=list)


def narrow(profile: Profile, symbols: Symbols, filters: Filters) -> Narrowed:
    """Apply ``filters``, of whose frame rule nothing is done here. Raises as `Filters.apply`."""
    notes = []
    if filters.threads:
        held = np.zeros(len(profile.stacks), dtype=np.bool_)
        held[_stacks_of(profile, symbols, filters)] = True
        profile = profile.where(held[profile.sites.stack])
        capture = dataclasses.replace(profile.capture, before_end_at_s=None)
        profile = dataclasses.replace(profile, capture=capture)
        words = " ".join(f"--thread {name}" for name in filters.threads)
        notes.append(f"{words}: their stacks, with blocks of other threads on them")
    others = dataclasses.replace(filters, threads=(), rule=FrameRule.NONE)
    before = len(profile.warnings)
    left, named = others.apply(profile, symbols)
    return Narrowed(left, named, [*notes, *left.warnings[before:]])


def _stacks_of(profile: Profile, symbols: Symbols, filters: Filters) -> IntArray:
    """Return the stacks on which the chosen threads hold blocks."""
    chosen = Filters(threads=filters.threads).apply(profile, symbols)[0].sites
    return chosen.stack[chosen.inuse_blocks > 0]
