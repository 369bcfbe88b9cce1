"""What blocks cost in RAM beyond what was asked for, read from outside: slop, and shared pages.

Model: glibc's malloc puts a block's size before it, and sizes lead from one block to the next
(sampler/abi/glibc_heap.h). So a copy of the memory between sampled blocks says what else is on the
pages of each. A page in RAM is charged to the blocks in use on it, by their bytes there: summed
over all blocks these are exactly the pages that hold any. Where a chain does not begin before a
page, the unseen part of the page is as dense as what follows the block.

Of other allocators, jemalloc and mimalloc, the slop follows from their size classes.

Only pages in RAM are read, through a descriptor (`open_memory`) and by a child without rights;
nothing is stopped. The target may change or forge any word: what does not fit the size that was
asked for is not known, and counts as such.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_parser.errors import MemError, one_line
from mem_profiler._core import ffi, lib
from mem_profiler.process import procfs
from mem_profiler.process.pagemap import Ints, Pagemap

Bools = NDArray[np.bool_]
MISSING_NOTE = "waste by stack is missing: {}"
LACKING_NOTE = (
    "waste by stack lacks {} of {} sampled blocks, which are not as glibc's malloc makes them"
)
WINDOW_BYTES = 64 << 20
"""Most memory that is looked at together: glibc's largest block of a heap has half of it."""
READ_MAX_BYTES = 8 << 30
"""Most memory between blocks that is read; of a larger heap only the pages of each block."""
_NOTED_SHARE = 0.01
_AHEAD_PAGES = 1
_HEADER_BYTES, _OVERHEAD_BYTES, _LEAST_BYTES = 16, 8, 32
_SPARE_BYTES = 32  # what glibc does not split from a block at most, beside rounding
_HUGE_BYTES = 2 << 20  # what glibc's tunables may round mapped blocks to
_FENCE_BYTES = 16
_USER_END = 1 << 56
_UNREAD = -1
_FLAGS, _OTHER_ARENA, _MMAPPED, _BEFORE_IN_USE = 7, 4, 2, 1
_POOLS_BYTES = (16 << 10, 4 << 10)
_POOL_HEADER_BYTES, _POOL_BLOCK_MAX = 48, 512
_GLIBC = re.compile(r"(?:^|/)libc(?:\.so\.6|-2\.\d+\.so)$")
_BY_CLASSES = re.compile(r"(?:^|/)lib(?:jemalloc|mimalloc)[^/]*\.so[^/]*$")


def open_memory(pid: int) -> int:
    """The descriptor of a process's memory, to read. Raises MemError."""
    try:
        return os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        why = f"reading the memory of pid {pid} takes the right to trace it ({error.strerror})"
        raise MemError(MISSING_NOTE.format(why)) from None


@dataclass(frozen=True)
class Waste:
    """Bytes in RAM of each block: `slop` was not asked for; of a heap's `pages` it is charged with
    so much, `held` of which is beyond itself, `pinned` of that where no other block is in use.
    `pages` None: the allocator's heap cannot be read. `note`: what is not known.
    """

    slop: Ints
    pages: Ints | None = None
    held: Ints | None = None
    pinned: Ints | None = None
    note: str = ""


def of_descriptors(fds: Sequence[int], allocator: str) -> HeapPages | None:
    """What is behind the descriptors of pagemap, mappings and memory; None without one of them."""
    return None if len(fds) < 3 else HeapPages(Pagemap(fds[0]), fds[1], fds[2], allocator)


class HeapPages:
    """The memory of a process whose malloc is `allocator`'s. It does not close the descriptors."""

    def __init__(self, pagemap: Pagemap, maps_fd: int, memory_fd: int, allocator: str) -> None:
        self._pagemap, self._page = pagemap, pagemap.page_bytes
        self._maps_fd, self._memory_fd = maps_fd, memory_fd
        self._allocator = allocator

    def look(self, addresses: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> Waste:
        """Look at blocks, whatever their order. Raises MemError, also where nothing can be told."""
        at, asked = (
            np.minimum(c, np.uint64(_USER_END)).astype(np.int64) for c in (addresses, sizes)
        )
        if _BY_CLASSES.search(self._allocator):
            return Waste(self._slop(at, asked, class_bytes(asked)))
        if not _GLIBC.search(self._allocator):
            name = one_line(os.path.basename(self._allocator)) or "an unknown allocator"
            why = f"it is known for glibc's malloc, jemalloc and mimalloc, not for {name}"
            raise MemError(MISSING_NOTE.format(why))
        try:
            return self._of_glibc(at, asked)
        except OSError as error:
            raise MemError(MISSING_NOTE.format(error.strerror)) from None

    def _slop(self, at: Ints, asked: Ints, usable: Ints) -> Ints:
        """What of the bytes behind those asked for is in RAM."""
        behind = (at + asked).astype(np.uint64), np.maximum(usable - asked, 0).astype(np.uint64)
        return self._pagemap.look(*behind).resident_bytes

    def _of_glibc(self, at: Ints, asked: Ints) -> Waste:
        chunk, starts, ends = at - _HEADER_BYTES, *self._regions()
        region = np.searchsorted(starts, chunk, side="right") - 1
        inside = (region >= 0) & (at % _HEADER_BYTES == 0)
        room = (
            np.where(inside, ends[region] - chunk, 0) if len(ends) else np.zeros(len(at), np.int64)
        )
        word = self._words(at - _OVERHEAD_BYTES, room > 0)
        size, is_mapped = word & ~_FLAGS, word & _MMAPPED != 0
        nominal = np.maximum(asked + _OVERHEAD_BYTES + 15 & ~15, _LEAST_BYTES)
        fits = (size % 16 == 0) & (size >= nominal) & (size <= room)
        apart = fits & is_mapped
        apart &= self._is_mapping(chunk, size, nominal, chunk - starts[region], apart)
        shared = fits & ~is_mapped & (size <= nominal + _SPARE_BYTES) & (size <= WINDOW_BYTES // 2)
        shared &= self._leads_on(chunk + size, word, room - size, shared)
        shared &= ~self._is_in_pool(at, asked, shared)
        usable = size - np.where(is_mapped, _HEADER_BYTES, _OVERHEAD_BYTES)
        slop = self._slop(at, asked, np.where(apart | shared, usable, asked))
        pages, held, pinned = (np.zeros(len(at), np.int64) for _ in range(3))
        rows = np.flatnonzero(shared)
        rows = rows[np.argsort(chunk[rows], kind="stable")]
        rows = rows[np.append(np.diff(chunk[rows]) > 0, True)[: len(rows)]]
        far = WINDOW_BYTES if _spread(chunk[rows], size[rows]) < READ_MAX_BYTES else 0
        for k in np.unique(region[rows]).tolist():
            of = rows[region[rows] == k]
            for some, window in self._windows(
                chunk[of], size[of], (int(starts[k]), int(ends[k])), far
            ):
                mine = of[some]
                pages[mine], held[mine], pinned[mine] = window.charged(chunk[mine], size[mine])
        unknown = len(at) - int(np.count_nonzero(apart | shared))
        noted = unknown > _NOTED_SHARE * len(at)
        note = LACKING_NOTE.format(unknown, len(at)) if noted else ""
        return Waste(slop, pages, held, pinned, note)

    def _regions(self) -> tuple[Ints, Ints]:
        """Mappings in which malloc's blocks may be, in rising order."""
        raw = procfs.from_start(self._maps_fd)
        found = [
            (one.start, one.end)
            for one in procfs.parse_maps(raw)
            if not one.inode and one.permissions.startswith("rw") and one.end <= _USER_END
            and (not one.path or one.path.startswith(("[heap", "[anon")))
        ]  # fmt: skip
        table = np.array(found, np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def _is_mapping(
        self, chunk: Ints, size: Ints, nominal: Ints, room: Ints, wanted: Bools
    ) -> Bools:
        """Whether blocks have whole pages for themselves, as many as their size takes; aligned ones
        begin behind `front` bytes, and glibc leaves those behind them.
        """
        front = self._words(chunk, wanted)
        begin, whole, block = chunk - front, front + size, chunk + _HEADER_BYTES
        grain = np.where((begin | whole) % _HUGE_BYTES == 0, _HUGE_BYTES, self._page)
        aligned = np.where(front > 0, (block & -block) + _LEAST_BYTES + _HEADER_BYTES, 0)
        most = nominal + _OVERHEAD_BYTES + aligned + grain
        paged = (begin % self._page == 0) & (whole % self._page == 0)
        fits: Bools = (front >= 0) & (front <= room) & paged & (whole < most)
        return fits

    def _leads_on(self, following: Ints, word: Ints, room: Ints, wanted: Bools) -> Bools:
        """Whether behind blocks, each with its size's `word`, are chunks that call them in use; a
        word that is not in RAM is no doubt.
        """
        after = self._words(following + _OVERHEAD_BYTES, wanted & (room >= _HEADER_BYTES))
        size = after & ~_FLAGS
        fits: Bools = (size % 16 == 0) & (size >= _FENCE_BYTES) & (size <= room)
        fits &= (after & (_MMAPPED | _BEFORE_IN_USE) == _BEFORE_IN_USE) & (
            after & ~word & _OTHER_ARENA == 0
        )
        fits |= after == _UNREAD
        return fits & (room >= _HEADER_BYTES)

    def _is_in_pool(self, at: Ints, asked: Ints, wanted: Bools) -> Bools:
        """Whether blocks are one of a pool of CPython's pymalloc, whose header tells their size."""
        found = np.zeros(len(at), np.bool_)
        for pool in _POOLS_BYTES:
            offset = at % pool
            some = wanted & (asked <= _POOL_BLOCK_MAX) & (offset >= _POOL_HEADER_BYTES)
            kind, last = (self._words(at - offset + k, some) >> 32 for k in (32, 40))
            size = (kind + 1) * 16
            some &= (size >= asked) & (size < asked + 16) & (last == pool - size)
            found |= some & ((offset - _POOL_HEADER_BYTES) % np.maximum(size, 1) == 0)
        return found

    def _words(self, addresses: Ints, wanted: Bools) -> Ints:
        """The words at addresses whose pages are in RAM, 0 if none is a size; else `_UNREAD`."""
        found = np.full(len(addresses), _UNREAD, np.int64)
        width = np.where(wanted, 8, 0).astype(np.uint64)
        there = self._pagemap.look(addresses.astype(np.uint64), width).resident_bytes == 8
        for k in np.flatnonzero(there).tolist():
            raw = bytearray(8)
            if _read(self._memory_fd, memoryview(raw), int(addresses[k])) == 8:
                value = int.from_bytes(raw, "little")
                found[k] = value if value < _USER_END else 0
        return found

    def _windows(
        self, chunk: Ints, size: Ints, region: tuple[int, int], far: int
    ) -> Iterator[tuple[Ints, _Window]]:
        """Windows over one mapping's blocks, which are in rising order, with the rows of each. The
        last of one begins the next if that is not `far`, so that chains lead from one to the next.
        """
        page, (low, high) = self._page, region
        ends = chunk + size + _OVERHEAD_BYTES
        begin = done = 0
        while done < len(chunk):
            first = int(chunk[begin])
            if not begin and far and first - low < far // 2:
                first = low  # a chain may begin where the mapping does
            base = first // page * page
            room = base + WINDOW_BYTES - (1 + _AHEAD_PAGES) * page
            end = int(np.searchsorted(ends, room, side="right"))
            apart = np.flatnonzero(chunk[done + 1 : end] - ends[done : end - 1] > max(far, page))
            end = max(done + 1, done + 1 + int(apart[0]) if len(apart) else end)
            until = -(-int(ends[end - 1]) // page) * page + _AHEAD_PAGES * page
            window = _Window(self._pagemap, self._memory_fd, (base, min(until, high)), region)
            window.walk(chunk[begin:end], from_start=first == low)
            yield np.arange(done, end), window
            begin = done = end
            if far and end < len(chunk):
                before = int(np.searchsorted(chunk, chunk[end] // page * page)) - 1
                near = ends[end] - chunk[before] < WINDOW_BYTES - (2 + _AHEAD_PAGES) * page
                begin = before if before >= 0 and near else end


def _spread(chunk: Ints, size: Ints) -> int:
    """Bytes from the first to the last of blocks in rising order, but for gaps too far to read."""
    gaps = np.diff(chunk)
    return int(gaps[gaps < WINDOW_BYTES].sum() + size.sum())


class _Window:
    """A copy of the memory [base, end) of a process: its pages in RAM."""

    def __init__(
        self, pagemap: Pagemap, memory_fd: int, span: tuple[int, int], region: tuple[int, int]
    ) -> None:
        self._base, end = span
        self._page = page = pagemap.page_bytes
        count = (end - self._base) // page
        words = np.zeros((end - self._base) // 8, np.uint64)
        self._in_ram = np.zeros(count + 1, np.int64)
        raw = words.view(np.uint8).data
        starts, ends = pagemap.present(self._base // page, end // page)
        for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
            offset = first * page - self._base
            self._in_ram[offset // page : last - self._base // page] = page
            _read(memory_fd, raw[offset : last * page - self._base], first * page)
        self._counts = np.zeros((3, count + 1), np.uint32)
        self._words, self._region = words, region

    def walk(self, chunk: Ints, *, from_start: bool) -> None:
        """Follow the chains from each block to the next, and to the end of the window."""
        end = self._base + len(self._words) * 8
        if from_start:
            tried = np.zeros_like(self._counts)
            first = int(chunk[0])
            if self._follow(tried, [self._region[0], first]) == first:
                self._counts += tried
                self._counts[0, 0] += _OVERHEAD_BYTES  # before the first size
        self._follow(self._counts, [*chunk.tolist(), end])

    def _follow(self, counts: NDArray[np.uint32], stops: list[int]) -> int:
        """Walk from each of these addresses to the next; returns where the last walk ended."""
        words = ffi.from_buffer("uint64_t[]", self._words)
        columns = [ffi.from_buffer("uint32_t[]", column) for column in counts]
        end, size = self._base + len(self._words) * 8, len(self._words) * 8
        about = (words, self._base, size, self._page, *self._region, *columns)
        copy, at = ffi.new("struct mp_heap_copy *", about), stops[0]
        for start, to in itertools.pairwise(stops):
            at = lib.mp_heap_walk(copy, start, to, to != end)
        return int(at)

    def charged(self, chunk: Ints, size: Ints) -> tuple[Ints, Ints, Ints]:
        """Of each block of the window: bytes of pages in RAM that it is charged with, those beyond
        itself, and of these those where it is alone.
        """
        page, (met, used, blocks) = self._page, self._counts.astype(np.int64)
        met, used = np.minimum(met, page), np.minimum(used, page)
        low, high = (
            chunk + _OVERHEAD_BYTES - self._base,
            chunk + size + _OVERHEAD_BYTES - self._base,
        )
        first, last = low // page, (high - 1) // page
        density = self._density(first, last, size, (met, used))
        sums = np.zeros((3, len(chunk)))
        edges = [(first, low, np.minimum(high, (first + 1) * page))]
        edges.append((last, np.where(last > first, last * page, high), high))
        for at, begin, end in edges:
            own = end - begin
            in_use = np.clip(used[at] + density * (page - met[at]), np.maximum(own, 1), page)
            share = self._in_ram[at] * (own / in_use)
            beyond = share - self._in_ram[at] * (own / page)
            alone = (met[at] == page) & (blocks[at] == 1)
            sums += share, beyond, np.where(alone, beyond, 0)
        inside = np.concatenate(([0], np.cumsum(self._in_ram)))
        sums[0] += np.where(last > first, inside[last] - inside[np.minimum(first + 1, last)], 0)
        pages, held, pinned = np.rint(sums).astype(np.int64)
        return pages, held, pinned

    def _density(
        self, first: Ints, last: Ints, size: Ints, counts: tuple[Ints, Ints]
    ) -> NDArray[np.float64]:
        """How much of what was met around each block is in use, itself left out; 1: none was."""
        met, used = (np.concatenate(([0], np.cumsum(c))) for c in counts)
        to = np.minimum(last + 1 + _AHEAD_PAGES, len(met) - 1)
        around = met[to] - met[first] - size
        in_use = np.maximum(used[to] - used[first] - size, 0)
        return np.where(around > 0, in_use / np.maximum(around, 1), 1.0)


def _read(fd: int, into: memoryview, at: int) -> int:
    """Fill a buffer, and return how far; what is gone meanwhile stays 0."""
    done = 0
    while done < len(into):
        try:
            count = os.preadv(fd, [into[done:]], at + done)
        except OSError:
            break
        if not count:
            break
        done += count
    return done


def class_bytes(asked: Ints) -> Ints:
    """The size class of sizes in jemalloc and in mimalloc: multiples of 16 (one of 8) up to 128,
    then four of each power of two.
    """
    above = np.maximum(asked, 1)
    exponent = np.frexp(np.maximum(above - 1, 1).astype(np.float64))[1].astype(np.int64) - 1
    step = np.where(above <= 8, 8, np.where(above <= 128, 16, 1 << np.maximum(exponent - 2, 0)))
    return -(-above // step) * step
