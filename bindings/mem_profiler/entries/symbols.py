"""The functions that a file defines, by name, read as arrays: programs have 10⁵ symbols.

Model: names are told apart by their first four bytes, for all symbols at once; only the few whose
beginning is that of a wanted name become text. Input is hostile: anything that does not fit the
file is absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mem_parser.errors import TargetUnsupported
from mem_parser.symbols.elf import BadElf, ElfImage

_FUNCTION, _NO_TYPE, _IFUNC = 2, 0, 10
_LOCAL = 0
_BEGINNING_BYTES = 4
_LONGEST_NAME = 256
_CONSTANTS_MAX_BYTES = 256 << 20
_PART_BYTES = 1 << 20
_CALL_BYTES = 5
_CLONE = re.compile(r"\.(?:constprop|isra)\.\d+$")
_WORD = re.compile(r"\w*", re.ASCII)

_Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Function:
    """One function: its address as in the file, its size, the type of its symbol."""

    name: str
    address: int
    size: int
    is_ifunc: bool
    is_local: bool


@dataclass(frozen=True)
class _Table:
    """The functions of one symbol section; ``names`` are offsets into ``text``."""

    rows: npt.NDArray[Any]
    names: _Offsets
    text: bytes


class Program:
    """The symbols and the code of one ELF file. Use as a context manager."""

    def __init__(self, path: str | Path, fd: int | None = None) -> None:
        """Open the file, or use `fd`, which is open and stays the caller's.

        Raises OSError; TargetUnsupported for a file that is not an ELF program.
        """
        self._path = path
        try:
            if fd is None:
                self._image = ElfImage.open(str(path))
            else:
                self._image = ElfImage.of_descriptor(str(path), fd)
        except (BadElf, ValueError) as error:
            raise TargetUnsupported(f"{path} is no ELF program: {error}") from None
        self.machine = self._image.machine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._image.close()

    @cached_property
    def _tables(self) -> list[_Table]:
        try:
            return [_functions_of(*self._image.symbol_rows(s)) for s in (".symtab", ".dynsym")]
        except BadElf as error:
            raise TargetUnsupported(f"{self._path}: {error}") from None

    def functions(self, names: Collection[str]) -> list[Function]:
        """Defined functions with one of the names, of four letters at least, or a copy of one that
        the compiler made for single callers (`NAME.constprop.0`).
        """
        wanted = frozenset(names)
        beginnings = {name.encode()[:_BEGINNING_BYTES] for name in wanted}

        def is_wanted(name: str) -> bool:
            return name in wanted or (_CLONE.sub("", name) in wanted)

        return self._chosen(lambda table: _beginning_with(table, beginnings), is_wanted)

    def functions_ending(self, ending: str, longest: int) -> list[Function]:
        """Defined functions whose names are up to `longest` letters and `ending`."""
        most = longest + len(ending)

        def is_wanted(name: str) -> bool:
            is_plain = _WORD.fullmatch(name) is not None
            return is_plain and name.endswith(ending) and len(name) <= most

        return self._chosen(lambda table: _ending_with(table, ending, longest), is_wanted)

    def _chosen(
        self, candidates: Callable[[_Table], _Offsets], is_wanted: Callable[[str], bool]
    ) -> list[Function]:
        found: dict[tuple[str, int], Function] = {}
        for table in self._tables:
            for index, name in _named(table, candidates(table)):
                if is_wanted(name):
                    function = _function(name, table.rows[index])
                    found.setdefault((name, function.address), function)
        return sorted(found.values(), key=lambda function: (function.address, function.name))

    def holds_text(self, text: bytes) -> bool:
        """Whether the file's constants contain a text."""
        section = self._image.sections.get(".rodata")
        if section is None:
            return False
        end = section.offset + min(section.held_bytes, _CONSTANTS_MAX_BYTES)
        starts = range(section.offset, end, _PART_BYTES)  # parts overlap by the length of the text
        parts = (self._image.file.read(at, min(_PART_BYTES + len(text), end - at)) for at in starts)
        return any(text in part for part in parts)

    def callers(self, targets: Collection[int]) -> set[str]:
        """Names of the functions with a direct call of, or jump to, one of these addresses; empty
        names where no symbol says which. x86-64 only.
        """
        sites: list[int] = []
        for segment in self._image.segments if targets else ():
            end = segment.vaddr + (segment.file_size if segment.executable else 0)
            for start in range(segment.vaddr, end, _PART_BYTES):
                part = self.code(start, _PART_BYTES + _CALL_BYTES)
                sites += _sites(part, start, targets)
        return {self._holder(site) for site in sites}

    def _holder(self, address: int) -> str:
        """The function that an address is in; empty: none."""
        for table in self._tables:
            starts, sizes = table.rows["value"], table.rows["size"]
            for _, name in _named(
                table, np.flatnonzero((starts <= address) & (address - starts < sizes))
            ):
                return name
        return ""

    def code(self, address: int, size: int) -> bytes:
        """Bytes of code at an address of the file; shorter where the segment ends."""
        return self._image.bytes_at(address, size, executable=True)


def _sites(code: bytes, address: int, targets: Collection[int]) -> list[int]:
    """Where code at `address` has what reads as a call of a target, or a jump there."""
    bytes_ = np.frombuffer(code, np.uint8)
    if len(bytes_) < _CALL_BYTES:
        return []
    first, second = bytes_[: -(_CALL_BYTES - 1)], bytes_[1 : len(bytes_) - (_CALL_BYTES - 2)]
    plain = np.flatnonzero((first & 0xFE) == 0xE8)  # call, jmp
    chosen = np.flatnonzero((first == 0x0F) & ((second & 0xF0) == 0x80)) + 1  # jcc
    at = np.concatenate((plain, chosen[chosen < len(first)])).astype(np.int64)
    distance = np.zeros(len(at), np.uint32)
    for k in range(4):
        distance |= bytes_[at + 1 + k].astype(np.uint32) << np.uint32(8 * k)
    ends = address + at + _CALL_BYTES + distance.view(np.int32)
    found = np.zeros(len(at), np.bool_)
    for target in targets:
        found |= ends == target
    return [address + place for place in at[found].tolist()]


def _functions_of(rows: npt.NDArray[Any], text: bytes) -> _Table:
    """Defined functions, and symbols without a type, whose name is in the text."""
    kinds = rows["info"] & 15
    names = rows["name"]
    keep = (kinds == _FUNCTION) | (kinds == _IFUNC) | (kinds == _NO_TYPE)
    keep &= (rows["shndx"] != 0) & (rows["value"] != 0)
    keep &= names < max(len(text) - _BEGINNING_BYTES, 0)
    return _Table(rows[keep], names[keep].astype(np.int64), text)


def _beginning_with(table: _Table, beginnings: Collection[bytes]) -> _Offsets:
    """The rows whose names have one of these first bytes."""
    letters = np.frombuffer(table.text, np.uint8)
    word = np.zeros(len(table.names), np.uint32)
    for k in range(_BEGINNING_BYTES):
        word |= letters[table.names + k].astype(np.uint32) << np.uint32(8 * k)
    wanted = {int.from_bytes(b, "little") for b in beginnings if len(b) == _BEGINNING_BYTES}
    found = np.zeros(len(word), np.bool_)
    for one in wanted:  # few; `np.isin` may import numpy.ma, which needs rights
        found |= word == one
    return np.flatnonzero(found)


def _ending_with(table: _Table, ending: str, longest: int) -> _Offsets:
    """The rows whose names have `ending` after `longest` letters at most."""
    places = re.finditer(re.escape(ending.encode() + b"\0"), table.text)
    at = np.fromiter((place.start() for place in places), np.int64)
    if not len(at):
        return at
    following = np.searchsorted(at, table.names)
    known = np.flatnonzero(following < len(at))
    return known[at[following[known]] - table.names[known] <= longest]


def _named(table: _Table, rows: _Offsets) -> Iterator[tuple[int, str]]:
    """The names of some rows; very long ones are cut."""
    for index in rows.tolist():
        start = int(table.names[index])
        end = table.text.find(b"\0", start, start + _LONGEST_NAME)
        end = start + _LONGEST_NAME if end < 0 else end
        yield index, table.text[start:end].decode("utf-8", "replace")


def _function(name: str, row: Any) -> Function:
    kind, binding = int(row["info"]) & 15, int(row["info"]) >> 4
    return Function(name, int(row["value"]), int(row["size"]), kind == _IFUNC, binding == _LOCAL)
