"""Map instructions of Python functions to lines: CPython's line tables.

Three forms, each of the version that wrote it:

- 3.9 (Objects/lnotab_notes.txt there): pairs of bytes, by how much the address and the line grow.
- 3.10 (PEP 626, Objects/lnotab_notes.txt): pairs of bytes, the length of a range of addresses and
  by how much its line differs from that of the range before; -128: the range has no line.
- from 3.11 (Objects/locations.md, earlier Objects/locations_notes.txt): entries of a first byte
  with a code and a length in instructions, and numbers of variable length.

A table is what a target had in its memory: nonsense gives wrong lines of its own function, no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_NO_LINE = 0
_ENTRIES_MAX = 1 << 20
_LINE_MAX = (1 << 31) - 1
_LINES_NOT_THERE, _LONG, _NO_COLUMNS = 15, 14, 13
_FIRST_OF_ONE_LINE, _LAST_OF_ONE_LINE = 10, 12
_NUMBER_BYTES = 6


@dataclass(frozen=True)
class LineTable:
    """Instruction `starts[i]` (ascending, in units of two bytes) begins a range with `lines[i]`."""

    starts: Ints
    lines: Ints

    def of(self, units: Ints) -> Ints:
        """The lines of instructions; 0: unknown."""
        if len(self.starts) == 0:
            return np.full(len(units), _NO_LINE, np.int64)
        at = np.searchsorted(self.starts, units, side="right") - 1
        return np.where(at >= 0, self.lines[at], _NO_LINE)


def line_table(minor: int, table: bytes, first_line: int) -> LineTable:
    """Read the table of a function of Python 3.`minor`."""
    if minor >= 11:
        starts, lines = _locations(table, first_line)
    else:
        ranges = _ranges_310 if minor == 10 else _ranges_39
        pairs = np.array(list(ranges(table, first_line)), np.int64).reshape(-1, 2)
        starts, lines = pairs.T
    starts, lines = starts[:_ENTRIES_MAX], lines[:_ENTRIES_MAX]
    return LineTable(starts, np.where((lines > 0) & (lines <= _LINE_MAX), lines, _NO_LINE))


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _ranges_39(table: bytes, line: int) -> Iterator[tuple[int, int]]:
    address = 0
    yield 0, line
    for grown, lines in zip(table[::2], table[1::2], strict=False):
        address += grown
        line += _signed(lines)
        yield address // 2, line


def _ranges_310(table: bytes, line: int) -> Iterator[tuple[int, int]]:
    address = 0
    for length, lines in zip(table[::2], table[1::2], strict=False):
        known = lines != 128
        if known:
            line += _signed(lines)
        if length:
            yield address // 2, line if known else _NO_LINE
        address += length


def _locations(table: bytes, first_line: int) -> tuple[Ints, Ints]:
    data = np.frombuffer(table + bytes(_NUMBER_BYTES + 1), np.uint8).astype(np.int64)
    # Only the first byte of an entry has its highest bit set.
    is_first = data[: len(table)] >= 128
    is_first[:1] = True
    at = np.flatnonzero(is_first)
    code, units = data[at] >> 3 & 15, (data[at] & 7) + 1
    grown = np.zeros(len(at), np.int64)
    one_line = (code >= _FIRST_OF_ONE_LINE) & (code <= _LAST_OF_ONE_LINE)
    grown[one_line] = code[one_line] - _FIRST_OF_ONE_LINE
    has_number = (code == _LONG) | (code == _NO_COLUMNS)
    grown[has_number] = _variable_signed(data, at[has_number] + 1)
    lines = first_line + np.cumsum(grown)
    lines[code == _LINES_NOT_THERE] = _NO_LINE
    return np.cumsum(units) - units, lines


def _variable_signed(data: Ints, at: Ints) -> Ints:
    """Six bits a byte, the lowest first; the seventh says that more follow. Bit 0 is the sign."""
    value = np.zeros(len(at), np.int64)
    more = np.ones(len(at), np.bool_)
    for k in range(_NUMBER_BYTES):
        byte = data[np.minimum(at + k, len(data) - 1)]
        value |= np.where(more, byte & 63, 0) << 6 * k
        more &= byte & 64 != 0
    return np.where(value & 1, -(value >> 1), value >> 1)
