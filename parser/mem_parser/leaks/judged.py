"""Leak verdicts as commands ask for them: under filters, and under all suppressions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mem_parser.filters import Filters
from mem_parser.leaks.ages import timeline
from mem_parser.leaks.findings import Excess, Finding, LeakReport, Verdict
from mem_parser.leaks.observed import COMPARABLE, SURE
from mem_parser.leaks.suppressions import Suppressions, own_list
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.model import IntArray, Profile
from mem_parser.names import FrameRule
from mem_parser.significance import p_rate_above
from mem_parser.symbols.table import Symbols
from mem_parser.words import phrase


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


def judged_if_dated(profile: Profile, symbols: Symbols, binary: str | None) -> LeakReport | None:
    """Return `judged` of a file of the host's memory that has ages; None of another one."""
    if profile.sites.live_births is None or profile.capture.device:
        return None
    return judged(profile, symbols, binary=binary)


def turned_over(report: LeakReport) -> frozenset[tuple[str, str]]:
    """Return the keys of functions most of whose bytes are cache-like, and none a leak's."""
    held: dict[tuple[str, str], float] = {}
    for one in report.findings:
        if one.frames:
            key, size = one.frames[0].function_key, one.live.value
            is_cache, is_leak = (one.verdict is v for v in (Verdict.CACHE_LIKE, Verdict.LEAK))
            held[key] = held.get(key, 0.0) + (size if is_cache else -math.inf if is_leak else -size)
    return frozenset(key for key, more in held.items() if more > 0)


def judged_together(report: LeakReport, parts: Sequence[tuple[Profile, LeakReport]]) -> None:
    """Take back leaks of the sum of processes that grew one after another: caches that fill in turn
    add up to steady growth. ``parts`` are the processes, with the verdicts on each.
    """
    for k, finding in enumerate(report.findings):
        if finding.verdict is Verdict.LEAK and _took_turns(finding, parts):
            text = phrase("grows in one process after another, as caches do that fill in turn")
            report.findings[k] = dataclasses.replace(
                finding, verdict=Verdict.INCONCLUSIVE, evidence=text
            )
    report.findings.sort(key=lambda one: one.verdict is not Verdict.LEAK)


def _took_turns(finding: Finding, parts: Sequence[tuple[Profile, LeakReport]]) -> bool:
    """Tell whether most survivors are of processes that surely did not grow both early and late."""
    kept = in_turn = 0.0
    for profile, report in parts:
        groups = [f.group for f in report.findings if f.is_in(finding) and f.group is not None]
        capture = (profile.before_end or profile).capture
        times = timeline(capture, len(groups[0].survivors)) if groups else None
        if times is None:
            continue
        early, late = (
            float(sum(group.survivors[mask].sum() for group in groups))
            for mask in (times.early, times.late)
        )
        v, w = times.span(times.early), times.span(times.late)
        once = min(
            p_rate_above(early, v, late, w, 1 / COMPARABLE),
            p_rate_above(late, w, early, v, 1 / COMPARABLE),
        )
        kept += early + late
        in_turn += (early + late) * (once < SURE)
    return in_turn > kept / 2


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
