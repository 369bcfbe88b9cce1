"""Where the start of a function can be redirected, and that a moved instruction means the same."""

from __future__ import annotations

import ctypes.util
import functools
import struct
from pathlib import Path

import capstone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.symbols.elf import ElfImage
from mem_profiler.entries import decode
from mem_profiler.entries.symbols import Program

AT = 0x1000  # begins a word


# code, address -> (offset, bytes written, words pushed before) of each point, the freest first
BEGINNINGS = {
    "one long instruction": ("4881ff01100000", AT, [(0, 5, 0)]),
    "pushes and a frame": (
        "5541574156415541544889e5", AT,
        [(9, 3, 5), (1, 2, 1), (3, 2, 2), (5, 2, 3)],
    ),
    "marker first": ("f30f1efa4881ec98000000", AT + 2, [(4, 2, 0)]),
    "the word ends": ("31c04889f8c3", AT + 7, [(2, 3, 0), (0, 1, 0)]),
    "a jump at once": ("e900010000", AT + 3, [(0, 5, 0)]),
    "a jump behind zeroes": (
        "4531c94531c031c9e9d3fdffff", AT, [(8, 5, 0), (0, 3, 0), (3, 3, 0), (6, 2, 0)],
    ),
    "a zero that the caller keeps": ("31db4881ff01100000", AT, [(0, 2, 0)]),
    "a call at once": ("e800010000c3", AT, []),
    "nothing but a return": ("c3cccccccc", AT, []),
    "a jump without a long form": ("e3054889f8c3", AT, []),
}  # fmt: skip


@pytest.mark.parametrize("name", BEGINNINGS)
def test_points_of_known_beginnings(name: str) -> None:
    code, address, expected = BEGINNINGS[name]
    body = bytes.fromhex(code).ljust(48, b"\x90")

    found = [(p.offset, p.write_bytes, p.pushed_words) for p in decode.points(body, address)]

    assert found == expected


def test_a_function_that_jumps_back_behind_its_pushes_is_led_elsewhere_before_them() -> None:
    # push %rbx; inc %eax; cmp; jne to the inc
    body = bytes.fromhex("53ffc083f80975f9").ljust(48, b"\x90")

    assert [p.offset for p in decode.points(body, AT)] == [0]


def test_a_short_conditional_jump_gets_its_long_form() -> None:
    [point] = decode.points(bytes.fromhex("7410").ljust(48, b"\x90"), AT)

    assert (point.copy, point.length) == (b"\x0f\x84\0\0\0\0", 2)
    assert point.fixups == (decode.Fixup(2, 6, AT + 0x12),)


def moved(point: decode.Point, base: int) -> bytes:
    """The copy as it lies at `base`."""
    copy = bytearray(point.copy)
    for fixup in point.fixups:
        distance = fixup.target - (base + fixup.end)
        copy[fixup.at : fixup.at + 4] = struct.pack("<i", distance)
    return bytes(copy)


def meaning(code: bytes, address: int) -> list[tuple[str, object]]:
    """Instructions by mnemonic and operands, distances by where they lead."""
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    found: list[tuple[str, object]] = []
    for insn in decoder.disasm(code, address):
        operands: object = insn.op_str
        if "rip" in insn.op_str:
            memory = next(o.mem for o in insn.operands if o.type == capstone.x86.X86_OP_MEM)
            before, _, after = insn.op_str.partition("[")
            operands = (before, after.partition("]")[2], insn.address + insn.size + memory.disp)
        found.append((insn.mnemonic, operands))
    return found


@functools.cache
def real_functions() -> list[tuple[int, bytes]]:
    """Address and code of some thousand functions of the C library and of jemalloc."""
    found: list[tuple[int, bytes]] = []
    for library in ("libc.so.6", ctypes.util.find_library("jemalloc") or "libm.so.6"):
        path = Path("/lib/x86_64-linux-gnu") / library
        with Program(path) as program:
            starts = ElfImage.open(str(path)).read_symbols(".dynsym").values.tolist()
            found += [(at, program.code(at, 256)) for at in sorted(set(starts))]
    assert len(found) > 1000
    return found


@given(index=st.integers(0, 1 << 20), away=st.integers(-(1 << 30), 1 << 30))
def test_what_is_moved_means_the_same(index: int, away: int) -> None:
    address, body = real_functions()[index % len(real_functions())]
    address += 1 << 40
    for point in decode.points(body, address):
        here = address + point.offset
        assert 1 <= point.write_bytes <= min(5, point.length)
        assert here % 8 + point.write_bytes <= 8
        assert len(point.copy) <= decode.COPY_BYTES
        before = [m for m in meaning(body[: point.offset], address) if m[0] in {"push", "xor"}]
        assert sum(m[0] == "push" for m in before) == point.pushed_words
        original = meaning(body[point.offset : point.offset + point.length], here)
        assert meaning(moved(point, address + away), address + away) == before + original
