"""The rows of ELF tables: header, program headers, dynamic entries, notes.

Model: functions of bytes alone. The caller reads the bytes, from a file or from the memory of a
process, within its own bounds. All of it may be hostile, and a truncated row is not decoded. No
library, because a command decodes the header of its target before it starts it.

Formats: System V ABI, "Object Files" and "Program Loading and Dynamic Linking".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

HEADER_BYTES = 64  # of ELF-64; those of ELF-32 are fewer
ET_EXEC, ET_DYN = 2, 3
EM_X86_64 = 62
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_GNU_EH_FRAME = 1, 2, 3, 4, 0x6474E550
PF_X = 1
_BUILD_ID_KIND, _BUILD_ID_NAME = 3, b"GNU\0"
_NOTE_HEAD_BYTES = 12

_MAGIC = b"\x7fELF"
_CLASSES: dict[int, Literal[32, 64]] = {1: 32, 2: 64}
_ORDERS: dict[int, Literal["<", ">"]] = {1: "<", 2: ">"}
_HEADERS = {32: "16sHHIIIIIHHHHHH", 64: "16sHHIQQQIHHHHHH"}
_SEGMENTS = {32: "8I", 64: "IIQQQQQQ"}
_ENTRIES = {32: "II", 64: "QQ"}


class Layout(NamedTuple):
    """How a file writes its tables."""

    bits: Literal[32, 64]
    order: Literal["<", ">"]

    def row(self, formats: dict[int, str]) -> struct.Struct:
        """The layout of a row, from those of both classes."""
        return struct.Struct(self.order + formats[self.bits])


class Header(NamedTuple):
    """The header of a file."""

    layout: Layout
    os_abi: int
    kind: int
    machine: int
    segments_at: int
    sections_at: int
    segment_bytes: int
    segment_count: int
    section_bytes: int
    section_count: int
    names_index: int


class Segment(NamedTuple):
    """A program header."""

    kind: int
    flags: int
    offset: int
    address: int
    file_bytes: int
    memory_bytes: int


def is_elf(raw: bytes) -> bool:
    """Whether these first bytes are those of an ELF file."""
    return raw[:4] == _MAGIC


def header(raw: bytes) -> Header | None:
    """Decode the first `HEADER_BYTES` of a file; None if they are not an ELF header."""
    if not is_elf(raw) or len(raw) < 16 or raw[4] not in _CLASSES or raw[5] not in _ORDERS:
        return None
    layout = Layout(_CLASSES[raw[4]], _ORDERS[raw[5]])
    row = layout.row(_HEADERS)
    if len(raw) < row.size:
        return None
    _, kind, machine, _, _, segments_at, sections_at, _, _, *rest = row.unpack_from(raw)
    return Header(layout, raw[7], kind, machine, segments_at, sections_at, *rest)


def segment_bytes(layout: Layout) -> int:
    """The size of a program header."""
    return layout.row(_SEGMENTS).size


def segments(layout: Layout, raw: bytes) -> list[Segment]:
    """Decode program headers."""
    row = layout.row(_SEGMENTS)
    found = []
    for fields in row.iter_unpack(raw[: len(raw) // row.size * row.size]):
        if layout.bits == 64:
            kind, flags, offset, address, _physical, file_bytes, memory_bytes, _align = fields
        else:
            kind, offset, address, _physical, file_bytes, memory_bytes, flags, _align = fields
        found.append(Segment(kind, flags, offset, address, file_bytes, memory_bytes))
    return found


def dynamic_entries(layout: Layout, raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield tag and value of each entry up to the last one."""
    row = layout.row(_ENTRIES)
    for tag, value in row.iter_unpack(raw[: len(raw) // row.size * row.size]):
        if tag == 0:
            return
        yield tag, value


def build_ids(layout: Layout, raw: bytes) -> Iterator[bytes]:
    """Yield the content of each whole note with a build-id."""
    row, at, size = struct.Struct(layout.order + "III"), 0, len(raw)
    while at + _NOTE_HEAD_BYTES <= size:
        name_bytes, content_bytes, kind = row.unpack_from(raw, at)
        name_at = at + _NOTE_HEAD_BYTES
        begin = name_at + (name_bytes + 3 & ~3)
        end = begin + content_bytes
        if kind == _BUILD_ID_KIND and end <= size and raw[name_at:begin] == _BUILD_ID_NAME:
            yield raw[begin:end]
        at = begin + (content_bytes + 3 & ~3)
