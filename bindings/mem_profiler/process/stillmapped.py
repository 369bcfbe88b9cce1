"""What of recorded mappings is still there, as the kernel says.

Model: the sampler sees calls of the C library's mmap, munmap and mremap, not those by raw system
calls, and of two threads that unmap parts of one mapping at once it may keep too much. The kernel's
list is the truth: of a recorded mapping counts what is in /proc/PID/maps, as memory of its kind. Of
mappings that claim the same address the newest has it. So nothing drifts; what is mapped and
recorded by nobody is left to the account of the resident memory (`mem_parser.rss`).

The list is read through a descriptor, by a child without rights, after the rows of the segment.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_parser.errors import MemError
from mem_profiler.process import procfs
from mem_profiler.process.pagemap import Pagemap, open_pagemap
from mem_profiler.process.procfs import Mapping

Ints = NDArray[np.int64]
_USER_END = 1 << 56
_HUGE_PAGES = "/anon_hugepage"
_KERNELS_OWN = (0, 1)
_SHARED_FOLDER = "/dev/shm/"  # noqa: S108 - compared with names alone
ANONYMOUS_KINDS = ("mapped", "mapped-reserved", "mapped-stack")


def open_maps(pid: int) -> int:
    """The descriptor of a process's list of mappings. Raises MemError."""
    try:
        return os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise MemError(f"mappings may be gone: /proc/{pid}/maps: {error.strerror}") from None


LISTS = (open_maps, open_pagemap)


def of_descriptors(fds: Sequence[int]) -> StillMapped | None:
    """The lists behind the descriptors of `LISTS`; None without the first."""
    if not fds:
        return None
    return StillMapped(fds[0], Pagemap(fds[1]) if len(fds) > 1 else None)


@dataclass(frozen=True)
class Pieces:
    """What is left: `row` is the index of the recorded mapping of each [low, high); `shared`: it is
    shared memory, which has a name as files have.
    """

    row: Ints
    low: Ints
    high: Ints
    shared: NDArray[np.bool_]


class StillMapped:
    """The lists of a process. It does not close the descriptors; `pagemap` None: not known what is
    resident.
    """

    def __init__(self, maps_fd: int, pagemap: Pagemap | None) -> None:
        self._fd = maps_fd
        self.pagemap = pagemap

    def pieces(
        self,
        kind: str,
        addresses: NDArray[np.uint64],
        sizes: NDArray[np.uint64],
        births: NDArray[np.uint64],
    ) -> Pieces:
        """What is left of mappings of one kind. Raises MemError where the process has ended."""
        low = np.minimum(addresses, np.uint64(_USER_END)).astype(np.int64)
        high = low + np.minimum(sizes, np.uint64(_USER_END)).astype(np.int64)
        claimed = newest(low, np.minimum(high, _USER_END), births)
        start, end, shared = self._ranges(kind)
        first = np.searchsorted(end, claimed.low, side="right")
        count = np.maximum(np.searchsorted(start, claimed.high, side="left") - first, 0)
        of = np.repeat(np.arange(len(count)), count)
        at = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[of]
        return Pieces(
            claimed.row[of],
            np.maximum(claimed.low[of], start[at]),
            np.minimum(claimed.high[of], end[at]),
            shared[at],
        )

    def _ranges(self, kind: str) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """Disjoint ranges in rising order that may be mappings of this kind, and whether they are
        shared memory.
        """
        chosen = [
            (mapping.start, mapping.end, _is_shared(mapping))
            for mapping in self._read()
            if _is_anonymous(mapping) == (kind in ANONYMOUS_KINDS)
        ]
        table = np.array(chosen, np.int64).reshape(-1, 3)
        begins = np.ones(len(table), np.bool_)
        begins[1:] = (table[1:, 0] > table[:-1, 1]) | (table[1:, 2] != table[:-1, 2])
        ends = np.append(begins[1:], True)[: len(table)]
        return table[begins, 0], table[ends, 1], table[begins, 2] != 0

    def _read(self) -> Iterable[Mapping]:
        try:
            raw = procfs.from_start(self._fd)
        except OSError as error:
            raise MemError(f"mappings may be gone: {error.strerror}") from None
        if not raw:
            raise MemError("mappings may be gone: the process had ended")
        return (one for one in procfs.parse_maps(raw) if one.end <= _USER_END)


def _is_anonymous(mapping: Mapping) -> bool:
    return not mapping.inode or mapping.path.startswith(_HUGE_PAGES)


def _is_shared(mapping: Mapping) -> bool:
    """Whether it is of the kernel's own file system of shared memory (also memfd_create and System
    V's), or of POSIX' folder.
    """
    return mapping.device == _KERNELS_OWN or mapping.path.startswith(_SHARED_FOLDER)


def newest(low: Ints, high: Ints, births: NDArray[np.uint64]) -> Pieces:
    """Disjoint pieces in address order: of rows with an address in common the newest has it."""
    row = np.flatnonzero(high > low)
    row = row[np.argsort(low[row], kind="stable")]
    if not np.any(low[row][1:] < np.maximum.accumulate(high[row])[:-1]):
        return Pieces(row, low[row], high[row], np.zeros(len(row), np.bool_))
    pieces: list[tuple[int, int, int]] = []
    waiting: list[tuple[int, int, int]] = []  # (-birth, row, end)
    at, order = 0, row.tolist()
    for k in [*order, -1]:
        until = int(low[k]) if k >= 0 else _USER_END
        while waiting and at < until:
            _, top, end = waiting[0]
            if end <= at:
                heapq.heappop(waiting)
                continue
            to = min(end, until)
            pieces.append((top, at, to))
            at = to
        at = until
        if k >= 0:
            heapq.heappush(waiting, (-int(births[k]), k, int(high[k])))
    table = np.array(pieces, np.int64).reshape(-1, 3)
    return Pieces(table[:, 0], table[:, 1], table[:, 2], np.zeros(len(table), np.bool_))
