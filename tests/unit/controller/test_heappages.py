"""What blocks cost beyond themselves: sizes of chunks of this process, and hostile words."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mem_parser.errors import MemError
from mem_profiler.process import heappages, pagemap, stillmapped
from mem_profiler.process.heappages import HeapPages, Waste, class_bytes

PAGE = os.sysconf("SC_PAGE_SIZE")
BASE = 1 << 32


@contextmanager
def faked(words: np.ndarray, folder: Path, end: int | None = None) -> Iterator[HeapPages]:
    """A [heap] at `BASE` that holds these words, all of it in RAM."""
    memory = np.zeros(-(-len(words) * 8 // PAGE) * PAGE // 8, np.uint64)
    memory[: len(words)] = words
    low, count = BASE // PAGE, len(memory) * 8 // PAGE
    for name, at, data in (
        ("mem", BASE, memory), ("pagemap", low * 8, np.full(count, 1 << 63, np.uint64)),
    ):  # fmt: skip
        with (folder / name).open("wb") as file:
            file.seek(at)
            file.write(data.tobytes())
    end = end or BASE + len(memory) * 8
    (folder / "maps").write_text(f"{BASE:x}-{end:x} rw-p 00000000 00:00 0 [heap]\n")
    fds = [os.open(folder / name, os.O_RDONLY) for name in ("pagemap", "maps", "mem")]
    try:
        heap = heappages.of_descriptors(fds, "/lib/libc.so.6")
        assert heap is not None
        yield heap
    finally:
        for fd in fds:
            os.close(fd)


def look(heap: HeapPages, blocks: list[tuple[int, int]]) -> Waste:
    at, size = np.array(blocks, np.uint64).reshape(-1, 2).T
    return heap.look(at, size)


def laid_out(chunks: list[tuple[int, bool]]) -> tuple[np.ndarray, list[int]]:
    """The words of chunks one behind the other, each with its size and whether it is in use, and
    their addresses. The last is the top.
    """
    words, at, before, addresses = np.zeros(sum(s for s, _ in chunks) // 8, np.uint64), 0, True, []
    for size, in_use in chunks:
        words[at // 8 + 1] = size | before
        addresses.append(BASE + at + 16)
        at, before = at + size, in_use
    return words, addresses


def test_a_page_is_charged_to_the_blocks_in_use_by_their_bytes(tmp_path: Path) -> None:
    chunks = [(1024, True), (1024, True), (2048, False), (256, True), (4096 - 256, False),
              (64, True), (4096 - 64, False)]  # fmt: skip
    words, at = laid_out(chunks)
    with faked(words, tmp_path) as heap:
        found = look(heap, [(at[0], 1000), (at[3], 240), (at[5], 56)])
    assert found.pages is not None
    assert found.held is not None
    assert found.pinned is not None

    charged, alone = PAGE * (1024 / 2048), PAGE
    assert found.pages.tolist() == [charged, alone, alone]
    assert found.held.tolist() == [charged - 1024, PAGE - 256, PAGE - 64]
    assert found.pinned.tolist() == [0, PAGE - 256, PAGE - 64]
    assert found.slop.tolist() == [16, 8, 0]
    assert not found.note


@pytest.mark.parametrize(
    "neighbours",
    [
        pytest.param({8: 27472 | 3}, id="a mapping of no whole pages"),
        pytest.param({PAGE - 16 + 8: 7 * PAGE | 3, PAGE - 16: PAGE - 16}, id="too long a mapping"),
        pytest.param({8: 80 | 1, 88: 0}, id="no size behind it"),
        pytest.param({8: 80 | 1, 88: 64}, id="free for the next"),
        pytest.param({8: 80 | 1, 88: 64 | 5}, id="of an arena and of none"),
        pytest.param({8: 80 | 1, 88: 8 * PAGE | 1}, id="the next beyond the mapping"),
        pytest.param({8: 144 | 1, 152: 64 | 1}, id="glibc splits off so much"),
        pytest.param({8: 80 | 1, 88: 64 | 1 | 1 << 60}, id="a word that is no size"),
    ],
)
def test_a_word_that_looks_like_a_size_makes_no_block_of_glibc(
    neighbours: dict[int, int], tmp_path: Path
) -> None:
    words = np.full(8 * PAGE // 8, 0x20, np.uint64)
    for offset, word in neighbours.items():
        words[offset // 8] = word
    with faked(words, tmp_path) as heap:
        found = look(heap, [(BASE + min(neighbours) // 16 * 16 + 16, 60)])
    assert found.slop.tolist() == [0]
    assert "lacks 1 of 1 sampled blocks" in found.note


def pool(bytes_: int) -> tuple[np.ndarray, int]:
    """The words of a pool of pymalloc with blocks of 64 bytes that end in what looks like sizes,
    and a block's offset.
    """
    words = np.full(2 * bytes_ // 8, 80 | 1, np.uint64)
    words[4:6] = 3 << 32, (bytes_ - 64) << 32
    return words, 48 + 5 * 64


@pytest.mark.parametrize("bytes_", [4096, 16384])
def test_a_block_in_a_pool_of_pymalloc_is_none_of_glibc(bytes_: int, tmp_path: Path) -> None:
    words, offset = pool(bytes_)
    with faked(words, tmp_path) as heap:
        assert look(heap, [(BASE + offset, 60)]).slop.tolist() == [0]
        # Where no header says so, these are chunks.
        assert look(heap, [(BASE + bytes_ + offset, 60)]).slop.tolist() == [12]


def linked(words: np.ndarray, at: int, to: int) -> None:
    words[(at - BASE) // 8] = to ^ at >> 12


def test_blocks_in_tcache_and_fastbins_are_free_and_others_with_pointers_are_not(
    tmp_path: Path,
) -> None:
    words, at = laid_out([(1024, True)] * 4 + [(PAGE, False)])
    linked(words, at[1], 0)
    linked(words, at[2], at[1])
    words[(at[3] - BASE) // 8] = at[0]
    with faked(words, tmp_path) as heap:
        found = look(heap, [(at[0], 1016)])
    assert found.held is not None
    assert abs(int(found.held[0]) - 1024) < 16  # of the page half is in use


@pytest.mark.parametrize("seed", range(30))
def test_no_words_make_it_read_or_count_beyond_their_pages(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    words = random.integers(0, 1 << 64, 4 * PAGE // 8, np.uint64, endpoint=False)
    some = random.choice(len(words), len(words) // 2, replace=False)
    words[some] = random.choice([17, 33, 37, 49, 1025, PAGE + 1, (1 << 40) + 1, 35], len(some))
    blocks = [
        (BASE + int(k) * 8, int(size))
        for k, size in zip(
            random.integers(-8, len(words) + 8, 500), random.integers(0, 5000, 500), strict=True
        )
    ]
    blocks += [(0, 1), ((1 << 64) - 16, 1 << 63), (BASE + 16, (1 << 64) - 1)]
    with faked(words, tmp_path, end=BASE + int(random.choice([1, 4, 1 << 20])) * PAGE) as heap:
        found = look(heap, blocks)
    assert found.pages is not None
    assert found.held is not None
    assert found.pinned is not None
    assert (found.pinned >= 0).all()
    assert (found.held >= found.pinned).all()
    assert (found.pages <= 4 * PAGE).all()
    assert (found.slop <= 2 * PAGE).all()


def test_memory_that_goes_meanwhile_costs_its_blocks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv

    def gone(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset == BASE + 1024 + 8:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, buffers, offset)

    words, at = laid_out([(1024, True), (1024, True), (2048, False)])
    monkeypatch.setattr(os, "preadv", gone)
    with faked(words, tmp_path) as heap:
        found = look(heap, [(at[0], 1016), (at[1], 1016)])
    assert found.pages is not None
    assert found.pages.tolist() == [2048, 0]
    assert "lacks 1 of 2 sampled blocks" in found.note


def test_slop_is_what_malloc_usable_size_tells() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc_usable_size.argtypes = libc.free.argtypes = (ctypes.c_void_p,)
    sizes = [1, 24, 25, 100, 1000, 5000, 100_000, 300_000]
    at = [libc.malloc(size) for size in sizes]
    libc.aligned_alloc.restype = ctypes.c_void_p
    libc.aligned_alloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
    for align, size in ((64, 100), (4096, 5000), (4096, 40 << 20), (2 << 20, 40 << 20)):
        at.append(libc.aligned_alloc(align, size))
        sizes.append(size)
    usable = [libc.malloc_usable_size(block) for block in at]
    for block, size in zip(at, usable, strict=True):
        ctypes.memset(block, 1, size)
    pid = os.getpid()
    fds = [one(pid) for one in (pagemap.open_pagemap, stillmapped.open_maps, heappages.open_memory)]
    heap = heappages.of_descriptors(fds, "libc.so.6")
    assert heap is not None
    found = look(heap, [*zip(at, sizes, strict=True), (at[3] + 16, 10)])
    for fd in fds:
        os.close(fd)
    for block in at:
        libc.free(block)
    assert found.slop.tolist() == [u - s for u, s in zip(usable, sizes, strict=True)] + [0]
    assert "lacks 1 of 13 sampled blocks" in found.note


def test_classes_are_those_of_jemalloc_and_mimalloc() -> None:
    asked = [1, 8, 9, 16, 17, 128, 129, 160, 161, 257, 1025, 5000, 14337]
    classes = [8, 8, 16, 16, 32, 128, 160, 160, 192, 320, 1280, 5120, 16384]
    assert class_bytes(np.array(asked)).tolist() == classes


def test_an_allocator_that_is_not_known_is_named(tmp_path: Path) -> None:
    with faked(laid_out([(64, True), (64, False)])[0], tmp_path) as heap:
        heap._allocator = "/usr/lib/libtcmalloc.so.4"
        with pytest.raises(MemError, match=r"libtcmalloc\.so\.4"):
            look(heap, [(BASE + 16, 56)])
