"""Sizes and times as people write them: the one place that reads them.

Sizes: `256 MiB`, `64 KB`, `1G`, `4096`. Prefixes are powers of 1024 with or without the `i`, as
everywhere in this program: `24 MB` and `24 MiB` are the same. A plain number is bytes. Case does
not matter.

Times: `90s`, `5m`, `1.5h`, `1h30m`, `500ms`, `20us`, `100ns`. A plain number is seconds.
"""

from __future__ import annotations

import re

_PREFIXES = "kmgtpe"
_UNIT = r"(?:([kmgtpe])(?:i?b)?|b|bytes?)?"
_AMOUNT = re.compile(rf"(\d+(?:_\d+)*(?:\.\d+)?(?:e\+?\d+)?)\s*{_UNIT}", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"(\d{1,18})([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_TIME = re.compile(
    r"\s*".join(rf"(?:(\d+(?:\.\d+)?)\s*{unit})?" for unit in ("h", "m(?:in)?", "s")),
    re.ASCII | re.IGNORECASE,
)
_SECONDS_OF = (3600.0, 60.0, 1.0)
_SMALL = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|us|ns)", re.ASCII)
_SMALL_S = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
MOST_BYTES = 2.0**63


def parse_amount(text: str) -> float:
    """Return bytes; allows fractions and blanks. Raises `ValueError`, without a text."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ValueError
    value = float(found[1]) * 1024.0 ** _power(found[2])
    if not value <= MOST_BYTES:
        raise ValueError
    return value


def parse_whole(text: str) -> int:
    """Return a whole number of bytes, as options and variables have it: `512K`, `1M`, `4GiB`.

    Raises `ValueError`, without a text.
    """
    found = _WHOLE.fullmatch(text)
    if found is None:
        raise ValueError
    return int(found[1]) << 10 * _power(found[2])


def parse_seconds(text: str) -> float:
    """Return seconds: a plain number (which may be negative or infinite), or hours, minutes and
    seconds with their units, in that order; or one smaller unit. Raises `ValueError`, without a
    text.
    """
    text = text.strip()
    small = _SMALL.fullmatch(text)
    if small is not None:
        return float(small[1]) * _SMALL_S[small[2]]
    found = _TIME.fullmatch(text)
    if found is None or not text:
        try:
            return float(text)
        except ValueError:
            raise ValueError from None
    parts = zip(found.groups(default="0"), _SECONDS_OF, strict=True)
    return sum(float(part) * size for part, size in parts)


def short_size(size_bytes: float) -> str:
    """Return bytes in the largest unit that leaves at least 1: `214.6 MiB`, `512 B`. For sizes that
    are not estimates.
    """
    unit = 0
    while abs(size_bytes) >= 1024 and unit < len(_UNITS) - 1:
        size_bytes /= 1024
        unit += 1
    whole = unit == 0 or size_bytes == int(size_bytes)
    return f"{size_bytes:.0f} {_UNITS[unit]}" if whole else f"{size_bytes:.1f} {_UNITS[unit]}"


def whole_or(text: str | None, default: int) -> int:
    """Return the value of a variable, or ``default`` if it is unset or invalid."""
    try:
        return parse_whole((text or "").strip())
    except ValueError:
        return default


def _power(prefix: str | None) -> int:
    return _PREFIXES.index(prefix.lower()) + 1 if prefix else 0


def short_time(seconds: float) -> str:
    """Return whole seconds, minutes, hours or days: `5m`."""
    units = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))
    size, unit = next(((s, u) for s, u in units if seconds >= s), (1.0, "s"))
    return f"{seconds // size:.0f}{unit}"
