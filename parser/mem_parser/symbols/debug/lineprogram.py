"""The line program of a unit: which source line the code at an address comes from.

A program is a list of small instructions that make rows of address, file and line, in runs (the
standard's *sequences*) of rising addresses. Runs of code that the linker threw away stay in the
file. The linker writes 0 where their addresses were, also in the middle of a run, so such a run
begins outside all code; it is left out whole, because its later rows may seem to be real code.
"""

from __future__ import annotations

import bisect
import itertools
from array import array
from dataclasses import dataclass

from mem_parser.symbols.debug.abbreviations import Layout
from mem_parser.symbols.debug.bits import ByteOrder, Damaged, number, sleb, uleb
from mem_parser.symbols.debug.linefiles import FileTable, read_files
from mem_parser.symbols.debug.sections import Sections

_HEAD_BYTES = 12
_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE = 1, 2, 3, 4
_CONST_ADD_PC, _FIXED_ADVANCE_PC = 8, 9
_END_SEQUENCE, _SET_ADDRESS = 1, 2
_MASK = (1 << 64) - 1
_LOW = (1 << 32) - 1


@dataclass(slots=True)
class _Instructions:
    """The header's parameters of the instructions."""

    at: int
    end: int
    unit_bytes: int
    line_base: int
    line_range: int
    first_special: int
    operands: bytes
    """How many operands each instruction below the special ones has, the first one's first."""


class LineProgram:
    """Lines by address, and the paths of files."""

    def __init__(self, sections: Sections, at: int, comp_dir: str | None) -> None:
        """Read the header of the program at ``at``; relative folders are below ``comp_dir``,
        which is None if nobody knows it.

        Raises `Damaged`, IndexError, OSError.
        """
        self._bounds = sections.code_bounds
        section = sections.get("line")
        size, width = _size(section.rest(at, _HEAD_BYTES), sections.order)
        self._data = section.read(at, size)
        self._order = sections.order
        self._instructions, self._files = self._header(sections, width, comp_dir)
        self._addresses = array("Q")
        self._places = array("Q")
        """File (high half) and line of each row."""
        self._runs: list[tuple[int, int, int, int]] = []
        """Of each run its first address, its end, its first row, and the row behind its last."""
        self._reach: list[int] = []
        """Of each run the highest end of it and all before it."""
        self._is_ready = False

    def find(self, address: int) -> tuple[int, int] | None:
        """Return the numbers of file and line at an address; None if there is no row. Raises as
        the constructor.
        """
        if not self._is_ready:
            self._run()
            self._sort_runs()
            self._is_ready = True
        k = bisect.bisect_right(self._runs, (address, _MASK + 1)) - 1
        while k >= 0 and self._reach[k] > address:
            _, end, first, behind = self._runs[k]
            if address < end:
                row = bisect.bisect_right(self._addresses, address, first, behind) - 1
                return self._places[row] >> 32, self._places[row] & _LOW
            k -= 1
        return None

    def path_of(self, number: int) -> tuple[str, bool]:
        """Return the path of the file of that number, empty for an unknown one, and whether it is
        whole. Raises as the constructor.
        """
        return self._files.path_of(number)

    def _header(
        self, sections: Sections, width: int, comp_dir: str | None
    ) -> tuple[_Instructions, FileTable]:
        data, order = self._data, self._order
        at = 4 if width == 4 else 12
        version = number(data, at, 2, order)
        if not 2 <= version <= 5:
            raise Damaged(f"has lines of an unknown version ({version})")
        at += 2
        address_bytes = 8
        if version >= 5:
            address_bytes, at = data[at], at + 2
        start = at + width + number(data, at, width, order)
        at += width
        unit_bytes, at = data[at], at + (2 if version >= 4 else 1)
        line_base, line_range, first_special = data[at + 1], data[at + 2], data[at + 3]
        if not line_range or not first_special or start > len(data):
            raise Damaged("has lines that cannot be read")
        operands = data[at + 4 : at + 3 + first_special]
        layout = Layout(version, width, address_bytes, order)
        files = read_files(data, at + 3 + first_special, layout, sections, comp_dir)
        signed = line_base - 256 if line_base > 127 else line_base
        return (
            _Instructions(
                start, len(data), unit_bytes, signed, line_range, first_special, operands
            ),
            files,
        )

    def _run(self) -> None:
        """Make the rows and runs of the program. Raises as the constructor."""
        data, how = self._data, self._instructions
        special, unit, end = how.first_special, how.unit_bytes, how.end
        pc_steps = [(op - special) // how.line_range * unit for op in range(256)]
        line_steps = [how.line_base + (op - special) % how.line_range for op in range(256)]
        add_row, add_place = self._addresses.append, self._places.append
        at, address, file, line = how.at, 0, 1, 1
        begin = len(self._addresses)
        while at < end:
            op = data[at]
            at += 1
            if op >= special:
                address = address + pc_steps[op] & _MASK
                line += line_steps[op]
                add_row(address)
                add_place(file << 32 | line & _LOW)
            elif op == 0:
                size, at = uleb(data, at)
                kind = data[at] if size else 0
                if kind == _END_SEQUENCE:
                    self._end_run(begin, address)
                    address, file, line = 0, 1, 1
                    begin = len(self._addresses)
                elif kind == _SET_ADDRESS:
                    address = number(data, at + 1, size - 1, self._order) & _MASK
                at += size
            elif op == _COPY:
                add_row(address)
                add_place(file << 32 | line & _LOW)
            elif op == _ADVANCE_PC:
                step, at = uleb(data, at)
                address = address + step * unit & _MASK
            elif op == _ADVANCE_LINE:
                step, at = sleb(data, at)
                line += step
            elif op == _SET_FILE:
                file, at = uleb(data, at)
                file &= _LOW
            elif op == _CONST_ADD_PC:
                address = address + pc_steps[255] & _MASK
            elif op == _FIXED_ADVANCE_PC:
                address = address + number(data, at, 2, self._order) & _MASK
                at += 2
            else:
                for _ in range(how.operands[op - 1]):
                    _, at = uleb(data, at)
        if at > end or len(self._addresses) > begin:
            raise Damaged("has lines that end too soon")

    def _sort_runs(self) -> None:
        self._runs.sort()
        reach = 0
        for _, end, _, _ in self._runs:
            reach = max(reach, end)
            self._reach.append(reach)

    def _end_run(self, begin: int, end: int) -> None:
        """Keep the rows from ``begin`` on as a run if they are of code, else forget them."""
        addresses, places = self._addresses, self._places
        low, high = self._bounds
        if begin == len(addresses):
            return
        if not low <= addresses[begin] < high:
            del addresses[begin:], places[begin:]
            return
        rows = addresses[begin:]
        if any(x > y for x, y in itertools.pairwise(rows)):
            order = sorted(range(len(rows)), key=rows.__getitem__)
            kept = places[begin:]
            addresses[begin:] = array("Q", [rows[k] for k in order])
            places[begin:] = array("Q", [kept[k] for k in order])
        end = max(end, addresses[-1] + 1) & _MASK
        self._runs.append((addresses[begin], end, begin, len(addresses)))


def _size(head: bytes, order: ByteOrder) -> tuple[int, int]:
    """Return the size of a program with its length word, and the width of its offsets."""
    length = number(head, 0, 4, order)
    if length != 0xFFFFFFFF:
        return 4 + length, 4
    return 12 + number(head, 4, 8, order), 8
