"""All leaks of a report in one sentence: how many, how fast, and in which functions.

1 leak, 2.200 GiB/h ± 0.13, in RouteSession::add, georoute.cc:18
3 leaks, 2.400 GiB/h ± 0.14, in RouteSession::add, georoute.cc:18; parse, p.c:4; and 1 more
"""

from __future__ import annotations

from collections.abc import Sequence

from mem_parser.errors import one_line
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame, named_caller
from mem_parser.model import Unit
from mem_parser.units import counted, format_bytes, format_estimate, per
from mem_parser.words import joined, phrase

NO_LEAKS = phrase("no leaks found")
_MOST = 2


_UNITS = (("h", 1.0, 360.0), ("min", 1 / 60, 6.0), ("s", 1 / 3600, 0.0))
"""Units of time: their share of an hour, and the seconds from which a rate is told in them: a tenth
of the unit."""


def time_unit(watched_s: float) -> tuple[str, float]:
    """Return the unit of time that a rate is told in, and its share of an hour."""
    unit, hours, _ = next(u for u in _UNITS if not watched_s < u[2])  # nan: hours
    return unit, hours


def growth_text(per_hour: Estimate | None, watched_s: float) -> str:
    """Return the growth with its error for a time of the order that it was measured in: a rate by
    the hour from seconds says more than was seen. Empty where it is unknown or below its own error.
    """
    if per_hour is None or per_hour.is_below_its_error:
        return ""
    unit, hours = time_unit(watched_s)
    rate = Estimate(
        per_hour.value * hours,
        per_hour.std_error * hours,
        per_hour.samples,
        per_hour.unseen.scaled(hours),
        per_hour.signed,
    )
    return per(unit, format_estimate(rate, Unit.SPACE))


def rate_text(per_hour: float, watched_s: float) -> str:
    """Return a rate without an error, for such a time as `growth_text` does."""
    unit, hours = time_unit(watched_s)
    return per(unit, format_bytes(per_hour * hours))


def headline(
    per_hour: Estimate | None,
    owners: Sequence[Sequence[Frame]],
    watched_s: float,
    what: str = "",
    most_per_hour: float | None = None,
) -> str:
    """Return the sentence; ``what`` stands for the number of leaks. ``per_hour``: bytes of all
    together, left out below its own error. ``owners``: the frames of each from the charged one on,
    the fastest first. ``most_per_hour``: what they can be at most, if that is less.
    """
    if not owners:
        return NO_LEAKS
    parts: list[str] = [what or counted(len(owners), "leak")]
    rate = growth_text(per_hour, watched_s)
    if per_hour is not None and most_per_hour is not None and per_hour.value > most_per_hour:
        rate = phrase("at most {rate}", rate=rate_text(most_per_hour, watched_s))
    parts += filter(None, [rate])
    named = [_place(frames) for frames in owners[:_MOST]]
    if len(owners) > _MOST:
        named.append(phrase("and {number} more", number=len(owners) - _MOST))
    parts.append(phrase("in {places}", places=joined(phrase("; "), named)))
    return joined(phrase(", "), parts)


def _place(frames: Sequence[Frame]) -> str:
    if not frames:
        return phrase("a stack without frames")
    first = frames[0]
    told: str = one_line(", ".join(filter(None, (first.function, first.spot))))
    return called_by(told, named_caller(frames))


def called_by(function: str, caller: str) -> str:
    """Return a function ready to show, with the ``caller`` that explains it, if there is one."""
    if not caller:
        return function
    return phrase("{function}, called by {caller}", function=function, caller=one_line(caller))
