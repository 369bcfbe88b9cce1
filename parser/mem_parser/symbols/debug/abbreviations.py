"""Abbreviations: which attributes an entry has, how they are written, and how to step over them.

A unit has some hundred abbreviations and up to millions of entries; most of these only have to be
stepped over. So each abbreviation has a *plan*: sizes that are known, added up, between the few
values whose size is in the data.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mem_parser.symbols.debug.bits import ByteOrder, Damaged, behind_text, number, sleb, uleb
from mem_parser.symbols.debug.constants import At, Form

_MOST_ABBREVIATIONS = 1 << 20
_LEB, _TEXT, _BLOCK, _BLOCK1, _BLOCK2, _BLOCK4, _INDIRECT = range(-7, 0)

_FIXED = {
    Form.DATA1: 1, Form.DATA2: 2, Form.DATA4: 4, Form.DATA8: 8, Form.DATA16: 16, Form.FLAG: 1,
    Form.FLAG_PRESENT: 0, Form.IMPLICIT_CONST: 0, Form.REF1: 1, Form.REF2: 2, Form.REF4: 4,
    Form.REF8: 8, Form.REF_SIG8: 8, Form.REF_SUP4: 4, Form.REF_SUP8: 8, Form.STRX1: 1,
    Form.STRX2: 2, Form.STRX3: 3, Form.STRX4: 4, Form.ADDRX1: 1, Form.ADDRX2: 2, Form.ADDRX3: 3,
    Form.ADDRX4: 4,
}  # fmt: skip
_OFFSETS = {Form.STRP, Form.LINE_STRP, Form.SEC_OFFSET, Form.STRP_SUP, Form.GNU_REF_ALT,
            Form.GNU_STRP_ALT}  # fmt: skip
_VARIABLE = {
    Form.UDATA: _LEB, Form.SDATA: _LEB, Form.REF_UDATA: _LEB, Form.STRX: _LEB, Form.ADDRX: _LEB,
    Form.LOCLISTX: _LEB, Form.RNGLISTX: _LEB, Form.GNU_ADDR_INDEX: _LEB, Form.GNU_STR_INDEX: _LEB,
    Form.STRING: _TEXT, Form.BLOCK: _BLOCK, Form.EXPRLOC: _BLOCK, Form.BLOCK1: _BLOCK1,
    Form.BLOCK2: _BLOCK2, Form.BLOCK4: _BLOCK4, Form.INDIRECT: _INDIRECT,
}  # fmt: skip
_SIBLING = {Form.REF1, Form.REF2, Form.REF4, Form.REF8}
_BLOCK_HEAD = {_BLOCK1: 1, _BLOCK2: 2, _BLOCK4: 4}


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes that a unit's header fixes for all its values."""

    version: int
    offset_bytes: int
    address_bytes: int
    order: ByteOrder

    def step_of(self, form: int) -> int:
        """Return the size of a value of ``form``, or the negative code of its kind. Raises
        `Damaged`.
        """
        if form in _FIXED:
            return _FIXED[Form(form)]
        if form in _OFFSETS:
            return self.offset_bytes
        if form == Form.ADDR or (form == Form.REF_ADDR and self.version < 3):
            return self.address_bytes
        if form == Form.REF_ADDR:
            return self.offset_bytes
        if form in _VARIABLE:
            return _VARIABLE[Form(form)]
        raise Damaged(f"has values of an unknown form (0x{form:x})")


@dataclass(frozen=True, slots=True)
class Value:
    """An attribute's value as it is written: a number, an offset into a section, or a position.

    Of a text in place the number is its position.
    """

    form: int
    number: int


Attributes = dict[int, Value]


class Abbreviation:
    """One kind of entry."""

    __slots__ = (
        "attributes", "before_sibling", "fixed", "has_children", "has_code", "plan",
        "sibling_bytes", "steps", "tag",
    )  # fmt: skip

    def __init__(
        self, tag: int, has_children: bool, attributes: list[tuple[int, int, int]], layout: Layout
    ) -> None:
        """``attributes``: each attribute's number, its form, and its value if that is here."""
        self.tag = tag
        self.has_children = has_children
        self.attributes = attributes
        self.steps = [layout.step_of(form) for _, form, _ in attributes]
        self.plan = _plan(self.steps)
        names = [name for name, _, _ in attributes]
        self.has_code = At.LOW_PC in names or At.RANGES in names
        self.fixed = -1
        """The size of all its values, where that is known."""
        if all(step >= 0 for step in self.steps):
            self.fixed = sum(self.steps)
        self.sibling_bytes = 0
        """The size of the value that says where in the unit the next entry is; 0: none does."""
        self.before_sibling: list[int] = []
        """The plan of what is before that value."""
        if has_children and At.SIBLING in names:
            k = names.index(At.SIBLING)
            if attributes[k][1] in _SIBLING:
                self.sibling_bytes = self.steps[k]
                self.before_sibling = _plan(self.steps[:k])


def _plan(steps: list[int]) -> list[int]:
    plan: list[int] = []
    for step in steps:
        if step >= 0 and plan and plan[-1] >= 0:
            plan[-1] += step
        elif step:
            plan.append(step)
    return plan


class AbbreviationTable:
    """The abbreviations of a unit, read as far as someone asked for them."""

    def __init__(self, data: bytes, at: int, layout: Layout) -> None:
        """The unit's first abbreviation is at ``at`` of ``data``."""
        self._data = data
        self._at = at
        self._layout = layout
        self.known: dict[int, Abbreviation] = {}
        """Those read so far, by their codes."""
        self._is_complete = False

    def get(self, code: int) -> Abbreviation:
        """Return the abbreviation of that ``code``. Raises `Damaged`, IndexError."""
        found = self.known.get(code)
        while found is None:
            if self._is_complete or len(self.known) > _MOST_ABBREVIATIONS:
                raise Damaged("has an entry of an unknown kind")
            self._read_one()
            found = self.known.get(code)
        return found

    def _read_one(self) -> None:
        data = self._data
        code, at = uleb(data, self._at)
        if code == 0:
            self._is_complete = True
            return
        tag, at = uleb(data, at)
        has_children = data[at] != 0
        at += 1
        attributes = []
        while True:
            name, at = uleb(data, at)
            form, at = uleb(data, at)
            constant = 0
            if form == Form.IMPLICIT_CONST:
                constant, at = sleb(data, at)
            if not name and not form:
                break
            attributes.append((name, form, constant))
        self._at = at
        self.known.setdefault(code, Abbreviation(tag, has_children, attributes, self._layout))


def stepped_over(data: bytes, at: int, plan: list[int], layout: Layout) -> int:
    """Return where values of that ``plan`` end that begin at ``at``. Raises `Damaged`,
    IndexError.
    """
    for step in plan:
        if step >= 0:
            at += step
        elif step == _LEB:
            while data[at] & 0x80:
                at += 1
            at += 1
        else:
            at = _over(data, at, step, layout)
    return at


def next_entry(data: bytes, at: int, abbreviation: Abbreviation, layout: Layout) -> int:
    """Return where the next entry begins that is not in this one, whose values begin at ``at``; it
    must say so. Raises `Damaged`, IndexError.
    """
    place = stepped_over(data, at, abbreviation.before_sibling, layout)
    sibling = number(data, place, abbreviation.sibling_bytes, layout.order)
    if not place < sibling <= len(data):
        raise Damaged("has entries that lead back")
    return sibling


def _over(data: bytes, at: int, step: int, layout: Layout) -> int:
    """Return where a value of the kind ``step`` ends. Raises `Damaged`, IndexError."""
    if step >= 0:
        return at + step
    if step == _LEB:
        return uleb(data, at)[1]
    if step == _TEXT:
        return behind_text(data, at)
    if step == _INDIRECT:
        form, at = _indirect(data, at)
        return _over(data, at, layout.step_of(form), layout)
    if step == _BLOCK:
        size, at = uleb(data, at)
        return at + size
    head = _BLOCK_HEAD[step]
    return at + head + number(data, at, head, layout.order)


def _indirect(data: bytes, at: int) -> tuple[int, int]:
    form, at = uleb(data, at)
    if form in (Form.INDIRECT, Form.IMPLICIT_CONST):
        raise Damaged("has values of an unknown form")
    return form, at


def read_attributes(
    data: bytes, at: int, abbreviation: Abbreviation, layout: Layout, wanted: Collection[int]
) -> tuple[Attributes, int]:
    """Return the ``wanted`` attributes at ``at``, and where all of them end. Raises `Damaged`,
    IndexError.
    """
    found: Attributes = {}
    for (name, form, constant), step in zip(
        abbreviation.attributes, abbreviation.steps, strict=True
    ):
        if name not in wanted:
            at = at + step if step >= 0 else _over(data, at, step, layout)
        elif form == Form.IMPLICIT_CONST:
            found[name] = Value(form, constant)
        else:
            found[name], at = read_value(data, at, form, step, layout)
    return found, at


def read_value(data: bytes, at: int, form: int, step: int, layout: Layout) -> tuple[Value, int]:
    """Return the value of ``form`` at ``at``, and where it ends; ``step`` is the layout's of that
    form. Raises `Damaged`, IndexError.
    """
    if step == _INDIRECT:
        form, at = _indirect(data, at)
        step = layout.step_of(form)
    if step >= 0:
        return Value(form, number(data, at, step, layout.order)), at + step
    if step == _LEB:
        value, end = (sleb if form == Form.SDATA else uleb)(data, at)
        return Value(form, value), end
    return Value(form, at), _over(data, at, step, layout)
