"""The bytes of blocks in RAM, there on huge pages, or swapped, as the kernel tells of its pages.

Model: the right to trace the process is asked for at `open_pagemap`; the descriptor alone then
reads, also in a child without rights. Nothing is stopped, and no page is touched.

The blocks are those of a table that a hostile process may have written: any address, any size. So
they are cut where the next one begins, looked at in address order in ranges that span small gaps,
and only up to a bound of pages. Within it, time and memory follow the pages and not the blocks.

PAGEMAP_SCAN (Linux 6.7) leaves out the page of zeros, which reads of untouched memory map and RSS
does not count; of an older kernel's pagemap (Documentation/admin-guide/mm/pagemap.rst) that page
counts as resident, and what is huge is not known.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_parser.errors import MemError

Ints = NDArray[np.int64]
PAGES_MAX = 1 << 28
"""Pages looked at: 1 TiB where they have 4 KiB."""
RANGES_MAX = 1 << 18
"""Ranges looked at, each a system call."""
MISSING_NOTE = "resident memory is missing: {}"
ENDED_NOTE = MISSING_NOTE.format("the process had ended")
CUT_NOTE = "resident memory is too low: its blocks are spread over more memory than is looked at"
_GAP_PAGES = 256  # to read so many more takes as long as another call
_GROUP_PAGES = 1 << 18
_USER_END = 1 << 56  # beyond the user's addresses on every machine
_ENTRY_BYTES = 8
_PRESENT_BIT, _SWAPPED_BIT = 63, 62
_PAGEMAP_SCAN = 0xC0606610
_SCAN = struct.Struct("12Q")  # struct pm_scan_arg
_WALK_END_AT = 32
_IS_PRESENT, _IS_SWAPPED, _IS_ZERO, _IS_HUGE = 1 << 3, 1 << 4, 1 << 5, 1 << 6
_KINDS = (_IS_PRESENT, _IS_SWAPPED, _IS_HUGE)
_REGIONS = 1 << 14


def open_pagemap(pid: int) -> int:
    """The descriptor of a process's pagemap. Raises MemError."""
    try:
        return os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        why = (
            f"reading the pages of pid {pid} takes the right to trace it, which its user has where"
            " no rule forbids it, and root (CAP_SYS_PTRACE)"
        )
    except OSError as error:
        why = f"/proc/{pid}/pagemap: {error.strerror}"
        if error.errno == errno.ENOENT and os.path.exists(f"/proc/{pid}"):
            why = "this kernel has no /proc/PID/pagemap (CONFIG_PROC_PAGE_MONITOR)"
    raise MemError(MISSING_NOTE.format(why))


@dataclass(frozen=True)
class Presence:
    """Bytes of each block; `huge_bytes`: of the resident ones those that one entry of 2 MiB or
    more maps, None where the kernel does not say; `is_cut`: of some blocks not all pages were
    looked at.
    """

    resident_bytes: Ints
    swapped_bytes: Ints
    huge_bytes: Ints | None
    is_cut: bool


class _Runs:
    """Runs of pages of one kind in rising order, in pages."""

    def __init__(self) -> None:
        self._starts: list[Ints] = [np.zeros(0, np.int64)]
        self._ends: list[Ints] = [np.zeros(0, np.int64)]

    def add(self, starts: Ints, ends: Ints) -> None:
        """Add runs that come after all others."""
        self._starts.append(starts)
        self._ends.append(ends)

    def all(self) -> tuple[Ints, Ints]:
        """First pages and ends of all runs."""
        return np.concatenate(self._starts), np.concatenate(self._ends)

    def within(self, low: Ints, high: Ints, page_bytes: int) -> Ints:
        """The bytes of the runs in each [low, high)."""
        starts, ends = (pages * page_bytes for pages in self.all())
        before = np.concatenate(([0], np.cumsum(ends - starts)))

        def up_to(address: Ints) -> Ints:
            k = np.searchsorted(starts, address, side="right")
            beyond = np.maximum(ends[k - 1] - address, 0) if len(ends) else 0
            covered: Ints = before[k] - np.where(k > 0, beyond, 0)
            return covered

        return up_to(high) - up_to(low)


def _no_runs() -> tuple[_Runs, ...]:
    return tuple(_Runs() for _ in _KINDS)


@dataclass(frozen=True)
class _Blocks:
    """Blocks [low, high) in address order, none of which overlaps another, and per block the bytes
    of each kind found so far.
    """

    low: Ints
    high: Ints
    sums: tuple[Ints, ...]

    def add(self, since: int, to: int, runs: tuple[_Runs, ...], page_bytes: int) -> None:
        """Add the runs that lie in the pages [since, to)."""
        begin = int(np.searchsorted(self.high, since * page_bytes, side="right"))
        end = int(np.searchsorted(self.low, to * page_bytes, side="left"))
        for sums, one in zip(self.sums, runs, strict=True):
            sums[begin:end] += one.within(self.low[begin:end], self.high[begin:end], page_bytes)


class Pagemap:
    """An open pagemap, or a file of such words. It does not close the descriptor."""

    def __init__(self, fd: int, page_bytes: int = os.sysconf("SC_PAGE_SIZE")) -> None:
        self._fd = fd
        self.page_bytes = page_bytes
        self._scans = True
        self._regions = np.zeros((_REGIONS, 3), np.uint64)

    def look(self, addresses: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> Presence:
        """Look at blocks, whatever their order. Raises MemError where the process has ended."""
        order = np.argsort(addresses, kind="stable")
        low = np.minimum(addresses[order], np.uint64(_USER_END)).astype(np.int64)
        high = low + np.minimum(sizes[order], np.uint64(_USER_END)).astype(np.int64)
        high = np.minimum(high, _USER_END)
        # Two blocks of a living heap have no byte in common; what others claim counts once.
        high[:-1] = np.minimum(high[:-1], low[1:])
        some = np.flatnonzero(high > low)
        none = tuple(np.zeros(len(some), np.int64) for _ in _KINDS)
        blocks = _Blocks(low[some], high[some], none)
        first, last, is_cut = self._ranges(blocks)
        try:
            self._sum(first, last, blocks)
            has_ended = not os.pread(self._fd, _ENTRY_BYTES, 0)
        except OSError as error:
            raise MemError(MISSING_NOTE.format(error.strerror)) from None
        if has_ended:
            raise MemError(ENDED_NOTE)
        found = np.zeros((len(_KINDS), len(addresses)), np.int64)
        found[:, order[some]] = blocks.sums
        resident, swapped, huge = found
        return Presence(resident, swapped, huge if self._scans else None, is_cut)

    def present(self, start: int, end: int) -> tuple[Ints, Ints]:
        """First pages and ends of the runs in RAM of the pages [start, end). Raises OSError."""
        runs = _no_runs()
        self._add_runs(start, end, runs)
        return runs[0].all()

    def _ranges(self, blocks: _Blocks) -> tuple[Ints, Ints, bool]:
        """First pages and ends of the ranges of pages, and whether the bounds cut them. They cut
        the largest: a forged size takes nothing from others.
        """
        first, last = blocks.low // self.page_bytes, -(-blocks.high // self.page_bytes)
        begins = np.ones(len(first), np.bool_)
        begins[1:] = first[1:] > last[:-1] + _GAP_PAGES
        ends = np.append(begins[1:], True)[: len(last)]
        first, last = first[begins], last[ends]
        kept = np.argsort(last - first, kind="stable")[:RANGES_MAX]
        is_cut = len(kept) < len(first)
        used = np.cumsum((last - first)[kept])
        if len(used) and used[-1] > PAGES_MAX:
            is_cut = True
            kept = kept[: int(np.searchsorted(used, PAGES_MAX)) + 1]
            last[kept[-1]] -= used[len(kept) - 1] - PAGES_MAX
        kept = np.sort(kept)
        return first[kept], last[kept], is_cut

    def _sum(self, first: Ints, last: Ints, blocks: _Blocks) -> None:
        """Add the bytes of the ranges' pages to the blocks, a group of ranges after the other."""
        held, runs = 0, _no_runs()
        since = int(first[0]) if len(first) else 0
        for start, end in zip(first.tolist(), last.tolist(), strict=True):
            at = start
            while at < end:
                to = min(end, at + _GROUP_PAGES - held)
                self._add_runs(at, to, runs)
                held += to - at
                at = to
                if held >= _GROUP_PAGES:
                    blocks.add(since, at, runs, self.page_bytes)
                    held, runs, since = 0, _no_runs(), at
        if held:
            blocks.add(since, int(last[-1]), runs, self.page_bytes)

    def _add_runs(self, start: int, end: int, runs: tuple[_Runs, ...]) -> None:
        if self._scans:
            try:
                self._scan(start, end, runs)
                return
            except OSError:  # an older kernel, or addresses that it refuses
                self._scans = False
        self._read(start, end, runs)

    def _scan(self, start: int, end: int, runs: tuple[_Runs, ...]) -> None:
        """Add runs as PAGEMAP_SCAN tells. Raises OSError before it has added any."""
        page, at, found = self.page_bytes, start * self.page_bytes, []
        wanted = _IS_PRESENT | _IS_SWAPPED
        while at < end * page:
            asked = bytearray(
                _SCAN.pack(
                    _SCAN.size, 0, at, end * page, 0, self._regions.ctypes.data,
                    _REGIONS, 0, _IS_ZERO, _IS_ZERO, wanted, sum(_KINDS),
                )
            )  # fmt: skip
            count = fcntl.ioctl(self._fd, _PAGEMAP_SCAN, asked)
            (walked,) = struct.unpack_from("Q", asked, _WALK_END_AT)
            if walked <= at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            found.append(self._regions[:count].astype(np.int64))
            at = walked
        regions = np.concatenate(found)
        for kind, one in zip(_KINDS, runs, strict=True):
            chosen = regions[regions[:, 2] & kind != 0]
            one.add(chosen[:, 0] // page, chosen[:, 1] // page)

    def _read(self, start: int, end: int, runs: tuple[_Runs, ...]) -> None:
        """Add runs of pagemap's words; there are none beyond the last address."""
        while start < end:
            raw = os.pread(self._fd, (end - start) * _ENTRY_BYTES, start * _ENTRY_BYTES)
            words = np.frombuffer(raw[: len(raw) // _ENTRY_BYTES * _ENTRY_BYTES], "<u8")
            if not len(words):
                return
            for bit, one in zip((_PRESENT_BIT, _SWAPPED_BIT), runs, strict=False):
                is_set = (words >> np.uint64(bit) & np.uint64(1)).astype(np.int8)
                edges = np.flatnonzero(np.diff(is_set, prepend=0, append=0)) + start
                one.add(edges[::2], edges[1::2])
            start += len(words)
