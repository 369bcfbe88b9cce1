"""Split debug information: the part that compilers put next to the object files (`.dwo`), or a
packer into one file next to the program (`.dwp`).

The program has a *skeleton* of each unit, with a number that the split unit must have too.
"""

from __future__ import annotations

import os.path
from collections import OrderedDict
from collections.abc import Iterator

from mem_parser.plainfile import PlainFile
from mem_parser.symbols.debug.bits import Damaged, number
from mem_parser.symbols.debug.constants import At, UnitKind
from mem_parser.symbols.debug.sections import Part, Sections
from mem_parser.symbols.debug.units import Contribution, DebugFile, Unit
from mem_parser.symbols.elf import BadElf, ElfImage

_MOST_OPEN = 32
_INFO, _ABBREV, _LINE, _STR_OFFSETS = 1, 3, 4, 6
_RNGLISTS = 8
"""Numbers of sections in a package's index; the last one is of version 5 only."""
_HEAD_BYTES = 16


class SplitMissing(Exception):
    """The file with a unit's entries is not there; the text is its name."""


class SplitUnits:
    """Finds the split unit of a skeleton."""

    def __init__(self, programs: list[str]) -> None:
        """``programs``: paths of the program and of its debug file, beside which a package may
        be.
        """
        self._programs = programs
        self._packages: list[_Package] | None = None
        self._files: OrderedDict[str, DebugFile | None] = OrderedDict()
        """Those used last; the units of others can no longer be read."""

    def of(self, skeleton: Unit) -> Unit | None:
        """Return the unit that stands for ``skeleton``; None if it is whole itself. Raises
        `SplitMissing`, `Damaged`, IndexError, OSError.
        """
        root = skeleton.root
        named = root.get(At.DWO_NAME) or root.get(At.GNU_DWO_NAME)
        if named is None:
            return None
        gnu = root.get(At.GNU_DWO_ID)
        dwo_id = skeleton.dwo_id if gnu is None else gnu.number
        if dwo_id is None:
            return None
        name = skeleton.text(named)
        for package in self._all_packages():
            found = package.unit(dwo_id)
            if found is not None:
                return _joined(found, skeleton)
        for path in self._paths(skeleton, name):
            file = self._file(path)
            for unit in file.units if file is not None else ():
                if _dwo_id(unit) == dwo_id:
                    return _joined(unit, skeleton)
        raise SplitMissing(os.path.basename(name))

    def _paths(self, skeleton: Unit, name: str) -> Iterator[str]:
        comp_dir = skeleton.text(skeleton.root.get(At.COMP_DIR))
        yield os.path.join(comp_dir, name)
        for program in self._programs:
            folder = os.path.dirname(program)
            yield os.path.join(folder, name)
            yield os.path.join(folder, os.path.basename(name))

    def _file(self, path: str) -> DebugFile | None:
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        if len(self._files) >= _MOST_OPEN:
            _, oldest = self._files.popitem(last=False)
            if oldest is not None:
                oldest.sections.image.close()
        file = self._files[path] = _opened(path)
        return file

    def _all_packages(self) -> list[_Package]:
        if self._packages is None:
            files = [_opened(f"{program}.dwp") for program in self._programs]
            self._packages = [_Package(file) for file in files if file is not None]
        return self._packages


def _opened(path: str) -> DebugFile | None:
    try:
        return DebugFile(Sections(ElfImage(path, PlainFile(path)), split=True))
    except (BadElf, OSError, ValueError):
        return None


def _dwo_id(unit: Unit) -> int | None:
    if unit.kind not in (UnitKind.COMPILE, UnitKind.SPLIT_COMPILE):
        return None
    if unit.dwo_id is not None:
        return unit.dwo_id
    gnu = unit.root.get(At.GNU_DWO_ID)
    return None if gnu is None else gnu.number


def _joined(unit: Unit, skeleton: Unit) -> Unit:
    unit.skeleton = skeleton
    return unit


class _Package:
    """A `.dwp` file: its index says where the pieces of each unit are."""

    def __init__(self, file: DebugFile) -> None:
        self._file = file
        index = _package_index(file.sections)
        self._order = file.sections.order
        self._index = index
        version = self._word(0) if index else 0
        self._is_gnu = version == 2
        if index and not self._is_gnu and number(index, 0, 2, self._order) != 5:
            raise Damaged("has a package of an unknown version")
        self._columns, self._units, self._slots = (
            (self._word(4), self._word(8), self._word(12)) if index else (0, 0, 0)
        )

    def _word(self, at: int) -> int:
        return number(self._index, at, 4, self._order)

    def unit(self, dwo_id: int) -> Unit | None:
        """Return the unit of that number. Raises `Damaged`, IndexError, OSError."""
        row = self._row(dwo_id)
        if row is None:
            return None
        table = _HEAD_BYTES + 12 * self._slots
        offsets = {
            self._word(table + 4 * k): self._word(table + 4 * (self._columns * row + k))
            for k in range(self._columns)
        }
        unit, _ = self._file.place_of(offsets.get(_INFO, 0))
        unit.contribution = Contribution(
            line=offsets.get(_LINE, 0),
            str_offsets=offsets.get(_STR_OFFSETS, 0),
            rnglists=0 if self._is_gnu else offsets.get(_RNGLISTS, 0),
        )
        if not unit.is_placed:
            unit.abbrev_at += offsets.get(_ABBREV, 0)
            unit.is_placed = True
        return unit if _dwo_id(unit) == dwo_id else None

    def _row(self, dwo_id: int) -> int | None:
        """Return the row of a unit, from 1 on."""
        if not self._slots:
            return None
        mask = self._slots - 1
        slot, step = dwo_id & mask, dwo_id >> 32 & mask | 1
        for _ in range(min(self._slots, len(self._index))):
            row = self._word(_HEAD_BYTES + 8 * self._slots + 4 * slot)
            if not row:
                return None
            if number(self._index, _HEAD_BYTES + 8 * slot, 8, self._order) == dwo_id:
                return row if row <= self._units else None
            slot = slot + step & mask
        return None


def _package_index(sections: Sections) -> bytes:
    part: Part = sections.get("cu_index", plain=True)
    return part.read(0, part.size_bytes)
