"""Map addresses to compilation units.

Compilers list the ranges of units in `.debug_aranges`, all of them or none. Of units that are not
listed, the unit's own first entry says its ranges.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from mem_parser.symbols.debug.bits import Damaged, number
from mem_parser.symbols.debug.constants import UnitKind
from mem_parser.symbols.debug.ranges import ranges_of
from mem_parser.symbols.debug.units import DebugFile, Unit

_MOST_AT_ONE_ADDRESS = 16
_WITHOUT_CODE = {UnitKind.TYPE, UnitKind.PARTIAL, UnitKind.SPLIT_TYPE}


class UnitMap:
    """The units of a file by address."""

    def __init__(self, file: DebugFile) -> None:
        """Raises `Damaged`, OSError."""
        self.damaged = 0
        """Number of units that do not say where their code is."""
        units = file.units
        rows, listed = _listed(file)
        for k, unit in enumerate(units):
            if unit.at in listed or unit.kind in _WITHOUT_CODE:
                continue
            try:
                rows += [(low, high, k) for low, high in ranges_of(unit, unit.root)]
            except (Damaged, IndexError, OSError):
                self.damaged += 1
        rows.sort(key=lambda row: (row[0], row[1], -row[2]))
        self._units = units
        self._rows = rows
        self._reach: list[int] = []
        highest = 0
        for _, high, _ in rows:
            highest = max(highest, high)
            self._reach.append(highest)

    def at(self, address: int) -> Sequence[Unit]:
        """Return the units with code at an address, the one whose range begins last first; of those
        with one range, all of which the linker gave the same code, the file's first.
        """
        found: list[Unit] = []
        k = bisect.bisect_left(self._rows, (address + 1,)) - 1
        while k >= 0 and self._reach[k] > address and len(found) < _MOST_AT_ONE_ADDRESS:
            low, high, unit = self._rows[k]
            if low <= address < high and self._units[unit] not in found:
                found.append(self._units[unit])
            k -= 1
        return found


def _listed(file: DebugFile) -> tuple[list[tuple[int, int, int]], set[int]]:
    """Return the ranges of all units that are listed, and where these units are."""
    section, order = file.sections.get("aranges"), file.sections.order
    index = {unit.at: k for k, unit in enumerate(file.units)}
    lowest, _ = file.sections.code_bounds
    rows: list[tuple[int, int, int]] = []
    listed: set[int] = set()
    try:
        data = section.read(0, section.size_bytes)
        at = 0
        while at < len(data):
            length, place, width = number(data, at, 4, order), at + 4, 4
            if length == 0xFFFFFFFF:
                length, place, width = number(data, at + 4, 8, order), at + 12, 8
            end = place + length
            unit_at = number(data, place + 2, width, order)
            size = data[place + 2 + width]
            first = place + width + 4
            first += -(first - at) % (2 * size)
            unit = index.get(unit_at)
            if unit is not None and size in (4, 8):
                mine = _pairs(data[first:end], size, order)
                rows += [(low, low + n, unit) for low, n in mine if n and low >= lowest]
                listed.add(unit_at)
            at = end
    except (Damaged, IndexError, ZeroDivisionError):
        return [], set()
    return rows, listed


def _pairs(data: bytes, size: int, order: str) -> list[tuple[int, int]]:
    import numpy as np

    kind = np.dtype(f"{'<' if order == 'little' else '>'}u{size}")
    whole = np.frombuffer(data[: len(data) - len(data) % (2 * size)], kind).reshape(-1, 2)
    return [(int(low), int(n)) for low, n in whole.tolist()]
