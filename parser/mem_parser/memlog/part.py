"""Recognize logs, and parse the syntax for a part of one.

All commands ask whether a file is a log, and few read one: these import what reads it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mem_parser.errors import UsageProblem
from mem_parser.memlog.blocks import MAGIC
from mem_parser.plainfile import NotPlainError, read_plain

if TYPE_CHECKING:
    from mem_parser.memlog.run import Run

_NS = 1e9


class Part(NamedTuple):
    """A part of a log by its words, None: from the first moment, to the last.

    ``domains``: which memories; none: the program's own. ``temporary``: only blocks that one thread
    freed with at most so many other allocations in between, as if no others had been.
    """

    from_text: str | None = None
    to_text: str | None = None
    domains: tuple[str, ...] = ()
    every_domain: bool = False
    temporary: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing of a log is left out."""
        return self.from_text is None and self.to_text is None and self.temporary is None

    def times_ns(self, run: Run) -> tuple[int, int]:
        """Return its first and last moment. Raises UsageProblem."""
        from mem_parser.memlog.moment_syntax import parse_moment
        from mem_parser.memlog.moments import known_span

        low, high = known = known_span(run)
        if self.from_text is not None:
            low = parse_moment(self.from_text, run)
        if self.to_text is not None:
            high = parse_moment(self.to_text, run, behind=True)
        for moment in (low, high):
            if not known[0] <= moment <= known[1]:
                raise UsageProblem(
                    f"the log does not say what was in use at {moment / _NS:.3f} s",
                    hint=f"it does from {known[0] / _NS:.3f} to {known[1] / _NS:.3f} s",
                )
        if high < low:
            raise UsageProblem(
                f"the part ends at {high / _NS:.3f} s, before it begins at {low / _NS:.3f} s"
            )
        return low, high


WHOLE = Part()


def is_log(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a log of events; False for what cannot be read."""
    with suppress(NotPlainError, OSError, ValueError):
        return read_plain(os.fspath(path), len(MAGIC)) == MAGIC
    return False
