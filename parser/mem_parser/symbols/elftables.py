"""The tables of one ELF file: its header, sections, segments and notes.

`elfrows` decodes what the loader reads, too, and pyelftools the section headers. The file may be
hostile, and pyelftools believes its counts and sizes: so we read each table ourselves, once, within
the file's size, and it gets the bytes of one row. A table longer than the file is `BadElf`. We cut
names to a length that no section has, because thousands of them may share one long text.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mem_parser import elfrows
from mem_parser.allowance import MemoryAllowance
from mem_parser.plainfile import Readable

if TYPE_CHECKING:
    from elftools.construct import Construct

_MOST_ROWS = 100_000
_MOST_LOADED = 4096
_MOST_NOTE_BYTES = 1 << 20
_LONGEST_SECTION_NAME = 256
_LONGEST_PATH = 4096
_LONGEST_BUILD_ID = 64
_ROW_COST_BYTES = 2048
_EXTENDED = 0xFFFF
"""A count or an index that does not fit the header: section 0 has it."""


class BadElf(Exception):
    """The file is not a readable ELF file; the text says why, in a few words."""


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
        raw = file.read(0, elfrows.HEADER_BYTES)
        if not elfrows.is_elf(raw):
            raise BadElf("not an ELF file")
        header = elfrows.header(raw)
        if header is None:
            raise BadElf("a damaged ELF file")
        self.header = header
        self.bits, self.order = header.layout
        self._read_counts()
        self.sections = self._read_sections()
        self._segments = self._read_segments()
        self.segments = self._loaded()

    def _read_counts(self) -> None:
        """Read the numbers of rows, those that do not fit the header from section 0."""
        head = self.header
        self._segment_count = head.segment_count
        self._section_count = head.section_count if head.sections_at else 0
        self._names_index = head.names_index
        extended = _EXTENDED in {self._segment_count, self._names_index}
        if not head.sections_at or not (extended or self._section_count == 0):
            return
        [first] = self._section_rows(1)
        self._section_count = self._section_count or first["sh_size"]
        if self._names_index == _EXTENDED:
            self._names_index = first["sh_link"]
        if self._segment_count == _EXTENDED:
            self._segment_count = first["sh_info"]

    def _table(self, offset: int, count: int, said_bytes: int, row_bytes: int) -> bytes:
        """Return the rows of a table, of which the header says the size."""
        if not count:
            return b""
        if said_bytes != row_bytes or count > _MOST_ROWS:
            raise BadElf("a damaged ELF file")
        size_bytes = count * row_bytes
        self._allowance.take(min(size_bytes, self._file.size_bytes) // row_bytes * _ROW_COST_BYTES)
        raw = self._file.read(offset, size_bytes)
        if len(raw) < size_bytes:
            raise BadElf("a damaged ELF file")
        return raw

    def _read_segments(self) -> list[elfrows.Segment]:
        head = self.header
        size = elfrows.segment_bytes(head.layout)
        raw = self._table(head.segments_at, self._segment_count, head.segment_bytes, size)
        return elfrows.segments(head.layout, raw)

    def _section_rows(self, count: int) -> list[dict[str, Any]]:
        """The fields of section headers, by their names in the specification."""
        head, row = self.header, _section_layout(self.bits, self.order)
        size = row.sizeof()
        raw = self._table(head.sections_at, count, head.section_bytes, size)
        return [row.parse(raw[at : at + size]) for at in range(0, len(raw), size)]

    def _read_sections(self) -> list[Section]:
        rows = self._section_rows(self._section_count)
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

    def _of_kind(self, kind: int) -> list[elfrows.Segment]:
        return [row for row in self._segments if row.kind == kind]

    def _loaded(self) -> list[Segment]:
        loaded = self._of_kind(elfrows.PT_LOAD)
        if len(loaded) > _MOST_LOADED:
            raise BadElf("a damaged ELF file")
        return [
            Segment(
                row.address,
                row.offset,
                row.file_bytes,
                row.memory_bytes,
                bool(row.flags & elfrows.PF_X),
            )
            for row in loaded
        ]

    @property
    def interpreter(self) -> str | None:
        """The loader that the program names; None where it names none."""
        for row in self._of_kind(elfrows.PT_INTERP)[:1]:
            text = self._file.read(row.offset, min(row.file_bytes, _LONGEST_PATH))
            return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return None

    def unwind_header(self) -> tuple[int, bytes]:
        """Return the address and content of `.eh_frame_hdr`; nothing without one. Raises
        `AllowanceExceeded`.
        """
        for row in self._of_kind(elfrows.PT_GNU_EH_FRAME)[:1]:
            return row.address, self.read(row.offset, row.file_bytes)
        return 0, b""

    def build_id(self) -> str:
        """Return the build-id as hexadecimal text; empty without one."""
        places = [(row.offset, row.file_bytes) for row in self._of_kind(elfrows.PT_NOTE)]
        for section in self.sections:
            if section.name == ".note.gnu.build-id" and section.kind == "SHT_NOTE":
                places = [(section.offset, section.size_bytes)]
                break
        left = _MOST_NOTE_BYTES
        for offset, size in places:
            raw = self._file.read(offset, min(size, left))
            left -= len(raw) + 1
            for found in elfrows.build_ids(self.header.layout, raw):
                return found.hex() if len(found) <= _LONGEST_BUILD_ID else ""
            if left <= 0:
                break
        return ""


def prepare() -> None:
    """Import pyelftools: a process without rights may be unable to open it."""
    _section_layout(64, "<")


@functools.lru_cache(4)
def _section_layout(bits: Literal[32, 64], order: Literal["<", ">"]) -> Construct:
    """Return the layout of a section header."""
    from elftools.elf.structs import ELFStructs  # a command whose names are all known needs none

    structs = ELFStructs(little_endian=order == "<", elfclass=bits)
    structs.create_basic_structs()
    structs.create_advanced_structs()
    return structs.Elf_Shdr


def text_at(strings: bytes, offset: int, longest: int = _LONGEST_PATH) -> str:
    """Return the text at ``offset`` up to its NUL, or cut."""
    end = strings.find(b"\0", offset, offset + longest)
    end = offset + longest if end < 0 else end
    return strings[offset:end].decode("utf-8", "surrogateescape")
