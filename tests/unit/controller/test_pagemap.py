"""Which bytes of blocks are in RAM or swapped, against one page a step and against the kernel."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forked import forked
from mem_parser.errors import MemError
from mem_profiler.process import pagemap
from mem_profiler.process.pagemap import ENDED_NOTE, Pagemap, Presence

PAGE = os.sysconf("SC_PAGE_SIZE")
PRESENT, SWAPPED, SHARED = 1 << 63, 1 << 62, 1 << 61
Block = tuple[int, int]


@contextmanager
def opened(words: list[int], folder: Path) -> Iterator[Pagemap]:
    """A pagemap of these words, of a kernel that cannot scan."""
    path = folder / "pagemap"
    path.write_bytes(np.array(words, np.uint64).tobytes())
    with path.open("rb") as file:
        yield Pagemap(file.fileno(), 16)


def look(pages: Pagemap, blocks: list[Block]) -> Presence:
    addresses, sizes = np.array(blocks, np.uint64).reshape(-1, 2).T
    return pages.look(addresses, sizes)


def page_by_page(words: list[int], blocks: list[Block], bit: int) -> list[int]:
    """The same by single bytes, of pages of 16 bytes; a byte belongs to the block that begins last
    before it, of equal ones to the last.
    """
    owner: dict[int, int] = {}
    for k in sorted(range(len(blocks)), key=lambda k: blocks[k][0]):
        low, size = blocks[k]
        owner = {byte: one for byte, one in owner.items() if byte < low}
        owner |= dict.fromkeys(range(low, min(low + size, 16 * len(words))), k)
    found = [0] * len(blocks)
    for byte, k in owner.items():
        found[k] += words[byte // 16] & bit != 0
    return found


@given(
    words=st.lists(
        st.sampled_from([0, PRESENT, SWAPPED, PRESENT | SHARED, 77]), min_size=1, max_size=60
    ),
    blocks=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 300)), max_size=30),
    gap=st.integers(0, 5),
    group=st.integers(1, 9),
)
def test_the_bytes_of_blocks_are_those_that_counting_finds(
    words: list[int], blocks: list[Block], gap: int, group: int, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch, opened(words, tmp_path) as pages:
        patch.setattr(pagemap, "_GAP_PAGES", gap)
        patch.setattr(pagemap, "_GROUP_PAGES", group)
        found = look(pages, blocks)
    assert found.resident_bytes.tolist() == page_by_page(words, blocks, PRESENT)
    assert found.swapped_bytes.tolist() == page_by_page(words, blocks, SWAPPED)
    assert not found.is_cut


def test_first_and_last_page_count_in_part(tmp_path: Path) -> None:
    with opened([PRESENT, SWAPPED, PRESENT, 0], tmp_path) as pages:
        found = look(pages, [(10, 30), (41, 5), (48, 9)])
    assert found.resident_bytes.tolist() == [6 + 8, 5, 0]
    assert found.swapped_bytes.tolist() == [16, 0, 0]
    assert found.huge_bytes is None


@pytest.fixture
def own_pages() -> Iterator[Pagemap]:
    fd = pagemap.open_pagemap(os.getpid())
    yield Pagemap(fd)
    os.close(fd)


@contextmanager
def mapped(pages: int, advice: int = mmap.MADV_NOHUGEPAGE) -> Iterator[tuple[int, mmap.mmap]]:
    """Untouched memory without huge pages, and its address."""
    with mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(advice)
        view = (ctypes.c_char * 1).from_buffer(memory)
        address = ctypes.addressof(view)
        del view
        yield address, memory


def test_touched_pages_of_a_process_are_resident(own_pages: Pagemap) -> None:
    with mapped(100) as (address, memory):
        for k in range(0, 100, 4):
            memory[k * PAGE] = 1
        blocks = [(address, 100 * PAGE), (address + 100 * PAGE, 0)]
        assert look(own_pages, blocks).resident_bytes.tolist() == [25 * PAGE, 0]
        halves = [(address + PAGE // 2, 4 * PAGE), (address + 5 * PAGE, PAGE)]
        assert look(own_pages, halves).resident_bytes.tolist() == [PAGE, 0]


def test_huge_pages_are_told_from_small_ones(own_pages: Pagemap) -> None:
    page = 2 << 20
    with (
        mapped(4 * page // PAGE, mmap.MADV_HUGEPAGE) as (large, memory),
        mapped(100) as (small, plain),
    ):
        begin = -large % page
        memory[begin] = memory[begin + 2 * page] = plain[0] = 1
        at = large + begin
        blocks = [(at - 64, 128), (at + 64, page), (at + 2 * page, page), (small, 100 * PAGE)]
        found = look(own_pages, blocks)
    if found.huge_bytes is None or not found.huge_bytes.any():
        pytest.skip("this kernel gives no huge pages, or does not say")
    assert found.huge_bytes.tolist() == [64, page - 64, page, 0]
    assert found.resident_bytes.tolist() == [64, page - 64, page, PAGE]


def test_scan_and_words_agree_also_where_runs_fill_the_buffer(
    own_pages: Pagemap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagemap, "_REGIONS", 3)
    small = Pagemap(own_pages._fd)
    with mapped(64) as (address, memory):
        for k in (0, 1, 5, 9, 11, 13, 15, 40, 63):
            memory[k * PAGE] = 1
        blocks = [(address + k * 7 * PAGE, 7 * PAGE) for k in range(10)]
        scanned = look(small, blocks).resident_bytes.tolist()
        scans = small._scans
        small._scans = False
        assert look(small, blocks).resident_bytes.tolist() == scanned
        assert scanned[:2] == [3 * PAGE, 3 * PAGE]
    if not scans:
        pytest.skip("this kernel has no PAGEMAP_SCAN")


def test_zeros_that_were_only_read_are_not_resident(own_pages: Pagemap) -> None:
    with mapped(8) as (address, memory):
        assert memory[3 * PAGE] == 0
        found = look(own_pages, [(address, 8 * PAGE)]).resident_bytes.tolist()
        if not own_pages._scans:
            pytest.skip("this kernel has no PAGEMAP_SCAN")
        assert found == [0]


def test_a_look_at_a_gib_with_100000_blocks_takes_well_below_a_second(own_pages: Pagemap) -> None:
    pages = (1 << 30) // PAGE
    random = np.random.default_rng(1)
    offsets = random.choice(pages * PAGE // 64, 100_000, replace=False).astype(np.uint64) * 64
    with mapped(pages) as (address, memory):
        for k in range(0, pages, 64):
            memory[k * PAGE] = 1
        for scans in (True, False):
            own_pages._scans = scans
            started = time.process_time()
            found = own_pages.look(offsets + np.uint64(address), np.full(100_000, 64, np.uint64))
            assert time.process_time() - started < 1
            touched = offsets // PAGE % 64 == 0
            assert (found.resident_bytes == np.where(touched, 64, 0)).all()


def test_forged_blocks_cost_neither_time_nor_sense(own_pages: Pagemap) -> None:
    huge = 1 << 43
    rng = np.random.default_rng(1)
    anywhere = rng.integers(0, 1 << 64, 100_000, np.uint64)
    started = time.process_time()
    with mapped(4) as (address, memory):
        memory[0] = 1
        blocks = [
            (address, 2 * PAGE), (address, 3 * PAGE), (address + PAGE, 2 * PAGE),
            (1 << 63, huge), ((1 << 64) - 8, 64), (0, huge), (1 << 56, 1),
        ]  # fmt: skip
        found = look(own_pages, blocks)
        whole = own_pages.look(anywhere, np.full(len(anywhere), huge, np.uint64))
    assert time.process_time() - started < 30
    # Two blocks at one address have its page once.
    assert sorted(found.resident_bytes[:3].tolist()) == [0, 0, PAGE]
    assert found.resident_bytes[3:5].tolist() == [0, 0]
    assert found.is_cut
    assert whole.is_cut
    assert int(whole.resident_bytes.min()) >= 0


def test_what_lies_beyond_the_bound_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagemap, "_GAP_PAGES", 0)
    with opened([PRESENT] * 20, tmp_path) as pages:
        blocks = [(0, 32), (64, 64), (160, 16), (192, 16)]
        assert not look(pages, blocks).is_cut
        monkeypatch.setattr(pagemap, "PAGES_MAX", 5)
        found = look(pages, blocks)
        assert (found.resident_bytes.tolist(), found.is_cut) == ([32, 16, 16, 16], True)
        monkeypatch.setattr(pagemap, "RANGES_MAX", 1)
        assert look(pages, blocks).resident_bytes.tolist() == [0, 0, 16, 0]


def test_the_pages_of_an_ended_process_are_unknown() -> None:
    with forked(lambda: None, small=True) as pid:
        fd = pagemap.open_pagemap(pid)
    try:
        with pytest.raises(MemError, match=ENDED_NOTE):
            look(Pagemap(fd), [(4096, 4096)])
    finally:
        os.close(fd)


def test_a_process_that_is_not_there_has_no_pages() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(MemError, match="No such file or directory"):
        pagemap.open_pagemap(pid)


def test_a_kernel_without_pagemap_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(MemError, match="CONFIG_PROC_PAGE_MONITOR"):
        pagemap.open_pagemap(os.getpid())


def test_without_the_right_to_trace_the_missing_right_is_named() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setresgid(12_345, 12_345, 12_345)
            os.setresuid(12_345, 12_345, 12_345)
            pagemap.open_pagemap(os.getppid())
        except MemError as error:
            os.write(tell, str(error).encode())
        finally:
            os._exit(0)
    os.close(tell)
    said = os.read(ready, 4096).decode()
    os.waitpid(pid, 0)
    os.close(ready)
    assert said.startswith("resident memory is missing: ")
    assert "CAP_SYS_PTRACE" in said
    assert "\n" not in said
