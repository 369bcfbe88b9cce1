"""Numbers as reports print them: powers of 1024, four significant digits, no separators."""

from __future__ import annotations

import math
import time

from mem_parser.estimate import Estimate
from mem_parser.model import Unit

_PREFIXES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
MIB = 1024.0 * 1024.0
_LEAST_MARGIN = 0.5


def significant(value: float, digits: int = 4) -> str:
    """Return ``value`` with at least ``digits`` significant digits, never in exponent form.

    Digits before the point are all kept, so large numbers have more.
    """
    if not math.isfinite(value):
        return "?"
    size = int(f"{value:.{digits - 1}e}".partition("e")[2]) + 1 if value else 1
    return f"{value:.{min(max(digits - size, 0), 12)}f}"


def format_bytes(value: float) -> str:
    """Return a size such as `214.6 MiB`, `1.500 KiB` or `17 B`."""
    if not math.isfinite(value):
        return "?"
    step = 0
    scaled = value
    while step < len(_PREFIXES) - 1 and abs(scaled) >= 1024 * (1 - 0.5e-4):
        scaled /= 1024
        step += 1
    if step == 0:
        return f"{scaled:.0f} B"
    return f"{significant(scaled)} {_PREFIXES[step]}"


def format_rate(rate_bytes: float) -> str:
    """Return a sampling rate in the largest unit that gives a whole number above 1: `512 KiB`,
    `1024 B`.
    """
    rate = round(rate_bytes)
    for size, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if rate % size == 0 and rate > size:
            return f"{rate // size} {name}"
    return f"{rate} B"


def format_value(value: float, unit: Unit) -> str:
    """Return a size, or a number of objects as a plain whole number."""
    return format_bytes(value) if unit is Unit.SPACE else f"{value:.0f}"


def format_change(value: float, unit: Unit) -> str:
    """Return a difference with its sign: `+3.000 MiB`, `-17`."""
    return ("+" if value >= 0 else "-") + format_value(abs(value), unit)


def local_time(seconds: float | None) -> str:
    """Return a Unix time such as `2026-11-22 17:04:32 +0000`, in this machine's time zone; empty
    for one that no clock shows, or None.
    """
    if seconds is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""


def counted(number: int, noun: str) -> str:
    """Return `1 row`, `2 rows`: a number with its noun, which takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_total(total: Estimate, unit: Unit) -> str:
    """Return a total with its 95 % margin in the same unit: `214.6 MiB ± 0.3 (95 %)`.

    A margin below half a byte or object counts as none.
    """
    text = format_value(total.value, unit) + ("" if unit is Unit.SPACE else " objects")
    if math.isnan(total.std_error) or total.margin95 < _LEAST_MARGIN:
        return text
    margin = format_bytes(total.margin95) if unit is Unit.SPACE else f"{total.margin95:.0f}"
    if unit is Unit.SPACE:
        divisor = 1024.0 ** _PREFIXES.index(text.rsplit(" ", 1)[1])
        scaled = total.margin95 / divisor
        margin = significant(scaled, 2) if scaled >= 0.001 else margin
    return f"{text} ± {margin} (95 %)"


def percent(part: float, whole: float) -> str:
    """Return a share such as `44.8%`; of nothing it is 0."""
    return f"{100.0 * part / whole if whole else 0.0:.1f}%"
