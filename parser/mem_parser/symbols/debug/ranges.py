"""Address ranges of units and functions: one range in the entry, or a list in a section.

Ranges of code that the linker threw away begin below all code (at 0 or 1), and are left out.
"""

from __future__ import annotations

from mem_parser.symbols.debug.abbreviations import Attributes, Value
from mem_parser.symbols.debug.bits import Damaged, number, uleb
from mem_parser.symbols.debug.constants import At, Form
from mem_parser.symbols.debug.units import Unit

Ranges = list[tuple[int, int]]

_MOST_RANGES = 1 << 20
_HEADER_REST_BYTES = 8
"""Of a list of range lists: what follows its length."""
_END, _BASE_X, _START_END_X, _START_LENGTH_X, _PAIR, _BASE, _START_END, _START_LENGTH = range(8)


def ranges_of(unit: Unit, attributes: Attributes) -> Ranges:
    """Return the ranges of an entry of ``unit``. Raises `Damaged`, IndexError, OSError."""
    owner = unit.skeleton or unit
    lowest, _ = owner.file.sections.code_bounds
    return [(low, high) for low, high in _all(unit, attributes) if lowest <= low < high]


def _all(unit: Unit, attributes: Attributes) -> Ranges:
    listed = attributes.get(At.RANGES)
    if listed is not None:
        return _list_5(unit, listed) if unit.layout.version >= 5 else _list_4(unit, listed)
    low, high = attributes.get(At.LOW_PC), attributes.get(At.HIGH_PC)
    if low is None or high is None:
        return []
    start = unit.address(low)
    is_address = high.form in (Form.ADDR, Form.ADDRX, Form.GNU_ADDR_INDEX) or (
        Form.ADDRX1 <= high.form <= Form.ADDRX4
    )
    return [(start, unit.address(high) if is_address else start + high.number)]


def _list_4(unit: Unit, value: Value) -> Ranges:
    """Return a list of versions 2 to 4: pairs of addresses, relative to a base."""
    owner = unit.skeleton or unit
    at, base = value.number, unit.low_pc
    if unit.skeleton is not None:  # then it counts from where the skeleton's lists begin
        start = owner.root.get(At.GNU_RANGES_BASE)
        at += 0 if start is None else start.number
    data, width = owner.file.sections.whole("ranges"), unit.layout.address_bytes
    new_base = (1 << 8 * width) - 1
    found: Ranges = []
    while len(found) < _MOST_RANGES:
        low = number(data, at, width, unit.layout.order)
        high = number(data, at + width, width, unit.layout.order)
        at += 2 * width
        if low == new_base:
            base = high
        elif low == high == 0:
            return found
        else:
            found.append((base + low, base + high))
    raise Damaged("has too many address ranges")


def _list_5(unit: Unit, value: Value) -> Ranges:
    """Return a list of version 5: each entry says its kind."""
    data = unit.file.sections.whole("rnglists")
    at = _indexed_list(unit, data, value.number) if value.form == Form.RNGLISTX else value.number
    if at < 0:
        raise Damaged("refers to no address ranges")
    base, width, order = unit.low_pc, unit.layout.address_bytes, unit.layout.order
    found: Ranges = []
    while len(found) < _MOST_RANGES:
        kind = data[at]
        at += 1
        if kind == _PAIR:
            low, at = uleb(data, at)
            high, at = uleb(data, at)
            found.append((base + low, base + high))
            continue
        if kind == _END:
            return found
        numbers = []
        for is_address in _OPERANDS.get(kind, ()):
            if is_address:
                numbers.append(number(data, at, width, order))
                at += width
            else:
                operand, at = uleb(data, at)
                numbers.append(operand)
        if kind == _BASE:
            base = numbers[0]
        elif kind == _BASE_X:
            base = unit.indexed_address(numbers[0])
        elif kind in _OPERANDS:
            found.append(_range(unit, kind, *numbers))
        else:
            raise Damaged("has an address range of an unknown kind")
    raise Damaged("has too many address ranges")


_OPERANDS = {
    _BASE_X: (False,), _START_END_X: (False, False), _START_LENGTH_X: (False, False),
    _BASE: (True,), _START_END: (True, True), _START_LENGTH: (True, False),
}  # fmt: skip
"""For each kind whether its operands are addresses, or numbers in LEB128."""


def _range(unit: Unit, kind: int, first: int, second: int) -> tuple[int, int]:
    if kind == _START_END_X:
        return unit.indexed_address(first), unit.indexed_address(second)
    if kind == _START_LENGTH_X:
        low = unit.indexed_address(first)
        return low, low + second
    return first, second if kind == _START_END else first + second


def _indexed_list(unit: Unit, data: bytes, index: int) -> int:
    """Return where the list of that number begins."""
    width, order = unit.layout.offset_bytes, unit.layout.order
    named = unit.root.get(At.RNGLISTS_BASE)
    if named is not None:
        base = named.number
    else:
        head = 4 if width == 4 else 12
        base = unit.contribution.rnglists + head + _HEADER_REST_BYTES
    return base + number(data, base + index * width, width, order)
