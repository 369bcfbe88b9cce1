"""All leaks of a report in one sentence: how many, how fast, and in which functions.

1 leak, 2.200 GiB/h ± 0.13, in RouteSession::add, georoute.cc:18
3 leaks, 2.400 GiB/h ± 0.14, in RouteSession::add, georoute.cc:18; parse, p.c:4; and 1 more
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from mem_parser.errors import one_line
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame
from mem_parser.model import Unit
from mem_parser.units import counted, format_total, per

NO_LEAKS = "no leaks found"
_MOST = 2


def headline(rates: Sequence[Estimate | None], owners: Sequence[Sequence[Frame]]) -> str:
    """Return the sentence; ``rates`` (bytes per hour) and ``owners`` (the frames from the charged
    one on) are those of each leak, the fastest first. Leaks have no samples in common, so their
    errors add in squares. A sum below its own error is left out.
    """
    if not owners:
        return NO_LEAKS
    known = [rate for rate in rates if rate is not None]
    parts = [counted(len(owners), "leak")]
    together = functools.reduce(operator.add, known) if known else None
    if together is not None and not together.is_below_its_error:
        parts.append(_per_hour(together))
    named = [_place(frames) for frames in owners[:_MOST]]
    if len(owners) > _MOST:
        named.append(f"and {len(owners) - _MOST} more")
    parts.append(f"in {'; '.join(named)}")
    return ", ".join(parts)


def _per_hour(rate: Estimate) -> str:
    return per("h", format_total(rate, Unit.SPACE).removesuffix(" (95 %)"))


def _place(frames: Sequence[Frame]) -> str:
    if not frames:
        return "a stack without frames"
    first = frames[0]
    return one_line(", ".join(filter(None, (first.function, first.spot))))
