"""The arena of a segment, read piece by piece as it grows.

Model: records of the arena are written once and stay, so what was read before need not be read
again. A record that was still being written then reads as none; `again` reads everything anew.
"""

from __future__ import annotations

import numpy as np

from mem_profiler.segment import layout
from mem_profiler.segment.file import Segment, Words

_SLACK_WORDS = 1 << 16


class ArenaWords:
    """The words of one segment's arena so far."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._words: Words = np.zeros(0, np.uint64)
        self._used = 0

    @property
    def words(self) -> Words:
        """All words that were in use at the last `update`."""
        return self._words[: self._used]

    def update(self) -> None:
        """Read what was added."""
        self._read_from(self._used)

    def again(self) -> None:
        """Read all of it anew."""
        self._read_from(0)

    def _read_from(self, first: int) -> None:
        control = self._segment.control()
        arena = control.array(layout.STACKS, 8, control.limit_bytes // 8)
        used = max(self._used, min(control.number("arena_cursor") // 8, arena.rows))
        if used > len(self._words):
            grown = np.zeros(min(arena.rows, used + used // 2 + _SLACK_WORDS), np.uint64)
            grown[: self._used] = self.words
            self._words = grown
        new = self._segment.read(arena.offset + first * 8, (used - first) * 8)
        self._words[first:used] = new.view(np.uint64)
        self._used = used
