"""The parts of an ELF file that the loader reads first: program headers and the dynamic section.

Model: a few reads of bounded size at offsets that the file names; a part outside of the file, or
one that makes no sense, is absent. We ignore section headers, as the loader does. We read the file
and never map it: another process may cut it, or write to it, meanwhile.

Formats: System V ABI, "Program Loading and Dynamic Linking", ELF-32 and ELF-64, little-endian.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

CLASS_32, CLASS_64 = 1, 2
ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_SONAME, DT_RPATH, DT_SYMBOLIC = 1, 5, 10, 14, 15, 16
DT_RUNPATH, DT_FLAGS, DT_FLAGS_1 = 29, 30, 0x6FFFFFFB
DF_SYMBOLIC, DF_1_NODEFLIB = 2, 0x800

_HEADER_BYTES = 64
_PROGRAM_HEADERS_MAX = 1170  # 64 KiB, the kernel's limit
_DYNAMIC_MAX_BYTES = 1 << 18
_TEXT_MAX_BYTES = 4096  # PATH_MAX
_SEARCH_MAX_BYTES = 1 << 16  # a list of folders
_NEEDED_MAX = 1000


@dataclass(frozen=True)
class Head:
    """One ELF file as the loader sees it. Texts as `os.fsdecode` gives them; None: absent."""

    file_class: int
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


@dataclass(frozen=True)
class _Part:
    """A program header."""

    kind: int
    offset: int
    address: int
    file_bytes: int


def own_machine() -> tuple[int, int]:
    """ELF class and machine of this program."""
    with open("/proc/self/exe", "rb") as file:
        head = file.read(20)
    return head[4], int(struct.unpack_from("=H", head, 18)[0])


def read(fd: int) -> Head | None:
    """The head of an open regular file; None: no little-endian ELF file with program headers."""
    raw = _bytes(fd, 0, _HEADER_BYTES)
    if len(raw) < _HEADER_BYTES or raw[:4] != b"\x7fELF" or raw[5] != 1:
        return None
    file_class, os_abi = raw[4], raw[7]
    if file_class not in (CLASS_32, CLASS_64):
        return None
    kind, machine = struct.unpack_from("<HH", raw, 16)
    parts = _parts(fd, raw, file_class)
    if not parts:
        return None
    interpreter = next((_interpreter(fd, p) for p in parts if p.kind == PT_INTERP), None)
    dynamic = next((p for p in parts if p.kind == PT_DYNAMIC), None)
    if dynamic is None:
        return Head(file_class, machine, kind, os_abi, interpreter)
    tags = _tags(fd, dynamic, file_class)
    last = dict(tags)  # the loader uses the last of each, and every DT_NEEDED
    texts = _Texts(fd, parts, last)
    needed = [value for tag, value in tags if tag == DT_NEEDED][:_NEEDED_MAX]
    return Head(
        file_class,
        machine,
        kind,
        os_abi,
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


def _parts(fd: int, header: bytes, file_class: int) -> list[_Part]:
    if file_class == CLASS_64:
        [offset] = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        row = struct.Struct("<IIQQQQQQ")
    else:
        [offset] = struct.unpack_from("<I", header, 28)
        size, count = struct.unpack_from("<HH", header, 42)
        row = struct.Struct("<IIIIIIII")
    if size != row.size:
        return []
    raw = _bytes(fd, offset, size * min(count, _PROGRAM_HEADERS_MAX))
    found = []
    for fields in row.iter_unpack(raw[: len(raw) // size * size]):
        if file_class == CLASS_64:
            kind, _flags, at, address, _physical, file_bytes, _memory_bytes, _align = fields
        else:
            kind, at, address, _physical, file_bytes, _memory_bytes, _flags, _align = fields
        found.append(_Part(kind, at, address, file_bytes))
    return found


def _interpreter(fd: int, part: _Part) -> str | None:
    raw = _bytes(fd, part.offset, min(part.file_bytes, _TEXT_MAX_BYTES))
    text, end, _ = raw.partition(b"\0")
    return os.fsdecode(text) if end and text else ""


def _tags(fd: int, part: _Part, file_class: int) -> list[tuple[int, int]]:
    row = struct.Struct("<QQ" if file_class == CLASS_64 else "<II")
    raw = _bytes(fd, part.offset, min(part.file_bytes, _DYNAMIC_MAX_BYTES))
    found: list[tuple[int, int]] = []
    for tag, value in row.iter_unpack(raw[: len(raw) // row.size * row.size]):
        if tag == 0:
            break
        found.append((tag, value))
    return found


class _Texts:
    """The strings of a dynamic section."""

    def __init__(self, fd: int, parts: list[_Part], tags: dict[int, int]) -> None:
        self._fd = fd
        self._size = tags.get(DT_STRSZ, 0)
        table = tags.get(DT_STRTAB)
        self._offset = None if table is None else _offset_of(parts, table)

    def at(self, index: int | None, most: int = _TEXT_MAX_BYTES) -> str | None:
        """The string at `index`; None where there is none, or it has no end."""
        if index is None or self._offset is None or index >= self._size:
            return None
        raw = _bytes(self._fd, self._offset + index, min(most, self._size - index))
        text, end, _ = raw.partition(b"\0")
        return os.fsdecode(text) if end else None


def _offset_of(parts: list[_Part], address: int) -> int | None:
    """Offset in the file of the byte that the loader maps at an address."""
    for part in parts:
        if part.kind == PT_LOAD and part.address <= address < part.address + part.file_bytes:
            return part.offset + address - part.address
    return None
