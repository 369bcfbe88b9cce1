"""The tables of one ELF file: its header, sections, segments and notes.

pyelftools decodes them. The file may be hostile, and pyelftools believes its counts and sizes: so
we read each table ourselves, once, within the file's size, and it gets the bytes of one row. A
table longer than the file is `BadElf`. We cut names to a length that no section has, because
thousands of them may share one long text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mem_parser.allowance import MemoryAllowance
from mem_parser.plainfile import Readable

if TYPE_CHECKING:
    from elftools.construct import Construct
    from elftools.elf.structs import ELFStructs

_MOST_ROWS = 100_000
_MOST_LOADED = 4096
_MOST_NOTE_BYTES = 1 << 20
_LONGEST_SECTION_NAME = 256
_LONGEST_PATH = 4096
_LONGEST_BUILD_ID = 64
_ROW_COST_BYTES = 2048
_EXTENDED = 0xFFFF
"""A count or an index that does not fit the header: section 0 has it."""
_EXECUTABLE = 1
_CLASSES: dict[int, Literal[32, 64]] = {1: 32, 2: 64}
_ORDERS: dict[int, Literal["<", ">"]] = {1: "<", 2: ">"}

Row = dict[str, Any]
"""The fields of a header, by their names in the specification; known values are texts."""


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
class Section:
    """One section header."""

    name: str
    kind: str | int
    flags: int
    offset: int
    size_bytes: int
    link: int

    @property
    def held_bytes(self) -> int:
        """Its size in the file, by its header."""
        return 0 if self.kind == "SHT_NOBITS" else self.size_bytes


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
        basic = _structs(self.bits, self.order)
        self.header = _decoded(basic.Elf_Ehdr, file.read(0, basic.Elf_Ehdr.sizeof()))
        about = (
            self.header["e_type"],
            self.header["e_machine"],
            self.header["e_ident"]["EI_OSABI"],
        )
        known = (value if isinstance(value, str) else None for value in about)
        self._structs = _structs(self.bits, self.order, *known)
        self._read_counts()
        self.sections = self._read_sections()
        self._segments = self._table("ph", self._segment_count, self._structs.Elf_Phdr)
        self.segments = self._loaded()

    def _read_counts(self) -> None:
        """Read the numbers of rows, those that do not fit the header from section 0."""
        head = self.header
        self._segment_count = head["e_phnum"]
        self._section_count = head["e_shnum"] if head["e_shoff"] else 0
        self._names_index = head["e_shstrndx"]
        extended = _EXTENDED in {self._segment_count, self._names_index}
        if not head["e_shoff"] or not (extended or self._section_count == 0):
            return
        [first] = self._table("sh", 1, self._structs.Elf_Shdr)
        self._section_count = self._section_count or first["sh_size"]
        if self._names_index == _EXTENDED:
            self._names_index = first["sh_link"]
        if self._segment_count == _EXTENDED:
            self._segment_count = first["sh_info"]

    def _table(self, kind: Literal["sh", "ph"], count: int, row: Construct) -> list[Row]:
        """Return the section headers, or the program headers."""
        size, offset, row_bytes = row.sizeof(), self.header[f"e_{kind}off"], count * row.sizeof()
        if not count:
            return []
        if self.header[f"e_{kind}entsize"] != size or count > _MOST_ROWS:
            raise BadElf("a damaged ELF file")
        self._allowance.take(min(row_bytes, self._file.size_bytes) // size * _ROW_COST_BYTES)
        raw = self._file.read(offset, row_bytes)
        if len(raw) < row_bytes:
            raise BadElf("a damaged ELF file")
        return [_decoded(row, raw[at : at + size]) for at in range(0, row_bytes, size)]

    def _read_sections(self) -> list[Section]:
        rows = self._table("sh", self._section_count, self._structs.Elf_Shdr)
        if not rows:
            return []
        if not self._names_index < len(rows):
            raise BadElf("a damaged ELF file")
        holder = rows[self._names_index]
        names = b""
        if holder["sh_type"] != "SHT_NOBITS":
            names = self.read(holder["sh_offset"], holder["sh_size"])
        return [
            Section(
                text_at(names, row["sh_name"], _LONGEST_SECTION_NAME),
                row["sh_type"],
                row["sh_flags"],
                row["sh_offset"],
                row["sh_size"],
                row["sh_link"],
            )
            for row in rows
        ]

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return bytes of the file, fewer where it ends; they stay charged."""
        size_bytes = max(min(size_bytes, self._file.size_bytes - offset), 0)
        self._allowance.take(size_bytes)
        return self._file.read(offset, size_bytes)

    def _of_kind(self, kind: str) -> list[Row]:
        return [row for row in self._segments if row["p_type"] == kind]

    def _loaded(self) -> list[Segment]:
        loaded = self._of_kind("PT_LOAD")
        if len(loaded) > _MOST_LOADED:
            raise BadElf("a damaged ELF file")
        return [
            Segment(
                row["p_vaddr"],
                row["p_offset"],
                row["p_filesz"],
                row["p_memsz"],
                bool(row["p_flags"] & _EXECUTABLE),
            )
            for row in loaded
        ]

    @property
    def interpreter(self) -> str | None:
        """The loader that the program names; None where it names none."""
        for row in self._of_kind("PT_INTERP")[:1]:
            text = self._file.read(row["p_offset"], min(row["p_filesz"], _LONGEST_PATH))
            return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return None

    def unwind_header(self) -> tuple[int, bytes]:
        """Return the address and content of `.eh_frame_hdr`; nothing without one. Raises
        `AllowanceExceeded`.
        """
        for row in self._of_kind("PT_GNU_EH_FRAME")[:1]:
            return row["p_vaddr"], self.read(row["p_offset"], row["p_filesz"])
        return 0, b""

    def build_id(self) -> str:
        """Return the build-id as hexadecimal text; empty without one."""
        places = [(row["p_offset"], row["p_filesz"]) for row in self._of_kind("PT_NOTE")]
        for section in self.sections:
            if section.name == ".note.gnu.build-id" and section.kind == "SHT_NOTE":
                places = [(section.offset, section.size_bytes)]
                break
        left = _MOST_NOTE_BYTES
        for offset, size in places:
            raw = self._file.read(offset, min(size, left))
            left -= len(raw) + 1
            for name, kind, text in self._notes(raw):
                if (name, kind) == (b"GNU\0", "NT_GNU_BUILD_ID"):
                    return text.hex() if len(text) <= _LONGEST_BUILD_ID else ""
            if left <= 0:
                break
        return ""

    def _notes(self, raw: bytes) -> Iterator[tuple[bytes, str | int, bytes]]:
        """Yield the name, the kind and the content of each whole note."""
        head, at = self._structs.Elf_Nhdr, 0
        while at + head.sizeof() <= len(raw):
            note = _decoded(head, raw[at : at + head.sizeof()])
            name_at = at + head.sizeof()
            begin = name_at + (note["n_namesz"] + 3 & ~3)
            end = begin + note["n_descsz"]
            if end <= len(raw):
                name = raw[name_at : name_at + note["n_namesz"]]
                yield name, note["n_type"], raw[begin:end]
            at = begin + (note["n_descsz"] + 3 & ~3)


def prepare() -> None:
    """Import pyelftools, which a process that gives up its rights may be unable to open."""
    _structs(64, "<")


@functools.lru_cache(16)
def _structs(
    bits: Literal[32, 64],
    order: Literal["<", ">"],
    kind: str | None = None,
    machine: str | None = None,
    abi: str | None = None,
) -> ELFStructs:
    """Return the layouts of the tables of such files."""
    from elftools.elf.structs import ELFStructs  # a command whose names are all known needs none

    structs = ELFStructs(little_endian=order == "<", elfclass=bits)
    structs.create_basic_structs()
    structs.create_advanced_structs(kind, machine, abi)
    return structs


def _decoded(layout: Construct, raw: bytes) -> Row:
    from elftools.construct import ConstructError

    try:
        found: Row = layout.parse(raw)
    except ConstructError:
        raise BadElf("a damaged ELF file") from None
    return found


def text_at(strings: bytes, offset: int, longest: int = _LONGEST_PATH) -> str:
    """Return the text at ``offset`` up to its NUL, or cut."""
    end = strings.find(b"\0", offset, offset + longest)
    end = offset + longest if end < 0 else end
    return strings[offset:end].decode("utf-8", "surrogateescape")
