"""Sizes as people write them: `256 MiB`, `64 KB`, `1G`, `4096`; the one place that reads them.

Prefixes are powers of 1024 with or without the `i`, as everywhere in this program: `24 MB` and
`24 MiB` are the same. A plain number is bytes. Case does not matter.
"""

from __future__ import annotations

import re

_PREFIXES = "kmgtpe"
_UNIT = r"(?:([kmgtpe])(?:i?b)?|b|bytes?)?"
_AMOUNT = re.compile(rf"(\d+(?:_\d+)*(?:\.\d+)?(?:e\+?\d+)?)\s*{_UNIT}", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"(\d{1,18})([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
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


def whole_or(text: str | None, default: int) -> int:
    """Return the value of a variable, or ``default`` where it is unset or makes no sense."""
    try:
        return parse_whole((text or "").strip())
    except ValueError:
        return default


def _power(prefix: str | None) -> int:
    return _PREFIXES.index(prefix.lower()) + 1 if prefix else 0
