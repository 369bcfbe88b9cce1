"""Leak verdicts under all suppressions: the program's own list and the user's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mem_parser.leaks.suppressions import Suppressions, own_list
from mem_parser.leaks.verdicts import LeakReport, find_leaks
from mem_parser.model import Profile
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
) -> LeakReport:
    """Return what `find_leaks` finds, with notes on the program's own list.

    ``patterns`` are the user's suppressions, ``binary`` is the program's file if it is not where
    the profile says, ``rule`` and ``at_end`` are as of `find_leaks`. Raises `InputFileError` for a
    ``binary`` of another program.
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
    )
    report.notes += own.notes
    return report
