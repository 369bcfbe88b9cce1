"""Keep a process's earlier moments for comparison.

A reader keeps the moments that somebody marked, the latest `MOST_MARKS` of them, and of each window
(ten seconds, a minute, ten minutes) some that are old enough soon. All are of one capture: what a
process had in another one cannot be compared block by block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mem_parser.model import Profile
from mem_parser.symbols.table import Symbols
from mem_parser.words import phrase
from mem_profiler.live.watched import State

MOST_MARKS = 8
WINDOWS_S = {"10s": 10.0, "60s": 60.0, "600s": 600.0}
WINDOW_WORDS = {
    "10s": phrase("10 s ago"), "60s": phrase("1 min ago"), "600s": phrase("10 min ago"),
}  # fmt: skip
_PARTS = 4
"""A window keeps this many moments of its length, and one that is older."""


@dataclass(frozen=True)
class Had:
    """What a process had: the profile of the host's memory with its names, and where there are
    several memories, ``domains`` with all of them, stacks numbered alike.
    """

    profile: Profile
    symbols: Symbols
    domains: Profile | None = None


@dataclass(frozen=True)
class Snapshot:
    """One moment. ``had`` None: the process has had no capture. ``at_s`` is of the monotonic clock,
    ``clock`` the time of day. ``own``: the capture is the server's. ``why`` is of `State.ENDED`.
    """

    seq: int
    pid: int
    name: str
    at_s: float
    clock: str
    state: State
    number: int = 0
    t_s: float = 0.0
    own: bool = False
    why: str = ""
    had: Had | None = None
    marks: Sequence[Mark] = ()
    windows: dict[str, Mark] = field(default_factory=dict)

    def base(self, since: str) -> Mark | None:
        """Return the moment that ``since`` names, a window or a mark; None: there is none now."""
        if since in WINDOWS_S:
            return self.windows.get(since)
        return next((mark for mark in self.marks if mark.id == since), None)


@dataclass(frozen=True)
class Mark:
    """A moment to compare with."""

    id: str
    label: str
    at_s: float
    had: Had


class Past:
    """The moments of one process that are kept."""

    def __init__(self) -> None:
        self._number = 0
        self._marks: list[Mark] = []
        self._windows: dict[str, list[Mark]] = {name: [] for name in WINDOWS_S}

    def add(self, number: int, at_s: float, had: Had) -> None:
        """Add a moment of capture ``number``: those of another one are forgotten."""
        if number != self._number:
            self._number = number
            self._marks = []
            self._windows = {name: [] for name in WINDOWS_S}
        for name, length_s in WINDOWS_S.items():
            kept = self._windows[name]
            if not kept or at_s - kept[-1].at_s >= length_s / _PARTS:
                kept.append(Mark(name, WINDOW_WORDS[name], at_s, had))
            while len(kept) > 1 and at_s - kept[1].at_s >= length_s:
                kept.pop(0)

    def mark(self, snapshot: Snapshot) -> str:
        """Keep a moment that has a profile, and return its name."""
        assert snapshot.had is not None
        name = f"m{snapshot.seq}"
        self._marks = [mark for mark in self._marks if mark.id != name]
        self._marks.append(Mark(name, snapshot.clock, snapshot.at_s, snapshot.had))
        del self._marks[:-MOST_MARKS]
        return name

    @property
    def marks(self) -> Sequence[Mark]:
        """The moments that somebody marked, the oldest first."""
        return tuple(self._marks)

    def windows(self, at_s: float) -> dict[str, Mark]:
        """Return for each window the moment that is as old; windows that reach further back than
        all moments are missing.
        """
        return {
            name: kept[0]
            for name, kept in self._windows.items()
            if kept and at_s - kept[0].at_s >= WINDOWS_S[name]
        }
