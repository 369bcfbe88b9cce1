"""Units: the pieces of debug information that compilers made, one for each source file and more.

A unit's values point into other sections, some of them relative to bases that the unit names, or
that a package of split debug information fixes. `DebugFile` is one file's sections and units.
"""

from __future__ import annotations

import bisect
import functools
from collections import OrderedDict
from dataclasses import dataclass, field

from mem_parser.symbols.debug.abbreviations import (
    Abbreviation,
    AbbreviationTable,
    Attributes,
    Layout,
    Value,
    read_attributes,
)
from mem_parser.symbols.debug.bits import Damaged, behind_text, number, uleb
from mem_parser.symbols.debug.constants import At, Form, UnitKind
from mem_parser.symbols.debug.sections import Part, Sections

_HEAD_BYTES = 40
_ADDRESS_SIZES = (4, 8)
_MOST_UNITS = 1 << 20
_KEPT_BYTES = 64 << 20
_KEPT_TABLES = 256
_ROOT = frozenset({
    At.NAME, At.COMP_DIR, At.STMT_LIST, At.LOW_PC, At.HIGH_PC, At.RANGES, At.STR_OFFSETS_BASE,
    At.ADDR_BASE, At.RNGLISTS_BASE, At.DWO_NAME, At.GNU_DWO_NAME, At.GNU_DWO_ID,
    At.GNU_ADDR_BASE, At.GNU_RANGES_BASE,
})  # fmt: skip
_ADDRESS_INDEX = {Form.ADDRX, Form.ADDRX1, Form.ADDRX2, Form.ADDRX3, Form.ADDRX4,
                  Form.GNU_ADDR_INDEX}  # fmt: skip
_TEXT_INDEX = {Form.STRX, Form.STRX1, Form.STRX2, Form.STRX3, Form.STRX4, Form.GNU_STR_INDEX}
_TEXT_IN_ALTERNATE = {Form.GNU_STRP_ALT, Form.STRP_SUP}
_IN_UNIT = {Form.REF1, Form.REF2, Form.REF4, Form.REF8, Form.REF_UDATA}
_IN_ALTERNATE = {Form.GNU_REF_ALT, Form.REF_SUP4, Form.REF_SUP8}


@dataclass(slots=True)
class Contribution:
    """Where the tables of one unit of split debug information begin in its file's sections."""

    line: int = 0
    str_offsets: int = 0
    rnglists: int = 0


@dataclass(eq=False, slots=True)
class Unit:
    """One unit. Positions in it count from its header."""

    file: DebugFile
    at: int
    size_bytes: int
    kind: int
    layout: Layout
    abbrev_at: int
    root_at: int
    dwo_id: int | None
    contribution: Contribution = field(default_factory=Contribution)
    skeleton: Unit | None = None
    """The unit that stands for this one in the program, where this one is split off."""
    is_placed: bool = False
    """Whether ``abbrev_at`` counts from the section's begin, in a package too."""
    _root: Attributes | None = None

    @property
    def data(self) -> bytes:
        """All of its bytes. Raises `Damaged`, OSError."""
        return self.file.data_of(self)

    @property
    def table(self) -> AbbreviationTable:
        """Its abbreviations. Raises `Damaged`, OSError."""
        return self.file.table_of(self)

    @property
    def root(self) -> Attributes:
        """The attributes of its first entry. Raises `Damaged`, IndexError, OSError."""
        if self._root is None:
            self._root = self.entry(self.root_at, _ROOT)[1]
        return self._root

    def entry(self, at: int, wanted: frozenset[At]) -> tuple[Abbreviation | None, Attributes, int]:
        """Return the entry at ``at``, its ``wanted`` attributes, and where they end; no
        abbreviation where it only ends a list. Raises `Damaged`, IndexError, OSError.
        """
        data = self.data
        code, at = uleb(data, at)
        if code == 0:
            return None, {}, at
        abbreviation = self.table.get(code)
        attributes, at = read_attributes(data, at, abbreviation, self.layout, wanted)
        return abbreviation, attributes, at

    # Values.

    def text(self, value: Value | None) -> str:
        """Return a text; empty for none, or where `is_elsewhere`. Raises as `entry`."""
        if value is None:
            return ""
        sections, at = self.file.sections, value.number
        if value.form == Form.STRING:
            data = self.data
            return data[at : behind_text(data, at) - 1].decode("utf-8", "surrogateescape")
        if value.form == Form.STRP:
            return sections.get("str").text(at)
        if value.form == Form.LINE_STRP:
            return sections.get("line_str").text(at)
        if value.form in _TEXT_INDEX:
            width = self.layout.offset_bytes
            place = self._str_offsets_base() + at * width
            offset = sections.get("str_offsets").read(place, width)
            return sections.get("str").text(number(offset, 0, width, self.layout.order))
        if value.form in _TEXT_IN_ALTERNATE:
            other = self.file.alternate
            return "" if other is None else other.sections.get("str").text(at)
        raise Damaged("has a text of an unknown form")

    def is_elsewhere(self, value: Value) -> bool:
        """Tell whether a text is in a file that is missing."""
        return value.form in _TEXT_IN_ALTERNATE and self.file.alternate is None

    def address(self, value: Value) -> int:
        """Return a code address. Raises as `entry`."""
        if value.form == Form.ADDR:
            return value.number
        if value.form in _ADDRESS_INDEX:
            return self.indexed_address(value.number)
        raise Damaged("has an address of an unknown form")

    def indexed_address(self, index: int) -> int:
        """Return an address of the program's table. Raises as `entry`."""
        owner = self.skeleton or self
        width = self.layout.address_bytes
        base = owner.root.get(At.ADDR_BASE) or owner.root.get(At.GNU_ADDR_BASE)
        place = (0 if base is None else base.number) + index * width
        data = owner.file.sections.get("addr").read(place, width)
        return number(data, 0, width, self.layout.order)

    def referred(self, value: Value) -> tuple[Unit, int] | None:
        """Return the unit and position that a reference means; None where its file is missing.
        Raises as `entry`.
        """
        if value.form in _IN_UNIT:
            return self, value.number
        if value.form == Form.REF_ADDR:
            return self.file.place_of(value.number)
        if value.form in _IN_ALTERNATE:
            other = self.file.alternate
            return None if other is None else other.place_of(value.number)
        raise Damaged("has a reference of an unknown form")

    @property
    def low_pc(self) -> int:
        """The base of its address ranges; 0 where it names none. Raises as `entry`."""
        owner = self.skeleton or self
        value = owner.root.get(At.LOW_PC)
        return 0 if value is None else owner.address(value)

    def _str_offsets_base(self) -> int:
        base = self.root.get(At.STR_OFFSETS_BASE)
        if base is not None:
            return base.number
        start = self.contribution.str_offsets
        return start + (2 * self.layout.offset_bytes if self.layout.version >= 5 else 0)


class DebugFile:
    """The debug information of one file; ``alternate`` holds what several files share."""

    def __init__(self, sections: Sections) -> None:
        self.sections = sections
        self.alternate: DebugFile | None = None
        self.is_cut = False
        """Whether there are units that cannot be read, behind those that can."""
        self._data: OrderedDict[int, bytes] = OrderedDict()
        self._tables: OrderedDict[tuple[int, Layout], AbbreviationTable] = OrderedDict()

    @functools.cached_property
    def units(self) -> list[Unit]:
        """Its units, in the order of the file; up to the first one that cannot be read. Raises
        `Damaged`, OSError.
        """
        info = self.sections.get("info")
        found: list[Unit] = []
        at = 0
        while at < info.size_bytes:
            try:
                unit = self._unit(info, at)
            except (Damaged, IndexError):
                self.is_cut = True
                break
            found.append(unit)
            at += unit.size_bytes
            if len(found) > _MOST_UNITS:
                raise Damaged("has too many units")
        return found

    def place_of(self, offset: int) -> tuple[Unit, int]:
        """Return the unit at an offset of the section, and the position in it. Raises `Damaged`,
        OSError.
        """
        k = bisect.bisect_right(self._starts, offset) - 1
        if k < 0 or offset >= self.units[k].at + self.units[k].size_bytes:
            raise Damaged("refers to no entry")
        return self.units[k], offset - self.units[k].at

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [unit.at for unit in self.units]

    def data_of(self, unit: Unit) -> bytes:
        """Return the bytes of ``unit``; keeps those of the last units. Raises `Damaged`,
        OSError.
        """
        kept = self._data.get(unit.at)
        if kept is None:
            kept = self.sections.get("info").read(unit.at, unit.size_bytes)
            self._data[unit.at] = kept
            while len(self._data) > 1 and sum(map(len, self._data.values())) > _KEPT_BYTES:
                self._data.popitem(last=False)
        else:
            self._data.move_to_end(unit.at)
        return kept

    def table_of(self, unit: Unit) -> AbbreviationTable:
        """Return the abbreviations of ``unit``; keeps the last tables. Raises `Damaged`,
        OSError.
        """
        key = (unit.abbrev_at, unit.layout)
        table = self._tables.get(key)
        if table is None:
            data = self.sections.whole("abbrev")
            table = self._tables[key] = AbbreviationTable(data, unit.abbrev_at, unit.layout)
            if len(self._tables) > _KEPT_TABLES:
                self._tables.popitem(last=False)
        return table

    def _unit(self, info: Part, at: int) -> Unit:
        """Return the unit whose header is at ``at``. Raises `Damaged`, IndexError, OSError."""
        head, order = info.rest(at, _HEAD_BYTES), self.sections.order
        length, place, width = number(head, 0, 4, order), 4, 4
        if length == 0xFFFFFFFF:
            length, place, width = number(head, 4, 8, order), 12, 8
        size = place + length
        if at + size > info.size_bytes:
            raise Damaged("has a unit that ends behind it")
        version = number(head, place, 2, order)
        if not 2 <= version <= 5:
            raise Damaged(f"is of an unknown version ({version})")
        place += 2
        kind, dwo_id = int(UnitKind.COMPILE), None
        if version >= 5:
            kind, address_bytes = head[place], head[place + 1]
            abbrev_at = number(head, place + 2, width, order)
            place += 2 + width
            if kind in (UnitKind.SKELETON, UnitKind.SPLIT_COMPILE):
                dwo_id = number(head, place, 8, order)
                place += 8
            elif kind in (UnitKind.TYPE, UnitKind.SPLIT_TYPE):
                place += 8 + width
        else:
            abbrev_at = number(head, place, width, order)
            address_bytes = head[place + width]
            place += width + 1
        if address_bytes not in _ADDRESS_SIZES:
            raise Damaged(f"has addresses of {address_bytes} bytes")
        layout = Layout(version, width, address_bytes, order)
        return Unit(self, at, size, kind, layout, abbrev_at, place, dwo_id)
