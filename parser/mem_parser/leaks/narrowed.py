"""What filters leave of a profile for leak verdicts: stacks with all their frames.

Verdicts need the ages of blocks, which a file has by stack and not by thread. So a choice of
threads is a choice of the stacks on which these threads hold blocks, with all blocks there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from mem_parser.filters import Filters
from mem_parser.model import Profile
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
        held = np.zeros(len(profile.sites), dtype=np.bool_)
        held[_sites_of(profile, symbols, filters)] = True
        profile = profile.where(held)
        words = " ".join(f"--thread {name}" for name in filters.threads)
        notes.append(f"{words}: their stacks, with blocks of other threads on them")
    others = dataclasses.replace(filters, threads=(), rule=FrameRule.NONE)
    before = len(profile.warnings)
    left, named = others.apply(profile, symbols)
    return Narrowed(left, named, [*notes, *left.warnings[before:]])


def _sites_of(profile: Profile, symbols: Symbols, filters: Filters) -> np.ndarray[
    tuple[int], np.dtype[np.int64]
]:
    """Return the sites that have live blocks of the chosen threads."""
    chosen = Filters(threads=filters.threads).apply(profile, symbols)[0]
    return np.flatnonzero(chosen.sites.inuse_blocks > 0)
