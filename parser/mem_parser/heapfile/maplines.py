"""Modules as lines of /proc/PID/maps, for the part of a file that every tool reads."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable

from mem_parser.escape import log_line, utf8
from mem_parser.model import Module

_PATH_COLUMN = 73
"""Where the kernel puts the path, in 64-bit processes."""


class _Taken:
    """Disjoint address ranges in use, kept sorted."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(ranges):
            if self._ends and start < self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def take(self, start: int, end: int) -> bool:
        """Take a range if all of it is free. Returns whether it was."""
        at = bisect.bisect_left(self._starts, end)
        if at > 0 and self._ends[at - 1] > start:
            return False
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        return True


def module_lines(modules: list[Module], taken: Iterable[tuple[int, int]] = ()) -> list[bytes]:
    """Return a line for each executable range of the modules that touches none of ``taken``, by
    address.

    The modules loaded last come first, because a range is given away once.
    """
    busy = _Taken(taken)
    lines: list[tuple[int, bytes]] = []
    for module in reversed(modules):
        for r in module.ranges:
            if busy.take(r.start, r.end):
                head = f"{r.start:x}-{r.end:x} r-xp {r.file_offset:08x} 00:00 0"
                lines.append((r.start, head.ljust(_PATH_COLUMN).encode() + _map_path(module.path)))
    return [line for _, line in sorted(lines)]


def _map_path(path: str) -> bytes:
    """Return a path in the form of the kernel's maps, with terminal control characters made
    visible; bytes that are not UTF-8 are unchanged.
    """
    shown = (
        part if part >= "\udc80" else log_line(part)
        for part in re.split("([\udc80-\udcff]+)", path.replace("\n", "\\012"))
    )
    return utf8("".join(shown))
