"""Numbers as reports print them: powers of 1024, four significant digits, no separators."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mem_parser.estimate import Estimate
    from mem_parser.model import Unit

_PREFIXES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
MIB = 1024.0 * 1024.0
_LEAST_MARGIN = 0.5
_AT_LEAST = "≥"
_ALIKE = 1.5
"""Up to this ratio both ends are shown as one margin, the larger."""


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
    from mem_parser.model import Unit

    return format_bytes(value) if unit is Unit.SPACE else f"{value:.0f}"


def format_change(value: float, unit: Unit) -> str:
    """Return a difference with its sign: `+3.000 MiB`, `-17`."""
    return ("+" if value >= 0 else "-") + format_value(abs(value), unit)


def local_time(seconds: float | None) -> str:
    """Return a Unix time such as `2026-11-22 17:04:32 +0000`, in this machine's time zone; empty
    for None or an invalid time.
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
    """Return a total with its error: `214.6 MiB ± 0.30 (95 %)`, `12 objects (at least 9, 95 %)`."""
    from mem_parser.model import Unit

    text = format_value(total.value, unit) + ("" if unit is Unit.SPACE else " objects")
    margin = "" if math.isnan(total.std_error) else format_margin(total, unit)
    if margin.endswith(")"):
        return f"{text} {margin[:-1].replace(_AT_LEAST, 'at least')}, 95 %)"
    return f"{text} {margin} (95 %)" if margin else text


def format_estimate(estimate: Estimate, unit: Unit) -> str:
    """Return a number with its error: `214.6 MiB ± 0.30`."""
    return f"{format_value(estimate.value, unit)} {format_margin(estimate, unit)}".rstrip()


def per(time_unit: str, text: str) -> str:
    """Return bytes of `format_bytes`, perhaps with a margin, as bytes per ``time_unit``:
    `2.200 GiB/h ± 0.13`.
    """
    value, *rest = text.split(" ")
    return " ".join((value, *(f"{rest[0]}/{time_unit}", *rest[1:]))) if rest else text


def format_margin(estimate: Estimate, unit: Unit) -> str:
    """Return the text for an estimate's 95 % interval, in the unit of its value.

    `± 0.30`; `+0.6 -0.3` where one end is much further; `(≥ 940)` without an upper end;
    `± ?` if it is unknown. Omits an end within half a byte or object; empty without a sample.
    """
    if math.isnan(estimate.std_error):
        return "± ?" if estimate.value else ""
    if not estimate.samples and not estimate.std_error:
        return ""
    lower, upper = estimate.interval95
    if math.isinf(upper):
        return "± ?" if estimate.signed else f"({_AT_LEAST} {format_value(lower, unit)})"
    below, above = estimate.value - lower, upper - estimate.value
    if max(below, above) <= _LEAST_MARGIN:
        return ""
    if max(below, above) <= _ALIKE * min(below, above):
        return f"± {_margin(max(below, above), estimate.value, unit)}"
    ends = (("+", above), ("-", below))
    return " ".join(
        f"{sign}{_margin(end, estimate.value, unit)}" for sign, end in ends if end > _LEAST_MARGIN
    )


def _margin(margin: float, value: float, unit: Unit) -> str:
    """Return a margin in the unit of ``value``."""
    from mem_parser.model import Unit

    if unit is Unit.OBJECTS:
        return f"{margin:.0f}"
    prefix = format_bytes(value).rsplit(" ", 1)[1]
    scaled = margin / 1024.0 ** _PREFIXES.index(prefix)
    return significant(scaled, 2) if scaled >= 0.001 else format_bytes(margin)


def percent(part: float, whole: float) -> str:
    """Return a share such as `44.8%`; 0 of an empty total."""
    return f"{100.0 * part / whole if whole else 0.0:.1f}%"
