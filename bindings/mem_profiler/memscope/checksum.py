"""CRC-64 with the polynomial of ECMA-182, 0x42F0E1EBA9EA3693, all ones before and after.

xz's library has the same polynomial with the bits of each byte, and of the sum, the other way
round: it takes bytes that were turned, and its sum is turned back. Where it is not installed, a
table does the same, a thousand times slower.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

_POLYNOMIAL = 0x42F0E1EBA9EA3693
_ONES = (1 << 64) - 1
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_LIBRARY = "liblzma.so.5"
_PIECE_BYTES = 1 << 20
"""So much is turned at a time."""


def crc64(data: bytes | memoryview) -> int:
    """Return the sum of bytes."""
    fast = _library()
    return by_table(data) if fast is None else _by_library(data, fast)


def _by_library(data: bytes | memoryview, function: Callable[..., int]) -> int:
    view = memoryview(data).cast("B")
    value = 0
    for start in range(0, len(view), _PIECE_BYTES):
        piece = bytes(view[start : start + _PIECE_BYTES]).translate(_TURNED)
        value = function(piece, len(piece), value)
    if not len(view):
        value = function(b"", 0, value)
    return int(f"{value:064b}"[::-1], 2)


def by_table(data: bytes | memoryview) -> int:
    """Return the same, by bytes."""
    table = _table()
    value = _ONES
    for byte in memoryview(data).cast("B"):
        value = (value << 8 & _ONES) ^ table[value >> 56 ^ byte]
    return value ^ _ONES


@lru_cache(maxsize=1)
def _library() -> Callable[..., int] | None:
    try:
        function = ctypes.CDLL(_LIBRARY).lzma_crc64
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    function.restype = ctypes.c_uint64
    found: Callable[..., int] = function
    return found


@lru_cache(maxsize=1)
def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        value = byte << 56
        for _ in range(8):
            value = (value << 1 & _ONES) ^ (_POLYNOMIAL if value >> 63 else 0)
        rows.append(value)
    return tuple(rows)
