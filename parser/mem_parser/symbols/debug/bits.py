"""Numbers and texts in debug information. All of it is untrusted: a read beyond the data raises."""

from __future__ import annotations

from typing import Literal

ByteOrder = Literal["little", "big"]
_MOST_SHIFT = 70


class Damaged(Exception):
    """Debug information that ends too soon, contradicts itself, or is of an unknown kind."""


def number(data: bytes, at: int, size: int, order: ByteOrder) -> int:
    """Return the unsigned number of ``size`` bytes at ``at``. Raises `Damaged`."""
    if not 0 <= at <= len(data) - size:
        raise Damaged("ends too soon")
    return int.from_bytes(data[at : at + size], order)


def uleb(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned LEB128 number at ``at``, and its end. Raises `Damaged`, IndexError."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > _MOST_SHIFT:
            raise Damaged("has a number without end")


def sleb(data: bytes, at: int) -> tuple[int, int]:
    """Return the signed LEB128 number at ``at``, and where it ends. Raises as `uleb`."""
    value, end = uleb(data, at)
    bits = 7 * (end - at)
    return (value - (1 << bits) if value >> (bits - 1) & 1 else value), end


def behind_text(data: bytes, at: int) -> int:
    """Return where the text at ``at`` ends, its zero included. Raises `Damaged`."""
    end = data.find(0, at)
    if end < 0:
        raise Damaged("has a text without end")
    return end + 1
