"""Marks of the program by their text: how often, when, and how long the ranges were.

A range is a begin and the next end with its id; a begin without an end was open at the end of the
capture; for an end without a begin, the begin is older than the capture or lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mem_parser.devices import Mark


@dataclass(slots=True)
class MarkGroup:
    """Marks of one text in one domain of the program. Times are seconds since the start.

    ``ranges`` of the ``count`` marks have a known length, ``range_s`` is their sum.
    """

    domain: str
    text: str
    count: int = 0
    ranges: int = 0
    range_s: float = 0.0
    first_s: float = float("inf")
    last_s: float = 0.0


def group_marks(marks: Sequence[Mark]) -> list[MarkGroup]:
    """Return the groups, those with the most time first, then the most frequent."""
    groups: dict[tuple[str, str], MarkGroup] = {}
    begun: dict[tuple[str, int], list[Mark]] = {}
    for mark in sorted(marks, key=lambda m: m.time_s):
        if mark.kind == "end":
            open_ones = begun.get((mark.domain, mark.id))
            if open_ones:
                start = open_ones.pop()
                group = groups[start.domain, start.text]
                group.ranges += 1
                group.range_s += mark.time_s - start.time_s
                group.last_s = max(group.last_s, mark.time_s)
            continue
        key = (mark.domain, mark.text)
        group = groups.setdefault(key, MarkGroup(*key))
        group.count += 1
        group.first_s = min(group.first_s, mark.time_s)
        group.last_s = max(group.last_s, mark.time_s)
        if mark.kind == "begin":
            begun.setdefault((mark.domain, mark.id), []).append(mark)
    return sorted(groups.values(), key=lambda g: (-g.range_s, -g.count, g.text))
