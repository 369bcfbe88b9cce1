"""Numbers as reports print them: powers of 1024, four significant digits, commas at thousands.

An error is the 95 % interval of a number, in its unit or a larger one: `± 4.0 MiB`, `(58–136 KiB)`
where one end is much further, `(≥ 940)` where there is no upper end. An error below 1 % of its
number is not shown, and a zero has none.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING

from mem_parser.words import Phrase, phrase, plural

if TYPE_CHECKING:
    from mem_parser.estimate import Estimate
    from mem_parser.model import Unit

_PREFIXES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
MIB = 1024.0 * 1024.0
_LEAST_MARGIN = 0.5
_LEAST_SHARE = 0.01
"""Smaller errors, as a share of their number, are not shown."""
_AT_LEAST = "≥"
_ALIKE = 1.5
"""Up to this ratio both ends are shown as one margin, the larger."""
_BYTE_UNIT = re.compile(r"\b[KMGTPE]?i?B\b")


def significant(value: float, digits: int = 4) -> str:
    """Return ``value`` with at least ``digits`` significant digits, never in exponent form.

    Digits before the point are all kept, so large numbers have more.
    """
    if not math.isfinite(value):
        return "?"
    size = int(f"{value:.{digits - 1}e}".partition("e")[2]) + 1 if value else 1
    return f"{value:,.{min(max(digits - size, 0), 12)}f}"


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
        return f"{scaled:,.0f} B"
    return f"{significant(scaled)} {_PREFIXES[step]}"


def format_rate(rate_bytes: float) -> str:
    """Return a sampling rate in the largest unit that gives a whole number: `512 KiB`, `1 B`."""
    rate = round(rate_bytes)
    for size, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if rate % size == 0 and rate >= size:
            return f"{rate // size:,} {name}"
    return f"{rate:,} B"


def format_value(value: float, unit: Unit) -> str:
    """Return a size, or a number of blocks as a whole number."""
    from mem_parser.model import Unit

    return format_bytes(value) if unit is Unit.SPACE else f"{value:,.0f}"


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


def counted(number: int, noun: str) -> Phrase:
    """Return `1 row`, `2,000 rows`: a number with its noun, which takes an s."""
    return plural(f"{{number}} {noun}", f"{{number}} {noun}s", number)


def format_total(total: Estimate, unit: Unit) -> str:
    """Return a total with its error and the error's level: `67.10 MiB ± 4.0 MiB (95 %)`,
    `12 blocks (at least 9, 95 %)`, `214.6 MiB`.
    """
    from mem_parser.model import Unit

    text: str = format_value(total.value, unit)
    if unit is Unit.OBJECTS:
        text = plural("{number} block", "{number} blocks", round(total.value))
    margin = "" if math.isnan(total.std_error) else format_margin(total, unit)
    if margin.startswith(f"({_AT_LEAST}"):
        least = margin.removeprefix(f"({_AT_LEAST} ").removesuffix(")")
        return phrase("{total} (at least {least}, 95 %)", total=text, least=least)
    if margin.startswith("("):
        return phrase("{total} {ends}, 95 %)", total=text, ends=margin.removesuffix(")"))
    if margin.startswith("±"):
        if unit is Unit.OBJECTS:
            margin = phrase("{margin} blocks", margin=margin)
        return phrase("{total} {margin} (95 %)", total=text, margin=margin)
    return text


def format_estimate(estimate: Estimate, unit: Unit) -> str:
    """Return a number with its error: `67.10 MiB ± 4.0 MiB`."""
    return f"{format_value(estimate.value, unit)} {format_margin(estimate, unit)}".rstrip()


def per(time_unit: str, text: str) -> str:
    """Return bytes of `format_bytes`, perhaps with a margin, as bytes per ``time_unit``:
    `2.200 GiB/h ± 0.13 GiB/h`.
    """
    return _BYTE_UNIT.sub(rf"\g<0>/{time_unit}", text)


def format_margin(estimate: Estimate, unit: Unit) -> str:
    """Return the text for an estimate's 95 % interval, in the unit of its value or a larger one.

    `± 4.0 MiB`; the ends, `(58–136 KiB)`, where one is much further; `(≥ 940)` without an upper
    end; `± ?` if it is unknown. Empty for an error below 1 % of the number or within half a byte or
    block, for zero, and without a sample.
    """
    value = estimate.value
    if math.isnan(estimate.std_error):
        return "± ?" if value else ""
    if not estimate.samples and not estimate.std_error:
        return ""
    lower, upper = estimate.interval95
    if math.isinf(upper):
        if estimate.signed:
            return "± ?"
        return f"({_AT_LEAST} {format_value(lower, unit)})"
    below, above = value - lower, upper - value
    margin = max(below, above)
    if margin <= _LEAST_MARGIN or margin < _LEAST_SHARE * abs(value):
        return ""
    if not estimate.signed and round(value) == 0:
        return ""
    if margin <= _ALIKE * min(below, above):
        return f"± {_in_unit_of(max(abs(value), margin), margin, unit, digits=2)}"
    digits = 2 if upper > 2 * lower else 3
    least = _in_unit_of(upper, max(lower, 0.0), unit, digits=digits).partition(" ")[0]
    return f"({least}–{_in_unit_of(upper, upper, unit, digits=digits)})"


def _in_unit_of(value: float, size: float, unit: Unit, *, digits: int) -> str:
    """Return ``size`` in the unit that ``value`` is shown in."""
    from mem_parser.model import Unit

    if unit is Unit.OBJECTS:
        return f"{size:,.0f}"
    prefix = format_bytes(value).rsplit(" ", 1)[1]
    scaled = size / 1024.0 ** _PREFIXES.index(prefix)
    return f"{significant(scaled, digits) if scaled else '0'} {prefix}"


def percent(part: float, whole: float) -> str:
    """Return a share such as `44.8 %`; 0 of an empty total."""
    return f"{100.0 * part / whole if whole else 0.0:.1f} %"
