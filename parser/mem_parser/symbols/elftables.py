"""The tables of one ELF file: its header, sections, segments, notes and dynamic entries.

Layout: System V ABI, chapters 4 and 5, both classes and byte orders. The file may be hostile: we
read every table once; one longer than the file is `BadElf`. We cut names to a length that no
section or library has, because thousands of them may share one long text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.plainfile import Readable

_MOST_SECTIONS = 100_000
_MOST_LOADED = 4096
_MOST_NOTE_BYTES = 1 << 20
_MOST_DYNAMIC = 4096
_LONGEST_SECTION_NAME = 256
_LONGEST_PATH = 4096
_LONGEST_BUILD_ID = 64
_SECTION_COST_BYTES = 512
_EXTENDED_SEGMENTS, _EXTENDED_INDEX = 0xFFFF, 0xFFFF
_LOAD, _INTERPRETER, _NOTE = 1, 3, 4
_UNWIND_HEADER = 0x6474E550
_NOTE_SECTION, _NO_BITS, _DYNAMIC = 7, 8, 6
_BUILD_ID = 3
_EXECUTABLE = 1
_CLASSES = {1: 32, 2: 64}
_ORDERS = {1: "<", 2: ">"}
_MACHINES = {3: "EM_386", 40: "EM_ARM", 62: "EM_X86_64", 183: "EM_AARCH64", 243: "EM_RISCV"}
_TYPES = {1: "ET_REL", 2: "ET_EXEC", 3: "ET_DYN", 4: "ET_CORE"}
_TAGS = {1: "DT_NEEDED", 14: "DT_SONAME", 15: "DT_RPATH", 16: "DT_SYMBOLIC", 29: "DT_RUNPATH"}

_Layout = Sequence[tuple[str, str]]
_HEADER = {64: "HHIQQQIHHHHHH", 32: "HHIIIIIHHHHHH"}
_SECTION_FIELDS = ("name", "type", "flags", "addr", "offset", "size", "link", "info")
_SECTIONS: dict[int, _Layout] = {
    64: [*zip(_SECTION_FIELDS, "u4 u4 u8 u8 u8 u8 u4 u4".split(), strict=True),  # noqa: SIM905
         ("align", "u8"), ("entry", "u8")],
    32: [*((name, "u4") for name in (*_SECTION_FIELDS, "align", "entry"))],
}  # fmt: skip
_SEGMENTS: dict[int, _Layout] = {
    64: [("type", "u4"), ("flags", "u4"), ("offset", "u8"), ("vaddr", "u8"), ("paddr", "u8"),
         ("file_size", "u8"), ("mem_size", "u8"), ("align", "u8")],
    32: [*((name, "u4") for name in ("type", "offset", "vaddr", "paddr", "file_size", "mem_size",
                                     "flags", "align"))],
}  # fmt: skip


class BadElf(Exception):
    """The file is no readable ELF file; the text says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD program header."""

    vaddr: int
    offset: int
    file_size: int
    mem_size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class DynamicEntry:
    """One entry of the dynamic section; ``d_tag`` is a name such as "DT_NEEDED", or the number."""

    d_tag: str | int
    d_val: int


@dataclass(frozen=True, slots=True)
class DynamicTag:
    """An entry with its text, if it has one."""

    entry: DynamicEntry
    needed: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One section header."""

    name: str
    kind: int
    flags: int
    offset: int
    size_bytes: int
    link: int
    tables: ElfTables

    @property
    def held_bytes(self) -> int:
        """Its size in the file, by its header."""
        return 0 if self.kind == _NO_BITS else self.size_bytes

    def data(self) -> bytes:
        """Return its content. Raises `AllowanceExceeded`."""
        return self.tables.read(self.offset, self.held_bytes)

    def iter_tags(self) -> Iterator[DynamicTag]:
        """Yield the entries of a dynamic section; none of any other."""
        return self.tables.dynamic(self) if self.kind == _DYNAMIC else iter(())


class ElfTables:
    """The headers of a file. Reads count against ``allowance``."""

    def __init__(self, file: Readable, allowance: MemoryAllowance) -> None:
        """Read the headers. Raises `BadElf`, `AllowanceExceeded`, OSError."""
        self._file = file
        self._allowance = allowance
        ident = file.read(0, 16)
        if ident[:4] != b"\x7fELF":
            raise BadElf("not an ELF file")
        if len(ident) < 16 or ident[4] not in _CLASSES or ident[5] not in _ORDERS:
            raise BadElf("a damaged ELF file")
        self.bits = _CLASSES[ident[4]]
        self.order = _ORDERS[ident[5]]
        self._read_header()
        self.sections = self._read_sections()
        self._headers = self._table(
            self._segments_at, self._segment_size, self._segment_count, _SEGMENTS
        )
        self.segments = self._loaded()

    def _read_header(self) -> None:
        layout = self.order + _HEADER[self.bits]
        raw = self._file.read(16, struct.calcsize(layout))
        try:
            found = struct.unpack(layout, raw)
        except struct.error:
            raise BadElf("a damaged ELF file") from None
        kind, machine, _, self.entry, self._segments_at, self._sections_at = found[:6]
        self._segment_size, self._segment_count = found[8:10]
        self._section_size, self._section_count, self._names_index = found[10:13]
        self.header: dict[str, Any] = {
            "e_ident": {"EI_CLASS": f"ELFCLASS{self.bits}"},
            "e_type": _TYPES.get(kind, kind),
            "e_machine": _MACHINES.get(machine, machine),
            "e_entry": self.entry,
        }
        self._read_extended()

    def _read_extended(self) -> None:
        """Read counts that do not fit the header from section 0, which has them instead."""
        if not self._sections_at:
            self._section_count = 0
            return
        extended = (
            self._section_count == 0
            or self._names_index == _EXTENDED_INDEX
            or self._segment_count == _EXTENDED_SEGMENTS
        )
        if not extended:
            return
        first = self._table(self._sections_at, self._section_size, 1, _SECTIONS)[0]
        self._section_count = self._section_count or int(first["size"])
        if self._names_index == _EXTENDED_INDEX:
            self._names_index = int(first["link"])
        if self._segment_count == _EXTENDED_SEGMENTS:
            self._segment_count = int(first["info"])

    def _table(
        self, offset: int, entry_size: int, count: int, layouts: dict[int, _Layout]
    ) -> npt.NDArray[Any]:
        layout = layouts[self.bits]
        dtype = np.dtype([(name, self.order + kind) for name, kind in layout])
        if not count:
            return np.zeros(0, dtype)
        fits = count <= _MOST_SECTIONS and offset + count * entry_size <= self._file.size_bytes
        if entry_size != dtype.itemsize or not fits:
            raise BadElf("a damaged ELF file")
        raw = self._file.read(offset, count * entry_size)
        if len(raw) < count * entry_size:
            raise BadElf("a damaged ELF file")
        return np.frombuffer(raw, dtype)

    def _read_sections(self) -> list[Section]:
        table = self._table(self._sections_at, self._section_size, self._section_count, _SECTIONS)
        if not len(table):
            return []
        self._allowance.take(len(table) * _SECTION_COST_BYTES)
        if not self._names_index < len(table):
            raise BadElf("a damaged ELF file")
        holder = table[self._names_index]
        names = b""
        if int(holder["type"]) != _NO_BITS:
            names = self.read(int(holder["offset"]), int(holder["size"]))
        columns = (table[c].tolist() for c in ("name", "type", "flags", "offset", "size", "link"))
        return [
            Section(text_at(names, name, _LONGEST_SECTION_NAME), kind, flags, at, size, link, self)
            for name, kind, flags, at, size, link in zip(*columns, strict=True)
        ]

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return bytes of the file, fewer where it ends; they stay charged."""
        size_bytes = max(min(size_bytes, self._file.size_bytes - offset), 0)
        self._allowance.take(size_bytes)
        return self._file.read(offset, size_bytes)

    def _loaded(self) -> list[Segment]:
        loaded = self._headers[self._headers["type"] == _LOAD]
        if len(loaded) > _MOST_LOADED:
            raise BadElf("a damaged ELF file")
        columns = (loaded[c].tolist() for c in ("vaddr", "offset", "file_size", "mem_size"))
        flags = (loaded["flags"] & _EXECUTABLE).astype(bool).tolist()
        return [Segment(*row) for row in zip(*columns, flags, strict=True)]

    @property
    def interpreter(self) -> str | None:
        """The loader that the program names; None where it names none."""
        for header in self._headers[self._headers["type"] == _INTERPRETER][:1]:
            size = min(int(header["file_size"]), _LONGEST_PATH)
            text = self._file.read(int(header["offset"]), size)
            return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return None

    def unwind_header(self) -> tuple[int, bytes]:
        """Return the address and content of `.eh_frame_hdr`; nothing without one. Raises
        `AllowanceExceeded`.
        """
        for header in self._headers[self._headers["type"] == _UNWIND_HEADER][:1]:
            data = self.read(int(header["offset"]), int(header["file_size"]))
            return int(header["vaddr"]), data
        return 0, b""

    def build_id(self) -> str:
        """Return the build-id as hexadecimal text; empty without one."""
        notes = self._headers[self._headers["type"] == _NOTE]
        places = list(zip(notes["offset"].tolist(), notes["file_size"].tolist(), strict=True))
        for section in self.sections:
            if section.name == ".note.gnu.build-id" and section.kind == _NOTE_SECTION:
                places = [(section.offset, section.size_bytes)]
                break
        left = _MOST_NOTE_BYTES
        for offset, size in places:
            raw = self._file.read(offset, min(size, left))
            left -= len(raw) + 1
            found = self._build_id_in(raw)
            if found or left <= 0:
                return found
        return ""

    def _build_id_in(self, notes: bytes) -> str:
        head = struct.Struct(f"{self.order}III")
        at = 0
        while at + head.size <= len(notes):
            name_size, size, kind = head.unpack_from(notes, at)
            name_at = at + head.size
            begin = name_at + (name_size + 3 & ~3)
            if kind == _BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
                text = notes[begin : begin + size]
                return text.hex() if len(text) == size <= _LONGEST_BUILD_ID else ""
            at = begin + (size + 3 & ~3)
        return ""

    def dynamic(self, section: Section) -> Iterator[DynamicTag]:
        """Yield the entries of a dynamic section, up to its end mark."""
        dtype = np.dtype([(name, f"{self.order}u{self.bits // 8}") for name in ("tag", "value")])
        raw = self._file.read(section.offset, min(section.size_bytes, _MOST_DYNAMIC * 16))
        rows = np.frombuffer(raw[: len(raw) - len(raw) % dtype.itemsize], dtype)
        strings = self.sections[section.link] if section.link < len(self.sections) else None
        for tag, value in zip(rows["tag"].tolist(), rows["value"].tolist(), strict=True):
            if not tag:
                return
            name = _TAGS.get(tag, tag)
            text = ""
            if name == "DT_NEEDED" and strings is not None and value < strings.held_bytes:
                text = text_at(self._file.read(strings.offset + value, _LONGEST_PATH), 0)
            yield DynamicTag(DynamicEntry(name, value), text)


def text_at(strings: bytes, offset: int, longest: int = _LONGEST_PATH) -> str:
    """Return the text at ``offset`` up to its NUL, or cut."""
    end = strings.find(b"\0", offset, offset + longest)
    end = offset + longest if end < 0 else end
    return strings[offset:end].decode("utf-8", "surrogateescape")
