"""Where resident memory is: thread arenas are told from pools of programs, and growth by place."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading

import pytest

from mem_parser.processfacts import Grown
from mem_profiler.process import places

MIB = 1 << 20
ARENA = 0x7F1200000000
MAIN_HEAP = struct.pack("<4Q", ARENA + 0x30, 0, MIB, MIB)
"""Begins the first heap of an arena."""


def next_heap(prev: int = ARENA) -> bytes:
    return struct.pack("<4Q", ARENA + 0x30, prev, 4096, 2 * MIB)


def smaps(*mappings: tuple[int, int, str, str, int]) -> list[places.Region]:
    """The regions of (start, size, permissions, path, resident bytes)."""
    lines = []
    for start, size, permissions, path, resident in mappings:
        lines.append(f"{start:x}-{start + size:x} {permissions} 00000000 00:00 0    {path}\n")
        lines.append(f"Size: {size >> 10} kB\nRss: {resident >> 10} kB\nAnonymous: 0 kB\n")
    return places.parsed("".join(lines).encode())


ONE = smaps((ARENA, MIB, "rw-p", "", MIB), (ARENA + MIB, 63 * MIB, "---p", "", 0))
FULL = smaps((ARENA, 64 * MIB, "rw-p", "", 9 * MIB))
TWO = smaps((ARENA, 65 * MIB, "rw-p", "", 9 * MIB), (ARENA + 65 * MIB, 63 * MIB, "---p", "", 0))
POOL = smaps((ARENA, 256 * MIB, "rw-p", "", 100 * MIB))
STACK = smaps((ARENA, 8 * MIB, "rw-p", "", MIB), (ARENA + 8 * MIB, 4096, "---p", "", 0))
FILE = smaps((ARENA, 64 * MIB, "rw-p", "/memfd:x", MIB))
ELSEWHERE = smaps((ARENA + MIB, MIB, "rw-p", "", MIB), (ARENA + 2 * MIB, 62 * MIB, "---p", "", 0))


@pytest.mark.parametrize(
    ("regions", "heads", "found"),
    [
        (ONE, {ARENA: MAIN_HEAP}, [0]),
        (FULL, {ARENA: MAIN_HEAP}, [0]),
        (TWO, {ARENA: MAIN_HEAP, ARENA + 64 * MIB: next_heap()}, [0]),
        # A program's own pool, also one that is reserved as arenas are, and words that do not fit.
        (POOL, dict.fromkeys(range(ARENA, ARENA + 256 * MIB, 64 * MIB), bytes(32)), []),
        (ONE, {ARENA: bytes(32)}, []),
        (ONE, {ARENA: next_heap(prev=ARENA + 1)}, []),
        (TWO, {ARENA: MAIN_HEAP, ARENA + 64 * MIB: bytes(32)}, []),
        # Without the right to read: only where the rest of the 64 MiB is reserved.
        (ONE, {}, [0]),
        (FULL, {}, []),
        (TWO, {}, []),
        (POOL, {}, []),
        (STACK, {}, []),
        (FILE, {ARENA: MAIN_HEAP}, []),
        (ELSEWHERE, {}, []),
    ],
)
def test_arenas_are_known_by_how_they_begin(
    regions: list[places.Region], heads: dict[int, bytes], found: list[int]
) -> None:
    assert places.arenas_of(regions, heads.get) == found


def test_a_pool_of_the_program_is_no_arena_and_an_arena_is_one() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.argtypes = (ctypes.c_void_p,)
    blocks: list[int] = []
    threads = [threading.Thread(target=lambda: blocks.append(libc.malloc(2000))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pool = mmap.mmap(-1, 320 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(pool))
    at = (begin // (64 * MIB) + 1) * 64 * MIB
    # So that it is a mapping of its own that begins where an arena may.
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    assert libc.mprotect(at - 4096, 4096, 0) == 0
    assert libc.mprotect(at + 64 * MIB, 4096, 0) == 0
    ctypes.memset(at, 0, 3 * MIB)
    regions = places.regions(os.getpid())
    kinds = {
        address: one.kind
        for one in regions
        for address in (at, *blocks)
        if one.mapping.start <= address < one.mapping.end
    }
    for block in blocks:
        libc.free(block)
    assert kinds[at] == "anonymous"
    assert {kinds[block] for block in blocks} == {"arenas"}
    told = places.sums(regions)
    assert told["arena_bytes"] == sum(one.rss_bytes for one in regions if one.kind == "arenas")


def test_growth_is_told_by_place() -> None:
    def look(*rows: tuple[str, int, int, int]) -> list[places.Region]:
        found = smaps(*((at, size, "rw-p", "", rss) for _, at, size, rss in rows))
        return [
            places.Region(one.mapping, one.rss_bytes, kind)
            for one, (kind, *_) in zip(found, rows, strict=True)
        ]

    before = look(
        ("heap", MIB, MIB, MIB), ("anonymous", 8 * MIB, 2 * MIB, MIB),
        ("anonymous", 32 * MIB, MIB, MIB), ("arenas", ARENA, MIB, MIB),
    )  # fmt: skip
    # One mapping grew on both sides, another is gone.
    after = look(
        ("heap", MIB, 4 * MIB, 3 * MIB), ("anonymous", 7 * MIB, 3 * MIB, 3 * MIB),
        ("anonymous", 10 * MIB, 8 * MIB, 7 * MIB), ("arenas", ARENA, MIB, MIB),
    )  # fmt: skip
    assert places.grown(before, after) == [
        Grown("anonymous", "700000-1200000", MIB, 10 * MIB),
        Grown("heap", "", MIB, 3 * MIB),
        Grown("anonymous", "2000000-2100000", MIB, 0),
    ]
