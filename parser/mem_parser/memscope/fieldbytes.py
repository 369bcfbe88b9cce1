"""Fields of many rows at once: numbers, addresses and words that are slices of bytes.

A field is where it begins and where it ends in the bytes. All functions take columns of these
places, and work on eight bytes of every field in one step.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
KeyArray = npt.NDArray[np.uint64]

WORD_MAX_BYTES = 4096
DECIMAL_DIGITS = 18
"""More may not fit into 64 bits."""
_HEX_DIGITS = 16
_AROUND = 64
_TABLE_BITS = 14
_EIGHT = 8


def _u64(value: int) -> np.uint64:
    return np.uint64(value & (1 << 64) - 1)


# Place k: the last or the first k of eight bytes, where the first is the lowest.
_LAST = np.array([((1 << 64) - 1) ^ ((1 << (64 - 8 * k)) - 1) for k in range(9)], dtype=np.uint64)
_FIRST = np.array([(1 << 8 * k) - 1 for k in range(9)], dtype=np.uint64)
_ZEROS, _NOT_A_DIGIT, _HIGH = (_u64(0x0101010101010101 * byte) for byte in (0x30, 0x76, 0x80))
_EVEN = _u64(0x000000FF000000FF)
_HUNDREDS, _UNITS = _u64(100 + (1000000 << 32)), _u64(1 + (10000 << 32))
# A hexadecimal letter in lower case is 0x60 and 1 to 6; its value is its low four bits and 9.
_LOWER, _BEFORE_A, _NOT_A_TO_F, _NOT_ZERO, _FOUR_BITS, _ONES = (
    _u64(0x0101010101010101 * byte) for byte in (0x20, 0x60, 0x79, 0x7F, 0x0F, 0x01)
)
_U6, _NINE, _U32 = np.uint64(6), np.uint64(9), np.uint64(32)
# Digits become bytes, bytes 16 bits, and these 32 bits; the first is the highest.
_JOINED = tuple(
    (np.uint64(left), np.uint64(right), _u64(lanes))
    for left, right, lanes in (
        (4, 8, 0x00FF00FF00FF00FF), (8, 16, 0x0000FFFF0000FFFF), (16, 32, 0x00000000FFFFFFFF),
    )
)  # fmt: skip


class FieldBytes:
    """Bytes whose places, from 0 on, may be looked at with some more before and behind."""

    def __init__(self, data: bytes) -> None:
        around = bytes(_AROUND)
        self._held = np.frombuffer(around + data + around, dtype=np.uint8)
        self.data = self._held[_AROUND : _AROUND + len(data)]
        count = len(self._held) - _EIGHT + 1
        self._eights: KeyArray = np.ndarray(
            (count,), dtype="<u8", buffer=self._held.data, strides=(1,)
        )

    def eight(self, place: IntArray) -> KeyArray:
        """Return the eight bytes from each place on, the first as the lowest."""
        found: KeyArray = self._eights[place + _AROUND]
        return found

    def text(self, begin: int, end: int) -> str:
        """Return a field as text; bytes that are no UTF-8 survive."""
        return self.data[begin:end].tobytes().decode("utf-8", "surrogateescape")

    def have(self, place: IntArray, what: bytes) -> BoolArray:
        """Return at which places these bytes are; at most 32 of them."""
        head = int.from_bytes(what[:_EIGHT], "little")
        found: BoolArray = (self.eight(place) & _FIRST[min(len(what), _EIGHT)]) == _u64(head)
        for done in range(_EIGHT, len(what), _EIGHT):
            first = min(done, len(what) - _EIGHT)
            part = int.from_bytes(what[first : first + _EIGHT], "little")
            found &= self.eight(place + first) == _u64(part)
        return found

    def decimals(self, begin: IntArray, end: IntArray) -> tuple[IntArray, BoolArray]:
        """Return numbers, and which fields are 1 to 18 digits and nothing else; others are 0."""
        length = end - begin
        good = (length >= 1) & (length <= DECIMAL_DIGITS)
        length = np.where(good, length, 1)
        value = np.zeros(len(begin), dtype=np.uint64)
        factor, longest = 1, int(length.max(initial=0))
        for done in range(0, longest, _EIGHT):
            digits, are = self._digits(end - done, np.clip(length - done, 0, _EIGHT))
            value += digits * np.uint64(factor)
            good &= are
            factor *= 10**_EIGHT
        return np.where(good, value, np.uint64(0)).astype(np.int64), good

    def _digits(self, end: IntArray, count: IntArray) -> tuple[KeyArray, BoolArray]:
        """Return the numbers of the ``count`` bytes before each end, and which are digits."""
        keep = _LAST[count]
        digit = ((self.eight(end - _EIGHT) & keep) | (_ZEROS & ~keep)) ^ _ZEROS
        are = (((digit + _NOT_A_DIGIT) | digit) & _HIGH) == 0
        pair = digit * np.uint64(10) + (digit >> np.uint64(8))
        low = (pair & _EVEN) * _HUNDREDS
        high = ((pair >> np.uint64(16)) & _EVEN) * _UNITS
        return (low + high) >> np.uint64(32), are

    def hexadecimals(self, begin: IntArray, end: IntArray) -> tuple[KeyArray, BoolArray]:
        """Return numbers, and which fields are `0x` and 1 to 16 hexadecimal digits."""
        length = end - begin - 2
        good = self.have(begin, b"0x") & (length >= 1) & (length <= _HEX_DIGITS)
        length = np.where(good, length, 0)
        low, are_low = self._hex_digits(end, np.minimum(length, _EIGHT))
        high, are_high = self._hex_digits(end - _EIGHT, np.maximum(length - _EIGHT, 0))
        good &= are_low & are_high
        return np.where(good, (high << _U32) | low, np.uint64(0)), good

    def _hex_digits(self, end: IntArray, count: IntArray) -> tuple[KeyArray, BoolArray]:
        """Return the numbers of the ``count`` bytes before each end, and which are hexadecimal."""
        keep = _LAST[count]
        byte = (self.eight(end - _EIGHT) & keep) | (_ZEROS & ~keep)
        no_digit = (byte ^ _ZEROS) + _NOT_A_DIGIT
        letter = (byte | _LOWER) ^ _BEFORE_A
        are = ~no_digit | (~(letter + _NOT_A_TO_F) & (letter + _NOT_ZERO))
        value = (byte & _FOUR_BITS) + ((byte >> _U6) & _ONES) * _NINE
        for left, right, lanes in _JOINED:
            value = ((value << left) | (value >> right)) & lanes
        return value, (are & ~byte & _HIGH) == _HIGH

    def keys(self, begin: IntArray, end: IntArray) -> KeyArray:
        """Return a number for each field that is the same for the same bytes alone.

        Two words have one number with a chance of 1 in 2^64: nobody can choose such words, because
        each process draws its own factors. Fields are at most `WORD_MAX_BYTES` long.
        """
        length = end - begin
        first = self.eight(begin) & _FIRST[np.minimum(length, _EIGHT)]
        key = _mixed(first + length.astype(np.uint64) * _FACTORS[2])
        some = np.flatnonzero(length > _EIGHT)
        done = _EIGHT
        while len(some):
            left = np.minimum(length[some] - done, _EIGHT)
            key[some] = _mixed(key[some] ^ (self.eight(begin[some] + done) & _FIRST[left]))
            done += _EIGHT
            some = some[length[some] > done]
        return key


_FACTORS = [_u64(secrets.randbits(64) | 1) for _ in range(3)]


def _mixed(key: KeyArray) -> KeyArray:
    key = key * _FACTORS[0]
    key ^= key >> np.uint64(32)
    key *= _FACTORS[1]
    key ^= key >> np.uint64(29)
    return key


class WordTable:
    """Numbers of words: ``number`` is asked once for most of them, in the order of the rows."""

    def __init__(self, number: Callable[[str], int]) -> None:
        self._number = number
        self._keys = np.zeros(1 << _TABLE_BITS, dtype=np.uint64)
        self._numbers = np.full(1 << _TABLE_BITS, -1, dtype=np.int64)

    def numbers(self, fields: FieldBytes, begin: IntArray, end: IntArray) -> IntArray:
        """Return the number of each field."""
        key = fields.keys(begin, end)
        slot = (key >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)
        found: IntArray = np.where(self._keys[slot] == key, self._numbers[slot], -1)
        new = np.flatnonzero(found < 0)
        if len(new):
            _, first, which = np.unique(key[new], return_index=True, return_inverse=True)
            numbers = np.empty(len(first), dtype=np.int64)
            for k in np.argsort(first).tolist():
                row = int(new[first[k]])
                numbers[k] = self._number(fields.text(int(begin[row]), int(end[row])))
            found[new] = numbers[which.reshape(-1)]
            self._keys[slot[new]] = key[new]
            self._numbers[slot[new]] = found[new]
        return found
