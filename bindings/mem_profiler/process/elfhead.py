"""The parts of an ELF file that the loader reads first: program headers and the dynamic section.

Model: a few reads of bounded size at offsets that the file names; a part outside of the file, or
one that makes no sense, is absent. We ignore section headers, as the loader does. We read the file
and never map it: another process may cut it, or write to it, meanwhile. `elfrows` decodes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mem_parser import elfrows
from mem_parser.elfrows import PT_DYNAMIC, PT_INTERP, PT_LOAD, Segment

DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_SONAME, DT_RPATH, DT_SYMBOLIC = 1, 5, 10, 14, 15, 16
DT_RUNPATH, DT_FLAGS, DT_FLAGS_1 = 29, 30, 0x6FFFFFFB
DF_SYMBOLIC, DF_1_NODEFLIB = 2, 0x800

_PROGRAM_HEADERS_MAX = 1170  # 64 KiB, the kernel's limit
_DYNAMIC_MAX_BYTES = 1 << 18
_TEXT_MAX_BYTES = 4096  # PATH_MAX
_SEARCH_MAX_BYTES = 1 << 16  # a list of folders
_NEEDED_MAX = 1000


@dataclass(frozen=True)
class Head:
    """One ELF file as the loader sees it. Texts as `os.fsdecode` gives them; None: absent."""

    bits: int
    machine: int
    kind: int
    os_abi: int
    interpreter: str | None = None
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: str | None = None
    runpath: str | None = None
    symbolic: bool = False
    no_default_folders: bool = False


def own_machine() -> tuple[int, int]:
    """Bits and machine of this program."""
    with open("/proc/self/exe", "rb") as file:
        found = elfrows.header(file.read(elfrows.HEADER_BYTES))
    assert found is not None
    return found.layout.bits, found.machine


def read(fd: int) -> Head | None:
    """The head of an open regular file; None: no little-endian ELF file with program headers."""
    header = elfrows.header(_bytes(fd, 0, elfrows.HEADER_BYTES))
    if header is None or header.layout.order != "<":
        return None
    if header.segment_bytes != elfrows.segment_bytes(header.layout):
        return None
    most = min(header.segment_count, _PROGRAM_HEADERS_MAX) * header.segment_bytes
    parts = elfrows.segments(header.layout, _bytes(fd, header.segments_at, most))
    if not parts:
        return None
    about = header.layout.bits, header.machine, header.kind, header.os_abi
    interpreter = next((_interpreter(fd, p) for p in parts if p.kind == PT_INTERP), None)
    dynamic = next((p for p in parts if p.kind == PT_DYNAMIC), None)
    if dynamic is None:
        return Head(*about, interpreter)
    raw = _bytes(fd, dynamic.offset, min(dynamic.file_bytes, _DYNAMIC_MAX_BYTES))
    tags = list(elfrows.dynamic_entries(header.layout, raw))
    last = dict(tags)  # the loader uses the last of each, and every DT_NEEDED
    texts = _Texts(fd, parts, last)
    needed = [value for tag, value in tags if tag == DT_NEEDED][:_NEEDED_MAX]
    return Head(
        *about,
        interpreter,
        needed=tuple(text for at in needed if (text := texts.at(at))),
        soname=texts.at(last.get(DT_SONAME)),
        rpath=texts.at(last.get(DT_RPATH), _SEARCH_MAX_BYTES),
        runpath=texts.at(last.get(DT_RUNPATH), _SEARCH_MAX_BYTES),
        symbolic=DT_SYMBOLIC in last or bool(last.get(DT_FLAGS, 0) & DF_SYMBOLIC),
        no_default_folders=bool(last.get(DT_FLAGS_1, 0) & DF_1_NODEFLIB),
    )


def _bytes(fd: int, offset: int, size: int) -> bytes:
    """The file's bytes there; fewer, or none, where it ends or cannot be read."""
    try:
        return os.pread(fd, size, offset) if size > 0 else b""
    except (OSError, OverflowError, ValueError):
        return b""


def _interpreter(fd: int, part: Segment) -> str | None:
    raw = _bytes(fd, part.offset, min(part.file_bytes, _TEXT_MAX_BYTES))
    text, end, _ = raw.partition(b"\0")
    return os.fsdecode(text) if end and text else ""


class _Texts:
    """The strings of a dynamic section."""

    def __init__(self, fd: int, parts: list[Segment], tags: dict[int, int]) -> None:
        self._fd = fd
        self._size = tags.get(DT_STRSZ, 0)
        table = tags.get(DT_STRTAB)
        self._offset = None if table is None else _offset_of(parts, table)

    def at(self, index: int | None, most: int = _TEXT_MAX_BYTES) -> str | None:
        """The string at `index`; None if there is none, or it is unterminated."""
        if index is None or self._offset is None or index >= self._size:
            return None
        raw = _bytes(self._fd, self._offset + index, min(most, self._size - index))
        text, end, _ = raw.partition(b"\0")
        return os.fsdecode(text) if end else None


def _offset_of(parts: list[Segment], address: int) -> int | None:
    """Offset in the file of the byte that the loader maps at an address."""
    for part in parts:
        if part.kind == PT_LOAD and part.address <= address < part.address + part.file_bytes:
            return part.offset + address - part.address
    return None
