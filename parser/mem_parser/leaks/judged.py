"""Leak verdicts as commands ask for them: under filters, and under all suppressions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mem_parser.filters import Filters
from mem_parser.leaks.findings import Excess, LeakReport
from mem_parser.leaks.suppressions import Suppressions, own_list
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.model import IntArray, Profile
from mem_parser.names import FrameRule
from mem_parser.symbols.table import Symbols


def judged(
    profile: Profile,
    symbols: Symbols,
    *,
    binary: str | None = None,
    patterns: Iterable[str] = (),
    earlier: Sequence[Profile] = (),
    window: tuple[float, float] | None = None,
    rule: FrameRule = FrameRule.PROGRAM,
    at_end: bool = False,
    excess: Excess | None = None,
) -> LeakReport:
    """Return what `find_leaks` finds under the program's suppressions and the user's, with notes on
    those of the program.

    ``patterns`` are the user's suppressions, ``binary`` is the program's file if it is not where
    the profile says, ``rule``, ``at_end`` and ``excess`` are as of `find_leaks`. Raises
    `InputFileError` for a ``binary`` of another program.
    """
    own = own_list(profile, binary)
    report = find_leaks(
        profile,
        symbols,
        earlier=earlier,
        window=window,
        suppressions=Suppressions([*patterns, *own.patterns]),
        rule=rule,
        at_end=at_end,
        excess=excess,
    )
    report.notes += own.notes
    return report


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The rest of a profile, and what to say about it."""

    profile: Profile
    symbols: Symbols
    notes: list[str] = field(default_factory=list)


def narrow(profile: Profile, symbols: Symbols, filters: Filters) -> Narrowed:
    """Apply ``filters`` but their frame rule, keeping whole stacks. Raises as `Filters.apply`.

    Verdicts need the ages of blocks, which a file has by stack and not by thread. So a choice of
    threads is a choice of the stacks on which these threads hold blocks at the end, with all
    blocks there; what they held before is not known.
    """
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
