"""ELF files: their symbols, build-ids and links, and the plans of allocators inside programs."""

from __future__ import annotations

import contextlib
import functools
import lzma
import os
import random
import struct
import time
import zlib
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["mem_parser", "mem_profiler", "elftools"]):
    from mem_parser.errors import MemError
    from mem_parser.symbols.debug.bits import Damaged
    from mem_parser.symbols.debug.locate import Locator
    from mem_parser.symbols.debug.sections import Sections
    from mem_parser.symbols.debug.split import SplitUnits
    from mem_parser.symbols.debug.units import DebugFile
    from mem_parser.symbols.elf import BadElf, ElfImage
    from mem_profiler.entries import plan

from forging import mutator, number
from harness import READERS_FLOOR_BYTES, fuzz

NAMES = ("malloc", "free", "main", "", "je_malloc")
ADDRESSES = np.array([0, 1, 0x1000, 0x401000, 2**63, 2**64 - 1], np.uint64)
SECTION_BYTES, SEGMENT_BYTES, SYMBOL_BYTES, CHDR = 64, 56, 24, struct.Struct("<IIQQ")
COMPRESSED = 0x800
LINES_S = 5.0


@functools.cache
def bomb(kind: str) -> bytes:
    """Zeros: packed to a thousandth by zlib, to less by xz."""
    return (
        zlib.compress(bytes(1 << 25)) if kind == "zlib" else lzma.compress(bytes(1 << 27), preset=0)
    )


def one(data: bytes) -> None:
    FILE.write_bytes(data)
    try:
        image = ElfImage.open(str(FILE)) if len(data) % 2 else ElfImage.from_data("x.so", data)
        table = image.symbols()
        table.find(ADDRESSES)
        table.starts(ADDRESSES)
        for section in (".symtab", ".dynsym", ".strtab"):
            image.addresses_of(section, NAMES)
        image.bytes_at(min((s.vaddr for s in image.segments), default=0), 64)
        image.bias_of(0x7F0000000000, 0, 4096)
        _ = (image.debuglink, image.has_dwarf, image.interpreter, image.size_bytes)
        locator = Locator(DebugFile(Sections(image)), SplitUnits([]))
        locator.locate(ADDRESSES.tolist(), time.monotonic() + LINES_S)
    except (BadElf, Damaged):
        pass
    with contextlib.suppress(OSError):  # a file that cannot be read: its callers say so
        plan.of_program(FILE, 0x555555554000)


def rows_of(data: bytes, at: int, count_at: int, size: int) -> list[int]:
    """Where the rows of the section or program header table begin."""
    if len(data) < 64:
        return []
    start = struct.unpack_from("<Q", data, at)[0]
    count = struct.unpack_from("<H", data, count_at)[0]
    return [start + size * k for k in range(min(count, 200)) if start + size * (k + 1) <= len(data)]


def put(data: bytes, at: int, width: int, value: int) -> bytes:
    raw = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    return data[:at] + raw + data[at + width :] if 0 <= at <= len(data) - width else data


def forge_header(rng: random.Random, data: bytes) -> bytes:
    at, width = rng.choice(
        [(4, 1), (5, 1), (16, 2), (18, 2), (24, 8), (32, 8), (40, 8), (54, 2), (56, 2), (58, 2),
         (60, 2), (62, 2)]
    )  # fmt: skip
    return put(data, at, width, number(rng))


def forge_section(rng: random.Random, data: bytes) -> bytes:
    rows = rows_of(data, 40, 60, SECTION_BYTES)
    if not rows:
        return data
    at, width = rng.choice(
        [(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (32, 8), (40, 4), (44, 4), (48, 8),
         (56, 8)]
    )  # fmt: skip
    row = rng.choice(rows)
    if rng.random() < 0.3:  # two sections of one place
        other = rng.choice(rows)
        return put(data, row + at, width, int.from_bytes(data[other + at :][:width], "little"))
    return put(data, row + at, width, number(rng))


def forge_segment(rng: random.Random, data: bytes) -> bytes:
    rows = rows_of(data, 32, 56, SEGMENT_BYTES)
    if not rows:
        return data
    at, width = rng.choice([(0, 4), (4, 4), (8, 8), (16, 8), (32, 8), (40, 8), (48, 8)])
    return put(data, rng.choice(rows) + at, width, number(rng))


def section_place(data: bytes, kinds: tuple[int, ...], rng: random.Random) -> tuple[int, int, int]:
    """A row of the section table, and where its section lies; (0, 0, 0) without one."""
    found = []
    for row in rows_of(data, 40, 60, SECTION_BYTES):
        kind = struct.unpack_from("<I", data, row + 4)[0]
        start, size = struct.unpack_from("<QQ", data, row + 24)
        if (kind in kinds or not kinds) and size > 0 and start + size <= len(data):
            found.append((row, start, size))
    return rng.choice(found) if found else (0, 0, 0)


def forge_symbol(rng: random.Random, data: bytes) -> bytes:
    _, start, size = section_place(data, (2, 11), rng)
    if size < SYMBOL_BYTES:
        return data
    at, width = rng.choice([(0, 4), (4, 1), (6, 2), (8, 8), (16, 8)])
    return put(
        data, start + rng.randrange(size // SYMBOL_BYTES) * SYMBOL_BYTES + at, width, number(rng)
    )


def forge_content(rng: random.Random, data: bytes) -> bytes:
    """Change bytes of a section: notes, names, code."""
    _, start, size = section_place(data, (), rng)
    if not size:
        return data
    return put(data, start + rng.randrange(size), rng.choice([1, 4, 8]), number(rng))


def repack(rng: random.Random, data: bytes) -> bytes:
    """Give a section new content at the file's end: compressed, or nearly nothing but zeros."""
    row, _, size = section_place(data, (), rng)
    if not size:
        return data
    kind = rng.randrange(4)
    content = bytes(rng.choice([64, 4096])) if kind == 2 else data[:4096]
    if kind == 0:
        content = bomb("zlib")
        content = CHDR.pack(1, 0, rng.choice([1 << 24, 1 << 40, number(rng)]), 1) + content
        data = put(data, row + 8, 8, COMPRESSED)
    elif kind == 1:
        content = bomb("xz")
    data = put(data, row + 24, 8, len(data))
    return put(data, row + 32, 8, len(content)) + content


if __name__ == "__main__":
    FILE = Path(os.getcwd()) / "x.so"
    steps = [
        forge_header, forge_section, forge_section, forge_segment, forge_symbol, forge_content,
        repack,
    ]  # fmt: skip
    fuzz(one, (MemError,), mutator(steps), floor_bytes=READERS_FLOOR_BYTES)
