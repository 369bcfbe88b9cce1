"""Functions of a unit: which one is at an address, which calls were inlined there, their names.

A unit has many entries of types, few of functions, and most entries with others inside say where
these end. So the first look steps over all insides; only if it finds no function at an address, a
second one goes into everything (functions inside functions or types).
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from mem_parser.symbols.debug.abbreviations import (
    Attributes,
    next_entry,
    read_attributes,
    stepped_over,
)
from mem_parser.symbols.debug.bits import Damaged, uleb
from mem_parser.symbols.debug.constants import At, Tag
from mem_parser.symbols.debug.ranges import Ranges, ranges_of
from mem_parser.symbols.debug.units import Unit

_NOTHING: frozenset[At] = frozenset()
_PLACE = frozenset({At.LOW_PC, At.HIGH_PC, At.RANGES})
_CALL = _PLACE | {At.CALL_FILE, At.CALL_LINE}
_WITH_CALLS = {Tag.INLINED_SUBROUTINE, Tag.LEXICAL_BLOCK}
_NAMES = frozenset({
    At.NAME, At.LINKAGE_NAME, At.MIPS_LINKAGE_NAME, At.ABSTRACT_ORIGIN, At.SPECIFICATION
})  # fmt: skip
_MOST_REFERENCES = 16
_MOST_DEPTH = 1 << 12
_MOST_FUNCTIONS = 1 << 20
_MOST_INLINED = 1 << 10
_HIGHEST_LINE = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Inlined:
    """An inlined call: its code ranges, the callee, and the line of the call."""

    depth: int
    ranges: Ranges
    at: int
    call_file: int
    call_line: int

    def contains(self, address: int) -> bool:
        """Tell whether the code at ``address`` came from this call."""
        return any(low <= address < high for low, high in self.ranges)


@dataclass(slots=True)
class _Places:
    """Functions by address: start, end and position of each range."""

    rows: list[tuple[int, int, int]]
    reach: list[int] = field(default_factory=list)
    """Of each row the highest end of it and all before it."""

    def __post_init__(self) -> None:
        self.rows.sort()
        highest = 0
        for _, end, _ in self.rows:
            highest = max(highest, end)
            self.reach.append(highest)

    def find(self, address: int) -> int | None:
        """Return the position of the function with the last start among those at ``address``."""
        k = bisect.bisect_left(self.rows, (address + 1,)) - 1
        while k >= 0 and self.reach[k] > address:
            if address < self.rows[k][1]:
                return self.rows[k][2]
            k -= 1
        return None


class Functions:
    """The functions of one unit."""

    def __init__(self, unit: Unit) -> None:
        """``unit`` is the one with the entries, not its skeleton."""
        self.unit = unit
        self._outer: _Places | None = None
        self._all: _Places | None = None
        self._names: dict[int, str | None] = {}

    def at(self, address: int) -> int | None:
        """Return the position of the function at ``address``; None if there is none. Raises
        `Damaged`, IndexError, OSError.
        """
        if self._outer is None:
            self._outer = _Places(self._collect(inside=False))
        found = self._outer.find(address)
        if found is None:
            if self._all is None:
                self._all = _Places(self._collect(inside=True))
            found = self._all.find(address)
        return found

    def _collect(self, *, inside: bool) -> list[tuple[int, int, int]]:
        """Return the ranges of all functions; goes into every entry if ``inside``."""
        unit = self.unit
        data, table, layout = unit.data, unit.table, unit.layout
        known = table.known
        rows: list[tuple[int, int, int]] = []
        root, _, at = unit.entry(unit.root_at, _NOTHING)
        depth = 1 if root is not None and root.has_children else 0
        end = len(data)
        while depth and at < end:
            begin = at
            code = data[at]
            at += 1
            if code > 0x7F:
                code, at = uleb(data, begin)
            if not code:
                depth -= 1
                continue
            entry = known.get(code) or table.get(code)
            if entry.has_code and entry.tag == Tag.SUBPROGRAM:
                attributes, _ = read_attributes(data, at, entry, layout, _PLACE)
                rows += [(low, high, begin) for low, high in ranges_of(unit, attributes)]
                if len(rows) > _MOST_FUNCTIONS:
                    raise Damaged("has too many functions")
            if entry.sibling_bytes and not inside:
                at = next_entry(data, at, entry, layout)
            elif entry.fixed >= 0:
                at += entry.fixed
                depth += entry.has_children
            else:
                at = stepped_over(data, at, entry.plan, layout)
                depth += entry.has_children
        _check_end(data, at)
        return rows

    def name_of(self, at: int) -> str | None:
        """Return what `name_at` says of the function at a position."""
        if at not in self._names:
            self._names[at] = name_at(self.unit, at)
        return self._names[at]

    def inlined(self, function: int, addresses: list[int]) -> list[Inlined]:
        """Return the inlined calls in the function at a position that have code at one of the
        ``addresses``, which are in order; each behind the one that it is in. Raises as `at`.
        """
        unit = self.unit
        data, table, layout = unit.data, unit.table, unit.layout
        found: list[Inlined] = []
        whole, _, at = unit.entry(function, _NOTHING)
        depth = 1 if whole is not None and whole.has_children else 0
        while depth and at < len(data):
            begin = at
            code, at = uleb(data, at)
            if not code:
                depth -= 1
                continue
            entry = table.get(code)
            is_open = False
            if entry.has_code and entry.tag in _WITH_CALLS:
                attributes, _ = read_attributes(data, at, entry, layout, _CALL)
                ranges = ranges_of(unit, attributes)
                is_open = any(_has_one(addresses, low, high) for low, high in ranges)
                if is_open and entry.tag == Tag.INLINED_SUBROUTINE:
                    found.append(_inlined(depth, ranges, begin, attributes))
            without_place = entry.tag in _WITH_CALLS and not entry.has_code
            if entry.sibling_bytes and not is_open and not without_place:
                at = next_entry(data, at, entry, layout)
            else:
                at = stepped_over(data, at, entry.plan, layout)
                depth += entry.has_children
                if depth > _MOST_DEPTH:
                    raise Damaged("has entries nested too deeply")
        _check_end(data, at)
        return found


def inlined_at(calls: list[Inlined], address: int) -> list[Inlined]:
    """Return those of a function's inlined ``calls`` that are at ``address``, outermost first.
    Raises `Damaged`.
    """
    found: list[Inlined] = []
    for call in calls:
        if (not found or call.depth > found[-1].depth) and call.contains(address):
            found.append(call)
    if len(found) > _MOST_INLINED:
        raise Damaged("has too many inlined calls at one address")
    return found


def _check_end(data: bytes, at: int) -> None:
    """Raise `Damaged` if the entries of a unit, read up to ``at``, run past its end."""
    if at > len(data):
        raise Damaged("has entries that end behind it")


def _has_one(addresses: list[int], low: int, high: int) -> bool:
    k = bisect.bisect_left(addresses, low)
    return k < len(addresses) and addresses[k] < high


def _inlined(depth: int, ranges: Ranges, at: int, attributes: Attributes) -> Inlined:
    file, line = attributes.get(At.CALL_FILE), attributes.get(At.CALL_LINE)
    call_line = 0 if line is None else line.number
    if not 0 <= call_line <= _HIGHEST_LINE:
        raise Damaged("has a call from a line that cannot be")
    return Inlined(depth, ranges, at, 0 if file is None else file.number, call_line)


def name_at(unit: Unit, at: int) -> str | None:
    """Return the name of the function at a position, as linkers know it where that is known; empty
    for none, None where it is in a missing file. Raises `Damaged`, IndexError, OSError.
    """
    plain = ""
    for _ in range(_MOST_REFERENCES):
        _, attributes, _ = unit.entry(at, _NAMES)
        linkage = attributes.get(At.LINKAGE_NAME) or attributes.get(At.MIPS_LINKAGE_NAME)
        name = linkage or (None if plain else attributes.get(At.NAME))
        if name is not None and unit.is_elsewhere(name):
            return None
        if linkage is not None:
            return unit.text(linkage)
        plain = plain or unit.text(name)
        link = attributes.get(At.ABSTRACT_ORIGIN) or attributes.get(At.SPECIFICATION)
        if link is None:
            return plain
        place = unit.referred(link)
        if place is None:
            return plain or None
        unit, at = place
    raise Damaged("has references in a circle")
