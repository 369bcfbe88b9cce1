"""FAST: the tables of a record are reserved before it begins, so that no hook has to reserve."""

from __future__ import annotations

from mem_profiler.process import procfs
from mem_profiler.segment import reserve
from mem_profiler.segment.file import Segment

HEAP_SHARE = 4
"""One part of the program's heap is reserved, where nobody says how much."""
LEAST_BYTES = 24 << 20


def usual_bytes(pid: int) -> int:
    """What is reserved for a process: a quarter of its heap, but no less than `LEAST_BYTES`."""
    resident = procfs.resident(pid)
    heap_bytes = resident.anon_bytes if resident is not None else 0
    return max(LEAST_BYTES, heap_bytes // HEAP_SHARE)


def reserve_tables(segment: Segment, pid: int, wanted_bytes: int | None) -> list[tuple[int, int]]:
    """Reserve as many levels as fit in `wanted_bytes` (None: `usual_bytes`) and in the segment.

    Returns the ranges of the segment (offset, bytes) that the tables have. Raises TargetError.
    """
    return reserve.up_front(segment, wanted_bytes or usual_bytes(pid))
