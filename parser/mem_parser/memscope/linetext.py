"""Texts of many rows at once, from columns of numbers: a line for each row.

Model: a line is made of pieces, each of which has the same number of words of 4 bytes in every row.
What a piece does not need is NUL, and goes at the end: no piece has a NUL as text. Numbers come in
groups of 4 digits, whose texts are in tables.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
Numbers = npt.NDArray[Any]
"""Integers that are at least 0."""
ROWS_AT_ONCE = 1 << 12
"""So few that their words stay in the processor's caches."""
_WORD_BYTES = 4
_DECIMAL, _HEX_BITS = 10_000, 16


def _table(texts: Sequence[str]) -> Words:
    padded = b"".join(text.encode().rjust(_WORD_BYTES, b"\0") for text in texts)
    return np.frombuffer(padded, dtype=np.uint32)


def _tables(texts: Sequence[str]) -> Words:
    """Groups as the first digits of a number, without leading zeros; behind them as later ones."""
    return _table([*(text.lstrip("0") for text in texts), *texts])


@functools.cache
def _groups(form: str, count: int) -> tuple[Words, Words]:
    """Return the texts of all groups, and those of the last group of a number: 0 is a digit."""
    tables = _tables([format(k, form) for k in range(count)])
    last = tables.copy()
    last[0] = _table(["0"])[0]
    return tables, last


def _decimals() -> tuple[Words, Words]:
    return _groups("04d", _DECIMAL)


def _hexadecimals() -> tuple[Words, Words]:
    return _groups("04x", 1 << _HEX_BITS)


class Piece(Protocol):
    """A part of each line: so many words, which `fill` writes for the rows [low, high)."""

    words: int

    def fill(self, out: Words, low: int, high: int) -> None:
        """Write the words; ``out`` has a row for each row and a column for each word."""
        ...


class Constant:
    """The same text in all lines."""

    def __init__(self, text: str) -> None:
        self._row = _padded([text])[0]
        self.words = len(self._row)

    def fill(self, out: Words, low: int, high: int) -> None:  # noqa: ARG002 - as of a piece
        """Write the words."""
        out[:] = self._row


class Choice:
    """One of some texts in each line, by its number."""

    def __init__(self, texts: Sequence[str], numbers: Numbers) -> None:
        self._table = _padded(texts)
        self._numbers = numbers
        self.words = self._table.shape[1]

    def fill(self, out: Words, low: int, high: int) -> None:
        """Write the words."""
        numbers = self._numbers[low:high]
        for k in range(self.words):
            out[:, k] = self._table[:, k].take(numbers)


class Decimal:
    """A number; no text where ``there`` is false."""

    def __init__(self, values: Numbers, there: npt.NDArray[np.bool_] | None = None) -> None:
        values = values.astype(np.uint64, copy=False)
        most = int(values.max(initial=0))
        self._values = values.astype(np.uint32) if most < 1 << 32 else values
        self._there = there
        self.words = (len(str(most)) + 3) // 4

    def fill(self, out: Words, low: int, high: int) -> None:
        """Write the words."""
        rest = self._values[low:high]
        above_tables, tables = _decimals()
        for k in range(self.words - 1, 0, -1):
            above = rest // _DECIMAL
            group = (rest - above * _DECIMAL).astype(np.int64)
            group[above > 0] += _DECIMAL
            out[:, k] = tables.take(group)
            rest, tables = above, above_tables
        out[:, 0] = tables.take(rest.astype(np.int64))
        if self._there is not None:
            out *= self._there[low:high, None]


class Hexadecimal:
    """A number with 16 digits, or without leading zeros."""

    def __init__(self, values: npt.NDArray[np.uint64], *, full: bool) -> None:
        self._values = values
        self._full = full
        groups = -(-int(values.max(initial=0)).bit_length() // _HEX_BITS)
        self.words = 4 if full else max(groups, 1)

    def fill(self, out: Words, low: int, high: int) -> None:
        """Write the words."""
        values = self._values[low:high]
        mask = np.uint64((1 << _HEX_BITS) - 1)
        tables, last = _hexadecimals()
        for k in range(self.words):
            shift = np.uint64(_HEX_BITS * (self.words - 1 - k))
            group = ((values >> shift) & mask).astype(np.int64)
            if self._full:
                group += 1 << _HEX_BITS
            elif k:
                above = values >> shift
                group[above > mask] += 1 << _HEX_BITS
            out[:, k] = (last if k == self.words - 1 else tables).take(group)


def _padded(texts: Sequence[str]) -> Words:
    """Return a row of words for each text. Texts are ASCII."""
    raw = [text.encode("ascii") for text in texts]
    width = max(-(-max(map(len, raw), default=0) // _WORD_BYTES), 1) * _WORD_BYTES
    joined = b"".join(one.ljust(width, b"\0") for one in raw)
    return np.frombuffer(joined, dtype=np.uint32).reshape(len(raw), -1)


def joined(pieces: Sequence[Piece], rows: int, end: bytes) -> bytes:
    """Return the lines of all rows, one behind the other, each with ``end``."""
    width = sum(piece.words for piece in pieces)
    room = -(-len(end) // _WORD_BYTES)
    out = np.empty((min(rows, ROWS_AT_ONCE), width + room), dtype=np.uint32)
    if end:
        out[:, width:] = np.frombuffer(end.ljust(room * _WORD_BYTES, b"\0"), dtype=np.uint32)
    parts = []
    for low in range(0, rows, ROWS_AT_ONCE):
        high = min(low + ROWS_AT_ONCE, rows)
        at = 0
        for piece in pieces:
            piece.fill(out[: high - low, at : at + piece.words], low, high)
            at += piece.words
        flat = out[: high - low].view(np.uint8).ravel()
        parts.append(flat[flat != 0].tobytes())
    return b"".join(parts)
