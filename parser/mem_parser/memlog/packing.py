"""Columns of whole numbers in a block: narrow, in planes of bytes, ready to be compressed.

A packed column is a head of 16 bytes and ``count * width`` bytes of planes: all lowest bytes, then
all second bytes, and so on. In planes, what changes slowly lies together.
"""

from __future__ import annotations

import enum
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint64]

HEAD = struct.Struct("<BBBxIQ")
"""Mode, width in bytes (0: all stored numbers are 0), shift in bits, count, base."""
MOST_ENTRIES = 1 << 20
"""No column has more; so a column that costs nothing in the file costs 8 MiB here."""


class Mode(enum.IntEnum):
    """How a column is stored.

    BASE: ``base + (stored << shift)``. DELTA: the first number is the base, each other is the one
    before plus the stored one, in zigzag (0, -1, 1, -2, ...); all modulo 2^64.
    """

    BASE = 0
    DELTA = 1


class BadColumnError(Exception):
    """A packed column that makes no sense."""


def pack_column(values: npt.NDArray[Any], mode: Mode = Mode.BASE) -> bytes:
    """Return a column of at most `MOST_ENTRIES` integers, packed. Negative ones count modulo 2^64.

    Raises ValueError for a longer one.
    """
    if len(values) > MOST_ENTRIES:
        raise ValueError("too many entries for a column")
    if not len(values):
        return HEAD.pack(mode, 0, 0, 0, 0)
    numbers = values.astype(np.uint64, copy=False)
    if mode is Mode.DELTA:
        base, shift, stored = int(numbers[0]), 0, _zigzag(numbers)
    else:
        base = int(numbers.min())
        stored = numbers - np.uint64(base)
        used = int(np.bitwise_or.reduce(stored))
        shift = max((used & -used).bit_length() - 1, 0)
        stored >>= np.uint64(shift)
    width = (int(stored.max()).bit_length() + 7) // 8
    return HEAD.pack(mode, width, shift, len(values), base) + _planes(stored, width)


def unpack_column(data: bytes, at: int, count: int | None = None) -> tuple[Numbers, int]:
    """Return the column at byte ``at`` and the offset behind it.

    ``count``: how many entries it must have. Raises BadColumnError.
    """
    if at + HEAD.size > len(data):
        raise BadColumnError("a column is missing")
    mode, width, shift, found, base = HEAD.unpack_from(data, at)
    at += HEAD.size
    if found > MOST_ENTRIES or (count is not None and found != count):
        raise BadColumnError(f"a column has {found} entries")
    if width > 8 or shift > 63 or mode not in (Mode.BASE, Mode.DELTA):
        raise BadColumnError("a column is of an unknown kind")
    end = at + found * width
    if end > len(data):
        raise BadColumnError("a column is longer than its block")
    stored = _from_planes(data[at:end], found, width)
    if mode == Mode.DELTA:
        stored = (stored >> np.uint64(1)) ^ -(stored & np.uint64(1))
        stored[:1] = base
        return np.cumsum(stored, dtype=np.uint64), end
    stored <<= np.uint64(shift)
    stored += np.uint64(base)
    return stored, end


def _zigzag(numbers: Numbers) -> Numbers:
    """Return the differences, the first one 0, as numbers that are small if they are."""
    step = np.zeros(len(numbers), dtype=np.int64)
    step[1:] = (numbers[1:] - numbers[:-1]).view(np.int64)
    return ((step << 1) ^ (step >> 63)).view(np.uint64)


def _planes(stored: Numbers, width: int) -> bytes:
    itemsize = _itemsize(width)
    if not itemsize:
        return b""
    narrow = stored.astype(f"<u{itemsize}", copy=False)
    rows = narrow.view(np.uint8).reshape(-1, itemsize)
    return rows[:, :width].T.tobytes()


def _from_planes(data: bytes, count: int, width: int) -> Numbers:
    itemsize = _itemsize(width)
    if not itemsize:
        return np.zeros(count, dtype=np.uint64)
    rows = np.zeros((count, itemsize), dtype=np.uint8)
    rows[:, :width] = np.frombuffer(data, dtype=np.uint8).reshape(width, count).T
    return rows.view(f"<u{itemsize}").reshape(-1).astype(np.uint64)


def _itemsize(width: int) -> int:
    """Return the size of the smallest type of numpy that has so many bytes; 0 if there is none."""
    return 0 if not width else 1 << (width - 1).bit_length()
