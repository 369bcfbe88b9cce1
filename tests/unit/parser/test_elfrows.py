"""Rows of ELF tables, of both classes and byte orders, against pyelftools."""

from __future__ import annotations

import random
import struct
from typing import Literal

import pytest
from elftools.elf.structs import ELFStructs

from mem_parser import elfrows
from mem_parser.elfrows import Layout

BITS: tuple[Literal[32, 64], ...] = (32, 64)
ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
LAYOUTS = [Layout(bits, order) for bits in BITS for order in ORDERS]
by_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=str)
RAW = random.Random(7).randbytes(200)


def structs(layout: Layout) -> ELFStructs:
    found = ELFStructs(little_endian=layout.order == "<", elfclass=layout.bits)
    found.create_basic_structs()
    found.create_advanced_structs()
    return found


@by_layout
def test_a_header_has_the_fields_that_pyelftools_finds(layout: Layout) -> None:
    begin = bytes([*b"\x7fELF", layout.bits // 32, 1 + (layout.order == ">")])
    raw = begin + RAW[len(begin) : elfrows.HEADER_BYTES]
    found, wanted = elfrows.header(raw), structs(layout).Elf_Ehdr.parse(raw)
    assert found is not None
    assert (found.layout, found.os_abi) == (layout, raw[7])
    assert found[2:4] == struct.unpack_from(layout.order + "HH", raw, 16)
    names = ("phoff", "shoff", "phentsize", "phnum", "shentsize", "shnum", "shstrndx")
    assert found[4:] == tuple(wanted[f"e_{name}"] for name in names)


@by_layout
def test_program_headers_have_the_fields_that_pyelftools_finds(layout: Layout) -> None:
    row = structs(layout).Elf_Phdr
    size = row.sizeof()
    assert elfrows.segment_bytes(layout) == size
    names = ("flags", "offset", "vaddr", "filesz", "memsz")
    wanted = [row.parse(RAW[at : at + size]) for at in range(0, len(RAW) - size + 1, size)]
    found = elfrows.segments(layout, RAW)
    assert [one[1:] for one in found] == [tuple(w[f"p_{n}"] for n in names) for w in wanted]
    assert [one.kind for one in found] == [
        struct.unpack_from(layout.order + "I", RAW, size * k)[0] for k in range(len(wanted))
    ]


@by_layout
def test_entries_end_at_the_first_empty_one_and_a_cut_row_is_none(layout: Layout) -> None:
    word = "I" if layout.bits == 32 else "Q"
    raw = struct.pack(f"{layout.order}7{word}", 1, 2, 3, 4, 0, 5, 6)
    assert list(elfrows.dynamic_entries(layout, raw)) == [(1, 2), (3, 4)]
    assert list(elfrows.dynamic_entries(layout, raw[: layout.bits // 2 - 1])) == [(1, 2)]


@by_layout
def test_build_ids_are_found_behind_other_notes(layout: Layout) -> None:
    def note(name: bytes, kind: int, content: bytes) -> bytes:
        head = struct.pack(layout.order + "III", len(name), len(content), kind)
        return head + b"".join(part + bytes(-len(part) % 4) for part in (name, content))

    others = note(b"GNU\0", 1, b"12345") + note(b"stapsdt\0a", 3, b"x") + note(b"", 3, b"")
    raw = others + note(b"GNU\0", 3, b"one") + others + note(b"GNU\0", 3, b"two!")
    assert list(elfrows.build_ids(layout, raw)) == [b"one", b"two!"]
    assert list(elfrows.build_ids(layout, raw[:-1])) == [b"one"]
