"""Leak verdicts for a view of a program that goes on. They are kept for a while: to judge costs
more than all else that a view shows, and verdicts change slowly.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Hashable

from mem_parser.leaks.findings import LeakReport
from mem_parser.leaks.judged import judged
from mem_parser.model import Profile
from mem_parser.names import FrameRule
from mem_parser.symbols.table import Symbols

EVERY_S = 5.0
COST_SHARE = 0.05
"""Of a core, at most, for verdicts."""


def judged_in_view(
    profile: Profile,
    symbols: Symbols,
    *,
    binary: str | None = None,
    rule: FrameRule = FrameRule.PROGRAM,
) -> LeakReport:
    """Return the verdicts, of a program that has ended, too, only after the least watch of one that
    goes on: a view has no moment before its end. Arguments and errors are as of `judged`.
    """
    capture = dataclasses.replace(profile.capture, end="running")
    watched = dataclasses.replace(profile, capture=capture)
    return judged(watched, symbols, binary=binary, rule=rule)


class KeptVerdicts:
    """The latest verdicts, and how long they hold."""

    def __init__(self) -> None:
        self._of: Hashable = None
        self._until_s = 0.0
        self._report: LeakReport | None = None

    def at(self, now_s: float, of: Hashable, judge: Callable[[], LeakReport]) -> LeakReport:
        """Return verdicts on ``of``, which tells capture, state and memory, at ``now_s`` of any
        clock: those of ``judge``, or some that it gave a short time before.
        """
        if self._report is None or of != self._of or now_s >= self._until_s:
            began_s = time.perf_counter()
            self._report = judge()
            cost_s = time.perf_counter() - began_s
            self._of, self._until_s = of, now_s + max(EVERY_S, cost_s / COST_SHARE)
        return self._report
