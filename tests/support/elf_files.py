"""Write ELF files for tests, from the System V ABI alone: any sections, as forged as wished."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.unwindtable import UnwindTable

NOTE, NO_BITS, SYMBOLS, STRINGS, PROGRAM = 7, 8, 2, 3, 1
EXECUTABLE, COMPRESSED = 4, 0x800
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")


@dataclass
class Part:
    """One section; ``size`` and ``name_at`` say what is not so."""

    name: str = ""
    data: bytes = b""
    kind: int = PROGRAM
    flags: int = 0
    link: int = 0
    size: int | None = None
    offset: int | None = None
    name_at: int | None = None


def elf(*parts: Part, names: bytes = b"", segments: bytes = b"", **header: int) -> bytes:
    """An x86-64 library. Section 1 is the first of ``parts``; the last one has the names."""
    strings = bytearray(names or b"\0")
    rows = [_SECTION.pack(*[0] * 10)]
    body = bytearray(_HEADER.size)
    segments_at = len(body)
    body += segments
    for part in (*parts, Part(".shstrtab", kind=STRINGS)):
        at = part.name_at
        if at is None:
            at = len(strings)
            strings += part.name.encode() + b"\0"
        data = bytes(strings) if part.name == ".shstrtab" else part.data
        offset = len(body) if part.offset is None else part.offset
        size = len(data) if part.size is None else part.size
        rows.append(_SECTION.pack(at, part.kind, part.flags, 0, offset, size, part.link, 0, 1, 24))
        body += data
    sections_at = len(body)
    body += b"".join(rows)
    fields = {"shoff": sections_at, "phnum": len(segments) // _SEGMENT.size, "shnum": len(rows),
              "shstrndx": len(rows) - 1} | header  # fmt: skip
    _HEADER.pack_into(
        body, 0, b"\x7fELF\2\1\1".ljust(16, b"\0"), 3, 62, 1, 0, segments_at, fields["shoff"], 0,
        64, 56, fields["phnum"], 64, fields["shnum"], fields["shstrndx"],
    )  # fmt: skip
    return bytes(body)


def segment(kind: int, offset: int, size: int, flags: int = 5, vaddr: int = 0) -> bytes:
    return _SEGMENT.pack(kind, flags, offset, vaddr, 0, size, size, 1)


def symbol(name: int, value: int, size: int = 1, section: int = 1, info: int = 0x12) -> bytes:
    """A symbol: a global function."""
    return struct.pack("<IBBHQQ", name, info, 0, section, value, size)


def build_id_note(build_id: bytes) -> bytes:
    """The note that holds a build-id."""
    return struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id


def nameless(path: str, address: int) -> str:
    """What reports call the function at an address of a stripped file."""
    start = UnwindTable(ElfImage.open(path)).starts(np.array([address], dtype=np.uint64))
    return f"{Path(path).name}+0x{int(start[0]):x}"
