"""Amounts as people write them in budgets and test marks: `256 MiB`, `50 MiB/s`, `5 %`.

Prefixes are powers of 1024 with or without the `i`, as everywhere in this program: `24 MB` and
`24 MiB` are the same. A plain number is bytes. Case and blanks do not matter.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from mem_parser import sizes

_NUMBER = r"(\d+(?:_\d+)*(?:\.\d+)?(?:e\+?\d+)?)"
_SHARE = re.compile(rf"{_NUMBER}\s*%", re.ASCII | re.IGNORECASE)
_COUNT = re.compile(rf"{_NUMBER}\s*([kmg])?", re.ASCII | re.IGNORECASE)
_PLAIN = re.compile(_NUMBER, re.ASCII | re.IGNORECASE)
_FEWEST_BYTES = 1024
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0,
            "hour": 3600.0}  # fmt: skip
BYTES_HELP = "a size such as 256 MiB, 64 KB or 4096"
RATE_HELP = "bytes per time such as 50 MiB/s or 1 MiB/min"
COUNT_HELP = "a number such as 2M (two million), 500k or 4096"
SHARE_HELP = "a share such as 5 %, or a size such as 2 MiB"


@dataclass(frozen=True, slots=True)
class Allowance:
    """The allowed addition to an amount: ``share`` of it plus ``bytes``."""

    share: float = 0.0
    bytes: float = 0.0

    def raised(self, amount: float) -> float:
        """Return ``amount`` plus the allowance."""
        return amount * (1 + self.share) + self.bytes


def parse_bytes(text: str | float) -> float:
    """Return a size in bytes. Raises `ValueError` with the syntax of sizes."""
    if isinstance(text, str):
        try:
            return sizes.parse_amount(text)
        except ValueError:
            raise ValueError(f"{_shown(text)} is not {BYTES_HELP}") from None
    value = _plain(text, BYTES_HELP)
    if not 0 <= value <= sizes.MOST_BYTES:
        raise ValueError(f"{_shown(text)} is not {BYTES_HELP}")
    return value


def parse_peak(text: str | float) -> float:
    """Return a size in bytes, but none that lacks a unit by mistake. Raises `ValueError`."""
    value = parse_bytes(text)
    _check_unit(text, "MiB")
    return value


def parse_rate(text: str | float) -> float:
    """Return bytes per second. Raises `ValueError`."""
    amount, slash, unit = str(text).rpartition("/") if isinstance(text, str) else ("", "", "")
    seconds = _SECONDS.get(unit.strip().lower())
    if not slash or seconds is None:
        raise ValueError(f"{_shown(text)} is not {RATE_HELP}")
    try:
        return parse_bytes(amount) / seconds
    except ValueError:
        raise ValueError(f"{_shown(text)} is not {RATE_HELP}") from None


def parse_count(text: str | float) -> float:
    """Return a number of blocks, 2,000,000 for `2M`. Raises `ValueError`."""
    found = _COUNT.fullmatch(text.strip()) if isinstance(text, str) else None
    value = _plain(text, COUNT_HELP) if found is None else float(found[1])
    value *= 1000.0 ** " kmg".index((found[2] or " ").lower()) if found else 1.0
    if not 0 <= value <= sizes.MOST_BYTES:
        raise ValueError(f"{_shown(text)} is not {COUNT_HELP}")
    return value


def parse_share(text: str | float) -> float:
    """Return a share, 0.05 for `5 %`. Raises `ValueError`."""
    found = _SHARE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or not math.isfinite(float(found[1])):
        raise ValueError(f"{_shown(text)} is not a share such as 5 %")
    return float(found[1]) / 100


def parse_allowance(text: str | float) -> Allowance:
    """Return `5 %`, `2 MiB` or `5 % + 2 MiB`. Raises `ValueError`."""
    total = Allowance()
    for part in text.split("+") if isinstance(text, str) else [text]:
        _check_unit(part, "%")
        try:
            if isinstance(part, str) and part.rstrip().endswith("%"):
                total = Allowance(total.share + parse_share(part), total.bytes)
            else:
                total = Allowance(total.share, total.bytes + parse_bytes(part))
        except ValueError:
            raise ValueError(f"{_shown(text)} is not {SHARE_HELP}") from None
    return total


def _check_unit(text: object, meant: str) -> None:
    """Refuse a plain number of so few bytes that another unit is surely ``meant``."""
    number = str(text).strip()
    if _PLAIN.fullmatch(number) and 0 < float(number) < _FEWEST_BYTES:
        raise ValueError(f"{_shown(text)} is {number} B: write {number} {meant}, or {number} B")


def _plain(value: object, wanted: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_shown(value)} is not {wanted}")  # noqa: TRY004 - a malformed text
    return float(value) if math.isfinite(value) else -1.0


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
