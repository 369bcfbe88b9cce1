"""Which of a function's lines grew since a baseline.

Numbers of lines change with every edit above them, so a baseline has none: only what the lines of a
function held, in their order. Here the two orders are laid beside each other so that as many bytes
as possible stay what they were; what is left between those grew, is new, or is gone. A line is only
named where no other reading of the two orders names another: a wrong one is worse than none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

_SIGMAS = 3.5
_SAME_SHARE = 0.01
_LEAST_OF_GROWTH = 0.5


class Held(Protocol):
    """What one line holds."""

    @property
    def value(self) -> float:
        """The estimate."""

    @property
    def std_error(self) -> float:
        """Its standard error."""


def grown_line(new: Sequence[Held], old: Sequence[Held]) -> int | None:
    """Return which of the lines ``new`` holds most of a growth since ``old``, both in their order;
    None: that is not known.
    """
    if len(new) == 1:
        return 0
    if not old:
        return None
    first = _named(new, old)
    last = _named(new[::-1], old[::-1])
    return first if first is not None and last == len(new) - 1 - first else None


def _named(new: Sequence[Held], old: Sequence[Held]) -> int | None:
    growth = sum(n.value for n in new) - sum(o.value for o in old)
    best, most = None, _LEAST_OF_GROWTH * growth
    for low, high, before in _changed(new, old):
        lone = high - low == 1 and len(before) < 2
        for k in range(low, high):
            more = new[k].value - (before[0].value if lone and before else 0.0)
            if more >= most:
                best, most = (k if lone or not before else None), more
    return best


def _changed(new: Sequence[Held], old: Sequence[Held]) -> Iterator[tuple[int, int, Sequence[Held]]]:
    """Yield each run of ``new`` between lines that stay, with what was there before."""
    at = before = 0
    for i, j in [*_staying(new, old), (len(new), len(old))]:
        yield at, i, old[before:j]
        at, before = i + 1, j + 1


def _staying(new: Sequence[Held], old: Sequence[Held]) -> list[tuple[int, int]]:
    """Return the pairs of lines that are alike, in order, with the most bytes of all such."""
    best = [[0.0] * (len(old) + 1) for _ in range(len(new) + 1)]
    for i in reversed(range(len(new))):
        for j in reversed(range(len(old))):
            kept = best[i + 1][j + 1] + old[j].value if _alike(new[i], old[j]) else 0.0
            best[i][j] = max(kept, best[i + 1][j], best[i][j + 1])
    found, i, j = [], 0, 0
    while i < len(new) and j < len(old):
        if _alike(new[i], old[j]) and best[i][j] == best[i + 1][j + 1] + old[j].value:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found


def _alike(new: Held, old: Held) -> bool:
    error = _SIGMAS * math.hypot(new.std_error, old.std_error)
    return abs(new.value - old.value) <= max(error, _SAME_SHARE * old.value)
