"""From an instruction of a Python function to its line: the tables of lines of CPython.

Three forms, each of the version that wrote it:

- 3.9 (Objects/lnotab_notes.txt there): pairs of bytes, by how much the address and the line grow.
- 3.10 (PEP 626, Objects/lnotab_notes.txt): pairs of bytes, the length of a range of addresses and
  by how much its line differs from that of the range before; -128: the range has no line.
- from 3.11 (Objects/locations.md, earlier Objects/locations_notes.txt): entries of a first byte
  with a code and a length in instructions, and numbers of variable length.

A table is what a target had in its memory: nonsense gives wrong lines of its own function, no more.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

_NO_LINE = 0
_ENTRIES_MAX = 1 << 20
_LINE_MAX = (1 << 31) - 1
_LINES_NOT_THERE, _LONG, _NO_COLUMNS = 15, 14, 13
_ONE_LINE_FORMS = range(10, 13)


@dataclass(frozen=True)
class LineTable:
    """Instruction `starts[i]` (ascending, in units of two bytes) begins a range with `lines[i]`."""

    starts: list[int]
    lines: list[int]

    def line(self, unit: int) -> int:
        """The line of an instruction; 0: unknown."""
        at = bisect.bisect_right(self.starts, unit) - 1
        return self.lines[at] if at >= 0 else _NO_LINE


def line_table(minor: int, table: bytes, first_line: int) -> LineTable:
    """Read the table of a function of Python 3.`minor`."""
    if minor >= 11:
        ranges = _locations(table, first_line)
    elif minor == 10:
        ranges = _ranges_310(table, first_line)
    else:
        ranges = _ranges_39(table, first_line)
    starts: list[int] = []
    lines: list[int] = []
    for start, line in ranges:
        if len(starts) == _ENTRIES_MAX:
            break
        starts.append(start)
        lines.append(line if 0 < line <= _LINE_MAX else _NO_LINE)
    return LineTable(starts, lines)


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


def _locations(table: bytes, line: int) -> Iterator[tuple[int, int]]:
    unit = at = 0
    while at < len(table):
        first = table[at]
        code = first >> 3 & 15
        begin = at + 1
        at = _next_entry(table, begin)
        if code == _LINES_NOT_THERE:
            yield unit, _NO_LINE
        else:
            if code in (_LONG, _NO_COLUMNS):
                line += _variable_signed(table, begin)
            elif code in _ONE_LINE_FORMS:
                line += code - _ONE_LINE_FORMS.start
            yield unit, line
        unit += (first & 7) + 1


def _next_entry(table: bytes, at: int) -> int:
    """Only the first byte of an entry has its highest bit set."""
    while at < len(table) and table[at] < 128:
        at += 1
    return at


def _variable_signed(table: bytes, at: int) -> int:
    """Six bits a byte, the lowest first; the seventh says that more follow. Bit 0 is the sign."""
    value = shift = 0
    while at < len(table) and shift < 36:
        byte = table[at]
        value |= (byte & 63) << shift
        if not byte & 64:
            break
        shift += 6
        at += 1
    return -(value >> 1) if value & 1 else value >> 1
